#!/bin/bash
# The dry run finds what a run would find, and says what becomes of every prompt, without starting anything.
# timeout: 90
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
check() { "$tandem" check "$job" --set output.file="$work/out.h5" "$@" >"$work/said" 2>&1; }
says() { # WHAT PATTERN: with what check() said
    grep -q -- "$2" "$work/said" || fail "$1: $(cat "$work/said")"
}
wrong() { # WHAT PATTERN ARGUMENT...
    local what=$1 pattern=$2
    shift 2
    check "$@" && fail "$what: not refused"
    says "$what" "$pattern"
}

# Every prompt: lengths as they are counted elsewhere, those that fail by reason.
{ for i in $(seq 1 50); do echo "{\"text\": \"number $i, noun:\"}"; done
  printf '{"text": ""}\n{"text": ""}\n{"text": "%s"}\n' "$(seq 1 1500 | tr '\n' ' ')"; } >"$work/p.jsonl"
"$tandem" import "$work/p.jsonl" "$work/p.h5" >/dev/null || fail "import"
own=(--set prompts.file="$work/p.h5" --set prompts.count=all)
check "${own[@]}" || fail "check: $(cat "$work/said")"
says "lengths" '^lengths  *50 prompts of [0-9]* to [0-9]* tokens'
says "failures" '^failures  *3 of 53 prompts will be error rows'
says "empty ones" '^  *2 x .*empty'
says "output" 'nothing is there yet'
says "disk" '^disk  *less than [0-9.]* MB, for at most 950 tokens'
[ -e "$work/out.h5.partial" ] && fail "a dry run made something"
check "${own[@]}" && grep -q 'HDF5 file, whatever its name' "$work/said" && fail "a note about out.h5"
"$tandem" check "$job" --set output.file="$work/out.jsonl" >"$work/said" 2>&1
says "an output that looks like lines" 'out.jsonl will be an HDF5 file, whatever its name'
check "${own[@]}" --quick && grep -q '^lengths' "$work/said" && fail "--quick looks at all prompts"
decode out 2 prompts.file="$work/p.h5" prompts.count=all || fail "run"
check "${own[@]}" || fail "check of a finished job: $(cat "$work/said")"
says "a finished job" 'is finished'
least=$("$tandem" export "$work/out.h5" | sed -n 's/.*"finish": "[sl].*"prompt_tokens": \([0-9]*\).*/\1/p' | sort -n | sed -n 1p)
says "the shortest prompt" "50 prompts of $least to"
wrong "another job's output" "belongs to another job" "${own[@]}" --set sampling.seed=77

check --set output.file="$work/x.jsonl" --set prompts.count=1000 --set sampling.min_tokens=30 || fail "notes"
says "an odd name" 'the output is HDF5'
says "a large count" 'prompts.count is 1000, but there are 300 rows'
says "least tokens" 'sampling.min_tokens is 30, max_new_tokens 19'

check --set output.file="$work/y.h5" --set layout.ffn.expert=9 || fail "more instances than experts"
says "ranks without experts" 'layout.ffn.expert is 9, but a layer has 8 experts: the ranks of 1 of them hold none'

# Gates in F32, ups in BF16: both become F32 where they lie in one matrix.
mixed_model() { # INTO
    "$PYTHON" - input/demo "$1" <<'END'
import array, json, os, pathlib, shutil, struct, sys
shutil.copytree(*sys.argv[1:])
for path in pathlib.Path(sys.argv[2]).glob("*.safetensors"):
    data = path.read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    head, body, at = json.loads(data[8:8 + n]), [], 0
    for name, t in head.items():
        if name == "__metadata__":
            continue
        part = data[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]]
        if "gate_proj" in name and t["dtype"] == "BF16":
            t["dtype"] = "F32"
            part = array.array("I", [x << 16 for x in array.array("H", part)]).tobytes()
        t["data_offsets"] = [at, at + len(part)]
        at += len(part)
        body.append(part)
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(body))
END
}
mixed() {
    check --set output.file="$work/y.h5" --set model="$work/mixed" || fail "a mixed model: $(cat "$work/said")"
    grep -q '^suggested' "$work/said" && fail "a suggestion out of nothing: $(cat "$work/said")"
    if grep -qwE 'avx2|asimd' /proc/cpuinfo; then
        says "gates wider than ups" '^WARNING  *gate and up matrices whose formats differ .* MiB more'
    else
        echo "not tried: gates and ups of different formats in one matrix (only plain kernels here)"
    fi
    check --set output.file="$work/y.h5" --set model="$work/mixed" --set kernels=plain || fail "plain: $(cat "$work/said")"
    grep -q 'formats differ' "$work/said" && fail "the plain kernels keep gate and up apart"
    check --set output.file="$work/y.h5" --set model="$work/mixed" --set device=cuda --set precision.activations=bf16 --for h800 || fail "mixed, --for h800: $(cat "$work/said")"
    says "an FFN without tensor cores" '^WARNING  *the FFN of [0-9]* layers of a rank cannot use tensor cores .*(numbers of 32 bits'

    # How the publisher would draw.
    echo '{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 1.0, "eos_token_id": 1}' >"$work/mixed/generation_config.json"
    check --set output.file="$work/y.h5" --set model="$work/mixed" --set sampling.temperature=0.5 || fail "generation_config.json: $(cat "$work/said")"
    says "what is suggested" '^suggested  *by generation_config.json: sampling.temperature 0.6 (here 0.5), top_k 20 (here 0)$'
}
if ! "$PYTHON" -c pass 2>/dev/null; then
    echo "not tried: gates and ups of different formats, suggested sampling (no python3)"
