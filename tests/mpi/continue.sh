#!/bin/bash
# A job killed by SIGKILL eight times (LONG=1: twenty) at random moments, each time continued by the same command, ends
# with the same completions as one that ran through; nothing that was on disk is lost or done twice.
# timeout: 600
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
kills=${KILLS:-${LONG:+20}}
kills=${kills:-8}
RANDOM=${SEED:-7}
# Rows with penalties, stop texts, formats and likeliest tokens of their own, which a continuation must take
# up from the tokens that were kept.
"$PYTHON" - "$work/prompts.h5" <<'P' || fail "writing prompts"
import json, sys, h5py
with h5py.File("input/prompts.h5") as f, h5py.File(sys.argv[1], "w") as out:
    n = 150
    out["text"], out["id"] = f["text"][:n], f["id"][:n]
    out["repetition_penalty"] = [1.3 if i % 4 == 1 else 1.0 for i in range(n)]
    out["frequency_penalty"] = [0.5 if i % 6 == 1 else 0.0 for i in range(n)]
    out["stop"] = ['["; a", " the "]' if i % 3 == 1 else "" for i in range(n)]
    out["logprobs"] = [3 if i % 5 == 1 else 0 for i in range(n)]
    out["repetition_stop"] = [8 if i % 7 == 1 else 0 for i in range(n)]
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "integer"}}}}
    forms = [json.dumps({"json_schema": schema}), json.dumps({"regex": "( ?[a-z]{1,9}[,;]?){3,}"})]
    out["format"] = [forms[i // 4 % 2] if i % 4 == 3 else "" for i in range(n)]
P
settings=(prompts.file="$work/prompts.h5" output.commit_seconds=0.05 prompts.count=150 sampling.samples=2 sampling.temperature=0.8
    schedule.slots=3 sampling.max_new_tokens=40 kernels=auto)
began=${EPOCHREALTIME/./}
decode whole 2 "${settings[@]}" || fail "uninterrupted"
micros=$((${EPOCHREALTIME/./} - began))
echo "uninterrupted: $((micros / 1000)) ms"

on_disk() { "$tandem" export "$work/killed.h5" --partial 2>/dev/null | wc -l; }

# start NAME - the job in the background, in a process group of its own; returns when it decodes.
start() {
    : >"$work/$1.log"
    setsid tests/mpirun 2 "$tandem" run "$job" --set output.file="$work/$1.h5" \
        $(printf -- '--set %s ' "${settings[@]}") >"$work/$1.log" 2>&1 &
    pid=$!
    decodes "$work/$1.log" $pid
}

# kill_often - false when no kill came after a completion was on disk: then earlier ones follow, and more.
kill_often() {
    rm -rf "$work"/killed.*
    before=0 done_kills=0
    for ((i = 0; i < kills * (turn + 1); i++)); do
        start killed
        sleep "$(awk "BEGIN { print $micros / 1e6 / 8 / ($turn + 1) * $RANDOM / 32768 }")"
        kill_job "$work/killed.h5" $pid
        [ -f "$work/killed.h5" ] && break
        now=$(on_disk)
        [ "$now" -ge "$before" ] || fail "kill $i: $now completions are on disk, $before were"
        before=$now
        done_kills=$((done_kills + 1))
    done 2>/dev/null
    [ "$before" -gt 0 ]
}
in_time kill_often
echo "$done_kills kills, $before completions on disk by then"
decode killed 2 "${settings[@]}" || fail "the last continuation"
same whole killed

# SIGUSR1 asks for an orderly end: exit status 75, and the same command continues. No token of a sequence
# that was under way is drawn twice.
drawn() { sed -n 's/.*"tokens_drawn": *\([0-9]*\).*/\1/p' "$work/summary.json"; }
settings+=(output.summary="$work/summary.json")
stop_often() {
    rm -rf "$work"/warned.*
    all=0 stops=0
    for ((i = 0; i < 3; i++)); do
        start warned
        sleep 0.1
        kill -USR1 $pid
        wait $pid
        status=$?
        [ $status = 75 ] || [ -f "$work/warned.h5" ] || fail "SIGUSR1: exit status $status, wanted 75"
        all=$((all + $(drawn)))
        [ -f "$work/warned.h5" ] && break
        stops=$((stops + 1))
    done
    [ $stops -gt 0 ]
}
in_time stop_often
[ -f "$work/warned.h5" ] || { decode warned 2 "${settings[@]}" && all=$((all + $(drawn))); } || fail "after SIGUSR1"
same whole warned
tokens=$(completions warned | sed 's/.*"tokens": *\[\([^]]*\)\].*/\1/' | tr -cd ',\n' | awk '{ n += length + 1 } END { print n }')
[ "$all" = "$tokens" ] || fail "$stops stops: $all tokens were drawn for $tokens"
echo "$stops stops: $all tokens were drawn, as many as there are"

# A time limit does the same.
decode limited 2 "${settings[@]}" schedule.time_limit=1s >/dev/null
status=$?
[ $status = 75 ] || [ $status = 0 ] || fail "time limit: exit status $status, wanted 75"
decode limited 2 "${settings[@]}" || fail "after the time limit"
same whole limited

# Done is done: the same command again changes nothing; another job does not overwrite it.
sum=$(sha256sum "$work/limited.h5")
decode limited 2 "${settings[@]}" || fail "a finished job"
[ "$sum" = "$(sha256sum "$work/limited.h5")" ] || fail "a finished output was written again"
decode limited 2 "${settings[@]}" sampling.seed=9 >"$work/other.log" && fail "another job overwrote it"
grep -q sampling "$work/other.log" || fail "the message does not say what differs"
echo "continued jobs are equal to uninterrupted ones"
