#!/bin/bash
# What ends a completion and which tokens may come: stop texts across tokens, least lengths, bans, biases,
# penalties, a budget of reasoning. None of it depends on the layout.
# timeout: 240
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
decode plain 2 || fail plain
every=(sampling.temperature=0.9 sampling.min_p=0.02 sampling.repetition_penalty=1.3 sampling.presence_penalty=0.4
    sampling.frequency_penalty=0.2 'sampling.logit_bias={" noun": 2, 13: -1.5}' 'sampling.ban=[" of", " in the"]'
    sampling.min_tokens=4 'sampling.stop=["er", ";"]' sampling.seed=5)
decode one 2 "${every[@]}" || fail one
decode three 4 "${every[@]}" layout.attention=3 schedule.slots=2 || fail three
same one three
decode stop 2 'sampling.stop=["; a", "ing"]' || fail stop
decode with 2 'sampling.stop=["; a", "ing"]' sampling.include_stop=true || fail include_stop
decode short 2 sampling.min_tokens=12 'sampling.stop=["a"]' || fail min_tokens
decode banned 2 'sampling.ban=["a", " of", " person who"]' || fail ban
decode only 2 'sampling.allow=[" a", " of", " the", 1]' || fail allow
decode biased 2 'sampling.logit_bias={" the": 100}' sampling.max_new_tokens=5 || fail logit_bias
decode penalty 2 sampling.repetition_penalty=100 || fail repetition_penalty
decode think 2 sampling.thinking_tokens=3 'sampling.thinking_end=" of the"' sampling.ignore_eos=true || fail thinking
decode prompt 2 sampling.temperature=1 sampling.seed_from=prompt sampling.samples=2 || fail seed_from
decode cut 2 prompts.template="$(printf 'word %.0s' {1..100}){prompt}" sampling.truncate_prompt=left || fail truncate_prompt
decode long 2 sampling.ignore_eos=true sampling.max_new_tokens=60 "sampling.allow=[\" a\", \" of\", \" the\", \" in\"]" || fail long
decode repeat 2 sampling.ignore_eos=true sampling.max_new_tokens=60 sampling.repetition_stop=12 \
    "sampling.allow=[\" a\", \" of\", \" the\", \" in\"]" || fail repetition_stop
decode all 2 sampling.temperature=1 sampling.samples=5 prompts.count=9 || fail samples
decode best 4 layout.attention=3 sampling.temperature=1 sampling.samples=2 sampling.best_of=5 prompts.count=9 || fail best_of
decode end 2 'output.reasoning.end=" of"' output.reasoning.begin=person || fail reasoning
decode begun 2 'output.reasoning.end=" of"' 'output.reasoning.begin="noun:"' || fail reasoning
decode none 2 sampling.max_new_tokens=0 || fail "max_new_tokens: 0"
for name in long repeat all best end begun none plain stop with short banned only biased penalty think cut; do completions $name >"$work/$name.jsonl"; done
"$PYTHON" - "$work" <<'P' || fail "completions are not what was asked for"
import json, sys
work = sys.argv[1]
def rows(name):
    return [json.loads(line) for line in open(f"{work}/{name}.jsonl", encoding="utf-8")]
plain = rows("plain")
ended = 0
for base, cut, kept in zip(plain, rows("stop"), rows("with")):
    places = [(base["text"].find(s), s) for s in ("; a", "ing") if s in base["text"]]
    if not places:
        assert cut["text"] == base["text"] == kept["text"], (base, cut)
        continue
    at, stop = min(places)
    assert cut["finish"] == "stop" and cut["text"] == base["text"][:at], (base, cut)
    assert kept["text"] == base["text"][:at] + stop, (base, kept)
    assert cut["tokens"] == base["tokens"][:len(cut["tokens"])] and cut["tokens"] == kept["tokens"]
    ended += len(cut["tokens"]) < len(base["tokens"])
assert ended > 3, ended
for r in rows("short"):
    assert len(r["tokens"]) > 12 or r["finish"] == "error", r
    assert r["finish"] != "length" or "a" not in r["text"][60:], r
for r in rows("banned"):
    assert " of " not in r["text"] and " person who " not in r["text"] and " a " not in r["text"], r
of = {t for r in rows("only") for t in r["tokens"]}
assert len(of) <= 4, of
assert all(len(set(r["tokens"])) == 1 for r in rows("biased")), rows("biased")
for r in rows("penalty"):
    assert len(set(r["tokens"])) == len(r["tokens"]), r
end = None
for r, p in zip(rows("think"), plain):
    assert r["tokens"][:3] == p["tokens"][:3] or len(p["tokens"]) < 3, (r, p)
    end = end or r["tokens"][3:5]
    assert r["tokens"][3:5] == end, (end, r)
