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
