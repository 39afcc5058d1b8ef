#!/bin/bash
# decode.sh [quick] - decode steps end to end, on a random Step-3 checkpoint of 3 GB made on the first call:
# tokens per second over batch and context, colocated and disaggregated. Lines of JSON are added to
# build/bench/decode.jsonl.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}
folder=$BUILD/bench
mkdir -p "$folder"
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY-passive}
if [ ! -f "$folder/model/config.json" ]; then
    echo "making a random checkpoint in $folder/model"
    rm -rf "$folder/model"
    "$BUILD/tandem" generate "$folder/model" context=16448 || exit 1
fi
[ -f "$folder/prompts.h5" ] ||
    echo '{"tokens": [1, 2, 3]}' | "$BUILD/tandem" import - "$folder/prompts.h5" --format jsonl --tokens tokens || exit 1

# cases RANKS "KEY=VALUE ..." BATCH:CONTEXT...
cases() {
    local ranks=$1 set=()
    for pair in $2; do
        set+=(--set "$pair")
    done
    shift 2
    tests/mpirun "$ranks" "$BUILD/tests/bench/bench_decode" tests/bench/decode.yaml "$@" \
        --steps 3 --json "$folder/decode.jsonl" --set model="$folder/model" \
        --set prompts.file="$folder/prompts.h5" --set schedule.slots=256 "${set[@]}" || exit 1
}
if [ "${1:-}" = quick ]; then
    cases 1 "layout.colocated=true" 16:512 64:512
    cases 2 "layout.micro_batches=2" 16:512 64:512
    exit
fi
cases 1 "layout.colocated=true" 1:512 4:512 16:512 64:512 256:512 16:4096 64:4096 16:16384
for m in 1 2 3; do
    cases 2 "layout.micro_batches=$m" 16:512 64:512 256:512 16:4096 64:4096
done
cases 4 "layout.attention=2 layout.ffn.expert=2 layout.micro_batches=2" 16:512 64:512 256:512
cases 4 "layout.attention=2 layout.ffn.expert=2 layout.micro_batches=3" 16:512 64:512 256:512
