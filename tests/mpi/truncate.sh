#!/bin/bash
# Prompts that do not fit lose the end that the job, or their row, says: the completions are those of the
# tokens that are left.
# timeout: 120
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
"$PYTHON" - "$work" <<'P' || fail "writing prompts"
import sys, h5py
with h5py.File(f"{sys.argv[1]}/all.in.h5", "w") as f:
    f["text"] = ["harbor, noun: a sheltered port where ships can take on or discharge cargo", "a", "to waltz, verb: dance a waltz with a partner"] * 2
    f["truncate_prompt"] = ["left", "left", "right", "no", "both", ""]
P
for i in 0 1 2; do
    "$tandem" check $job --set prompts.file="$work/all.in.h5" --set prompts.first=$i --set prompts.count=1 --set prompts.bos=true \
        --set output.file="$work/none.h5" | grep "^first prompt" >"$work/ids.$i" || fail "check of $i"
done
"$PYTHON" - "$work" <<'P' || fail "cutting prompts"
import re, sys, h5py
work, context, new = sys.argv[1], 12, 5
ids = [[int(t) for t in re.findall(r" (\d+)'", open(f"{work}/ids.{i}", encoding="utf-8").read().split(":", 1)[1])] for i in range(3)]
assert len(ids[0]) > context and len(ids[2]) > context, ids
keep = context - new
left = lambda t: t if len(t) < context else t[:1] + t[1 - keep:]
right = lambda t: t if len(t) < context else t[:keep]
rows = [left(ids[0]), ids[1], right(ids[2]), right(ids[2])]
with h5py.File(f"{work}/cut.in.h5", "w") as f:
    f["tokens"] = sum(rows, [])
    f["offsets"] = [sum(map(len, rows[:i])) for i in range(5)]
P
some=(prompts.count=all sampling.max_new_tokens=5 sampling.ignore_eos=true sampling.temperature=0.8 sampling.seed_from=prompt schedule.max_context=12
    sampling.prompt_logprobs=2)
decode all 2 prompts.file="$work/all.in.h5" prompts.bos=true sampling.truncate_prompt=right "${some[@]}" || fail all
decode cut 2 prompts.file="$work/cut.in.h5" "${some[@]}" || fail cut
completions all >"$work/all.jsonl"
completions cut >"$work/cut.jsonl"
"$PYTHON" - "$work" <<'P' || fail "prompts are not cut as they should be"
import json, sys
rows = lambda name: [json.loads(line) for line in open(f"{sys.argv[1]}/{name}.jsonl", encoding="utf-8")]
done, cut = rows("all"), rows("cut")
pick = lambda r: {k: r[k] for k in ("tokens", "logprobs", "prompt_tokens", "prompt_logprobs", "prompt_top_tokens", "score")}
for a, b in ((0, 0), (1, 1), (2, 2), (5, 3)):
    assert pick(done[a]) == pick(cut[b]) and len(done[a]["tokens"]) == 5, (done[a], cut[b])
assert "fit the context of 12" in done[3]["error"], done[3]
assert "truncate_prompt: wants no, left or right" in done[4]["error"], done[4]
P
echo "prompts that do not fit are cut at the right end"
