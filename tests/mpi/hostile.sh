#!/bin/bash
# Prompts and tokenizers that would stall a job, end it, or read what is none of its business.
# timeout: 100
. "$(dirname "$0")/lib.sh"
need "$tandem"
"$PYTHON" -c 'import h5py' 2>/dev/null || skip "python3 with h5py is not installed: no prompts can be written"
sed 's/^  ffn:.*/  colocated: true/; s/count: 21/count: all/' tests/mpi/job.yaml >"$work/alone.yaml"
mkdir "$work/model"
ln -s "$PWD"/input/demo/* "$work/model"
rm "$work/model/tokenizer.json"
"$PYTHON" - "$work" <<'P2' || fail "writing prompts"
import sys, json, h5py, numpy
work = sys.argv[1]
tokenizer = json.load(open("input/demo/tokenizer.json"))
stages = tokenizer["pre_tokenizer"]
stages = stages["pretokenizers"] if stages["type"] == "Sequence" else [stages]
def split(regex, behavior):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": False}
tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers":
    [split(r"\s+", "Removed"), split(r"(a+)+$", "Isolated")] + stages}
json.dump(tokenizer, open(f"{work}/model/tokenizer.json", "w"))
texts = ["harbor, noun:", "  ", "a" * 60 + "!", "word " * 6000000, "to waltz, verb:"]
with h5py.File(f"{work}/bad.h5", "w") as f:
    f.create_dataset("text", data=texts, dtype=h5py.string_dtype("utf-8"))
with h5py.File(f"{work}/outside.h5", "w") as f:
    f.create_dataset("text", data=texts[:2], dtype=h5py.string_dtype("utf-8"))
    f.create_dataset("id", shape=(2,), dtype="S100", external=[("/etc/passwd", 0, 200)])
with h5py.File(f"{work}/endless.h5", "w") as f:
    f.create_dataset("text", shape=(2 ** 50,), dtype="S4", chunks=(1024,))
P2

# run STATUS NAME KEY=VALUE ... - one rank, in 30 s at most.
run() {
    local wanted=$1 name=$2 status set=()
    shift 2
    for pair in "$@"; do
        set+=(--set "$pair")
    done
    timeout -k 1 30 "$tandem" run "$work/alone.yaml" --set output.file="$work/$name.out.h5" \
        --set prompts.file="$work/$name.h5" "${set[@]}" >"$work/log" 2>&1
    status=$?
    [ $status = "$wanted" ] || fail "$name: exit status $status, wanted $wanted: $(cat "$work/log")"
}
run 0 bad model="$work/model" prompts.bos=false
"$tandem" export "$work/bad.out.h5" >"$work/bad.jsonl" || fail export
"$PYTHON" - "$work/bad.jsonl" <<'P2' || fail "rows are not what they should be"
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
errors = [r.get("error") for r in rows]
assert [r["finish"] == "error" for r in rows] == [False, True, True, True, False], errors
for error, words in zip(errors[1:4], ("has no tokens", "match limit", "fit the context")):
    assert words in error, error
P2
run 1 outside
grep -q 'external storage' "$work/log" || fail "$(cat "$work/log")"
run 1 endless
grep -q 'too many for one job' "$work/log" || fail "$(cat "$work/log")"
echo "hostile inputs are error rows, or named"
