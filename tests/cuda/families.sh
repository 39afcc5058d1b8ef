#!/bin/bash
# Every kind of family on emulated GPUs: the tokens of the CPU, logprobs near them, and the same bits in all layouts:
# apart, with the FFN split within its experts and among them, and with LONG=1 colocated. Windows and rings, MLA, sinks, biases, clamps
# and MXFP4 in the kernels.
# timeout: 300
. "$(dirname "$0")/../mpi/lib.sh"
. tests/cuda/gpu_lib.sh
cpu=$tandem
need "$cpu"
export TANDEM_EMU_DEVICES=4
for length in 70 3 19; do
    echo -n '{"tokens": ['
    for ((i = 0; i < length; i++)); do
        echo -n "$((i ? 0 : 1))$(((i * i * 7 + i * length) % 10))$((i % 7)), "
    done | sed 's/\b0\+\([0-9]\)/\1/g; s/, $//'
    echo ']}'
done >"$work/prompts.jsonl"
"$cpu" import "$work/prompts.jsonl" "$work/in.h5" --format jsonl --tokens tokens >/dev/null || fail "import"
job=tests/mpi/job.yaml
colocated

run() { # NAME RANKS [KEY=VALUE]...
    local name=$1 ranks=$2
    shift 2
    decode "$name" "$ranks" model="$work/model" tokenizer=none prompts.file="$work/in.h5" prompts.count=all \
        sampling.max_new_tokens=4 sampling.ignore_eos=true schedule.max_context=96 layout.threads=1 "$@" || fail "$family: $name"
}

for family in step3p5 qwen3_moe deepseek_v3 llama gpt_oss ${LONG:+glm4_moe minimax_m2 qwen3}; do
    rm -rf "$work"/model "$work"/[a-e].*
    [ $family = gpt_oss ] && dtype=mxfp4 || dtype=f32
    "$cpu" generate "$work/model" family=$family unused=ignore hidden=96 layers=2 vocab=1011 context=128 heads=6 kv_heads=2 head_dim=20 dense=53 \
        experts=6 topk=2 expert=64 shared=64 q_rank=34 kv_rank=43 nope_dim=11 rope_dim=6 value_dim=13 window=13 limit=0.4 \
        groups=3 topk_groups=2 rope_factor=2 dtype=$dtype >/dev/null || fail "generate $family"
    tandem=$cpu run a 2
    tandem=$gpu run b 2 device=cuda
    tandem=$gpu run c 3 device=cuda layout.ffn.tensor=2
    tandem=$gpu run d 4 device=cuda layout.attention=2 layout.ffn.expert=2 layout.micro_batches=2
    [ -z "${LONG:-}" ] || tandem=$gpu job=$work/colocated.yaml run e 1 device=cuda
    same_tokens a b
    near a b 1e-3
    for split in c d ${LONG:+e}; do
        same b $split
    done
    echo "$family: as on the CPU"
done
