#!/bin/bash
# decode.sh [quick] - decode steps end to end, on a random Step-3 checkpoint of 3 GB made on the first call:
# tokens per second over batch and context, colocated and disaggregated. The layouts take turns, twice, and the
# last table holds each against the colocated run of the same turn. Then one model of every other kind of
# attention, 1 to 2 GB each, with a real vocabulary. Lines of JSON: build/bench/decode.jsonl, kinds.jsonl.
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

# model NAME KEY=VALUE... - a random checkpoint, made on the first call.
model() {
    [ -f "$folder/$1/config.json" ] && return
    echo "making a random checkpoint in $folder/$1"
    rm -rf "${folder:?}/$1"
    "$BUILD/tandem" generate "$folder/$1" "${@:2}" || exit 1
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

model model context=16448
two="layout.attention=2 layout.ffn.expert=2"
if [ "${1:-}" = quick ]; then
    cases 1 "layout.colocated=true" 16:512 64:512
    cases 2 "" 16:512 64:512
else
    short=(16:512 64:512 256:512)
    for turn in 1 2; do
        cases 1 "layout.colocated=true" 1:512 4:512 "${short[@]}" 16:4096 64:4096 16:16384
        cases 2 "" "${short[@]}" 16:4096 64:4096
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
    model qwen3_moe family=qwen3_moe "${sizes[@]}" kv_heads=4 head_dim=128
    model step3p5 family=step3p5 "${sizes[@]}" kv_heads=4 head_dim=128 window=512 mtp=0
    model deepseek_v3 family=deepseek_v3 "${sizes[@]}" q_rank=768 kv_rank=512 nope_dim=128 rope_dim=64 value_dim=128 mtp=0
    json=$folder/kinds.jsonl
    for name in qwen3_moe step3p5 deepseek_v3; do
        echo "$name"
        cases 1 "layout.colocated=true model=$folder/$name" 64:512 64:4096
        cases 2 "model=$folder/$name" 64:512 64:4096
    done
    cases 1 "layout.colocated=true model=$folder/qwen3_moe precision.weights=int4" 64:512
fi
echo
echo "tokens per second over those of the colocated ranks with one micro-batch, in the same turn"
tr -d '{}",' <"$folder/decode.jsonl" | awk '{
    name = $2 == 1 ? "colocated" : $2
    for (i = 1; i < NF; i++) {
        if ($i == "micro_batches:") m = $(i + 1)
        if ($i == "batch:") b = $(i + 1)
        if ($i == "context:") c = $(i + 1)
        if ($i == "tokens_per_second:") t = $(i + 1)
    }
    key = sprintf("%-12s %d micro-batch%-4s batch %4d  context %6d", name, m, m > 1 ? "es" : "", b, c)
    if (name == "colocated" && m == 1) {
        base[b, c] = t
        next
    }
    if (!(key in n)) order[++keys] = key
    ratio[key] = ratio[key] sprintf("  %.2f", t / base[b, c])
    n[key]++
} END { for (i = 1; i <= keys; i++) print order[i] ratio[order[i]] }'
