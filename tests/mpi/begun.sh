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
began=${EPOCHREALTIME/./}
decode whole 2 "${settings[@]}" || fail "uninterrupted"
micros=$((${EPOCHREALTIME/./} - began))

steps() { "$PYTHON" -c 'import sys, h5py; f = h5py.File(sys.argv[1]); print(f["steps"][:][f["rank"][:] == 0].sum())' "$work/$1.steps.h5"; }

# start - the job in the background; returns when it decodes, false if a sequence has ended.
start() {
    : >"$work/stopped.log"
    setsid tests/mpirun 2 "$tandem" run "$job" --set output.file="$work/stopped.h5" \
        $(printf -- '--set %s ' "${settings[@]}") >"$work/stopped.log" 2>&1 &
    pid=$!
    decodes "$work/stopped.log" $pid '3 of 3 completions to do'
}
# stop SIGNAL... - starts the job and ends it by each signal in turn, after less and less of the time that it takes;
# then lets it end. False when no stop was in the middle of all sequences. Sets runs, the starts after the first.
stop() {
    rm -rf "$work"/stopped.*
    local signal middles=-1
    runs=-1
    for signal in "$@" none; do
        runs=$((runs + 1))
        start || break
        middles=$((middles + 1))
        [ $signal = none ] && break
        sleep "$(awk "BEGIN { print $micros / 1e6 * 0.4 / 2 ^ $turn }")"
        if [ $signal = KILL ]; then
            kill_job "$work/stopped.h5" $pid
        else
            kill -$signal $pid
        fi
        wait $pid 2>/dev/null # says "Killed"
    done 2>/dev/null
    wait $pid || fail "the last continuation: $(cat "$work/stopped.log")"
    [ $middles -ge 1 ] || return
    same whole stopped
}

in_time stop USR1 USR1 USR1
alone=$(steps whole) all=$(steps stopped)
echo "$runs stops: $all steps instead of $alone"
# Every run reads what is known of three sequences, in chunks of 96; a chunk may take a step of its own.
[ "$all" -le $((alone + runs * 3 * ((500 + 95) / 96))) ] || fail "tokens were sampled twice: $all steps, $alone alone"

settings+=(output.save_minutes=0.001)
in_time stop KILL KILL
echo "$runs kills: $(steps stopped) steps"
