#!/bin/bash
# One prompt, one answer: tokens and logprobs have one hash per model, whichever kernels of the CPU, however
# attention and FFN are shared out, in one to four micro-batches.
# timeout: 300
. "$(dirname "$0")/lib.sh"
need "$tandem"
sed 's/ffn: .*/colocated: true/; /^precision/,/kv_cache/d' tests/mpi/job.yaml >"$work/colocated.yaml"
sed '/^precision/,/kv_cache/d' tests/mpi/job.yaml >"$work/apart.yaml" # bf16, but for what travels
vectors=$(for k in avx2 avx512; do
    "$tandem" check "$work/colocated.yaml" --set kernels=$k >/dev/null 2>&1 && echo $k
done)
[[ $vectors == *avx512* ]] || echo "not tried: kernels of AVX-512: this processor lacks them"
first=${vectors%%$'\n'*} last=${vectors##*$'\n'}

hash_of() { # NAME RANKS JOB KERNELS [KEY=VALUE]...
    local name=$family-$1 ranks=$2 found
    job=$work/$3.yaml
    decode "$name" "$ranks" model="$work/model" kernels="${4:-plain}" prompts.count=9 schedule.slots=4 sampling.seed=7 \
        sampling.temperature=0.9 sampling.max_new_tokens=13 sampling.ignore_eos=true precision.combine=f32 "${integers[@]}" "${@:5}" || fail "$name"
    found=$(completions "$name" | sha256sum)
    [ "${want:=$found}" = "$found" ] || fail "$name differs from $family-local"
}
for family in step3 qwen3_moe deepseek_v3 step3-fp8 step3-int8 qwen3_moe-int4 step3-only8 deepseek_v3-only4; do
    rm -rf "$work/model"
    want= kv_heads=2 integers=()
    case $family in *-int?) integers=(precision.weights="${family#*-}" precision.products=int8) ;; esac
    case $family in *-only?) integers=(precision.weights="int${family: -1}") ;; esac # rows stay exact
    case $family in step3*) kv_heads=1 ;; esac
    "$tandem" generate "$work/model" --tokenizer input/demo family="${family%-*}" unused=ignore hidden=192 layers=4 context=256 heads=8 \
        kv_heads=$kv_heads head_dim=32 vocab=4096 dense=320 experts=13 topk=3 expert=160 shared=192 q_rank=64 kv_rank=48 \
        nope_dim=16 rope_dim=16 value_dim=32 groups=1 topk_groups=1 dtype="$([ "${family#*-}" = fp8 ] && echo fp8 || echo bf16)" \
        >"$work/log" 2>&1 || fail "generate $family: $(cat "$work/log")"
    hash_of local 1 colocated plain
    hash_of 1a1f 2 apart "$first" layout.micro_batches=1
    hash_of 1a2f-expert 3 apart "$last" layout.ffn.expert=2 layout.micro_batches=2
    hash_of 1a2f-tensor 3 apart "$first" layout.ffn.tensor=2 layout.micro_batches=3 layout.exchange=mpi
    hash_of 2a4f-hybrid 6 apart "$last" layout.attention=2 layout.ffn.expert=2 layout.ffn.tensor=2 layout.micro_batches=4
    echo "$family: $want"
done
