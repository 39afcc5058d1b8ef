#!/bin/bash
# Tables and JSON Lines that Python wrote: random cells with quotes, separators, line ends and other
# scripts come back through h5py as they were.
# timeout: 60
. tests/mpi/lib.sh
need "$tandem"
"$PYTHON" -c 'import h5py' 2>/dev/null || skip "python3 with h5py is not installed"
"$PYTHON" - "$work" <<'P' || fail "writing"
import csv, gzip, json, random, sys
work, r = sys.argv[1], random.Random(3)
letters = ['a', '"', ',', '\t', '\n', '\r\n', ' ', 'é', '港', '\U0001f30d', '{', '\\', "'", '=']
cell = lambda: "x" + "".join(r.choice(letters) for _ in range(r.randrange(12)))
rows = [{"key": i * 2**40, "question": cell(), "own": cell()} for i in range(400)]
json.dump(rows, open(f"{work}/rows.json", "w"))
for name, separator in (("t.csv", ","), ("t.tsv", "\t"), ("semi.csv", ";")):
    with open(f"{work}/{name}", "w", newline="", encoding="utf-8") as f:
        w = csv.DictWriter(f, rows[0], delimiter=separator, lineterminator="\n")
        w.writeheader()
        w.writerows(rows)
with gzip.open(f"{work}/t.gz", "wt", encoding="utf-8") as f:
    for i, row in enumerate(rows):
        f.write(json.dumps(row | {"score": float("nan")}, ensure_ascii=i % 2 == 0) + "\n")
P
for kind in csv tsv gz; do
    "$tandem" import "$work/t.$kind" "$work/$kind.h5" --text question --id key || fail "$kind"
done
"$tandem" import "$work/semi.csv" "$work/semi.h5" --text question --id key || fail "semicolons"
"$tandem" import - "$work/piped.h5" --text question --id key <"$work/t.gz" || fail "standard input"
"$PYTHON" - "$work" <<'P' || fail "what came back is something else"
import h5py, json, sys
work = sys.argv[1]
rows = json.load(open(f"{work}/rows.json"))
for kind in ("csv", "tsv", "gz", "piped", "semi"):
    with h5py.File(f"{work}/{kind}.h5") as f:
        text, ids = f["text"].asstr()[:], f["id"].asstr()[:]
        own = f["columns/own"].asstr()[:]
        assert len(text) == len(rows) and f["id"].attrs["integers"] == 1 and "error" not in f
        # A line end inside a cell of a table is one character, whatever the file has.
        same = lambda a, b: a == (b if kind in ("gz", "piped") else b.replace("\r\n", "\n"))
        for i, row in enumerate(rows):
            assert same(text[i], row["question"]) and same(own[i], row["own"]), (kind, row, text[i], own[i])
            assert ids[i] == str(row["key"])
P
# What cannot be read is answered with the command that converts it.
refused() { # PATTERN FILE
    "$tandem" import "$2" "$work/no.h5" 2>"$work/errors" && fail "$2 is read"
    grep -q "$1" "$work/errors" || fail "$2: $(cat "$work/errors")"
}
printf '\xff\xfe{\0"\0' >"$work/wide.jsonl"
refused 'UTF-16 text.*iconv -f UTF-16' "$work/wide.jsonl"
printf '{\n  "text": "a"\n}\n' >"$work/spread.json"
refused 'over several lines.*jq -c' "$work/spread.json"
# What other programs compressed is read through them, from files and pipes; one that is cut off is no prompts file.
same() { # FILE FILE
    "$PYTHON" -c 'import h5py, sys
a, b = (h5py.File(f) for f in sys.argv[1:])
assert all((a[k][:] == b[k][:]).all() for k in ("text", "id", "columns/own"))' "$1" "$2"
}
for program in zstd xz bzip2; do
    command -v "$program" >/dev/null || { echo "not tried: $program is not installed"; continue; }
    "$program" -qc <"$work/t.csv" >"$work/t.csv.$program" || fail "$program"
    "$tandem" import "$work/t.csv.$program" "$work/packed.h5" --force --format csv --text question --id key || fail "$program is read"
    same "$work/packed.h5" "$work/csv.h5" || fail "$program: other prompts"
    "$tandem" import - "$work/packed.h5" --force --format csv --text question --id key <"$work/t.csv.$program" || fail "$program from a pipe"
    same "$work/packed.h5" "$work/csv.h5" || fail "$program from a pipe: other prompts"
    head -c 3000 "$work/t.csv.$program" >"$work/t.cut"
    refused "$program could not read it to its end" "$work/t.cut"
    (PATH=$work; "$tandem" import "$work/t.csv.$program" "$work/no.h5" 2>"$work/errors") && fail "$program is missed by nobody"
    grep -q "the program $program, which unpacks it, is not installed" "$work/errors" || fail "without $program: $(cat "$work/errors")"
done
"$tandem" import "$work/t.gz" "$work/kept.h5" --text question --keep own,owm 2>"$work/errors" >/dev/null || fail "--keep"
grep -q -e '--keep owm: no record has that field' "$work/errors" || fail "a column that is not there: $(cat "$work/errors")"
echo "400 rows, with and without compression"
