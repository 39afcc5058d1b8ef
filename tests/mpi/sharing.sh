#!/bin/bash
# Prompts that begin alike and samples of one prompt are read once, and their completions have the bits
# they have when everybody reads all; also where memory is short.
# timeout: 120
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
about="A word, and what it means, in few words, as a dictionary would have it, with its kind before it and"
settings=(prompts.count=5 sampling.samples=3 sampling.max_new_tokens=20 sampling.temperature=0.9
    schedule.prefill_chunk=50 schedule.max_context=256 "prompts.template='$about $about $about: {prompt}'")

decode apart 2 "${settings[@]}" schedule.share=false || fail "nothing shared"
grep "there already" "$work/apart.log" && fail "schedule.share: false shares"
decode shared 2 "${settings[@]}" || fail "shared"
grep "there already" "$work/shared.log" || fail "nothing was shared: nothing was tested"
same apart shared
decode two 3 "${settings[@]}" layout.attention=2 layout.micro_batches=2 schedule.kv_memory=1200KiB ||
    fail "two ranks that are short of memory"
grep "there already" "$work/two.log" || fail "two ranks: nothing was shared"
same apart two
echo "completions do not depend on what is shared"
