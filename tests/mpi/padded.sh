#!/bin/bash
# A vocabulary that is padded behind the tokenizer's last token, as published ones are, with rows that would win:
# none is ever drawn, and tokens and logprobs are those of the model without the padding, bit for bit.
# timeout: 120
. "$(dirname "$0")/lib.sh"
need "$tandem"
"$PYTHON" tests/mpi/pad.py input/demo "$work/padded" 59 || fail "pad.py"
job=tests/mpi/job.yaml
pad=(model="$work/padded" prompts.count=7 sampling.max_new_tokens=9)
warm=(sampling.temperature=1.5 sampling.top_p=0.999 sampling.repetition_penalty=1.1)

# both NAME RANKS [KEY=VALUE]... - with and without the padding
both() {
    local name=$1 ranks=$2
    shift 2
    decode "$name" "$ranks" "${pad[@]}" "$@" || fail "$name"
    decode "$name-demo" "$ranks" "${pad[@]}" model=input/demo "$@" || fail "$name-demo"
    same "$name" "$name-demo"
}

both greedy 2
both plain 2 kernels=plain "${warm[@]}"
both tensor 3 layout.ffn.tensor=2 "${warm[@]}"
both experts 4 layout.attention=2 layout.ffn.expert=2 sampling.top_k=50 sampling.temperature=0.8
emulated=$BUILD/emu/tandem
if [ -x "$emulated" ] && [ "$("$emulated" version | head -n 1)" = "$("$tandem" version | head -n 1)" ]; then
    tandem=$emulated
    TANDEM_EMU_DEVICES=2 both cuda 2 device=cuda prompts.count=2 sampling.max_new_tokens=4 "${warm[@]}"
    tandem=$BUILD/tandem
else
    echo "not tried: the CUDA kernels' emulation, which is not built, or not of this version"
fi

# Without a tokenizer nobody knows which rows are padding: then they do win.
"$tandem" export "$work/greedy.h5" --tokens | sed -n 's/.*"tokens": *\(\[[^]]*\]\).*/{"t": \1}/p' >"$work/tokens.jsonl"
"$tandem" import "$work/tokens.jsonl" "$work/tokens.h5" --format jsonl --tokens t >/dev/null || fail "import"
decode all 2 "${pad[@]}" prompts.file="$work/tokens.h5" tokenizer=none sampling.ignore_eos=true || fail "all"
tokens all | grep -oE '\b4(09[6-9]|1[0-4][0-9]|15[0-4])\b' | grep -q . || fail "the padding would not win"

# What is no token of the tokenizer cannot stand in a prompt either: that row is an error.
echo '{"t": [5, 4100]}' >"$work/beyond.jsonl"
"$tandem" import "$work/beyond.jsonl" "$work/beyond-in.h5" --format jsonl --tokens t >/dev/null || fail "import"
decode beyond 2 "${pad[@]}" prompts.file="$work/beyond-in.h5" prompts.count=all >/dev/null
"$tandem" export "$work/beyond.h5" | grep -q 'token 2 of the prompt is 4100, but the vocabulary has 4096 tokens' ||
    fail "a token of the padding in a prompt"
"$tandem" check "$job" --set model="$work/padded" --set output.file="$work/x.h5" | grep -q 'vocabulary 4096 of a padded one' || fail "check"
echo "padding is never drawn"
