#!/bin/bash
# The README's line for Hugging Face's `datasets` gives the table that the file is, columns of its own
# included. Skips where `datasets` is not installed: PYTHON=... names a Python that has it.
# timeout: 120
. tests/mpi/lib.sh
need "$tandem"
"$PYTHON" -c 'import h5py' 2>/dev/null || skip "python3 with h5py is not installed"
"$PYTHON" -c 'import datasets, datasets.packaged_modules.hdf5' 2>/dev/null || skip "no Python package datasets with HDF5: its line in the README is not run"
for i in $(seq 9); do echo "{\"id\": $i, \"text\": \"number $i, noun:\", \"answer\": \"é$i\"}"; done >"$work/rows.jsonl"
"$tandem" import "$work/rows.jsonl" "$work/rows.h5" >/dev/null || fail "import"
job=tests/mpi/job.yaml
decode completions 2 prompts.file="$work/rows.h5" prompts.count=all || fail "decode"
line=$(grep -A 1 '^    import datasets' README.md | sed 's/^    //')
[ "$(wc -l <<<"$line")" = 2 ] || fail "the line is not in the README"
cd "$work" && HF_HOME=$work/cache HF_HUB_OFFLINE=1 "$PYTHON" - "$line" <<'P' || fail "the table"
import sys, h5py
exec(sys.argv[1])
with h5py.File("completions.h5") as f:
    assert len(table) == len(f["text"]) >= 9
    assert table["text"][:] == list(f["text"].asstr()[:]) and table["token_count"][:] == list(f["token_count"][:])
    assert [c["answer"] for c in table["columns"]] == list(f["columns/answer"].asstr()[:])
P
echo "datasets reads the table"
