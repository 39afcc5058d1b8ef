#!/bin/bash
# forecast.sh - what `tandem plan --measure` says of a job against the job itself: tokens per second of three
# layouts on the random checkpoint of decode.sh, each forecast and run three times in turns, and the error of
# the medians. Lines of JSON: build/bench/forecast.jsonl.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}
folder=$BUILD/bench
mkdir -p "$folder"
[ -f "$folder/model/config.json" ] || "$BUILD/tandem" generate "$folder/model" context=16448 || exit 1
for i in $(seq 48); do
    echo "{\"tokens\": [$(seq -s , "$i" $((i + 20 + i % 7)))]}"
done | "$BUILD/tandem" import - "$folder/forecast.prompts.h5" --force --format jsonl --tokens tokens >/dev/null || exit 1
cat >"$folder/forecast.yaml" <<Y
model: $folder/model
tokenizer: none
prompts: {file: $folder/forecast.prompts.h5}
output: {file: $folder/forecast.h5}
layout: {attention: 1}
schedule: {slots: 16, max_context: 256}
sampling: {max_new_tokens: 32, ignore_eos: true}
Y
rm -f "$folder/forecast.jsonl"
printf '%-30s %12s %12s %10s\n' layout forecast run error
for layout in "1 layout.colocated=true" "2 layout.attention=1" "4 layout.attention=2 layout.ffn.expert=2"; do
    read -r ranks settings <<<"$layout"
    set=()
    for pair in $settings; do
        set+=(--set "$pair")
    done
    for turn in 1 2 3; do
        said=$("$BUILD/tandem" plan "$folder/forecast.yaml" --measure "${set[@]}" | awk '/this job/ { print $(NF - 3) }') || exit 1
        rm -rf "$folder"/forecast.h5* "$folder"/forecast.tokens.h5 "$folder"/forecast.steps.h5
        tests/mpirun "$ranks" "$BUILD/tandem" run "$folder/forecast.yaml" "${set[@]}" --set output.summary="$folder/forecast.json" >"$folder/forecast.log" 2>&1 || {
            cat "$folder/forecast.log"
            exit 1
        }
        was=$(tr -d ' ,"' <"$folder/forecast.json" | awk -F: '$1 == "completion_tokens" { n = $2 } $1 == "seconds" { print n / $2 }')
        echo "$said $was"
    done | sort -n | awk -v layout="$settings" -v json="$folder/forecast.jsonl" '
        { said[NR] = $1; was[NR] = $2 }
        function middle(v,  a, b, c) { a = v[1]; b = v[2]; c = v[3]; return a + b + c - (a > b ? (a > c ? a : c) : (b > c ? b : c)) - (a < b ? (a < c ? a : c) : (b < c ? b : c)) }
        END {
            s = middle(said); w = middle(was)
            printf "%-30s %12.1f %12.1f %8.1f %%\n", layout, s, w, 100 * (s / w - 1)
            printf "{\"layout\": \"%s\", \"forecast\": %.2f, \"run\": %.2f, \"error\": %.4f}\n", layout, s, w, s / w - 1 >>json
        }'
done
