#!/bin/bash
# Ranks whose processors can do different things use what all can, and say whose fault that is; a job goes on
# with other kernels, which have the same bits.
# timeout: 300
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
kinds=$BUILD/tests/mpi/backends
need "$tandem"
need "$kinds"
settings=(kernels=auto layout.threads=1 prompts.count=9 sampling.samples=2 sampling.temperature=0.8 layout.attention=2)

# on KINDS NAME [KEY=VALUE]... - one attention rank of each of the first two kinds, an FFN rank of the third.
on() {
    local BACKENDS=$1 name=$2
    export BACKENDS
    shift 2
    tandem=$kinds decode "$name" 3 "${settings[@]}" "$@"
}
used() { "$PYTHON" -c "import h5py, sys; print(h5py.File(sys.argv[1]).attrs['kernels'])" "$work/$1.h5"; }

# agree KINDS KERNELS WORDS - what is used, and what is said.
agree() {
    on "$1" mixed || fail "$1"
    same whole mixed
    [ "$(used mixed)" = "$2" ] || fail "$1: $(used mixed) were used, wanted $2"
    grep -q "kernels: $2 on all ranks, because .* has no $3" "$work/mixed.log" || fail "$1: $(cat "$work/mixed.log")"
    rm -f "$work"/mixed*
}
on avx2,avx2,avx2 whole || fail "one kind"
[ "$(used whole)" = avx2 ] && ! grep -q 'kernels: .* on all ranks' "$work/whole.log" || fail "$(used whole) were used"
agree avx2,avx2,plain plain avx2
agree avx512,plain,avx2 plain avx512
agree avx2,avx512,avx2 avx2 avx512

# Kernels that the job names are those of all ranks, or none.
on avx2,plain,avx2 named kernels=avx2 >/dev/null
status=$?
[ $status = 1 ] && grep -q 'rank 1 on .*kernels: avx2 cannot be used here' "$work/named.log" ||
    fail "kernels that one rank has not: exit status $status: $(cat "$work/named.log")"
[ -f "$work/named.h5" ] && fail "kernels that one rank has not: completions all the same"

# Another processor goes on where the first was stopped.
settings+=(sampling.max_new_tokens=120 sampling.ignore_eos=true)
on avx2,avx2,avx2 long || fail "long"
# stopped KIND - when it has decoded for a moment
stopped() {
    local pid status
    rm -rf "$work/from-$1".*
    on "$1,$1,$1" "from-$1" >/dev/null &
    pid=$!
    decodes "$work/from-$1.log" $pid && [ $turn = 0 ] && sleep 0.2
    pkill -USR1 -f "^[^ ]*backends run .*output.file=$work/from-$1.h5 "
    wait $pid
    status=$?
    [ $status != 0 ] || return
    [ $status = 75 ] || fail "stopped with $1: exit status $status: $(cat "$work/from-$1.log")"
}
in_time stopped avx2
in_time stopped avx512

# begun KIND KINDS - goes on on other processors
begun() {
    on "$2" "from-$1" || fail "$1, then $2"
    same long "from-$1"
}
begun avx2 avx512,avx512,avx512
begun avx512 avx2,plain,avx512
for kind in avx2 avx512; do
    "$tandem" check "$job" --set kernels=$kind >/dev/null 2>&1 || echo "not tried: kernels of $kind: this processor lacks them"
done
echo "one job, one kind of arithmetic"
