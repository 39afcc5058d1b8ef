#!/bin/bash
# Columns that prompts bring along stand beside their completions, unchanged and of their kind: in the
# output, in what is finished so far, and in lines of JSON; ids that were numbers are numbers again.
# timeout: 90
. tests/mpi/lib.sh
need "$tandem"
"$PYTHON" -c 'import h5py' 2>/dev/null || skip "python3 with h5py is not installed"
"$PYTHON" - "$work" <<'P' || fail "writing"
import json, random, sys, h5py, numpy
work, r = sys.argv[1], random.Random(5)
own = lambda i: {"answer": i * 1.5, "tags": ["a", i], "source/file": "é\n\"" * (i % 3), "none": None, "late": i > 9}
rows = [{"id": i * 10**9, "text": "to %s, verb:" % r.choice(["run", "sing", "read"])} | own(i) for i in range(12)]
rows[5]["id"] = 2**63 + 7
for row in rows[:10]: del row["late"]
json.dump(rows, open(f"{work}/rows.json", "w"))
with open(f"{work}/rows.jsonl", "w") as f:
    f.writelines(json.dumps(row) + "\n" for row in rows)
with h5py.File(f"{work}/kinds.h5", "w") as f:
    f["text"] = ["a", "b"]
    f["columns/whole"] = numpy.array([-3, 2**40])
    f["columns/large"] = numpy.array([2**64 - 1, 0], "u8")
    f["columns/real"] = numpy.array([0.1, float("nan")], "f4")
    f["columns/text"] = numpy.array([b"\xff", b"ok  "])
P
printf '%s\n' "model: $PWD/input/demo" "prompts: {file: $work/rows.h5}" "output: {file: $work/out.h5}" \
    "layout: {attention: 1, colocated: true}" "schedule: {max_context: 96, slots: 5}" \
    "sampling: {samples: 2, temperature: 0.7, max_new_tokens: 64}" >"$work/job.yaml"
"$tandem" import "$work/rows.jsonl" "$work/rows.h5" || fail "import"
"$tandem" check "$work/job.yaml" | grep -q '^columns .*source/file.*copied' || fail "check does not name the columns"
stop_early() {
    rm -rf "$work"/out.*
    "$tandem" run "$work/job.yaml" --set schedule.slots=1 --set output.commit_seconds=0.02 >"$work/log" 2>&1 &
    seals "$work/out.h5" 1 $! && kill -USR1 $!
    wait $!
    status=$?
    [ $status != 0 ]
}
in_time stop_early
[ $status = 75 ] || fail "the run that stops early: $(tail -3 "$work/log")"
"$tandem" export "$work/out.h5" --partial >"$work/early.jsonl" || fail "export --partial"
"$tandem" merge "$work/job.yaml" --partial || fail "merge --partial"
"$tandem" run "$work/job.yaml" >"$work/log" 2>&1 || fail "$(cat "$work/log")"
"$tandem" export "$work/out.h5" >"$work/out.jsonl" || fail "export"
"$tandem" export "$work/out.so-far.h5" >"$work/far.jsonl" || fail "export of a part"
cmp "$work/early.jsonl" "$work/far.jsonl" || fail "what is finished so far is not the same in both forms"
"$tandem" run "$work/job.yaml" --set prompts.file="$work/kinds.h5" --set output.file="$work/kinds.out.h5" >"$work/log" 2>&1 ||
    fail "other kinds: $(cat "$work/log")"
"$tandem" export "$work/kinds.out.h5" >"$work/kinds.jsonl" || fail "export of other kinds"
for name in out kinds.out; do
    "$tandem" export "$work/$name.h5" --format csv --tokens --logprobs >"$work/$name.csv" || fail "export as CSV"
    "$tandem" export "$work/$name.h5" --tokens --logprobs >"$work/$name.csv.jsonl" || fail "export"
done
"$tandem" export "$work/out.h5" --format tsv 2>"$work/errors" && fail "--format tsv"
grep -q "is jsonl, csv or openai, not 'tsv'" "$work/errors" || fail "its message"
"$PYTHON" - "$work" <<'P' || fail "the table is not what the lines say"
import csv, json, sys
csv.field_size_limit(1 << 30)
for name in ("out", "kinds.out"):
    table = list(csv.DictReader(open(f"{sys.argv[1]}/{name}.csv", newline="")))
    lines = [json.loads(l) for l in open(f"{sys.argv[1]}/{name}.csv.jsonl")]
    assert len(table) == len(lines) > 3 and None not in table[0]
    for cells, line in zip(table, lines):
        line |= {f"columns.{k}": v for k, v in line.pop("columns").items()}
        for key, cell in cells.items():
            value = line.pop(key, None)
            if isinstance(value, str):
                assert cell == value, (key, cell, value)
            else:
                assert (cell == "" if value is None else json.loads(cell) == value), (key, cell, value)
        assert not line, line
P
"$PYTHON" - "$work" <<'P' || fail "what stands beside the completions is something else"
import json, sys, h5py, numpy
work = sys.argv[1]
rows = json.load(open(f"{work}/rows.json"))
lines = lambda name: [json.loads(l) for l in open(f"{work}/{name}.jsonl")]
def right(c, row):
    own = {k: v for k, v in row.items() if k not in ("id", "text")} | {"late": row.get("late")}
    assert c["id"] == row["id"] and c["columns"] == own, (c, row)
early, out = lines("early"), lines("out")
assert 0 < len(early) < len(out) == 24, (len(early), len(out))
for c in early + out:
    right(c, rows[c["prompt"]])
with h5py.File(f"{work}/out.h5") as f:
    assert f.attrs["ids"] == "integers" and f["id"].asstr()[10] == str(2**63 + 7)
    assert f["columns/answer"].attrs["encoding"] == "json" and f["columns/source_file"].attrs["name"] == "source/file"
    assert all(len(d) == 24 for d in f["columns"].values())
with h5py.File(f"{work}/kinds.out.h5") as f:
    c = f["columns"]
    assert c["whole"].dtype == "i8" and c["large"].dtype == "u8" and c["real"].dtype == "f8"
    assert list(c["large"][::2]) == [2**64 - 1, 0] and list(c["whole"][::2]) == [-3, 2**40]
    assert list(c["text"].asstr()[::2]) == ["\ufffd", "ok  "], c["text"][:]
k = lines("kinds")
assert k[0]["columns"] == {"whole": -3, "large": 2**64 - 1, "real": float(numpy.float32(0.1)), "text": "\ufffd"}
assert k[2]["columns"]["real"] is None and k[0]["id"] == "0"
P
"$PYTHON" - "$work" <<'P'
import h5py, sys
with h5py.File(f"{sys.argv[1]}/kinds.h5", "a") as f:
    f["columns/short"] = [1]
P
"$tandem" check "$work/job.yaml" --set prompts.file="$work/kinds.h5" >"$work/log" 2>&1 && fail "a short column is not refused"
grep -q '"columns/short" has 1 rows, wanted 2' "$work/log" || fail "a short column: $(cat "$work/log")"
echo "own columns travel"
