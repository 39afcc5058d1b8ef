#!/bin/bash
# A signal ends a job with status 75 whatever it is busy with: before anything is decoded at once, later
# after the step it is in.
# timeout: 120
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
sed 's/^  ffn:.*/  colocated: true/' $job >"$work/alone.yaml"

# stop_while SIGNAL COMPLETIONS STATUS ARGUMENTS ... - sends the signal to the one rank of a job when so many
# are on disk.
stop_while() {
    local signal=$1 after=$2 wanted=$3 pid job_pid status
    shift 3
    rm -rf "$work"/s.*
    timeout -k 1 60 "$tandem" run "$work/alone.yaml" --set output.file="$work/s.h5" "$@" >"$work/log" 2>&1 &
    pid=$!
    seals "$work/s.h5" "$after" $pid || fail "$*: not $after completions on disk: $(cat "$work/log")"
    job_pid=$(pgrep -P $pid -x tandem) && kill "-$signal" "$job_pid" || fail "$*: ended before the signal: $(cat "$work/log")"
    wait $pid
    status=$?
    [ $status = "$wanted" ] || fail "SIG$signal: exit status $status, wanted $wanted: $(cat "$work/log")"
}

# Reading inputs may last: here a prompts file that never comes.
mkfifo "$work/pipe.yaml"
for signal in TERM USR1 INT; do
    timeout -k 1 60 "$tandem" run "$work/pipe.yaml" >"$work/log" 2>&1 &
    pid=$!
    until job_pid=$(pgrep -P $pid -x tandem); do
        kill -0 $pid 2>/dev/null || fail "no job that waits for its input: $(cat "$work/log")"
        sleep 0.02
    done
    handles "$job_pid" $signal && kill "-$signal" "$job_pid" || fail "no job that waits for its input"
    wait $pid
    status=$?
    [ $status = 75 ] || fail "SIG$signal while inputs are read: exit status $status: $(cat "$work/log")"
done
wanted=0
for signal in TERM USR1; do
    stop_while $signal $((wanted += 5)) 75 --set prompts.count=21 --set sampling.samples=4000 --set sampling.ignore_eos=true
done
echo "signals end a job, with what is finished kept"
