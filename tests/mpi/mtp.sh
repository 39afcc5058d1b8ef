#!/bin/bash
# Guesses of MTP layers change no bit of a completion: of a chain of layers and of one that is used again,
# greedy and sampled, in every layout, beside a sequence whose logits are changed, with short memory, after kills.
# And where the right token is sure, they are right: every layer is given the tokens it should be given.
# timeout: 200
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
sed 's/ffn: .*/colocated: true/' $job >"$work/colocated.yaml"
for i in 0 1 2 3 4 5 6 7; do
    echo "{\"tokens\": [1, $i$(for ((k = 0; k < i * i; k++)); do echo -n ", $((k * k % 11))"; done)], \"frequency_penalty\": $((i == 3 ? 1 : 0))}"
done >"$work/prompts.jsonl"
"$tandem" import "$work/prompts.jsonl" "$work/in.h5" --format jsonl --tokens tokens >/dev/null || fail "import"
settings=(model="$work/model" tokenizer=none prompts.file="$work/in.h5" prompts.count=all
    sampling.ignore_eos=true sampling.max_new_tokens=60)

# generate FAMILY LAYERS VOCAB
generate() {
    rm -rf "$work/model"
    "$tandem" generate "$work/model" family="$1" unused=ignore mtp="$2" vocab="$3" hidden=76 layers=3 context=171 heads=6 kv_heads=2 \
        head_dim=20 dense=53 experts=12 topk=3 expert=39 shared=39 q_rank=34 kv_rank=43 nope_dim=11 rope_dim=6 \
        value_dim=13 window=29 limit=0.4 groups=4 topk_groups=2 rope_factor=2 dtype=f32 >/dev/null || fail "generate $1"
}
# run NAME RANKS [KEY=VALUE]...
run() {
    rm -rf "$work/$1".*
    decode "$1" "$2" "${settings[@]}" "${@:3}" || fail "$family: $1"
}
guesses() { sed -n "s/^speculation *\([0-9]*\) of \([0-9]*\) .*/\\$2/p" "$work/$1.log" | grep . || echo 0; }

for family in step3p5 deepseek_v3; do
    layers=$([ $family = step3p5 ] && echo 3 || echo 1)
    # Few tokens: some guesses come true by chance.
    generate $family $layers 11
    now=(sampling.temperature=0.8)
    run off 2 "${now[@]}" speculate.draft=off
    run mtp 2 "${now[@]}" speculate.draft=mtp speculate.tokens=3 layout.micro_batches=2
    [ "$(guesses mtp 1)" -gt 5 ] || fail "$(guesses mtp 1) guesses came true: nothing was tested"
    same off mtp
    run short 4 "${now[@]}" speculate.draft=mtp speculate.tokens=4 layout.attention=3 layout.exchange=mpi \
        schedule.kv_memory=$([ $family = step3p5 ] && echo 700KiB || echo 400KiB)
    grep "was short" "$work/short.log" || fail "memory was not short: nothing was tested"
    same off short
    split=$([ $family = step3p5 ] && echo expert || echo tensor)
    run "off-$split" 4 "${now[@]}" speculate.draft=off layout.attention=2 layout.ffn.$split=2
    run "mtp-$split" 4 "${now[@]}" speculate.draft=mtp speculate.tokens=2 layout.attention=2 layout.ffn.$split=2
    same "off-$split" "mtp-$split"
    job=$work/colocated.yaml run cells 2 "${now[@]}" speculate.draft=mtp speculate.tokens=1 layout.cells=2
    same off cells

    generate $family $layers 211
    "$PYTHON" tests/mpi/make_copying.py "$work/model" || fail "make_copying"
    now=(sampling.temperature=$([ $family = step3p5 ] && echo 0 || echo 0.8))
    run sure-off 2 "${now[@]}" speculate.draft=off
    run sure 2 "${now[@]}" speculate.draft=mtp speculate.tokens=3 layout.micro_batches=2
    same sure-off sure
    echo "$family: $(guesses sure 1) of $(guesses sure 2) came true"
    # Long enough for auto to try the layers, at random moments of the sequences.
    long=("${now[@]}" sampling.samples=$([ $family = step3p5 ] && echo 6 || echo 36) schedule.slots=4)
    run long-off 2 "${long[@]}" speculate.draft=off
    run auto 2 "${long[@]}" layout.micro_batches=2
    same long-off auto
    [ "$(guesses auto 2)" -gt 0 ] || fail "$family: auto made no guess: nothing was tested"
    echo "$family: auto made $(guesses auto 2) guesses, $(sed -n 's/^speculation.* true, //p' "$work/auto.log")"
    [ "$(guesses sure 2)" -gt 0 ] || fail "$family: no sure guess was made: nothing was tested"
    # Guesses do not know of penalties; one of the eight has some.
    [ $((5 * $(guesses sure 1))) -ge $((4 * $(guesses sure 2))) ] || fail "$family: sure guesses were wrong"
done
echo "completions do not depend on guesses"
