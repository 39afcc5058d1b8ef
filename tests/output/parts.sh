#!/bin/bash
# The outputs of a job's parts become the output of the whole job, prompt for prompt and column for
# column; parts that are missing, there twice, of other jobs or damaged are refused by name.
# timeout: 120
. tests/mpi/lib.sh
need "$tandem"
for i in $(seq 0 10); do echo "{\"id\": $i, \"text\": \"number $i, noun:\", \"own\": [$i]}"; done >"$work/rows.jsonl"
printf '%s\n' "model: $PWD/input/demo" "prompts: {file: $work/rows.h5}" "output: {file: $work/whole.h5}" \
    "layout: {attention: 1, colocated: true}" "schedule: {max_context: 64}" \
    "sampling: {samples: 2, temperature: 0.7, max_new_tokens: 12}" >"$work/job.yaml"
"$tandem" import "$work/rows.jsonl" "$work/rows.h5" >/dev/null || fail "import"
run() { "$tandem" run "$work/job.yaml" "$@" >"$work/log" 2>&1 || fail "run $*: $(cat "$work/log")"; }
lines() { "$tandem" export "$1" --tokens --logprobs || fail "export of $1"; }
run
for k in 1 2 3; do run --set prompts.part=$k/3 --set output.file="$work/out-$k.h5"; done
"$tandem" merge "$work"/out-3.h5 "$work"/out-*.tokens.h5 "$work"/out-[12].h5 "$work/all.h5" || fail "merge"
cmp <(lines "$work/whole.h5") <(lines "$work/all.h5") || fail "the parts together are not the whole"
"$tandem" report "$work/all.h5" >"$work/log" || fail "report of the whole: $(cat "$work/log")"
[ "$(grep -c '^ *[0-2] .*ms$' "$work/log")" = 3 ] || fail "report does not have a rank of each part: $(cat "$work/log")"

# Of a job that has not all rows of its prompts file the parts are whole when they have the job's.
some=(--set prompts.first=2 --set prompts.count=5)
run "${some[@]}" --set output.file="$work/some.h5"
for k in 1 2; do run "${some[@]}" --set prompts.part=$k/2 --set output.file="$work/some-$k.h5"; done
"$tandem" merge "$work"/some-[12].h5 "$work/some-all.h5" >/dev/null || fail "merge of some rows"
cmp <(lines "$work/some.h5") <(lines "$work/some-all.h5") || fail "the parts of some rows are something else"

refused() { # WHAT PATTERN FILE...: and nothing is made
    local what=$1 pattern=$2
    shift 2
    "$tandem" merge "$@" "$work/no.h5" >"$work/log" 2>&1 && fail "$what: not refused"
    grep -q "$pattern" "$work/log" || fail "$what: $(cat "$work/log")"
    [ -e "$work/no.h5" ] && fail "$what: a file was made"
}
refused "no middle" "rows 3 to 6 of the prompts file are in none" "$work"/out-[13].h5
refused "no end of some rows" "rows 4 to 6 of the prompts file are in none" "$work"/some-1.h5
refused "no end" "rows 7 to 10 of the prompts file are in none" "$work"/out-[12].h5
refused "one twice" "both have row 3" "$work"/out-?.h5 "$work"/out-2.h5
run --set prompts.part=3/3 --set sampling.seed=5 --set output.file="$work/seed.h5"
refused "another seed" "another job .*sampling.seed 5 instead of" "$work"/out-[12].h5 "$work/seed.h5"
cp "$work/rows.h5" "$work/copy.h5"
run --set prompts.part=3/3 --set prompts.file="$work/copy.h5" --set output.file="$work/copied.h5"
refused "another prompts file" "its prompts file was another one" "$work"/out-[12].h5 "$work/copied.h5"
refused "no output" "wanted a completions file" "$work"/out-[12].h5 "$work/rows.h5"
"$tandem" merge "$work"/out-?.h5 "$work/all.h5" 2>"$work/log" && fail "a file that exists is replaced"

# A merged file is a part again; what is missing can be left out.
"$tandem" merge "$work"/out-[12].h5 "$work/two.h5" --partial >/dev/null || fail "--partial"
"$tandem" merge "$work/two.h5" "$work/out-3.h5" "$work/again.h5" >/dev/null || fail "a merged part"
cmp <(lines "$work/whole.h5") <(lines "$work/again.h5") || fail "merged in two steps it is not the whole"
"$tandem" merge "$work"/out-[13].h5 "$work/gap.h5" --partial >/dev/null || fail "--partial with a gap"
cmp <(lines "$work/whole.h5" | grep -v '"prompt": [3-6],') <(lines "$work/gap.h5") || fail "with a gap it is something else"
printf 'x' | dd of="$work/out-2.tokens.h5" bs=1 seek=4000 conv=notrunc 2>/dev/null
refused "a damaged part" "out-2.tokens.h5" "$work"/out-?.h5
echo "three parts are the whole"
