#!/bin/bash
# Layers with windows against a reference in float64, over prompts and completions many windows long: what the
# rings of the cache forget must be what the window does not see. REFERENCE: another script than
# tests/model/families.py, such as huggingface.py (its PYTHON needs torch and transformers).
# timeout: 200
. "$(dirname "$0")/lib.sh"
need "$tandem"
job=tests/mpi/job.yaml
reference=${REFERENCE:-families.py}
"$PYTHON" - >"$work/prompts.jsonl" <<'EOF'
import json, random
random.seed(5)
for n in (5, 64, 333, 700):
    print(json.dumps({"tokens": [random.randrange(3, 300) for _ in range(n)]}))
EOF
"$tandem" import "$work/prompts.jsonl" "$work/in.h5" --format jsonl --tokens tokens >/dev/null || fail "import"
for family in step3p5 gpt_oss; do
    rm -rf "$work/model" "$work"/out.*
    "$tandem" generate "$work/model" family=$family unused=ignore hidden=64 layers=4 vocab=301 context=1024 heads=4 kv_heads=2 head_dim=32 \
        dense=24 experts=6 topk=2 expert=32 shared=12 window=70 rope_factor=2 dtype=f32 >/dev/null || fail "generate"
    decode out 3 model="$work/model" tokenizer=none prompts.file="$work/in.h5" prompts.count=all layout.attention=2 \
        sampling.max_new_tokens=150 sampling.ignore_eos=true schedule.max_context=900 schedule.prefill_chunk=45 schedule.slots=2 ||
        fail "$family"
    completions out >"$work/out.jsonl"
    "$PYTHON" - "$work" "$reference" <<'EOF' || fail "$family differs from $reference"
import json, subprocess, sys
import h5py
import numpy as np
work, reference = sys.argv[1:]
prompts = [json.loads(line)["tokens"] for line in open(f"{work}/prompts.jsonl")]
rows = [json.loads(line) for line in open(f"{work}/out.jsonl")]
worst = total = 0
for prompt, row in zip(prompts, rows):
    tokens = prompt + row["tokens"]
    subprocess.run([sys.executable, f"tests/model/{reference}", f"{work}/model", "--tokens", ",".join(map(str, tokens)),
                    "--out", f"{work}/logits.h5"], check=True)
    with h5py.File(f"{work}/logits.h5") as f:
        z = f["logits"][len(prompt) - 1:-1]
    assert len(z) == len(row["tokens"]) == 150
    p = z - z.max(axis=1, keepdims=True)
    p -= np.log(np.exp(p).sum(axis=1, keepdims=True))
    chosen = p[np.arange(len(p)), row["tokens"]]
    assert (chosen >= p.max(axis=1) - 1e-4).all(), "a token that is not the likeliest"
    worst = max(worst, np.abs(chosen - row["logprobs"]).max())
    total += len(z)
print(f"{total} tokens, logprobs within {worst:.1e} of {reference}")
sys.exit(0 if worst <= 1e-4 else 1)
EOF
done
