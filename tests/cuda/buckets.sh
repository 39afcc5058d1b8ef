#!/bin/bash
# Micro-batches filled up with dead rows on emulated GPUs: most steps of a job that reads prompts all the time are
# graphs, also where logits are changed and scored, and no bit of a completion, no count of chosen experts and no
# guess is another than without; windows and MTP layers too. And `speculate: auto` guesses where guesses come true.
# timeout: 240
. "$(dirname "$0")/../mpi/lib.sh"
. tests/cuda/gpu_lib.sh
cpu=$tandem tandem=$gpu
need "$cpu"
export TANDEM_EMU_DEVICES=4
job=tests/mpi/job.yaml
import() { "$cpu" import "$work/prompts.jsonl" "$work/in.h5" --format jsonl --tokens tokens >/dev/null || fail "import"; }
for ((i = 0; i < 6; i++)); do
    echo "{\"tokens\": [1, $i$(for ((k = 0; k < (i * 5) % 9 + 2; k++)); do echo -n ", $(((k * k + i) % 31))"; done)]}"
done >"$work/prompts.jsonl"
import
usual=(device=cuda layout.threads=1 sampling.max_new_tokens=5 sampling.temperature=0.8 schedule.slots=3 schedule.prefill_chunk=6
    schedule.max_context=96)
graphs() { sed -n 's/^steps *\([0-9]*\) of \([0-9]*\) were.*/\1 \2/p' "$work/$1.log"; }
# most NAME - most of its steps were graphs.
most() {
    local n all
    read -r n all < <(graphs "$1")
    [ "${n:-0}" -gt $((all / 2)) ] || fail "${family:-}: $1: ${n:-0} of ${all:-0} steps were graphs"
    echo "${family:-}: $1: $n of $all steps were graphs"
}
# some NAME - at least one was.
some() {
    local n all
    read -r n all < <(graphs "$1")
    [ "${n:-0}" -gt 0 ] || fail "${family:-}: $1: none of ${all:-0} steps was a graph"
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
guesses() { sed -n 's/^speculation *//p' "$work/$1.log"; }

for family in step3p5 deepseek_v3; do
    rm -rf "$work/model" "$work"/[a-e].*
    "$cpu" generate "$work/model" family=$family unused=ignore mtp=$([ $family = step3p5 ] && echo 2 || echo 1) hidden=76 layers=2 vocab=31 context=128 \
        heads=6 kv_heads=2 head_dim=20 dense=53 experts=6 topk=2 expert=39 shared=39 q_rank=34 kv_rank=43 nope_dim=11 \
        rope_dim=6 value_dim=13 window=29 limit=0.4 groups=2 topk_groups=1 rope_factor=2 dtype=f32 >/dev/null || fail "generate $family"
    run a 2 $job graphs=false speculate.draft=mtp speculate.tokens=2
    run b 2 $job graphs=true speculate.draft=mtp speculate.tokens=2
    some b
    same a b
    [ -n "$(guesses a)" ] && [ "$(guesses a)" = "$(guesses b)" ] || fail "$family: guesses: $(guesses a) without graphs, $(guesses b) with"
    [ "$(experts a)" != "[]" ] && [ "$(experts a)" = "$(experts b)" ] || fail "$family: experts: $(experts a) without graphs, $(experts b) with"
    echo "$family: $(guesses a)"
    [ $family = step3p5 ] || continue
    run c 2 $job graphs=true speculate.draft=off layout.micro_batches=2
    most c
    same a c
    usual+=(sampling.repetition_penalty=1.3 sampling.logprobs=2)
    run d 2 $job graphs=false speculate.draft=off
    run e 2 $job graphs=true speculate.draft=mtp speculate.tokens=2 layout.micro_batches=2
    most e
    same d e
    cmp -s <(tokens a) <(tokens d) && fail "penalties change nothing"
    unset "usual[-1]" "usual[-1]"
done

# A small model that says one thing again and again, for long enough that guesses are tried: in its steps 156 to
# 159 at the latest, of 200 without guesses.
family=auto
for i in 3 5; do echo "{\"tokens\": [1, $i, 2, 7]}"; done >"$work/prompts.jsonl"
rm -rf "$work/model" "$work/in.h5"
import
"$cpu" generate "$work/model" family=llama hidden=16 layers=1 vocab=16 context=512 heads=1 kv_heads=1 head_dim=16 dense=16 dtype=f32 >/dev/null || fail "generate"
colocated
usual=(layout.threads=1 sampling.temperature=0 sampling.max_new_tokens=200 schedule.max_context=256 speculate.draft=auto)
run on 1 "$work/colocated.yaml" device=cuda
tandem=$cpu run off 1 "$work/colocated.yaml" speculate.draft=off
same_tokens off on
read -r right all < <(guesses on | sed -n 's/^\([0-9]*\) of \([0-9]*\) .*/\1 \2/p')
[ "${all:-0}" -gt 5 ] && [ "${right:-0}" -gt 0 ] || fail "auto: ${right:-0} of ${all:-0} guesses came true"
most on
echo "auto: $right of $all guesses came true"
