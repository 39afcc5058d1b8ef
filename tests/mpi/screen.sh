#!/bin/bash
# What a user sees: a log begins with what ran, when and where; nothing is wider than a terminal of 80
# columns; signals are answered at once, SIGUSR2 with a line of progress; shares of time are 100 % in all;
# failures are counted by their reason; the summary as JSON says the same.
# timeout: 120
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
alone=(--set layout.attention=1 --set layout.colocated=true --set layout.ffn=none)

# A terminal, as script(1) makes one; what it shows is compared by columns.
command -v script >/dev/null || skip "script is not installed"
TERM=dumb script -qec "stty cols 80; tests/mpirun 2 $tandem run $job --set output.file=$work/tty.h5" "$work/tty" </dev/null >/dev/null ||
    fail "on a terminal: $(cat "$work/tty")"
tr '\r' '\n' <"$work/tty" | grep -v '^command \|^Script ' | awk 'length > 80 { print; bad = 1 } END { exit bad }' ||
    fail "wider than 80 columns"
grep -q '^tandem .*, 20[0-9-]* [0-9:]* [+-][0-9]*, 2 ranks on ' "$work/tty" || fail "no header: $(head -3 "$work/tty")"
grep -q '^command .*run.*output.file=' "$work/tty" && grep -q "^job .*$job ([0-9a-f]\{16\})" "$work/tty" || fail "the header"
tr -d '\r' <"$work/tty" | awk '/working/ { gsub(/[%,]/, ""); n++; d = $(NF-6) + $(NF-4) + $(NF-2) + $NF - 100; if (d > 0.05 || d < -0.05) { print; exit 1 } } END { exit n != 2 }' ||
    fail "shares of time are not 100 %"

# start NAME - one slow process in the background; returns when it decodes.
start() {
    : >"$work/$1.log" # another run's of the same name says nothing of this one
    "$tandem" run "$job" "${alone[@]}" --set prompts.count=300 --set sampling.samples=70 --set schedule.slots=1 --set sampling.max_new_tokens=100 \
        --set output.commit_seconds=0.05 --set output.file="$work/$1.h5" --set output.summary="$work/$1.json" >"$work/$1.log" 2>&1 &
    pid=$!
    decodes "$work/$1.log" $pid || fail "$1 does not decode: $(cat "$work/$1.log")"
}
wait_for() { # PATTERN FILE
    for ((try = 0; try < 200; try++)); do
        grep -q "$1" "$2" && return
        sleep 0.05
    done
    fail "no '$1' in $(cat "$2")"
}
start one
"$tandem" status "$work/one.h5" >"$work/status" || fail "status"
grep -q "^$work/one.h5: [0-9]* of 21000 completions" "$work/status" && grep -q '^running: process [0-9]* on ' "$work/status" ||
    fail "status: $(cat "$work/status")"
kill -USR2 $pid
wait_for '^20[0-9-]* [0-9:]*  [0-9]*/21000 completions, .* so far, .* left' "$work/one.log"
kill -USR1 $pid
wait $pid
[ $? = 75 ] || fail "SIGUSR1: $(tail -3 "$work/one.log")"
grep -q 'stops after this step' "$work/one.log" || fail "no answer to SIGUSR1"
"$tandem" status "$work/one.h5" >"$work/status" && grep -q '^not running' "$work/status" && grep -q '^  rank 0 ' "$work/status" ||
    fail "status of a job that stopped: $(cat "$work/status")"
tail -n 1 "$work/one.log" | grep -q '^unfinished ' || fail "something comes after the summary: $(tail -n 2 "$work/one.log")"
start two
kill -INT $pid
wait $pid
[ $? = 75 ] || fail "SIGINT: $(tail -3 "$work/two.log")"
"$PYTHON" - "$work" <<'P' || fail "the summary as JSON"
import json, re, sys
s = json.load(open(f"{sys.argv[1]}/one.json"))
log = open(f"{sys.argv[1]}/one.log").read()
done, failed = map(int, re.search(r"^completions +(\d+) done, (\d+) failed", log, re.M).groups())
assert not s["finished"] and s["this_run"]["done"] == done and s["of"] == 21000 and s["completions"] == done + failed
assert abs(sum(v for k, v in s["percent_of_time"]["ranks"].items() if k != "ranks") - 100) < 1e-6
P