elif mixed_model "$work/mixed"; then
    mixed
else
    fail "a mixed model"
fi

# For GPUs that are elsewhere.
ffn_mib() { awk '$2 == "ffn" { print $4 }' "$work/said"; }
cuda=(--set output.file="$work/gpu.h5" --set device=cuda --set precision.activations=bf16)
check "${cuda[@]}" --for h800 || fail "--for h800: $(cat "$work/said")"
says "a card" '^device  *as on h800, 80 GB a card'
grep -q -e 'kept as f32' -e 'tensor cores' "$work/said" && fail "bf16 needs no word on f32: $(cat "$work/said")"
check "${cuda[@]}" --for h800 --set precision.activations=f32 --set precision.weights=int4 || fail "--for h800: $(cat "$work/said")"
says "integers with f32" '^note  *weights of 4 and 8 bits in groups are kept as f32 on a GPU'
wide=$(ffn_mib)
check "${cuda[@]}" --for h800 || fail "--for h800: $(cat "$work/said")"
awk "BEGIN { exit !($wide > 1.9 * $(ffn_mib)) }" || fail "f32 counts as $wide MiB, bf16 as $(ffn_mib)"
check "${cuda[@]}" --for auto || fail "--for auto: $(cat "$work/said")"
says "any card" '^device  *as on [a-z0-9]*, [0-9]* GB'
wrong "a card that is too small" "GiB of KV cache for a rank, but there is room for" "${cuda[@]}" --for l20 --set schedule.slots=100000 --set schedule.max_context=512 --set schedule.kv_memory=900GiB
wrong "more ranks than sums are added of" "layout.ffn.tensor: 65, but GPUs add the sums of at most 64" "${cuda[@]}" --for h800 --set layout.ffn.tensor=65
wrong "a card for a CPU's job" "for jobs with device: cuda" --for h800
wrong "an unknown card" "no card 'x9'" "${cuda[@]}" --for x9

wrong "products of integers without integers" "multiplies weights that are integers, and input/demo has none" --set precision.products=int8
check --set output.file="$work/y.h5" --set precision.products=int8 --set precision.weights=int4 || fail "products of integers: $(cat "$work/said")"
wrong "lines of JSON" "tandem import $work/p.jsonl prompts.h5" --set prompts.file="$work/p.jsonl"
wrong "a name on a hub" "hf download some/model" --set model=some/model
wrong "n" "that is 'samples' here" --set sampling.n=3
wrong "too little for a cache" "needs [0-9]* KiB of KV cache, but schedule.kv_memory gives 1.00 KiB" --set schedule.kv_memory=1KiB
grep -q '^ *rank' "$work/said" && fail "half a table of memory: $(cat "$work/said")"
wrong "no tokenizer" 'none.json: .*name another by the key .tokenizer.' --set tokenizer="$work/none.json"
cp -rL input/demo "$work/pointer" && printf 'version https://git-lfs.github.com/spec/v1\noid sha256:00\n' >"$work/pointer/tokenizer.json" && cp "$work/pointer/tokenizer.json" "$work/p.gguf"
wrong "a pointer for a tokenizer" "tokenizer.json: is a Git LFS pointer, not the file; fetch it" --set model="$work/pointer"
wrong "a pointer for a GGUF file" "p.gguf: is a Git LFS pointer, not the file; fetch it" --set model="$work/p.gguf"
cp -rL input/demo "$work/older" && rm "$work/older/tokenizer.json" && touch "$work/older/tokenizer.model" || fail "a model without tokenizer.json"
wrong "an older tokenizer" "older/tokenizer.json: cannot be opened: .*; tokenizer.model there is an older form: python3 -c" --set model="$work/older"
wrong "a device as output" "/dev/null: wanted an HDF5 file, found a special file" --set output.file=/dev/null
wrong "no tokenizer for texts" 'tokenizer: none, but the prompts are texts' --set tokenizer=none
check --set output.file="$work/y.h5" --set tokenizer=input/demo || fail "the directory of a tokenizer: $(cat "$work/said")"
echo '{"tokens": [0, 5, 7]}' >"$work/ids.jsonl"
"$tandem" import "$work/ids.jsonl" "$work/ids.h5" --tokens tokens >/dev/null 2>&1 || fail "import of token ids"
wrong "a tokenizer that is named" "none.json: .*name another by the key" --set prompts.file="$work/ids.h5" --set prompts.count=all --set tokenizer="$work/none.json"
check --set output.file="$work/y.h5" --set prompts.file="$work/ids.h5" --set prompts.count=all --set tokenizer=none || fail "token ids alone: $(cat "$work/said")"
tests/mpirun 1 "$tandem" run "$job" --set output.file="$work/one.h5" >"$work/said" 2>&1 && fail "one rank of two"
says "one rank" "but 1 rank was started"
echo "the dry run says what a run would do"
