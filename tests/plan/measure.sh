#!/bin/bash
# `tandem plan --measure`: a job's own layout and five others, sorted, from times that belong together; refuses
# what it cannot measure. How near it comes is for a quiet machine: tests/bench/forecast.sh.
# timeout: 120
. tests/mpi/lib.sh
need "$tandem"
job=tests/mpi/job.yaml
"$tandem" plan "$job" --measure --tokens 9 --set prompts.count=20 --set schedule.slots=4 --set schedule.prefill_chunk=8 \
    --set layout.ffn.expert=2 >"$work/said" 2>"$work/errors" || fail "measure: $(cat "$work/errors")"
awk 'length > 80 { exit 1 }' "$work/said" || fail "wider than 80 columns"
grep -q '^This machine reads [0-9.]* GB/s and makes [0-9]* GFLOP/s' "$work/said" || fail "its roofs: $(cat "$work/said")"
grep -q '^  1A2F  *3 .*  this job$' "$work/said" || fail "its own layout: $(cat "$work/said")"
awk '/^ +[0-9]+ / && NF == 5 { n++; if (!($2 > 0 && $3 > 0 && $4 > 0)) bad = 1; ms = $2 + $3 + $4; if ($5 / ($1 / ms * 1e3) > 1.01 || $5 / ($1 / ms * 1e3) < 0.99) bad = 1 }
    END { exit bad || n < 5 }' "$work/said" || fail "the times: $(cat "$work/said")"
awk '/best$/ { on = 1 } on { speed = $(NF - 1 - / best$/); n++; if (n > 1 && speed > last) bad = 1; last = speed } END { exit bad || n != 5 }' "$work/said" ||
    fail "the five best: $(cat "$work/said")"
"$tandem" plan "$job" --measure --tokens none 2>"$work/errors" && fail "no number of tokens"
grep -q -e '--tokens wants how many' "$work/errors" || fail "its message: $(cat "$work/errors")"
"$tandem" plan step3 --measure 2>"$work/errors" && fail "a model is measured"
grep -q "step3" "$work/errors" || fail "its message: $(cat "$work/errors")"
echo "measured"
