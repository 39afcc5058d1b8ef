#!/bin/bash
# Sampled completions depend on seed, prompt and sample, not on layout, slots, precision of the exchange
# split or order of the prompts.
# timeout: 300
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
hot=(sampling.temperature=0.9 sampling.top_k=40 sampling.top_p=0.9 sampling.samples=3 prompts.count=7)
bf16=(precision.activations=bf16 precision.dispatch=fp8 precision.combine=bf16 precision.kv_cache=bf16)
decode a 2 "${hot[@]}" "${bf16[@]}" || fail a
decode b 3 "${hot[@]}" "${bf16[@]}" layout.attention=2 layout.micro_batches=4 schedule.slots=13 \
    schedule.prefill_chunk=64 || fail b
same a b
decode c 2 "${hot[@]}" "${bf16[@]}" sampling.seed=1 || fail c
cmp -s <(tokens a) <(tokens c) && fail "another seed gives the same completions"
[ "$(tokens a | sort -u | wc -l)" = 21 ] || fail "samples of a prompt are not different rows"

# Greedy completions belong to their prompts, in any order of the file.
"$tandem" export "$work/a.h5" >/dev/null || fail export
"$PYTHON" - "$work" <<'P' || skip "python3 with h5py is not installed: prompts in another order are not tried"
import sys, h5py
work = sys.argv[1]
with h5py.File("input/prompts.h5") as f:
    rows = list(zip(f["text"][:21], f["id"][:21]))
string = h5py.string_dtype()
for name, chosen in (("ordered", rows), ("shuffled", [rows[i * 8 % 21] for i in range(21)])):
    with h5py.File(f"{work}/{name}-prompts.h5", "w") as f:
        f.create_dataset("text", data=[r[0] for r in chosen], dtype=string)
        f.create_dataset("id", data=[r[1] for r in chosen], dtype=string)
P
for name in ordered shuffled; do
    decode $name 2 prompts.file="$work/$name-prompts.h5" || fail $name
    completions $name | sed 's/"prompt": [0-9]*, //' | sort >"$work/$name.sorted"
done
cmp "$work/ordered.sorted" "$work/shuffled.sorted" || fail "the order of prompts changes completions"
cmp -s <(completions ordered) <(completions shuffled) && fail "the prompts were not shuffled"
echo "sampling depends on nothing else"
