#!/bin/bash
# Logprobs of given texts, of continuations alone, and of the likeliest tokens, against log softmax of a
# float64 model; equal bits on every layout, shared or not, after a stop.
# timeout: 240
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
"$PYTHON" - "$work" <<'P' || fail "writing prompts"
import sys, h5py
work = sys.argv[1]
texts = ["harbor, noun: a sheltered port where ships can take on or discharge cargo", "to waltz, verb: dance a waltz",
         "a", "harbor, noun: a sheltered port where ships can sink  ", "caf\u00e9, noun:"]
more = ["s", " with a partner", " person", "in the water", " a small restaurant \u4e2d"]
with h5py.File(f"{work}/texts.in.h5", "w") as f:
    f["text"] = texts
with h5py.File(f"{work}/pairs.in.h5", "w") as f:
    f["text"], f["continuation"] = texts + ["x"], more + [""]
    f["max_new_tokens"] = [7] * 6
with h5py.File(f"{work}/own.in.h5", "w") as f:
    f["text"] = [t.rstrip() for t in texts]
with h5py.File(f"{work}/columns.in.h5", "w") as f:
    f["text"] = [t.rstrip() for t in texts]
    f["prompt_logprobs"] = ["3", "", "false", "99", "true"]
P
all=(prompts.count=all prompts.bos=true prompts.eos=true)
tests/mpirun 2 "$tandem" score $job --set output.file="$work/plain.h5" --set prompts.file="$work/texts.in.h5" \
    $(printf -- '--set %s ' "${all[@]}") >"$work/plain.log" 2>&1 || fail "score: $(cat "$work/plain.log")"
decode three 4 layout.attention=3 schedule.slots=2 score=true prompts.file="$work/texts.in.h5" "${all[@]}" || fail three
same plain three
decode apart 2 schedule.share=false schedule.prefill_chunk=256 score=true prompts.file="$work/texts.in.h5" "${all[@]}" || fail apart
same plain apart
decode scored 2 score=true prompts.file="$work/pairs.in.h5" "${all[@]}" || fail pairs
top=(prompts.file="$work/own.in.h5" prompts.count=all prompts.bos=true sampling.temperature=0.9 sampling.prompt_logprobs=4
    sampling.max_new_tokens=20 'sampling.stop=["s of"]')
decode top 2 "${top[@]}" sampling.logprobs=5 || fail top
decode wide 4 layout.attention=3 schedule.slots=2 "${top[@]}" sampling.logprobs=5 || fail wide
same top wide
decode without 2 "${top[@]}" sampling.prompt_logprobs=false || fail without
decode columns 4 layout.attention=3 "${top[@]}" sampling.prompt_logprobs=false prompts.file="$work/columns.in.h5" || fail columns
for name in texts pairs own; do
    for i in 0 1 2 3 4; do
        "$tandem" check $job --set prompts.file="$work/$name.in.h5" --set prompts.first=$i --set prompts.count=1 --set prompts.bos=true \
            --set prompts.eos=$([ $name = own ] && echo false || echo true) --set output.file="$work/none.h5" |
            grep "^first prompt" >"$work/$name.$i" || fail "check of $name $i"
    done
done
for name in plain scored top without columns; do completions $name >"$work/$name.jsonl"; done
"$PYTHON" - "$work" <<'P' || fail "the logprobs are not the model's"
import json, re, subprocess, sys
import numpy as np
work = sys.argv[1]
rows = lambda name: [json.loads(line) for line in open(f"{work}/{name}.jsonl", encoding="utf-8")]
ids = lambda name, i: [int(t) for t in re.findall(r" (\d+)'", open(f"{work}/{name}.{i}", encoding="utf-8").read().split(":", 1)[1])]
texts, pairs, own = ([ids(name, i) for i in range(5)] for name in ("texts", "pairs", "own"))
top = rows("top")
sequences = texts + pairs + [own[r["prompt"]] + r["tokens"] for r in top]
args = [a for s in sequences for a in ("--tokens", ",".join(map(str, s)))]
subprocess.run([sys.executable, "tests/model/reference.py", "logits", "input/demo", *args, "--out", f"{work}/logits.npz"], check=True)
f = np.load(f"{work}/logits.npz")
logits, at = f["logits"], f["offsets"]
logprobs = logits - logits.max(1, keepdims=True)
logprobs -= np.log(np.exp(logprobs).sum(1, keepdims=True))
total = tokens = 0
def score(r, k, n):  # the last n tokens of sequence k
    global total, tokens
    s, l = sequences[k], logprobs[at[k]:at[k + 1]]
    wanted = [l[i - 1][s[i]] for i in range(len(s) - n, len(s))]
    greedy = all(l[i - 1].argmax() == s[i] for i in range(len(s) - n, len(s)))
    assert len(r["prompt_logprobs"]) == r["scored"] == n and r["greedy"] == greedy, (r, n, greedy)
    assert np.abs(np.array(r["prompt_logprobs"]) - wanted).max() <= 1e-4, (r, wanted)
    assert abs(r["score"] - sum(wanted)) <= 1e-3 and not r["tokens"], r
    total, tokens = total - r["score"], tokens + n
