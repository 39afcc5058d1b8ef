#!/bin/bash
# What was sampled is not sampled again: a job that is stopped, and killed, in the middle of its sequences
# ends with the same completions; stopped, after hardly more steps than one that was left alone.
# timeout: 300
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
"$PYTHON" -c 'import h5py' 2>/dev/null || skip "python3 with h5py is not installed: steps cannot be counted"
settings=(prompts.count=3 schedule.slots=3 schedule.max_context=500 schedule.prefill_chunk=96 sampling.temperature=0.8 sampling.max_new_tokens=450
    sampling.ignore_eos=true output.commit_seconds=0.05 kernels=auto speculate.draft=off)
decode whole 2 "${settings[@]}" || fail "uninterrupted"

steps() { "$PYTHON" -c 'import sys, h5py; f = h5py.File(sys.argv[1]); print(f["steps"][:][f["rank"][:] == 0].sum())' "$work/$1.steps.h5"; }

# start - the job in the background; returns when it decodes.
start() {
    : >"$work/stopped.log"
    setsid tests/mpirun 2 "$tandem" run "$job" --set output.file="$work/stopped.h5" \
        $(printf -- '--set %s ' "${settings[@]}") >"$work/stopped.log" 2>&1 &
    pid=$!
    for ((try = 0; try < 600; try++)); do
        grep -q 'completions to do' "$work/stopped.log" && break
        kill -0 $pid 2>/dev/null || break
        sleep 0.02
    done
    grep -q '3 of 3 completions to do' "$work/stopped.log" || { cat "$work/stopped.log"; fail "a sequence ended too early"; }
}
# stop SIGNAL... - starts the job and ends it by each signal in turn; then lets it end. Sets runs.
stop() {
    rm -rf "$work"/stopped.*
    runs=0
    local signal
    for signal in "$@"; do
        start
        sleep 0.2
        if [ "$signal" = KILL ]; then
            pkill -KILL -f "run $job --set output.file=$work/stopped.h5"
            kill -KILL -- -$pid 2>/dev/null
        else
            kill -"$signal" $pid
        fi
        wait $pid 2>/dev/null
        [ -f "$work/stopped.h5" ] && break
        runs=$((runs + 1))
    done 2>/dev/null
    [ "$runs" -ge 1 ] || fail "no stop came in time"
    decode stopped 2 "${settings[@]}" || fail "the last continuation"
    same whole stopped
}

stop USR1 USR1 USR1
alone=$(steps whole) all=$(steps stopped)
echo "$runs stops: $all steps instead of $alone"
# Every run reads what is known: at most ten chunks.
[ "$all" -le $((alone + runs * 10)) ] || fail "tokens were sampled twice: $all steps, $alone alone"

settings+=(output.save_minutes=0.001)
stop KILL KILL
echo "$runs kills: $(steps stopped) steps"
