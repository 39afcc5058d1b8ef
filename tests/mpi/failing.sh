#!/bin/bash
# A rank that fails ends the job within seconds, with one message and the documented status; no hang.
# timeout: 200
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"

# expect STATUS PATTERN RANKS ARGUMENTS... - every rank leaves with STATUS, and exactly one line of ours says it.
expect() {
    local wanted=$1 pattern=$2 ranks=$3 status
    shift 3
    timeout 60 tests/mpirun "$ranks" "$tandem" run "$@" --set output.file="$work/x.h5" >"$work/log" 2>&1
    status=$?
    [ $status = "$wanted" ] || { cat "$work/log"; fail "$*: exit status $status, wanted $wanted"; }
    grep '^tandem:' "$work/log" | grep -q -- "$pattern" || { cat "$work/log"; fail "$*: no '$pattern'"; }
    [ "$(grep -c '^tandem:' "$work/log")" = 1 ] || { cat "$work/log"; fail "$*: more than one message"; }
}
expect 1 'no such job\|cannot be' 2 "$work/none.yaml"
expect 1 'start it with `mpirun -n 2`' 3 $job
expect 1 'slots' 2 $job --set schedule.slotz=4
expect 1 'nowhere' 2 $job --set model=nowhere
expect 1 'nowhere.h5' 2 $job --set prompts.file=nowhere.h5
expect 1 'context' 2 $job --set schedule.max_context=100000
expect 1 'kv_memory' 2 $job --set schedule.kv_memory=1KiB
expect 1 'nccl' 2 $job --set layout.exchange=nccl
expect 1 'trace' 2 $job --set trace="$work/nowhere/t.json"
expect 1 'local' 2 $job --set layout.exchange=local

# The dry run finds what a run would.
check() {
    local pattern=$1
    shift
    "$tandem" check $job "$@" >"$work/log" 2>&1 && fail "check $*: is fine"
    grep -q -- "$pattern" "$work/log" || { cat "$work/log"; fail "check $*: no '$pattern'"; }
}
check 'directory .*nowhere' --set output.file="$work/nowhere/x.h5"
check 'directory .*nowhere' --set trace="$work/nowhere/t.json"
check 'memory.* are free' --set schedule.kv_memory=500000GiB --set schedule.slots=1000000

# One rank of three is killed in the middle: the others end at once.
kill_one() {
    local start
    : >"$work/log"
    tests/mpirun 3 "$tandem" run $job --set output.file="$work/k.h5" --set layout.ffn.expert=2 \
        --set prompts.count=300 --set sampling.samples=100 --set sampling.max_new_tokens=100 --set layout.exchange="$1" >"$work/log" 2>&1 &
    local pid=$!
    decodes "$work/log" $pid || { cat "$work/log"; fail "the job did not start"; }
    sleep 0.3
    local rank
    rank=$(pgrep -f "^[^ ]*tandem run $job --set output.file=$work/k.h5" | tail -n 1)
    start=$SECONDS
    kill -KILL "$rank"
    wait $pid
    local status=$?
    [ $status != 0 ] || fail "a killed rank, and exit status 0"
    [ $((SECONDS - start)) -lt 30 ] || fail "the job ended only after $((SECONDS - start)) s"
    pgrep -f "run $job --set output.file=$work/k.h5" >/dev/null && fail "ranks were left behind"
}
kill_one shared
kill_one mpi
echo "failures end the job"
