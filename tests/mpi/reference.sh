#!/bin/bash
# Greedy completions against the model in float64 (tests/model/reference.py, numpy): every token equal
# as long as the reference's first and second choice are clearly apart, and its logprob close.
# timeout: 240
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
"$PYTHON" -c 'import h5py, numpy' 2>/dev/null || skip "python3 with h5py and numpy is not installed: no reference"

# against NAME CHECKPOINT MARGIN CLOSE [KEY=VALUE]... - tokens while the margin is at least MARGIN.
against() {
    local name=$1 checkpoint=$2 margin=$3 close=$4
    shift 4
    "$PYTHON" tests/model/reference.py greedy "$checkpoint" --prompts "$work/$name-in.h5" --max-new 12 \
        --out "$work/$name-ref.h5" || fail "$name: reference"
    decode "$name" 3 model="$checkpoint" tokenizer=none prompts.file="$work/$name-in.h5" \
        prompts.count=all sampling.max_new_tokens=12 schedule.max_context=64 layout.ffn.expert=2 "$@" || fail "$name"
    "$tandem" export "$work/$name.h5" --tokens --logprobs >"$work/$name.jsonl" || fail "$name: export"
    "$PYTHON" - "$work" "$name" "$margin" "$close" <<'P' || fail "$name: another token than the reference"
import json, sys, h5py
work, name, margin, close = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
rows = [json.loads(line) for line in open(f"{work}/{name}.jsonl")]
compared = 0
with h5py.File(f"{work}/{name}-ref.h5") as f:
    offsets = f["offsets"][:]
    for i, row in enumerate(rows):
        part = slice(offsets[i], offsets[i + 1])
        for mine, my_logprob, token, apart, logprob in zip(
                row["tokens"], row["logprobs"], f["tokens"][part], f["margin"][part], f["logprob"][part]):
            if not apart >= margin:
                break  # from here on both may rightly differ
            assert mine == token, (i, row["tokens"], f["tokens"][part])
            assert abs(my_logprob - logprob) <= close, (i, my_logprob, logprob)
            compared += 1
print(f"{name}: {compared} tokens equal")
assert compared > 20
P
}
prompts() { # NAME VOCABULARY
    for ((i = 0; i < 6; i++)); do
        echo "{\"tokens\": [$((3 + i * 37 % ($2 - 4))), $((2 + i * 91 % ($2 - 4))), $((5 + i * 7 % ($2 - 6)))]}"
    done | "$tandem" import - "$work/$1-in.h5" --format jsonl --tokens tokens >/dev/null || fail "import"
}
prompts demo 4096
against demo input/demo 1e-3 1e-4
for kind in f32 fp8; do
    for renormalize in false true; do
        name=$kind-$renormalize
        "$tandem" generate "$work/$name-model" hidden=77 layers=4 vocab=211 context=67 heads=3 head_dim=22 \
            q_rank=35 dense=53 experts=7 topk=3 expert=39 shared=29 renormalize=$renormalize dtype=$kind \
            file_mb=1 >/dev/null || fail generate
        prompts "$name" 211
        against "$name" "$work/$name-model" 1e-3 1e-4
    done
done
prompts bf16 4096
against bf16 input/demo 0.15 0.1 precision.activations=bf16 precision.dispatch=bf16 precision.kv_cache=bf16
echo "greedy completions are those of the reference"
