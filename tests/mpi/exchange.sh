#!/bin/bash
# Every transport, with random row counts, pauses and layouts: each row arrives where it should, once.
# timeout: 240
. "$(dirname "$0")/lib.sh"
traffic=$BUILD/tests/mpi/exchange_traffic
need "$traffic"
step() { # RANKS ARGUMENTS...
    tests/mpirun "$@" || fail "$*"
}
step 1 "$traffic" local 1 1 1 bf16
for transport in shared mpi; do
    step 2 "$traffic" $transport 1 1 1 bf16
    step 3 "$traffic" $transport 2 1 1 f32
    step 5 "$traffic" $transport 3 2 1 fp8
    step 6 "$traffic" $transport 2 2 2 bf16
    step 5 "$traffic" $transport 2 1 3 fp8
done
