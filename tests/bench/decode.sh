#!/bin/bash
# decode.sh [quick|full] - decode steps end to end, on a random Step-3 checkpoint of 4 GB made on the first call:
# colocated and 1A1F on the same cores, taking turns every few steps, three times over, then, colocated, large batches, long contexts and a prompt.
# With `full` also micro-batches and 2A2F, and one model of every other kind of attention, 1 to 2 GB each (ten
# minutes more). Lines of JSON: build/bench/decode.jsonl, kinds.jsonl; table.py makes tables of them.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}
folder=$BUILD/bench
mkdir -p "$folder"
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT-2000} # as tandem sets it for itself
[ -f "$folder/prompts.h5" ] ||
    echo '{"tokens": [1, 2, 3]}' | "$BUILD/tandem" import - "$folder/prompts.h5" --format jsonl --tokens tokens || exit 1
json=$folder/decode.jsonl
rm -f "$json" "$folder/kinds.jsonl"

# model NAME KEY=VALUE... - a random checkpoint, made on the first call, and again by another version of the program or with
# other settings.
model() {
    local settings
    settings="$("$BUILD/tandem" --version | head -n 1) ${*:2}"
    if [ -f "$folder/$1/config.json" ] && [ "$(cat "$folder/$1.made" 2>/dev/null)" = "$settings" ]; then
        echo "using the random checkpoint in $folder/$1 again"
        return
    fi
    echo "making a random checkpoint in $folder/$1"
    rm -rf "${folder:?}/$1" "$folder/$1.made"
    "$BUILD/tandem" generate "$folder/$1" "${@:2}" || exit 1
    echo "$settings" >"$folder/$1.made"
}

# cases RANKS "KEY=VALUE ..." BATCH:CONTEXT...
cases() {
    local ranks=$1 set=()
    for pair in $2; do
        set+=(--set "$pair")
    done
    shift 2
    tests/mpirun "$ranks" "$BUILD/tests/bench/bench_decode" tests/bench/decode.yaml "$@" \
        --steps 3 --json "$json" --set model="$folder/model" \
        --set prompts.file="$folder/prompts.h5" --set schedule.slots=256 "${set[@]}" || exit 1
}

model model context=16448 vocab=128896
# Both layouts hold the model.
pairs() {
    cases 2 "schedule.kv_memory=2GiB" "$@" --colocated
}
if [ "${1:-}" = quick ]; then
    pairs 16:512 64:512
    exit
fi
for turn in 1 2 3; do
    pairs 1:512 16:512 64:512
done
cases 1 "layout.colocated=true schedule.prefill_chunk=512" 4:512 256:512 16:4096 64:4096 16:16384 prompt:512
[ "${1:-}" = full ] || exit 0

short=(16:512 64:512 256:512)
two="layout.attention=2 layout.ffn.expert=2"
for turn in 1 2; do
    cases 4 "$two" "${short[@]}"
    for m in 2 3; do
        cases 1 "layout.colocated=true layout.micro_batches=$m" "${short[@]}"
        cases 2 "layout.micro_batches=$m" "${short[@]}" 16:4096 64:4096
        cases 4 "$two layout.micro_batches=$m" "${short[@]}"
    done
done
echo
echo "grouped queries, grouped queries in windows, latent attention; the first with 4 bits too"
sizes=(hidden=2048 layers=4 vocab=128815 context=4224 heads=32 dense=4096 experts=32 topk=4 expert=768 shared=768)
model qwen3_moe family=qwen3_moe unused=ignore "${sizes[@]}" kv_heads=4 head_dim=128
model step3p5 family=step3p5 "${sizes[@]}" kv_heads=4 head_dim=128 window=512 mtp=0
model deepseek_v3 family=deepseek_v3 "${sizes[@]}" q_rank=768 kv_rank=512 nope_dim=128 rope_dim=64 value_dim=128 mtp=0
json=$folder/kinds.jsonl
for name in qwen3_moe step3p5 deepseek_v3; do
    echo "$name"
    cases 1 "layout.colocated=true model=$folder/$name" 64:512 64:4096
    cases 2 "model=$folder/$name" 64:512 64:4096
done
cases 1 "layout.colocated=true model=$folder/qwen3_moe precision.weights=int4" 64:512
