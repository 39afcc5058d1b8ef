#!/bin/bash
# Guesses at the next tokens change no bit of a completion: greedy and sampled, in every layout, with
# short memory, with logits that are changed by what was drawn; and they do save steps.
# timeout: 180
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
# Long completions of a small model repeat themselves.
settings=(prompts.count=8 sampling.max_new_tokens=90 sampling.ignore_eos=true schedule.max_context=160)

right() { sed -n 's/^speculation *\([0-9]*\) of .*/\1/p' "$work/$1.log"; }

for temperature in 0.6 0; do
    rm -f "$work"/*
    now=("${settings[@]}" sampling.temperature=$temperature)
    decode off 2 "${now[@]}" speculate.draft=off || fail "off"
    [ -z "$(right off)" ] || fail "speculate.draft: off guesses"
    decode two 2 "${now[@]}" speculate.draft=ngram layout.micro_batches=2 || fail "1A1F"
    [ "$(right two)" -gt 5 ] || fail "$(right two) guesses came true: nothing was tested"
    same off two
    decode auto 1 "${now[@]}" layout.colocated=true layout.ffn=none speculate.tokens=7 ||
        fail "colocated, auto"
    same off auto
done
decode short 3 "${now[@]}" speculate.draft=ngram speculate.tokens=3 layout.attention=2 \
    layout.exchange=mpi schedule.kv_memory=1200KiB || fail "two ranks that are short of memory"
grep "was short" "$work/short.log" || fail "memory was not short: nothing was tested"
same off short
# Logits that are changed by what was drawn, guesses among it.
changed=(sampling.temperature=0.4 sampling.repetition_penalty=1.04 sampling.frequency_penalty=0.01
    sampling.presence_penalty=0.02 sampling.min_tokens=50 sampling.ignore_eos=false 'sampling.ban=[" the", 17, " of a"]')
decode changed-off 2 "${settings[@]}" "${changed[@]}" speculate.draft=off || fail "changed, off"
decode changed 2 "${settings[@]}" "${changed[@]}" speculate.draft=ngram layout.micro_batches=2 || fail "changed"
same changed-off changed
[ "$(right changed)" -gt 5 ] || fail "$(right changed) guesses of changed completions came true: nothing was tested"
[ "$(right two)" -gt 50 ] || fail "$(right two) guesses of greedy completions came true"
echo "completions do not depend on guesses; $(right two) came true"
