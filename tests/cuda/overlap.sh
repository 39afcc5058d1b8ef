#!/bin/bash
# A job whose steps are launched as graphs, with kernels that are set up while the one before them runs
# (TANDEM_OVERLAP=1, kernels/cuda/launch.cuh) and without: the same bits, several times; colocated, and where there are
# two GPUs or more with NCCL's kernels in the same graphs. tests/cuda/gpu.sh starts it with REAL=nccl; without REAL the
# GPUs are emulated, to whom both are one: once. Not executable, so that no test run starts it.  GPUS=n: use so many.
. "$(dirname "$0")/../mpi/lib.sh"
. tests/cuda/gpu_lib.sh
if [ -n "${REAL:-}" ]; then
    GPUS=${GPUS:-$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')} tries=(1 2 3)
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sort -n | head -n 1)
    [ "${capability%.*}" -ge 9 ] 2>/dev/null ||
        skip "kernels are set up early from compute capability 9.0 on, here is ${capability:-none}"
else
    GPUS=${GPUS:-2} tries=(1)
fi
[ "$GPUS" -ge 1 ] || skip "there are no GPUs"
export TANDEM_EMU_DEVICES=$GPUS
job=tests/mpi/job.yaml
short=(prompts.count=7 sampling.max_new_tokens=9 layout.threads=1 graphs=true)
tandem=$gpu

for layout in "1 0 0" "1 1 1" "1 2 1" "2 1 2"; do
    read -r attention expert tensor <<<"$layout"
    [ $((attention + expert * tensor)) -le "$GPUS" ] || continue
    for act in f32 bf16; do
        with=(precision.activations=$act precision.kv_cache=$act)
        name=$act-${layout// /-}
        # shellcheck disable=SC2086
        TANDEM_OVERLAP=0 gpu "off-$name" $layout "${with[@]}"
        grep -q 'launched as CUDA graphs' "$work/off-$name.log" || { cat "$work/off-$name.log"; fail "off-$name: no graphs"; }
        for try in "${tries[@]}"; do
            # shellcheck disable=SC2086
            TANDEM_OVERLAP=1 gpu "on$try-$name" $layout "${with[@]}"
            same "off-$name" "on$try-$name"
        done
    done
done
echo "TANDEM_OVERLAP=1 gives the bits that 0 gives, on up to $GPUS GPUs"
