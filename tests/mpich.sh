#!/bin/bash
# mpich.sh - builds the program with MPICH beside the one of Open MPI, and runs one job with both: 2A2F, rows
# in shared memory and as messages. Their completions are equal to the last bit.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
command -v mpicc.mpich >/dev/null && command -v mpirun.mpich >/dev/null || { echo "SKIPPED: MPICH is not installed (apt-get install mpich libmpich-dev)"; exit 0; }
mk() { make -j"$(nproc)" BUILD="$BUILD/mpich" CUDA=0 MPICC=mpicc.mpich MPIRUN=mpirun.mpich "$@" || exit 1; }
# Of the program's objects those that see neither MPI nor CUDA are the same.
rm -rf "$BUILD/mpich"
mk "$BUILD/mpich/flags"
grep -q fsanitize "$BUILD/flags" && { echo "mpich: $BUILD is a build with sanitizers, whose objects are no use"; exit 1; }
touch -r "$BUILD/flags" "$BUILD/mpich/flags"
differ=$(grep -rlE '#include <mpi.h>|TANDEM_CUDA' src kernels)
find "$BUILD/src" "$BUILD/kernels" -name '*.d' | while read -r list; do
    grep -qwF "$differ" "$list" && continue
    to=$BUILD/mpich/${list#"$BUILD"/}
    mkdir -p "${to%/*}"
    cp -p "${list%.d}.o" "${to%.d}.o" && sed "s|$BUILD/|$BUILD/mpich/|" "$list" >"$to"
done
mk all
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
job() { # NAME PROGRAM LAUNCHER EXCHANGE
    MPIRUN=$3 timeout 120 tests/mpirun 4 "$2" run tests/mpi/job.yaml --set output.file="$work/$1.h5" --set layout.attention=2 \
        --set layout.ffn.expert=2 --set layout.exchange="$4" >"$work/$1.log" 2>&1 || { cat "$work/$1.log"; exit 1; }
    "$BUILD/tandem" export "$work/$1.h5" --tokens --logprobs >"$work/$1.jsonl" || exit 1
}
job open "$BUILD/tandem" mpirun shared
for exchange in shared mpi; do
    job "$exchange" "$BUILD/mpich/tandem" mpirun.mpich "$exchange"
    cmp "$work/open.jsonl" "$work/$exchange.jsonl" || { echo "FAILED: MPICH, exchange $exchange: other completions"; exit 1; }
done
"$BUILD/mpich/tandem" -V | grep MPICH
