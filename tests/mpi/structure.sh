#!/bin/bash
# Completions with a format: what ends by itself is what a regular expression, a choice or a JSON schema
# asks for; equal bits in every layout and after a stop. LONG=1, SCHEMAS=1000: more of them.
# timeout: 240
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
"$PYTHON" -c 'import jsonschema' 2>/dev/null || skip "Python's jsonschema is not installed"
schemas=${SCHEMAS:-${LONG:+60}}
schemas=${schemas:-25}
tool=tests/mpi/random_schemas.py
"$PYTHON" $tool make "$schemas" "$work/in.h5" || fail "making schemas"
form=(prompts.file="$work/in.h5" prompts.count=all schedule.slots=24 sampling.temperature=1 sampling.max_new_tokens=120)
decode two 2 "${form[@]}" || fail two
"$tandem" export "$work/two.h5" >"$work/two.jsonl" || fail export
"$PYTHON" $tool check "$work/two.jsonl" "$work/in.h5" || fail "completions are not what was asked for"
[ "$schemas" -gt 100 ] && exit 0
# Guesses change nothing, and tokens without a choice are among them.
guessed() { sed -n "s/^speculation *\([0-9]*\) of \([0-9]*\) .*/\\$2/p" "$work/$1.log"; }
decode off 2 "${form[@]}" speculate.draft=off || fail off
same two off
decode ngram 2 "${form[@]}" speculate.draft=ngram layout.micro_batches=2 || fail ngram
same two ngram
[ "$(guessed ngram 1)" -gt $((schemas * 5 / 2)) ] || fail "$(guessed ngram 1) of $(guessed ngram 2) guesses came true: nothing was tested"
# Short memory puts sequences back; a stop continues them.
decode three 4 "${form[@]}" layout.attention=3 schedule.slots=5 schedule.kv_memory="2 MiB" || fail three
same two three
decode stopped 2 "${form[@]}" schedule.time_limit=1s >/dev/null
decode stopped 2 "${form[@]}" || fail stopped
same two stopped
# Behind a reasoning, which is free; what the first token may begin is either of the two.
for begin in none "' a'"; do
    thinks=("${form[@]}" output.reasoning.end="' of'" output.reasoning.begin="$begin")
    decode thinks 2 "${thinks[@]}" sampling.temperature=0.7 || fail "reasoning from $begin"
    "$tandem" export "$work/thinks.h5" >"$work/thinks.jsonl" || fail export
    "$PYTHON" $tool check "$work/thinks.jsonl" "$work/in.h5" ' of' || fail "behind a reasoning from $begin"
    decode forced 4 "${thinks[@]}" layout.attention=3 schedule.slots=5 sampling.thinking_tokens=4 sampling.thinking_end="' of'" || fail "forced $begin"
    "$tandem" export "$work/forced.h5" >"$work/forced.jsonl" || fail export
    "$PYTHON" $tool check "$work/forced.jsonl" "$work/in.h5" ' of' || fail "behind a reasoning that was ended"
    decode thought 2 "${thinks[@]}" sampling.temperature=0.7 speculate.draft=ngram || fail "guesses behind a reasoning from $begin"
    same thinks thought
    decode pressed 2 "${thinks[@]}" speculate.draft=ngram sampling.thinking_tokens=4 sampling.thinking_end="' of'" || fail "guesses, forced $begin"
    same forced pressed
    rm -rf "$work"/thought.* "$work"/pressed.* "$work"/thinks.* "$work"/forced.*
done
# What is wrong with one row's format is that row's own error.
cat >"$work/rows.jsonl" <<'J'
{"text": "age, noun:", "format": {"json_schema": {"type": "string", "minLength": 3, "maxLength": 2}}}
{"text": "age, noun:", "format": {"regex": "((a{1000}){1000}){1000}"}}
{"text": "age, noun:", "format": "markdown"}
{"text": "age, noun:", "format": {"json_schema": {"if": true}}}
{"text": "age, noun:", "format": {"choice": [" yes"]}}
J
"$tandem" import "$work/rows.jsonl" "$work/asked.h5" >/dev/null 2>"$work/notes" || fail "import of formats"
grep -q 'field "format" goes before' "$work/notes" || fail "import does not say what it does with a format: $(cat "$work/notes")"
decode rows 2 prompts.file="$work/asked.h5" prompts.count=all || fail rows
"$tandem" export "$work/rows.h5" 2>/dev/null | "$PYTHON" -c '
import json, sys
rows = [json.loads(line) for line in sys.stdin]
for row, why in zip(rows, ("no text at all", "too large", "format: wants", "\"if\" is not supported")):
    assert row["finish"] == "error" and why in row["error"], row
assert rows[4]["finish"] == "stop" and rows[4]["text"] == " yes", rows[4]' || fail "formats of rows"
said() {
    local want=$1
    shift
    "$tandem" check $job --set output.file="$work/none.h5" "$@" >"$work/log" 2>&1 && fail "$* is taken"
    grep -q "$want" "$work/log" || fail "$*: $(cat "$work/log")"
}
said '"not" is not supported' --set 'sampling.format={json_schema: {properties: {a: {not: true}}}}'
said 'oneOf/0 and oneOf/1 may both accept' --set 'sampling.format={json_schema: {oneOf: [{type: string}, {maxLength: 3}]}}'
said '#/properties/a: format "iri" is not supported' --set 'sampling.format={json_schema: {properties: {a: {format: iri}}}}'
said 'differ in property "a"' --set 'sampling.format={json_schema: {allOf: [{properties: {a: {type: string}}}, {properties: {a: {type: integer}}}]}}'
said 'allOf is supported with one schema, or with objects' --set 'sampling.format={json_schema: {allOf: [{type: string}, {type: integer}]}}'
said 'patternProperties is supported with one pattern' --set 'sampling.format={json_schema: {patternProperties: {a: true}, properties: {b: true}}}'
said '"multipleOf" is not supported' --set 'sampling.format={json_schema: {type: integer, multipleOf: 3}}'
said "no text at all is like that" --set 'sampling.format={json_schema: {type: string, minLength: 3, maxLength: 2}}'
said "refers to itself" --set 'sampling.format={json_schema: {anyOf: [{"$ref": "#"}, {type: "null"}]}}'
said "is too large\|too large, with its repetitions" --set 'sampling.format={regex: "((a{1000}){1000}){1000}"}'
said "assertion, flag" --set 'sampling.format={regex: "(?=a)b"}'
said "ignore_eos" --set 'sampling.format={choice: [a]}' --set sampling.ignore_eos=true
echo "completions have the form that was asked for"