for k, r in enumerate(rows("plain")):
    score(r, k, len(texts[k]) - 1)
said = re.search(r"scored +(\d+) tokens, ([0-9.]+) nats each, perplexity ([0-9.]+)", open(f"{work}/plain.log").read())
assert int(said[1]) == tokens and abs(float(said[2]) - total / tokens) <= 1e-4, said
scored = rows("scored")
assert scored[5]["finish"] == "error" and "continuation is empty" in scored[5]["error"], scored[5]
for k, r in enumerate(scored[:5]):
    score(r, 5 + k, len(pairs[k]) - len(own[k]))
for k, r in enumerate(top):
    l, n = logprobs[at[10 + k]:at[11 + k]], len(own[r["prompt"]])
    assert r["scored"] == n - 1 and len(r["top_tokens"]) == len(r["tokens"]) > 0, r
    for i, token in enumerate(r["tokens"]):
        row = l[n - 1 + i]
        assert abs(row[token] - r["logprobs"][i]) <= 1e-4, (r, i)
        best = np.argsort(-row, kind="stable")[:5]
        assert len(r["top_tokens"][i]) == 5 and np.abs(row[best] - r["top_logprobs"][i]).max() <= 1e-4, (r, i)
        if (row[best[:-1]] - row[best[1:]]).min() > 1e-3:
            assert r["top_tokens"][i][:4] == best[:4].tolist(), (r, i)
    assert len(r["prompt_top_tokens"]) == len(r["prompt_top_logprobs"]) == n - 1, r
    for i in range(n - 1):
        best = np.argsort(-l[i], kind="stable")[:4]
        assert np.abs(l[i][best] - r["prompt_top_logprobs"][i]).max() <= 1e-4, (r, i)
        if np.diff(-np.sort(-l[i])[:5]).max() < -1e-3:
            assert r["prompt_top_tokens"][i] == best.tolist(), (r, i)
columns = rows("columns")  # of rows: so many, as the job says, none, wrong, the own tokens'
for c, r, k in zip(columns, top, (3, -1, -1, None, 0)):
    if k is None:
        assert c["finish"] == "error" and "prompt_logprobs: wants true, false or an integer" in c["error"], c
        continue
    assert c["tokens"] == r["tokens"] and ("prompt_logprobs" in c) == (k >= 0) and ("prompt_top_tokens" in c) == (k > 0), c
    assert k < 0 or c["prompt_logprobs"] == r["prompt_logprobs"], c
    assert k < 1 or c["prompt_top_tokens"] == [t[:k] for t in r["prompt_top_tokens"]], c
assert [r["tokens"] for r in top] == [r["tokens"] for r in rows("without")]
assert "scored" not in rows("without")[0]
P
# Stopped and continued: what was kept of unfinished completions comes back.
long=(prompts.count=30 sampling.samples=2 sampling.temperature=0.8 sampling.logprobs=3 sampling.prompt_logprobs=2
    sampling.max_new_tokens=50 sampling.ignore_eos=true)
decode once 2 "${long[@]}" || fail once
decode stopped 2 "${long[@]}" schedule.time_limit=1s >/dev/null
decode stopped 2 "${long[@]}" || fail stopped
same once stopped
echo "texts are scored as the model scores them"