# Slurm starts a job again: not for ever (--max-restarts), and not when a restart brought no token, as one
# that only reads a long prompt row by row.
printf '{"text": "%s"}\n' "$(seq -s ' ' 1 50)" | "$tandem" import - "$work/slow.h5" >/dev/null || fail "import"
(
    export SLURM_RESTART_COUNT=1
    for ((turn = 0; turn < 5; turn++)); do
        rm -rf "$work"/slow.h5.partial "$work/slow.log"
        "$tandem" run "$job" "${alone[@]}" --max-restarts 9 --set prompts.file="$work/slow.h5" --set prompts.count=all --set schedule.prefill_chunk=1 --set schedule.max_context=400 \
            --set output.file="$work/read.h5" --set output.summary="$work/slow.json" >"$work/slow.log" 2>&1 &
        pid=$!
        decodes "$work/slow.log" $pid
        sleep 0.0$((turn * 2))
        kill -USR1 $pid
        wait $pid
        status=$?
        grep -q '"steps": 0,' "$work/slow.json" || break # else it was stopped before the first step
    done
    [ $status = 2 ] && grep -q 'not one token' "$work/slow.log" && grep -q '"tokens_drawn": 0,' "$work/slow.json" ||
        fail "a restart without a token: $status $(tail -3 "$work/slow.log")"
    ! grep -q '"steps": 0,' "$work/slow.json" || fail "no step was seen"
) || exit 1
(
    export SLURM_RESTART_COUNT=3
    alone+=(--max-restarts 3)
    start again
    kill -USR1 $pid
    wait $pid
    [ $? = 2 ] || fail "restarted often enough: $(tail -3 "$work/again.log")"
    grep -q 'Slurm has restarted this job 3 times' "$work/again.log" || fail "it does not say why: $(tail -3 "$work/again.log")"
    alone+=(--max-restarts 4)
    start again
    seals "$work/again.h5" 1 $pid || fail "nothing is drawn: $(cat "$work/again.log")"
    kill -USR1 $pid
    wait $pid
    [ $? = 75 ] || fail "not restarted often enough: $(tail -3 "$work/again.log")"
) || exit 1

# A trace is whole: every event is one, with its rows.
decode traced 4 trace="$work/trace.json" trace_steps=3-9 layout.attention=2 layout.ffn.expert=2 || fail "trace"
"$PYTHON" - "$work" <<'P' || fail "the trace"
import collections, json, os, sys
events = json.load(open(f"{sys.argv[1]}/trace.json"))["traceEvents"]
assert len(events) > 100 and all(e["ph"] in ("X", "M", "s", "f") for e in events)
assert all({"name", "pid", "tid", "ts", "dur"} <= set(e) for e in events if e["ph"] == "X")
assert {e["args"]["step"] for e in events if e["ph"] == "X"} == set(range(3, 10))
inside = [e for e in events if "micro_batch" in e.get("args", {})]
assert inside and all(0 < e["args"]["rows"] <= 64 for e in inside), inside[:3]
assert all(e["args"]["bytes"] % e["args"]["rows"] == 0 for e in inside if e["name"] == "send")
assert not [f for f in os.listdir(sys.argv[1]) if f.endswith(".tmp")]
# Every arrow leads from a send to a wait of the other role, of the same step and micro-batch, in the
# same layer or the one before; every wait of an FFN rank has one, and of an attention rank but for layer 0.
role = {e["pid"]: e["args"]["name"].split()[2] for e in events if e["name"] == "process_name"}
slices = collections.defaultdict(list)
for e in events:
    if e["ph"] == "X":
        slices[e["pid"]].append(e)
def around(flow, name):
    found = [e for e in slices[flow["pid"]] if e["name"] == name and e["ts"] - 1e-4 <= flow["ts"] <= e["ts"] + e["dur"] + 1e-4]
    assert len(found) >= 1, flow
    return found
starts = {e["id"]: e for e in events if e["ph"] == "s"}
ends = {e["id"]: e for e in events if e["ph"] == "f"}
assert set(starts) == set(ends) and len(starts) == sum(e["ph"] == "s" for e in events)
def belong(send, wait):
    a, b = send["args"], wait["args"]
    layer = a["layer"] if role[wait["pid"]] == "ffn" else a["layer"] + 1
    return a["step"] == b["step"] and a["micro_batch"] == b["micro_batch"] and b.get("layer", layer) == layer
for number, end in ends.items():
    start = starts[number]
    assert role[start["pid"]] != role[end["pid"]]
    assert any(belong(s, w) for s in around(start, "send") for w in around(end, "wait")), (start, end)
waits = [e for e in inside if e["name"] == "wait" and (role[e["pid"]] == "ffn" or e["args"].get("layer") != 0)]
assert len(waits) == len(ends) > 50, (len(waits), len(ends))
P

# Prompts that fail: why, how often; when all do, the last line and the status say so.
for i in 1 2 3 4; do echo '{"text": ""}'; done >"$work/bad.jsonl"
printf '{"text": "%s"}\n' "$(seq 1 2000 | tr '\n' ' ')" >>"$work/bad.jsonl"
"$tandem" import "$work/bad.jsonl" "$work/bad.h5" >/dev/null || fail "import"
"$tandem" run "$job" "${alone[@]}" --set prompts.count=all --set prompts.file="$work/bad.h5" --set output.file="$work/bad.out.h5" >"$work/bad.log" 2>&1
[ $? = 1 ] || fail "all prompts fail and the status is not 1"
grep -q '^failed  *4 x .*empty' "$work/bad.log" && grep -q '^  *1 x ' "$work/bad.log" || fail "reasons: $(cat "$work/bad.log")"
tail -n 1 "$work/bad.log" | grep -q '^warning .*every completion failed' || fail "no warning: $(tail -n 3 "$work/bad.log")"
"$tandem" status "$work/bad.out.h5" | grep -q 'finished, 5 completions' || fail "status of a finished job"
[ -f "$work/bad.out.h5" ] || fail "the errors are not in the output"
echo "seen"
