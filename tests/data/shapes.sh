#!/bin/bash
# Prompts as h5py writes them - flat tokens, lists, rows that are filled up, datasets in groups - are the
# same prompts; and the README's lines read what comes out of them.
# timeout: 90
. tests/mpi/lib.sh
need "$tandem"
"$PYTHON" -c 'import h5py' 2>/dev/null || skip "python3 with h5py is not installed"
"$PYTHON" - "$work" <<'P' || fail "writing"
import h5py, numpy as np, random, sys
work, r = sys.argv[1], random.Random(4)
rows = [[r.randrange(2, 4000) for _ in range(r.choice([1, 3, 9, 40]))] for _ in range(12)]
with h5py.File(f"{work}/flat.h5", "w") as f:
    f["tokens"] = np.concatenate(rows)
    f["offsets"] = np.cumsum([0] + [len(x) for x in rows])
def lists(f, name):
    d = f.create_dataset(name, (len(rows),), dtype=h5py.vlen_dtype("i4"), chunks=(5,), compression="gzip")
    for i, x in enumerate(rows): d[i] = x
with h5py.File(f"{work}/lists.h5", "w") as f:
    lists(f, "tokens")
with h5py.File(f"{work}/group.h5", "w") as f:
    lists(f, "train/ids")
    f["text"] = ["not these"] * 3
with h5py.File(f"{work}/filled.h5", "w") as f:
    a = np.full((len(rows), 40), -1, "i8")
    for i, x in enumerate(rows): a[i, :len(x)] = x
    f["tokens"], f["lengths"] = a, [len(x) for x in rows]
with h5py.File(f"{work}/unknown.h5", "w") as f:
    f["tokens"] = a
with h5py.File(f"{work}/wrong.h5", "w") as f:
    d = f.create_dataset("tokens", (3,), dtype=h5py.vlen_dtype("i8"))
    d[0], d[1], d[2] = [5, 6], [2**40], []
P
job=tests/mpi/job.yaml
run() { # NAME ARGUMENT...
    local name=$1
    shift
    "$tandem" run "$job" --set layout.colocated=true --set layout.ffn=none --set prompts.count=all --set prompts.file="$work/$name.h5" \
        --set output.file="$work/$name.out.h5" "$@" >"$work/log" 2>&1 || fail "$name: $(cat "$work/log")"
}
run flat
for name in lists filled; do run $name; done
run group --set prompts.text=train/ids
for name in lists filled group; do
    cmp <("$tandem" export "$work/flat.out.h5" --tokens) <("$tandem" export "$work/$name.out.h5" --tokens) || fail "$name is something else"
done
run wrong
[ "$("$tandem" export "$work/wrong.out.h5" | grep -c '"finish": "error"')" = 2 ] || fail "wrong rows are not error rows"
"$tandem" check "$job" --set prompts.count=all --set prompts.file="$work/unknown.h5" >"$work/log" 2>&1 && fail "rows without lengths"
grep -q 'wanted a dataset "lengths"' "$work/log" || fail "$(cat "$work/log")"
"$tandem" check "$job" --set prompts.text=test/none >"$work/log" 2>&1 && fail "a dataset that is not there"
grep -q 'prompts.text.*"test/none": is not in the file' "$work/log" || fail "$(cat "$work/log")"

# What README says of reading the output, as it says it.
decode out 2 || fail "decode"
lines() { awk -v first="$1" '/^    / && index($0, first) { on = 1 } !/^    / { on = 0 } on { print substr($0, 5) }' README.md; }
run_lines() { (cd "$work" && cp out.h5 completions.h5 && "$PYTHON" -) || fail "README: $1"; }
if "$PYTHON" -c 'import pandas' 2>/dev/null; then
    { lines "import h5py, pandas"; echo 'assert len(table) == 21 and isinstance(table["text"][0], str) and table["finish"].isin(["stop", "length"]).all(), table'; } |
        run_lines "pandas"
else
    echo "not tried: pandas"
fi
if "$PYTHON" -c 'import datasets' 2>/dev/null; then
    { lines "import datasets"; echo 'assert len(table) == 21 and isinstance(table[0]["text"], str), table'; } | run_lines "datasets"
else
    echo "not tried: datasets"
fi
echo "one set of prompts, whatever their shape"
