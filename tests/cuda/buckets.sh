#!/bin/bash
# Micro-batches filled up with dead rows on emulated GPUs: most steps of a job that reads prompts all the time are
# graphs, and no bit of a completion, no count of chosen experts and no guess is another than without; windows and
# MTP layers too. And `speculate: auto` guesses where guesses come true.
# timeout: 240
. "$(dirname "$0")/../mpi/lib.sh"
tandem=$BUILD/emu/tandem
need "$tandem"
export TANDEM_EMU_DEVICES=4 XDG_CACHE_HOME=$work/cache
mkdir -p "$XDG_CACHE_HOME"
job=tests/mpi/job.yaml
for ((i = 0; i < 14; i++)); do
    echo "{\"tokens\": [1, $i$(for ((k = 0; k < (i * 5) % 13 + 2; k++)); do echo -n ", $(((k * k + i) % 31))"; done)]}"
done >"$work/prompts.jsonl"
"$tandem" import "$work/prompts.jsonl" "$work/in.h5" --format jsonl --tokens tokens >/dev/null || fail "import"
usual=(device=cuda layout.threads=1 sampling.max_new_tokens=7 sampling.temperature=0.8 schedule.slots=5 schedule.prefill_chunk=9
    schedule.max_context=96)
graphs() { sed -n 's/^steps *\([0-9]*\) of \([0-9]*\) were.*/\1 \2/p' "$work/$1.log"; }
# most NAME - most of its steps were graphs.
most() {
    local n all
    read -r n all < <(graphs "$1")
    [ "${n:-0}" -gt $((all / 2)) ] || fail "${family:-}: $1: ${n:-0} of ${all:-0} steps were graphs"
    echo "${family:-}: $1: $n of $all steps were graphs"
}
# How often each expert of each layer was chosen.
experts() {
    "$PYTHON" -c 'import collections, h5py, sys
with h5py.File(sys.argv[1]) as f:
    layer, expert, chosen = (f[name][:].tolist() for name in ("layer", "expert", "chosen"))
counts = collections.Counter()
for l, e, n in zip(layer, expert, chosen):
    if n > 0:
        counts[l, e] += n
print(sorted(counts.items()))' "$work/$1.steps.h5" || fail "experts of $1"
}

for family in step3p5 deepseek_v3; do
    rm -rf "$work/model" "$work"/[a-d].*
    "$tandem" generate "$work/model" family=$family mtp=$([ $family = step3p5 ] && echo 2 || echo 1) hidden=76 layers=2 vocab=31 context=128 \
        heads=6 kv_heads=2 head_dim=20 dense=53 experts=6 topk=2 expert=39 shared=39 q_rank=34 kv_rank=43 nope_dim=11 \
        rope_dim=6 value_dim=13 window=29 limit=0.4 groups=2 topk_groups=1 rope_factor=2 dtype=f32 >/dev/null || fail "generate $family"
    run a 2 $job graphs=false speculate.draft=off
    run b 2 $job graphs=true speculate.draft=off layout.micro_batches=2
    most b
    same a b
    [ "$(experts a)" != "[]" ] && [ "$(experts a)" = "$(experts b)" ] || fail "$family: experts: $(experts a) without graphs, $(experts b) with"
    run c 2 $job graphs=true speculate.draft=mtp speculate.tokens=2
    run d 2 $job graphs=false speculate.draft=mtp speculate.tokens=2
    same a c
    same a d
    guesses=$(sed -n 's/^speculation *//p' "$work/c.log")
    [ -n "$guesses" ] && [ "$guesses" = "$(sed -n 's/^speculation *//p' "$work/d.log")" ] ||
        fail "$family: guesses with graphs: $guesses; without: $(sed -n 's/^speculation *//p' "$work/d.log")"
    [ "$(experts c)" = "$(experts d)" ] || fail "$family: experts with guesses: $(experts c) with graphs, $(experts d) without"
    echo "$family: $(sed -n 's/^speculation *//p' "$work/c.log")"
done

# A small model that says one thing again and again, for long enough that guesses are tried.
family=auto
usual=("${usual[@]}" sampling.max_new_tokens=80 sampling.temperature=0 schedule.slots=2)
run off 2 $job graphs=false speculate.draft=off prompts.count=6
run on 2 $job speculate.draft=auto prompts.count=6
same off on
read -r right all < <(sed -n 's/^speculation *\([0-9]*\) of \([0-9]*\) .*/\1 \2/p' "$work/on.log")
[ "${all:-0}" -gt 5 ] && [ "$right" -gt 0 ] || fail "auto: ${right:-0} of ${all:-0} guesses came true"
most on
echo "auto: $right of $all guesses came true"
