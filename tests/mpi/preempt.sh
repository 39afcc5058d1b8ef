#!/bin/bash
# KV memory for one and a half sequences a rank: sequences are put back and computed again, and every
# completion has the bits it has with memory for all.
# timeout: 120
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
settings=(prompts.count=7 sampling.max_new_tokens=125 sampling.temperature=0.9 schedule.slots=6
    sampling.ignore_eos=true)
# f32, 6 layers, K and V of 64 columns: a block of 64 tokens; a sequence of 160 tokens has three.
block=$((64 * 6 * 2 * 64 * 4))

decode ample 2 "${settings[@]}" || fail "ample memory"
grep "was short" "$work/ample.log" && fail "sequences were put back though there is memory for all"
decode short 2 "${settings[@]}" schedule.kv_memory=$((9 * block / 2)) || fail "short memory"
grep "was short" "$work/short.log" || fail "no sequence was put back: nothing was tested"
same ample short
decode two 3 "${settings[@]}" layout.attention=2 schedule.kv_memory=$((9 * block / 2)) \
    schedule.prefill_chunk=3 layout.micro_batches=3 || fail "short memory of two ranks"
grep "was short" "$work/two.log" || fail "no sequence was put back on two ranks"
same ample two
echo "completions do not depend on memory"
