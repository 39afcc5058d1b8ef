#!/bin/bash
# forecast.sh - what `tandem plan --measure` says of a job against the job itself: tokens per second of three
# layouts on a random checkpoint of 1.9 GB, far more than caches hold. Three turns, each of one forecast and a run
# of every layout, since the memory of shared machines changes its speed; the error is that of the medians. Three
# to four minutes on two quiet cores. Lines of JSON: build/bench/forecast.jsonl.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}
folder=$BUILD/bench
model=$folder/forecast.model
mkdir -p "$folder"
[ -e "$model" ] || { rm -rf "$model.half" && "$BUILD/tandem" generate "$model.half" experts=24 && mv "$model.half" "$model"; } || exit 1
awk 'BEGIN { srand(7); for (i = 0; i < 48; i++) { printf "{\"tokens\": [%d", 4000 * rand(); for (k = 0; k < 20 + i % 7; k++) printf ", %d", 4000 * rand(); print "]}" } }' | "$BUILD/tandem" import - "$folder/forecast.prompts.h5" --force --format jsonl --tokens tokens >/dev/null || exit 1
# The layout of the file is the slowest: its own line and the five best are all that two cores have.
cat >"$folder/forecast.yaml" <<Y
model: $model
tokenizer: none
prompts: {file: $folder/forecast.prompts.h5}
output: {file: $folder/forecast.h5}
layout: {attention: 2, ffn: {expert: 2}}
schedule: {slots: 16, max_context: 256}
sampling: {max_new_tokens: 24, ignore_eos: true}
speculate: {draft: "off"}
Y
# NAME as the forecast prints it, ranks, settings.
layouts=("1 colocated:1:--set layout.ffn=none --set layout.attention=1 --set layout.colocated=true"
    "1A1F:2:--set layout.attention=1 --set layout.ffn.expert=1" "2A2F:4:")
rm -f "$folder/forecast.jsonl" "$folder/forecast.said"
for turn in 1 2 3; do
    "$BUILD/tandem" plan "$folder/forecast.yaml" --measure >"$folder/forecast.log" || exit 1
    for layout in "${layouts[@]}"; do
        IFS=: read -r name ranks set <<<"$layout"
        said=$(sed -n "s/^  $name  *\(.*\)/\1/p" "$folder/forecast.log" | awk 'NR == 1 { print $4 }')
        rm -rf "$folder"/forecast.h5* "$folder"/forecast.tokens.h5 "$folder"/forecast.steps.h5
        # shellcheck disable=SC2086
        tests/mpirun "$ranks" "$BUILD/tandem" run "$folder/forecast.yaml" $set --set output.summary="$folder/forecast.json" >"$folder/forecast.out" 2>&1 || {
            cat "$folder/forecast.out"
            exit 1
        }
        was=$(tr -d ' ,"' <"$folder/forecast.json" | awk -F: '$1 == "completion_tokens" { n = $2 } $1 == "seconds" { print n / $2 }')
        [ -n "$said" ] || { echo "$name has no forecast"; exit 1; }
        echo "$name:$said:$was" | tee -a "$folder/forecast.said"
    done
done
awk -F: -v json="$folder/forecast.jsonl" '
    { n[$1]++; said[$1, n[$1]] = $2; was[$1, n[$1]] = $3; if (n[$1] == 1) order[++names] = $1 }
    function middle(v, name,  a, b, c) { a = v[name, 1]; b = v[name, 2]; c = v[name, 3]; return a + b + c - (a > b ? (a > c ? a : c) : (b > c ? b : c)) - (a < b ? (a < c ? a : c) : (b < c ? b : c)) }
    END {
        printf "%-14s %12s %12s %10s   tokens/s, medians of three\n", "layout", "forecast", "run", "error"
        for (i = 1; i <= names; i++) {
            s = middle(said, order[i]); w = middle(was, order[i])
            printf "%-14s %12.1f %12.1f %8.1f %%\n", order[i], s, w, 100 * (s / w - 1)
            printf "{\"layout\": \"%s\", \"forecast\": %.2f, \"run\": %.2f, \"error\": %.4f}\n", order[i], s, w, s / w - 1 >>json
        }
    }' "$folder/forecast.said"
