#!/bin/bash
# The same completions, to the last bit of every logprob, on every layout, micro-batch, slot and chunk.
# timeout: 600
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
colocated() { # NAME RANKS [KEY=VALUE]...
    local name=$1 ranks=$2
    shift 2
    sed 's/ffn: .*/colocated: true/' tests/mpi/job.yaml >"$work/colocated.yaml"
    job=$work/colocated.yaml decode "$name" "$ranks" layout.attention="$ranks" "$@" || fail "$name"
}
afd() { # NAME ATTENTION EXPERT TENSOR [KEY=VALUE]...
    local name=$1 ranks=$(($2 + $3 * $4))
    local layout=(layout.attention="$2" layout.ffn.expert="$3" layout.ffn.tensor="$4")
    shift 4
    decode "$name" "$ranks" "${layout[@]}" "$@" || fail "$name"
}

colocated local 1
colocated local2 2 schedule.slots=2
afd 1a1f 1 1 1
same local local2
same local 1a1f

afd 2a1f 2 1 1
afd 1a1f-mpi 1 1 1 layout.exchange=mpi
afd 2a1f-mpi 2 1 1 layout.exchange=mpi layout.micro_batches=3
for m in 1 3 4; do
    afd 1a1f-m$m 1 1 1 layout.micro_batches=$m
    same 1a1f 1a1f-m$m
done
afd one-slot 1 1 1 schedule.slots=1 schedule.prefill_chunk=1 prompts.count=6
afd six 1 1 1 prompts.count=6
afd many-slots 1 1 1 schedule.slots=64 schedule.prefill_chunk=512
same one-slot six

# Experts and columns shared out in any way.
afd 1a2f-expert 1 2 1
afd 3a2f 3 2 1 layout.micro_batches=3
afd 1a2f-tensor 1 1 2
afd 2a2f-tensor-mpi 2 1 2 layout.exchange=mpi schedule.slots=3
afd 1a3f-expert 1 3 1 layout.micro_batches=4
afd 2a4f-hybrid 2 2 2
afd 1a4f-hybrid-mpi 1 2 2 layout.exchange=mpi layout.micro_batches=1
afd 1a4f-tensor 1 1 4
for other in 2a1f 1a1f-mpi 2a1f-mpi many-slots 1a2f-expert 3a2f 1a2f-tensor 2a2f-tensor-mpi 1a3f-expert \
    2a4f-hybrid 1a4f-hybrid-mpi 1a4f-tensor; do
    same 1a1f $other
done
echo "all layouts agree"
