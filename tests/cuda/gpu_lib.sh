# gpu_lib.sh - what scripts that run on GPUs share, after tests/mpi/lib.sh. Sourced, never run.
# The program in $gpu: on emulated GPUs; with REAL=1 on one real GPU, which all ranks share (one_gpu.cu); with
# REAL=nccl on real GPUs, one for each rank.
gpu=$BUILD/emu/tandem
case ${REAL:-} in
"") ;;
nccl)
    gpu=$BUILD/tandem
    ;;
*)
    need "$BUILD/tandem"
    gpu=$work/gpu
    printf '#!/bin/sh\nexec env LD_PRELOAD=%s %s "$@"\n' "$PWD/$BUILD/tests/cuda/one_gpu.so" "$PWD/$BUILD/tandem" >"$gpu"
    chmod +x "$gpu"
    ;;
esac
need "$gpu"
