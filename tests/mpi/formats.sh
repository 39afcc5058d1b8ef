#!/bin/bash
# Models in packed formats (GGUF, AWQ, compressed-tensors) decode to what their numbers decode to, in every layout: to the same
# tokens, and logprobs that differ by rounding alone, since products with groups scale sums; bit for bit where both are kept in one form.
# timeout: 300
. "$(dirname "$0")/lib.sh"
need "$tandem"
"$PYTHON" -c 'import h5py, numpy' 2>/dev/null || skip "needs python3 with h5py and numpy"
"$PYTHON" tests/mpi/make_formats.py "$work" || fail "make_formats.py"
job=tests/mpi/job.yaml

# answers NAME - tokens and logprobs alone: a GGUF model has a tokenizer and so text, the others have none.
answers() {
    completions "$1" | "$PYTHON" -c '
import json, sys
for line in sys.stdin:
    one = json.loads(line)
    print(one["prompt"], one["tokens"], one["logprobs"])'
}

# near NAME NAME - equal tokens, and logprobs as near as f32 allows.
near() {
    echo -n "$1: "
    "$PYTHON" - <(answers "$1") <(answers "$2") <<'P'
import json, sys
def rows(path):
    for line in open(path):
        prompt, rest = line.split(" ", 1)
        tokens, end = json.JSONDecoder().raw_decode(rest)
        yield prompt, tokens, json.loads(rest[end:])
largest = 0
for a, b in zip(*map(rows, sys.argv[1:]), strict=True):
    assert a[:2] == b[:2], (a, b)
    largest = max([largest] + [abs(x - y) for x, y in zip(a[2], b[2], strict=True)])
assert largest <= 5e-5, largest
print(f"largest difference {largest:.1e}")
P
}
equal() { cmp <(answers "$1") <(answers "$2"); }

# both NAME MODEL NUMBERS RANKS [KEY=VALUE]... - MODEL, and the safetensors of its numbers; what they must be: $alike.
alike=near
both() {
    local name=$1 model=$2 numbers=$3 ranks=$4
    shift 4
    set -- prompts.file="$work/prompts.h5" prompts.count=5 sampling.temperature=0 "$@"
    decode "$name" "$ranks" model="$model" "$@" || fail "$name"
    decode "$name-numbers" "$ranks" model="$numbers" "$@" || fail "$name-numbers"
    [ "$(answers "$name" | wc -l)" = 5 ] || fail "$name has not 5 answers"
    "$alike" "$name" "$name-numbers" || fail "$name differs from its numbers"
}

gguf=("$work/model.gguf" "$work/gguf")
both gguf "${gguf[@]}" 2
both gguf-tensor "${gguf[@]}" 3 layout.ffn.tensor=2
alike=equal both gguf-int4 "${gguf[@]}" 2 precision.weights=int4 kernels=plain
cmp <(answers gguf | sed 's/\].*/]/') <(answers gguf-tensor | sed 's/\].*/]/') || fail "layouts differ in tokens"
latent=("$work/latent.gguf" "$work/latent")
both latent "${latent[@]}" 2
both latent-tensor "${latent[@]}" 4 layout.attention=2 layout.ffn.tensor=2 sampling.temperature=1
both latent-old "$work/latent-old.gguf" "$work/latent" 2
near latent latent-old || fail "matrices of heads differ from the joined ones"
# packed NAME KIND FAMILY [KEY=VALUE]... - a random model, its numbers and (stacked) its experts in one tensor.
# Sizes inside of 128, which every format cuts into the same slices.
packed() {
    local name=$1 kind=$2 family=$3
    shift 3
    "$tandem" generate "$work/$name" family="$family" unused=ignore dtype="$kind" hidden=64 layers=2 vocab=90 context=256 heads=4 kv_heads=2 \
        head_dim=32 experts=4 topk=2 expert=128 dense=160 shared=128 groups=2 topk_groups=1 q_rank=32 kv_rank=64 nope_dim=32 \
        rope_dim=16 value_dim=32 "$@" >/dev/null || fail "generate $name"
    "$PYTHON" tests/mpi/unpack.py "$work/$name" "$work/$name-numbers" "$work/$name-stacked" || fail "unpack.py $name"
}
packed awq awq qwen3_moe
both awq "$work/awq" "$work/awq-numbers" 3 layout.ffn.expert=2
alike=equal both awq-int8 "$work/awq" "$work/awq-numbers" 3 layout.ffn.tensor=2 precision.weights=int8
alike=equal both awq-int8-whole "$work/awq" "$work/awq-numbers" 2 precision.weights=int8
cmp <(answers awq-int8) <(answers awq-int8-whole) || fail "the steps of int8 made of AWQ are those of a part"
packed awq-latent awq deepseek_v3
both awq-latent "$work/awq-latent" "$work/awq-latent-numbers" 2
packed int4 int4 qwen3_moe
both int4 "$work/int4-stacked" "$work/int4-numbers" 3 layout.ffn.tensor=2
decode listed 3 model="$work/int4" prompts.file="$work/prompts.h5" prompts.count=5 sampling.temperature=0 layout.ffn.tensor=2 || fail listed
cmp <(answers int4) <(answers listed) || fail "stacked experts differ from single ones"
packed int8 int8 step3 kv_heads=1 # experts of a layer in one tensor
both int8 "$work/int8" "$work/int8-numbers" 3 layout.ffn.expert=2
packed oss mxfp4 gpt_oss window=13 # as published, and as copies have it, inputs as rows
both oss "$work/oss" "$work/oss-numbers" 3 layout.ffn.tensor=2
alike=equal both oss-int8 "$work/oss" "$work/oss-numbers" 2 precision.weights=int8
# narrow NAME KIND - the same numbers in fewer bytes: block scales of FP8 in BF16, all numbers in F16.
narrow() {
    "$tandem" generate "$work/$1" family=qwen3_moe dtype="$2" hidden=160 layers=2 vocab=90 context=256 heads=4 kv_heads=2 head_dim=48 \
        experts=4 topk=2 expert=144 >/dev/null || fail "generate $1"
    "$PYTHON" tests/mpi/narrow.py "$work/$1" "$work/$1-narrow" "$work/$1-wide" || fail "narrow.py $1"
    alike=equal both "$1" "$work/$1-narrow" "$work/$1-wide" 3 layout.ffn.tensor=2
}
narrow scales fp8
narrow halves f32
echo "packed formats agree with their numbers"
