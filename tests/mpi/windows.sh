#!/bin/bash
# A model with windows on most layers, contexts many times the window and over 2,048 tokens: the cache's rings
# change no bit, in any chunking and layout, with memory for a sequence and a bit, beginnings shared or not,
# guesses, and killed and continued.
# timeout: 300
. "$(dirname "$0")/lib.sh"
need "$tandem"
"$tandem" generate "$work/model" family=step3p5 hidden=40 layers=5 vocab=301 context=2300 heads=4 kv_heads=2 head_dim=32 \
    dense=24 experts=6 topk=2 expert=12 shared=12 window=70 dtype=f32 >/dev/null || fail "generate"
sed 's/ffn: .*/colocated: true/' tests/mpi/job.yaml >"$work/colocated.yaml"
"$PYTHON" - >"$work/prompts.jsonl" <<'EOF'
import json, random
random.seed(3)
draw = lambda n: [random.randrange(3, 300) for _ in range(n)]
long, system = draw(2080), draw(330)
for tokens in (system + draw(50), draw(5), system + draw(200), system + draw(90), draw(120), long[:400], long):
    print(json.dumps({"tokens": tokens}))
EOF
"$tandem" import "$work/prompts.jsonl" "$work/in.h5" --format jsonl --tokens tokens >/dev/null || fail "import"

usual=(sampling.max_new_tokens=100 schedule.max_context=2200 schedule.slots=7 schedule.prefill_chunk=2200)
run whole 1 "$work/colocated.yaml" schedule.share=false
run chunks 1 "$work/colocated.yaml" schedule.prefill_chunk=45
same whole chunks
grep "there already" "$work/chunks.log" || fail "no beginning was shared: nothing was tested"
# Two of five layers keep all: 65,536 bytes a block; three keep a ring of three blocks of 98,304.
longer=(prompts.count=6 sampling.max_new_tokens=250 schedule.max_context=800)
run some 1 "$work/colocated.yaml" "${longer[@]}"
run short 2 tests/mpi/job.yaml "${longer[@]}" schedule.kv_memory=1800000 schedule.prefill_chunk=300
same some short
grep "was short" "$work/short.log" || fail "no sequence was put back: nothing was tested"
run two 3 tests/mpi/job.yaml layout.attention=2 layout.micro_batches=3 speculate.draft=ngram schedule.prefill_chunk=150 \
    layout.exchange=mpi
same whole two
grep "guesses came true" "$work/two.log" || fail "nothing was guessed: nothing was tested"

# Killed in the middle, and continued with other chunks and slots. Small chunks: it must not end before.
start=(--set output.file="$work/killed.h5" --set model="$work/model" --set tokenizer=none --set prompts.file="$work/in.h5"
    --set prompts.count=all --set sampling.max_new_tokens=100 --set sampling.ignore_eos=true --set schedule.max_context=2200
    --set schedule.slots=1 --set schedule.prefill_chunk=2 --set output.commit_seconds=0.05)
kill_it() {
    local killed=1
    rm -rf "$work"/killed.*
    setsid tests/mpirun 2 "$tandem" run "$job" "${start[@]}" >"$work/killed.log" 2>&1 &
    seals "$work/killed.h5" 2 $! && kill_job "$work/killed.h5" $! && killed=0
    wait $! 2>/dev/null
    [ $killed = 0 ] && [ ! -f "$work/killed.h5" ]
}
in_time kill_it
run killed 2 tests/mpi/job.yaml schedule.prefill_chunk=200 schedule.slots=4
same whole killed
"$tandem" check "$job" --set model="$work/model" --set tokenizer=none --set prompts.file="$work/in.h5" \
    --set schedule.max_context=800 --set schedule.slots=7 --set output.file="$work/never.h5" >"$work/check.log" 2>&1
grep "KV cache .*(288 KiB of it for windows)" "$work/check.log" || { cat "$work/check.log"; fail "check"; }
