#!/bin/bash
# Every family of models: the same bits colocated, apart, and with the FFN split over experts or within
# them, stopped or killed on the way and continued; windows that bind, and prompts longer than a block of
# the KV cache.
# timeout: 300
. "$(dirname "$0")/lib.sh"
need "$tandem"
sed 's/ffn: .*/colocated: true/' tests/mpi/job.yaml >"$work/colocated.yaml"
for length in 1 3 70 9 150; do
    echo -n '{"tokens": ['
    for ((i = 0; i < length; i++)); do
        echo -n "$((i ? 0 : length % 7 + 3))$((i ? (i * i * 7 + i * length) % 10 : 0))$((i + 1 < length ? 0 : 1)), "
    done | sed 's/\b0\+\([0-9]\)/\1/g; s/, $//'
    echo ']}'
done >"$work/prompts.jsonl"
"$tandem" import "$work/prompts.jsonl" "$work/in.h5" --format jsonl --tokens tokens >/dev/null || fail "import"

usual=(sampling.max_new_tokens=11 schedule.max_context=170)
# cut SIGNAL KEY=VALUE... - 1A1F as b-FAMILY, which gets the signal as soon as it decodes.
cut() {
    local signal=$1 pair set=()
    shift
    for pair in "$@" output.commit_seconds=0.01 output.file="$work/b-$family.h5" model="$work/model" tokenizer=none \
        prompts.file="$work/in.h5" prompts.count=all sampling.max_new_tokens=11 sampling.ignore_eos=true schedule.max_context=170; do
        set+=(--set "$pair")
    done
    : >"$work/cut.log" # what the last one said is not taken for this one's
    setsid tests/mpirun 2 "$tandem" run tests/mpi/job.yaml "${set[@]}" >"$work/cut.log" 2>&1 &
    local pid=$!
    decodes "$work/cut.log" $pid
    if [ "$signal" = KILL ]; then
        kill_job "$work/b-$family.h5" $pid
    else
        kill -"$signal" $pid 2>/dev/null
    fi
    wait $pid 2>/dev/null
}

signals=0 turn=0
for family in step3p5 qwen3_moe qwen3 llama deepseek_v3 glm4_moe minimax_m2 gpt_oss; do
    [ $family = gpt_oss ] && sizes="hidden=96 expert=64 dtype=mxfp4" || sizes= # it has blocks of 32
    rm -rf "$work/model" "$work"/*.h5.partial "$work"/[a-h]-*.h5
    shape=(family=$family unused=ignore hidden=76 layers=5 vocab=1011 context=171 heads=6 kv_heads=2 head_dim=20 dense=53 experts=12 topk=3
        expert=39 shared=39 q_rank=34 kv_rank=43 nope_dim=11 rope_dim=6 value_dim=13 window=29 limit=0.4 groups=4 topk_groups=2
        rope_factor=2 dtype=f32 $sizes)
    "$tandem" generate "$work/model" "${shape[@]}" >/dev/null || fail "generate $family"
    run "a-$family" 1 "$work/colocated.yaml"
    # Stopped, or killed, in turn; LONG=1: both.
    if [ $((turn++ % 2)) = 0 ] || [ -n "${LONG:-}" ]; then
        cut USR1
        [ -f "$work/b-$family.h5" ] || signals=$((signals + $(grep -c 'stops after this step' "$work/cut.log")))
    fi
    if [ $((turn % 2)) = 0 ] || [ -n "${LONG:-}" ]; then
        [ -f "$work/b-$family.h5" ] || cut KILL
    fi
    [ -f "$work/b-$family.h5" ] || run "b-$family" 2 tests/mpi/job.yaml output.commit_seconds=0.01
    same "a-$family" "b-$family"
    run "c-$family" 4 tests/mpi/job.yaml layout.attention=2 layout.ffn.expert=2
    run "d-$family" 3 tests/mpi/job.yaml layout.ffn.tensor=2 layout.exchange=mpi schedule.slots=2 schedule.prefill_chunk=64
    case $family in
    qwen3_moe | qwen3 | deepseek_v3 | glm4_moe | minimax_m2) # the same numbers as GGUF
        rm -f "$work/model.gguf"
        "$tandem" generate "$work/model.gguf" "${shape[@]}" >/dev/null || fail "generate $family as GGUF"
        run "g-$family" 2 tests/mpi/job.yaml model="$work/model.gguf"
        same "a-$family" "g-$family"
        ;;
    esac
    same "a-$family" "c-$family"
    same "a-$family" "d-$family"
done
[ $signals != 0 ] || fail "no job was stopped on its way"
echo "all families agree on all layouts"
