#!/bin/bash
# The whole program with `device: cuda`, emulated, one GPU a rank: the same tokens as on the CPU in every
# layout, the same bits however the FFN is split, whatever order the streams run in and whether
# or not steps are launched as graphs. A forgotten event shows. What breaks ends the job with one message.
# With REAL=1 on one real GPU, which all ranks share (one_gpu.cu), as far as that makes sense.
# timeout: 900
. "$(dirname "$0")/../mpi/lib.sh"
. tests/cuda/gpu_lib.sh
export TANDEM_EMU_DEVICES=8
tandem=$gpu
short=(prompts.count=5 sampling.max_new_tokens=5 layout.threads=1)
# As small as shows the order of things: the emulation takes its time.
"$tandem" generate "$work/model" family=step3 hidden=64 layers=5 vocab=301 context=160 heads=4 head_dim=32 q_rank=48 dense=96 \
    experts=8 topk=3 expert=40 shared=64 moe_layers=1-3 >"$work/log" || { cat "$work/log"; fail "generate"; }
for length in 8 3 11 6 13; do
    echo "{\"tokens\": [0$(for ((i = 1; i < length; i++)); do echo -n ", $(((i * i * 37 + i * length) % 301))"; done)]}"
done >"$work/prompts.jsonl"
"$tandem" import "$work/prompts.jsonl" "$work/in.h5" --format jsonl --tokens tokens >/dev/null || fail "import"
job=$work/apart.yaml
sed "s|^model: .*|model: $work/model\ntokenizer: none|; s|file: input/prompts.h5|file: $work/in.h5|" tests/mpi/job.yaml >$job

# graphs NAME - the run launched steps as graphs.
graphs() {
    grep -q 'launched as CUDA graphs' "$work/$1.log" || { cat "$work/$1.log"; fail "$1: no graphs"; }
}

# expect STATUS PATTERN RANKS [KEY=VALUE]... - every rank leaves with STATUS, and one line of ours says it.
expect() {
    local wanted=$1 pattern=$2 ranks=$3 status start=$SECONDS
    shift 3
    decode x "$ranks" device=cuda "${short[@]}" "$@" >/dev/null
    status=$?
    rm -rf "$work"/x.h5*
    [ $status = "$wanted" ] || { cat "$work/x.log"; fail "$pattern: exit status $status"; }
    grep '^tandem:' "$work/x.log" | grep -q -- "$pattern" || { cat "$work/x.log"; fail "no '$pattern'"; }
    # Not counted: what a rank says to the TERM that mpirun sends after an abort, if it is quick enough.
    [ "$(grep -v -e '^tandem: warning: the ranks on .* may run on ' -e '^tandem: stops after this step' "$work/x.log" | grep -c '^tandem:')" = 1 ] || { cat "$work/x.log"; fail "$pattern: not one message"; }
    [ $((SECONDS - start)) -lt 60 ] || fail "$pattern: the job ended only after $((SECONDS - start)) s"
}

# ---- f32: the same tokens everywhere ------------------------------------------------------------
decode cpu 2 "${short[@]}" || fail "cpu"
gpu 1a1f 1 1 1
graphs 1a1f
same_tokens cpu 1a1f
near cpu 1a1f 1e-3
gpu 2a2f-tensor 2 1 2 layout.micro_batches=3
same 1a1f 2a2f-tensor
if [ -n "${SAN:-}" ]; then
    gpu fp8 1 2 1 precision.activations=bf16 precision.dispatch=fp8 precision.combine=bf16
    echo "two layouts agree"
    exit 0
fi
gpu local 1 0 0
graphs local
same 1a1f local
for m in 1 3; do
    gpu m$m 1 1 1 layout.micro_batches=$m
    same 1a1f m$m
done
gpu 2a1f 2 1 1
same 1a1f 2a1f

gpu 1a2f-expert 1 2 1
gpu 2a2f-expert 2 2 1 layout.micro_batches=3
gpu 1a2f-tensor 1 1 2
gpu 3a4f 3 2 2
for other in 1a2f-expert 2a2f-expert 1a2f-tensor 3a4f; do
    same 1a1f $other
done

# ---- order: other seeds, the order of the calls, without graphs ---------------------------------
for seed in ${REAL:-2 3 4}; do
    TANDEM_EMU_SEED=$seed gpu seed$seed 2 1 2 layout.micro_batches=$((seed % 3 + 1))
    same 2a2f-tensor seed$seed
done
TANDEM_EMU_SERIAL=1 gpu serial 2 1 2 layout.micro_batches=2
same 2a2f-tensor serial
TANDEM_EMU_SERIAL=1 gpu serial-expert 2 2 1 layout.micro_batches=3 graphs=false
same 2a2f-expert serial-expert
gpu no-graphs 2 1 2 graphs=false
grep -q 'launched as CUDA graphs' "$work/no-graphs.log" && fail "graphs although graphs=false"
same 2a2f-tensor no-graphs

