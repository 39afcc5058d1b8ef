#!/bin/bash
# NCCL between GPUs, one a rank, in as many layouts as the host has GPUs for: the CPU's tokens, the same bits in every
# layout, with and without graphs, with memory that NCCL takes in place and with memory that it copies; and what each
# rail does in how long. tests/cuda/gpu.sh starts it with REAL=nccl; without REAL the GPUs are emulated.
# Not executable, so that no test run starts it.  GPUS=n: use so many.
. "$(dirname "$0")/../mpi/lib.sh"
. tests/cuda/gpu_lib.sh
export TANDEM_EMU_DEVICES=8
cpu=$tandem
[ -z "${REAL:-}" ] || GPUS=${GPUS:-$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')}
GPUS=${GPUS:-8}
[ "$GPUS" -ge 2 ] || skip "NCCL needs two GPUs, here are $GPUS"
job=tests/mpi/job.yaml
short=(prompts.count=7 sampling.max_new_tokens=9 layout.threads=1)
tandem=$gpu

# on NAME ATTENTION EXPERT TENSOR [KEY=VALUE]... - as gpu. False: there are too few GPUs.
on() { [ $(($2 + $3 * $4)) -le "$GPUS" ] && gpu "$@"; }

# all PREFIX [KEY=VALUE]... - in all layouts, each with the bits of the first.
all() {
    local prefix=$1 layout
    shift
    for layout in "1 1 1" "2 0 0" "2 1 1" "1 2 1" "1 1 2" "2 2 1" "2 1 2" "4 1 4" "4 4 1" "3 2 2" "4 0 0"; do
        # shellcheck disable=SC2086
        on "$prefix-${layout// /-}" $layout "$@" || continue
        [ "$layout" = "1 1 1" ] || same "$prefix-1-1-1" "$prefix-${layout// /-}"
    done
}

tandem=$cpu decode cpu 2 "${short[@]}" || fail cpu
all f32
same_tokens cpu f32-1-1-1
fp8=(precision.activations=bf16 precision.kv_cache=fp8 precision.dispatch=fp8 precision.combine=bf16)
tandem=$cpu decode cpu-fp8 2 "${short[@]}" "${fp8[@]}" || fail cpu-fp8
all bf16 precision.activations=bf16 precision.kv_cache=bf16 precision.dispatch=bf16 layout.micro_batches=3
for layout in "1 1 1" "2 1 2" "4 1 4"; do
    name=${layout// /-}
    # shellcheck disable=SC2086
    on "plain-$name" $layout graphs=false && same "f32-$name" "plain-$name"
    # shellcheck disable=SC2086
    NCCL_LOCAL_REGISTER=0 on "copied-$name" $layout && same "f32-$name" "copied-$name"
    # shellcheck disable=SC2086
    on "fp8-$name" $layout "${fp8[@]}" && near cpu-fp8 "fp8-$name" 0.2
done
echo "NCCL agrees on $GPUS GPUs"
