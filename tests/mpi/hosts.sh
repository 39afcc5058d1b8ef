#!/bin/bash
# Two hosts: cells whose attention rank is on one and whose FFN rank is on the other decode what one cell on one
# host decodes, bit for bit; when a rank of one is killed, the same command continues. Where no hosts can be made
# (root, network namespaces), all messages go through TCP on one.
# timeout: 240
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/hosts.bash"
need "$tandem"
job=tests/mpi/job.yaml
settings=(layout.threads=1 prompts.count=9 sampling.samples=3 sampling.temperature=0.8 sampling.max_new_tokens=60
    sampling.ignore_eos=true output.commit_seconds=0.05)
decode one 2 "${settings[@]}" || fail "one cell on one host"
cells=(layout.cells=4 layout.exchange=mpi)

if [ -z "${MPIRUN:-}" ] && hosts_possible; then
    hosts_up || fail "the two hosts cannot be made"
    how="on two hosts"
    spread() { turns=yes hosts_mpirun 4 "$@"; }
else
    how="through TCP"
    echo "not tried: two hosts, which need root, network namespaces and Open MPI"
    spread() { TCP=1 tests/mpirun 8 "$@"; }
fi
# run NAME - on both hosts; the status is mpirun's.
run() {
    spread "$tandem" run "$job" --set output.file="$work/$1.h5" $(printf -- '--set %s ' "${settings[@]}" "${cells[@]}") \
        >"$work/$1.log" 2>&1
}
run four || fail "four cells: $(cat "$work/four.log")"
same one four
[ "$how" != "on two hosts" ] || grep -q 'ranks on node1 and 1 more host' "$work/four.log" ||
    fail "these are not two hosts: $(head -n 3 "$work/four.log")"

# kill_one - false when the job had ended, well or not, before a rank of it was killed.
kill_one() {
    local status killed=1
    rm -rf "$work"/killed.*
    run killed &
    pid=$!
    seals "$work/killed.h5" 3 $pid && kill -KILL "$(rank_of "$work/killed.h5" 5)" && killed=0
    wait $pid
    status=$?
    [ $killed = 0 ] && [ ! -f "$work/killed.h5" ] || return
    [ $status != 0 ] || fail "a job of which a rank was killed says that it is done"
}
in_time kill_one
run killed || fail "continued: $(cat "$work/killed.log")"
grep -q ' 27 of 27 completions to do' "$work/killed.log" && fail "what the killed cells had done was lost"
same one killed
echo "cells over hosts change nothing ($how)"