# ---- bf16 and FP8: near the CPU, and the same bits whatever the number of ranks -----------------
# With a trained model: of a random one's logprobs rounding leaves less.
job=tests/mpi/job.yaml short=(prompts.count=3 sampling.max_new_tokens=4 layout.threads=1)
bf16() { # NAME PRECISION...
    local name=$1
    shift
    decode cpu-$name 3 layout.ffn.expert=2 "${short[@]}" "$@" || fail "cpu-$name"
    gpu $name-1 1 2 1 "$@"
    gpu $name-2 2 2 1 layout.micro_batches=3 "$@"
    same $name-1 $name-2
    near cpu-$name $name-1 0.2
}
bf16 bf16 precision.activations=bf16 precision.kv_cache=bf16 precision.dispatch=bf16
gpu bf16-tensor 1 1 2 precision.activations=bf16 precision.kv_cache=bf16 precision.dispatch=bf16
same bf16-1 bf16-tensor
gpu bf16-local 1 0 0 precision.activations=bf16 precision.kv_cache=bf16 precision.dispatch=bf16
same bf16-1 bf16-local
bf16 fp8 precision.activations=bf16 precision.kv_cache=fp8 precision.dispatch=fp8 precision.combine=bf16
bf16 int4 precision.activations=bf16 precision.weights=int4
gpu fp8-tensor 1 1 2 precision.activations=bf16 precision.dispatch=fp8 precision.combine=bf16
gpu fp8-tensor-2 2 1 2 precision.activations=bf16 precision.dispatch=fp8 precision.combine=bf16 \
    layout.micro_batches=3
same fp8-tensor fp8-tensor-2
gpu f32-fp8 1 1 1 precision.dispatch=fp8 precision.combine=bf16
decode cpu-f32-fp8 2 "${short[@]}" precision.dispatch=fp8 precision.combine=bf16 || fail "cpu-f32-fp8"
near cpu-f32-fp8 f32-fp8 0.2

job=$work/apart.yaml
if [ -n "${REAL:-}" ]; then
    echo "all layouts agree on a real GPU"
    exit 0
fi

# ---- NCCL may give memory in large pages: taken once, and in the plan ----------------------------
decode few 2 device=cuda "${short[@]}" || fail few
TANDEM_EMU_GRANULE=512 decode pages 2 device=cuda "${short[@]}" prompts.count=3 || fail pages
same few pages
buffers() { sed -n 's/^ *0 .* attention 0 .* \([0-9]*\)\.[0-9]*$/\1/p' "$work/$1.log"; }
more=$(($(buffers pages) - $(buffers few)))
[ "$more" -gt 400 ] && [ "$more" -le 512 ] || fail "pages of 512 MiB: $(buffers pages) MiB of buffers, and $(buffers few) without"

# ---- a forgotten event: wrong completions, or an error, under some seed -------------------------
for where in dispatch collect receive reply; do
    need "$BUILD/emu/planted/$where"
    found=
    for seed in 1 2 3 4; do
        tandem=$BUILD/emu/planted/$where TANDEM_EMU_SEED=$seed decode planted 2 device=cuda \
            "${short[@]}" graphs=$([ $seed = 4 ] && echo true || echo false) \
            schedule.step_timeout=20s >/dev/null || found=$seed
        [ -n "$found" ] || cmp -s <(completions few) <(completions planted) || found=$seed
        rm -rf "$work"/planted.h5*
        [ -n "$found" ] && break
    done
    [ -n "$found" ] || fail "an event left out of nccl_$where() has shown in no order"
    echo "left out of nccl_$where(): seen with seed $found"
done

# ---- what breaks ends the job -------------------------------------------------------------------
TANDEM_EMU_DEVICES=1 expect 2 'ranks 0 and 1 share one GPU' 3 layout.ffn.expert=2
TANDEM_EMU_NCCL=old:1 expect 2 'the NCCL that was found .* is 2.18.5, 2.19 is needed' 2
TANDEM_EMU_NCCL=memory:1 expect 2 'taking .* bytes of device memory for the exchange failed: .*NCCL_DEBUG' 2
TANDEM_EMU_NCCL=version:1 expect 2 'has NCCL 22005, rank 0' 2
TANDEM_EMU_NCCL=hang:1:20 expect 2 'the step has not ended after 3 s' 3 layout.attention=2 \
    schedule.step_timeout=3s
TANDEM_EMU_NCCL=stop:1:20 expect 2 'rank 1 (ffn 0, host .*no sign of life for 3 s' 3 layout.ffn.expert=2 \
    schedule.step_timeout=3s
TANDEM_EMU_NCCL=stop:0:20 expect 2 'rank 0 (attention 0, host .*no sign of life for 3 s' 2 \
    schedule.step_timeout=3s
TANDEM_EMU_NCCL=fail:1:20 expect 2 'rank 1 .*an operation under way failed: remote process' 2
echo "all layouts agree"
