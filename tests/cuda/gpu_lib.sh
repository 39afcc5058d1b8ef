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

# colocated - the job in $job, as one of colocated ranks, in $work/colocated.yaml.
colocated() { sed 's/ffn: .*/colocated: true/' "$job" >"$work/colocated.yaml"; }

# gpu NAME ATTENTION EXPERT TENSOR [KEY=VALUE]... - $job on GPUs with the settings of the array `short`, and what each
# rail does in how long; EXPERT 0: colocated.
gpu() {
    local name=$1 ranks=$(($2 + $3 * $4)) layout=(layout.attention="$2") file=$job start=$SECONDS
    if [ "$3" = 0 ]; then
        colocated
        file=$work/colocated.yaml
    else
        layout+=(layout.ffn.expert="$3" layout.ffn.tensor="$4")
    fi
    shift 4
    job=$file decode "$name" "$ranks" device=cuda "${layout[@]}" "${short[@]}" "$@" || fail "$name"
    echo "$name: $ranks ranks, $((SECONDS - start)) s$(sed -n 's/^rail /; rail /p' "$work/$name.log" | tr -d '\n')"
}

# near NAME NAME TOLERANCE - the same as far as rounding lets them (near.py).
near() {
    completions "$1" >"$work/near-a.jsonl"
    completions "$2" >"$work/near-b.jsonl"
    "$PYTHON" tests/cuda/near.py "$work/near-a.jsonl" "$work/near-b.jsonl" "$3" || fail "$1 and $2"
}
