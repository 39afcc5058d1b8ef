#!/bin/bash
# Prompts that cannot be decoded become error rows that say why; the others are decoded as if they were
# alone. Prompts can be tokens; each can have a limit of its own.
# timeout: 120
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
"$PYTHON" -c 'import h5py' 2>/dev/null || skip "python3 with h5py is not installed: no prompts can be written"
"$PYTHON" - "$work" <<'P' || fail "writing prompts"
import sys, h5py, numpy
work = sys.argv[1]
texts = [b"harbor, noun:", b"", b"caf\xe9, noun:", b"to waltz, verb:", b"word " * 400, "é — 港, noun:".encode()]
with h5py.File(f"{work}/mixed.h5", "w") as f:
    f.create_dataset("text", data=texts, dtype=h5py.string_dtype("utf-8"))
    f["id"] = numpy.arange(6) + 100
    f["max_new_tokens"] = [3, 0, 0, 0, 0, 5]
with h5py.File(f"{work}/good.h5", "w") as f:
    f.create_dataset("text", data=[texts[0], texts[3], texts[5]], dtype=h5py.string_dtype("utf-8"))
    f["max_new_tokens"] = [3, 0, 5]
P
decode mixed-done 2 prompts.file="$work/mixed.h5" prompts.count=all || fail "a bad prompt ended the job"
decode good-done 2 prompts.file="$work/good.h5" prompts.count=all || fail good
"$tandem" export "$work/mixed-done.h5" --tokens --logprobs >"$work/mixed.jsonl" || fail export
"$tandem" export "$work/good-done.h5" --tokens --logprobs >"$work/good.jsonl" || fail export
"$PYTHON" - "$work" <<'P' || fail "rows are not what they should be"
import json, sys
work = sys.argv[1]
rows = [json.loads(line) for line in open(f"{work}/mixed.jsonl", encoding="utf-8")]
good = [json.loads(line) for line in open(f"{work}/good.jsonl", encoding="utf-8")]
assert [r["id"] for r in rows] == [100, 101, 102, 103, 104, 105], rows
assert [r["finish"] == "error" for r in rows] == [False, True, True, False, True, False], rows
for row, words in ((1, "empty"), (2, "UTF-8"), (4, "fit the context")):
    assert words in rows[row]["error"] and rows[row]["text"] == "", rows[row]
    print(rows[row]["error"])
assert len(rows[0]["tokens"]) <= 3 and len(rows[5]["tokens"]) <= 5
for mine, alone in zip((rows[0], rows[3], rows[5]), good):
    for key in ("text", "tokens", "logprobs", "finish", "prompt_tokens"):
        assert mine[key] == alone[key], (key, mine, alone)
# The same prompts as token ids, and one id that no vocabulary has.
with open(f"{work}/tokens.jsonl", "w") as f:
    f.write(json.dumps({"tokens": [0, 365, 664, 450]}) + "\n" + json.dumps({"tokens": [5, 99999]}) + "\n")
P
"$tandem" import "$work/tokens.jsonl" "$work/tokens.h5" --tokens tokens || fail import
decode given 2 prompts.file="$work/tokens.h5" prompts.count=all || fail "prompts as tokens"

"$tandem" export "$work/given.h5" | sed -n 2p | grep -q "99999" || fail "an unknown token id"
echo "bad prompts are rows"