def repeats(tokens, n=12):
    return any(len(tokens) >= n and tokens[-n + p:] == tokens[-n:-p] for p in range(1, n // 4 + 1))
ended = 0
for r, whole in zip(rows("repeat"), rows("long")):
    n = next((i for i in range(1, len(whole["tokens"]) + 1) if repeats(whole["tokens"][:i])), None)
    assert r["tokens"] == whole["tokens"][:n] and (r["finish"] == "repetition") == (n is not None), (r, whole)
    ended += n is not None
assert 3 < ended, ended
every, best = rows("all"), rows("best")
mean = lambda r: sum(r["logprobs"]) / len(r["logprobs"])
for p in range(9):
    wanted = sorted(every[5 * p:5 * p + 5], key=lambda r: (-mean(r), r["sample"]))[:2]
    wanted = [dict(r, sample=i) for i, r in enumerate(wanted)]
    assert best[2 * p:2 * p + 2] == wanted, (best[2 * p:2 * p + 2], wanted)
import h5py
with h5py.File("input/prompts.h5") as f:
    opened = [t.rstrip().endswith(b"noun:") for t in f["text"][:21]]
assert 0 < sum(opened) < 21
split = 0
for name in "end", "begun":
    for r, p in zip(rows(name), plain):
        before, end, behind = p["text"].partition(" of")
        split += bool(end)
        if not end:
            reasons = p["text"].startswith(" person") if name == "end" else opened[p["prompt"]]
            before, behind = (p["text"], "") if reasons else ("", p["text"])
        if name == "end":
            before = before.removeprefix(" person")
        assert (r["reasoning"], r["text"]) == (before, behind) or not p["tokens"], (name, r, p)
assert 6 < split < 40, split
assert all(r["finish"] == "length" and not r["tokens"] for r in rows("none") if r["finish"] != "error")
assert all(r["finish"] != "error" and r["prompt_tokens"] < 160 for r in rows("cut")), rows("cut")
P
grep -q "temperature is 0" "$work/one.log" && fail "a warning about samples"
decode warn 2 sampling.samples=2 prompts.count=1 && grep -q "warning: sampling.temperature is 0" "$work/warn.log" || fail "no warning"
said() {
    local want=$1
    shift
    "$tandem" check $job --set output.file="$work/none.h5" "$@" >"$work/log" 2>&1 && fail "$* is taken"
    grep -q "$want" "$work/log" || fail "$*: $(cat "$work/log")"
}
said "'the person' is 2 tokens\|is [0-9]* tokens of the vocabulary, not one" --set 'sampling.allow=["the person who"]'
said "the best 3 of 2 completions" --set sampling.samples=3 --set sampling.best_of=2
said "output.reasoning.end is missing" --set 'output.reasoning.begin=x'
said "wants numbers" --set 'sampling.logit_bias={5: x}'
said "token ids of the vocabulary" --set 'sampling.ban=[99999999]'
# A row whose thinking_end is null takes the job's, as one that says nothing does; where the job has none, neither has it.
"$PYTHON" - "$work" <<'P' || fail "writing prompts"
import sys, h5py
with h5py.File(f"{sys.argv[1]}/thinking.h5", "w") as f:
    f["text"] = ["harbor, noun:"] * 4
    f["thinking_tokens"] = [3, 3, 3, -1]
    f["thinking_end"] = ["null", "", " of the", "null"]
P
decode ends 2 prompts.file="$work/thinking.h5" prompts.count=all 'sampling.thinking_end=" of the"' sampling.ignore_eos=true || fail ends
decode open 2 prompts.file="$work/thinking.h5" prompts.count=all sampling.ignore_eos=true || fail "no end"
for name in ends open; do completions $name >"$work/$name.jsonl"; done
"$PYTHON" - "$work" <<'P' || fail "a row's thinking_end"
import json, sys
ends, none = ([json.loads(line) for line in open(f"{sys.argv[1]}/{n}.jsonl")] for n in ("ends", "open"))
assert ends[0]["tokens"] == ends[1]["tokens"] == ends[2]["tokens"] == none[2]["tokens"] != ends[3]["tokens"], (ends, none)
assert [r["finish"] == "error" for r in none] == [True, True, False, False], none
assert all("say with thinking_end" in r["error"] for r in none[:2]), none
assert none[3]["tokens"] == ends[3]["tokens"], (ends, none)
P
# A column goes before the job, for its row only; a wrong value is that row's error.
"$PYTHON" - "$work" <<'P' || fail "writing prompts"
import sys, h5py
with h5py.File(f"{sys.argv[1]}/given.h5", "w") as f:
    f["text"] = ["harbor, noun:"] * 5
    f["temperature"] = [0.0, float("nan"), 0, 0, -1]
    f["stop"] = ["", "", '[" of", 5]', " of", ""]
    f["min_tokens"] = [0, 0, 0, 0, 0]
P
decode rows 2 prompts.file="$work/given.h5" prompts.count=all || fail rows
completions rows >"$work/rows.jsonl"
"$PYTHON" - "$work" <<'P' || fail "rows are not what their columns ask"
import json, sys
rows = [json.loads(line) for line in open(f"{sys.argv[1]}/rows.jsonl")]
assert rows[0]["tokens"] == rows[1]["tokens"], rows
assert rows[4]["finish"] == "error" and "temperature" in rows[4]["error"], rows[4]
assert " of" in rows[0]["text"], rows[0]
for r in rows[2:4]:
    assert r["finish"] == "stop" and r["text"] == rows[0]["text"].split(" of")[0], r
P
echo "requests are kept"
