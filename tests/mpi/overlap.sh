#!/bin/bash
# With two micro-batches both roles work at the same time: the trace of a run shows it.
# timeout: 120
# alone: it measures shares of time
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
"$PYTHON" -c pass 2>/dev/null || skip "python3 is not installed: the trace is not read"
decode traced 2 layout.micro_batches=2 schedule.slots=32 prompts.count=64 trace="$work/trace.json" ||
    fail "run with a trace"
"$PYTHON" - "$work/trace.json" <<'P' || fail "no overlap"
import collections, json, sys
events = [e for e in json.load(open(sys.argv[1]))["traceEvents"] if "micro_batch" in e.get("args", {})]
steps = collections.defaultdict(lambda: collections.defaultdict(list))
for e in events:
    steps[e["args"]["step"]][e["name"]].append((e["ts"], e["ts"] + e["dur"], e["args"]))
def overlap(step):
    return sum(max(0, min(a[1], f[1]) - max(a[0], f[0]))
               for a in step["attention"] for f in step["ffn"]
               if a[2]["micro_batch"] != f[2]["micro_batch"])
best = max(steps, key=lambda s: overlap(steps[s]) / (1 + sum(f[1] - f[0] for f in steps[s]["ffn"])))
ffn = sum(f[1] - f[0] for f in steps[best]["ffn"])
share = overlap(steps[best]) / ffn
print(f"{len(steps)} steps; in step {best} attention worked on one micro-batch during "
      f"{100 * share:.0f} % of the FFN's work on the other")
assert len(steps) > 5 and share > 0.02
P
# What viewers go by: to the nanosecond no event of a rank begins inside another, and an arrow begins in a send and
# ends in a wait that ends later. (A viewer that is told milliseconds shows short events inside their neighbours.)
"$PYTHON" - "$work/trace.json" <<'P' || fail "the trace cannot be shown as it is"
import bisect, collections, json, sys
file = json.load(open(sys.argv[1]))
assert file["displayTimeUnit"] == "ns"
ns = lambda us: round(us * 1000)
events, arrows = collections.defaultdict(list), collections.defaultdict(dict)
for e in file["traceEvents"]:
    assert e["ph"] in "XMsf", e
    if e["ph"] == "X":
        assert e["dur"] >= 0 and e["ts"] >= 0
        events[e["pid"]].append((ns(e["ts"]), ns(e["ts"]) + ns(e["dur"]), e["name"]))
    elif e["ph"] in "sf":
        assert e["ph"] not in arrows[e["id"]], e
        arrows[e["id"]][e["ph"]] = e
for rank in events.values():
    rank.sort()
    assert all(a[1] < b[0] for a, b in zip(rank, rank[1:]))
assert len(arrows) > 100
for a in arrows.values():
    assert ns(a["s"]["ts"]) < ns(a["f"]["ts"]), a
    for end, name in (("s", "send"), ("f", "wait")):
        rank, at = events[a[end]["pid"]], ns(a[end]["ts"])
        i = bisect.bisect(rank, (at, 0)) - 1
        assert i >= 0 and rank[i][0] < at < rank[i][1] and rank[i][2] == name, (a[end], rank[i])
P
