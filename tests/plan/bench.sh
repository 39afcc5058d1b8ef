#!/bin/bash
# `tandem bench`: limits, shares, steps and layouts of a model and of a job, as text and as JSON; what it
# refuses. What the figures are is for a quiet machine.
# timeout: 120
. tests/mpi/lib.sh
need "$tandem"
"$tandem" bench input/demo --seconds 2 >"$work/said" 2>"$work/errors" || fail "bench: $(cat "$work/errors")"
awk 'length > 80 { exit 1 }' "$work/said" || fail "wider than 80 columns: $(cat "$work/said")"
for line in '^machine  .* GB/s, .* GFLOP/s' 'threads that never wait got' '^model    input/demo: ' '^experts  *8x128, 3 of them ' \
    '^dense FFN  *512x256 ' '^lm_head  *4096x256 ' '^attention  *512 tokens ' '^ *1  *512  *[0-9.]*  *[0-9.]*  *[0-9]*-[0-9]* ' 'use this$'; do
    grep -q "$line" "$work/said" || fail "no line $line: $(cat "$work/said")"
done
# A job's own prompts, another precision, fewer rows than the largest step.
"$tandem" bench tests/mpi/job.yaml --seconds 1 --json --set precision.weights=int8 --set schedule.max_context=100 \
    >"$work/json" 2>"$work/errors" || fail "bench of a job: $(cat "$work/errors")"
"${PYTHON:-python3}" - "$work/json" <<'P' || fail "the JSON: $(cat "$work/json")"
import json, sys
b = json.load(open(sys.argv[1]))
m = b["machine"]
assert m["read_bytes_per_second"] > 1e8 and m["peak_flops_per_second"] > 1e8 and m["threads"] >= 1, m
assert 0 < m["cores"] <= 1.01 and m["quiet"] == (m["cores"] >= 0.98), m
names = [o["name"] for o in b["operations"]]
assert len(set(names)) == len(names) and {"experts", "dense FFN", "query", "lm_head", "attention"} <= set(names), names
for o in b["operations"]:
    for r in o["measured"]:
        assert r["low"] <= r["share"] <= r["high"] and r["seconds"] > 0 and r["limit"] in ("memory", "caches", "peak"), o
# int8 is for the layers: lm_head stays in two bytes or four, an output of attention has one and its scales.
lm = next(o for o in b["operations"] if o["name"] == "lm_head")
assert 4096 * 256 * 2 <= lm["bytes"] <= 4096 * 256 * 4.2, lm
out = next(o for o in b["operations"] if o["name"] == "attention output")
assert 6 * 256 * 512 <= out["bytes"] <= 6 * 256 * 512 * 1.1, out
assert all(s["context"] == 100 for s in b["steps"]) and [s["batch"] for s in b["steps"]] == [1, 4, 16, 64, 256], b["steps"]
assert b["steps"][0]["tokens_per_second"] > 0 and b["steps"][0]["slowest"] <= b["steps"][0]["fastest"]
speed = [l["tokens_per_second"] for l in b["layouts"]]
assert speed and speed == sorted(speed, reverse=True), speed
P
refused() { # REGEX ARGUMENT...
    local wanted=$1
    shift
    "$tandem" bench "$@" >/dev/null 2>"$work/errors"
    [ $? = 1 ] || fail "bench $*: not refused with status 1"
    grep -q -e "$wanted" "$work/errors" || fail "bench $*: $(cat "$work/errors")"
}
refused 'wants 1 to 3600 seconds' input/demo --seconds nan
refused 'wants 1 to 3600 seconds' input/demo --seconds 0
refused 'nothing/here' "$work/nothing/here"
refused "no.such" input/demo --set no.such=1
refused 'config.json' "$work"
refused 'bench MODEL' input/demo input/demo
echo "measured"
