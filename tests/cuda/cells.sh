#!/bin/bash
# Cells on emulated GPUs: two of one attention and one FFN rank decode what one decodes, bit for bit, each over a
# communicator of its own; with one killed the job ends, and the same command continues it.
# timeout: 200
. "$(dirname "$0")/../mpi/lib.sh"
tandem=$BUILD/emu/tandem
need "$tandem"
export TANDEM_EMU_DEVICES=8
job=tests/mpi/job.yaml
settings=(device=cuda layout.threads=1 prompts.count=4 sampling.samples=2 sampling.temperature=0.8 sampling.max_new_tokens=9
    sampling.ignore_eos=true output.commit_seconds=0.05)
decode one 2 "${settings[@]}" || fail "one cell"
grep -q 'launched as CUDA graphs' "$work/one.log" || fail "no graphs: nothing was tested"

set=()
for pair in output.file="$work/two.h5" "${settings[@]}" layout.cells=2; do
    set+=(--set "$pair")
done
kill_one() {
    rm -rf "$work"/two.*
    tests/mpirun 4 "$tandem" run "$job" "${set[@]}" >"$work/killed.log" 2>&1 &
    pid=$!
    seals "$work/two.h5" 2 $pid && kill -KILL "$(rank_of "$work/two.h5" 3)"
    wait $pid 2>/dev/null
    [ ! -f "$work/two.h5" ] && [ "$("$tandem" export "$work/two.h5" --partial | wc -l)" -lt 8 ]
}
in_time kill_one
decode two 4 "${settings[@]}" layout.cells=2 || fail "continued after a kill"
same one two
left=$(sed -n 's/.* \([0-9]*\) of 8 completions to do/\1/p' "$work/two.log")
[ "$left" -gt 0 ] && [ "$left" -lt 8 ] || fail "$left of 8 were left: nothing was tested"
echo "two cells of GPUs are one; $left of 8 completions were left after a kill"
