#!/bin/bash
# The self-test, on the emulated GPU: every kernel is reached by it, and a fault planted in any of them is named
# and ends the job; a device that has passed is not tested again; what an exchange delivers wrongly is seen.
# timeout: 300
. "$(dirname "$0")/../mpi/lib.sh"
tandem=$BUILD/emu/tandem
counted=$BUILD/emu/counted/tandem
need "$tandem"
[ -x "$counted" ] || skip "the counted kernels are not built"
export TANDEM_EMU_DEVICES=1

# The operations of each kernel's file.
operation() {
    case $1 in
    attend*.cu | rope.cu) echo attend ;;
    copy.cu | embed.cu) echo "${1%.cu}" ;;
    edit.cu | sample.cu) echo sample ;;
    ffn_*.cu | group.cu | plain.cu:up_kernel | plain.cu:down_kernel) echo ffn ;;
    gate.cu | norm.cu:norm_kernel) echo norm ;;
    sum.cu | norm.cu) echo residual_norm ;;
    linear.cu | plain.cu:linear_kernel) echo linear ;;
    heads.cu | plain.cu:heads_kernel) echo linear_heads ;;
    route.cu:tally_kernel) echo tally ;;
    route.cu | score.cu) echo "${1%.cu}" ;;
    esac
}

# ---- a fault in each kernel ---------------------------------------------------------------------
kernels=$(for file in kernels/cuda/*.cu*; do
    tr '\n' ' ' <"$file" | grep -o '__global__ void [^;{]*_kernel(' | grep -o '[a-z0-9_]*_kernel' | sed "s|^|$(basename "${file%h}"):|"
done | sort -u)
[ "$(wc -l <<<"$kernels")" -ge 25 ] || fail "only these kernels were found: $kernels"
mkfifo "$work/pipe"
# sees FAULT OPERATION - the self-test says that something is wrong, and is not waited for any longer. A wrong index may
# also end the program, as it would on a GPU.
sees() {
    local pid status
    TANDEM_EMU_FAULT=$1 "$counted" selftest --device cuda --only "$2" >"$work/pipe" 2>&1 &
    pid=$!
    grep -m 1 ' numbers are wrong; ' <"$work/pipe" >"$work/log" && { kill -KILL $pid; wait $pid; return 0; }
    wait $pid
    status=$?
    [ $status = 139 ] || [ $status = 135 ] || [ $status = 134 ] || fail "$1: not seen, exit status $status"
}
# ends FAULT OPERATION - and how it ends.
ends() {
    TANDEM_EMU_FAULT=$1 "$counted" selftest --device cuda --only "$2" >"$work/log" 2>&1
    local status=$?
    [ $status = 139 ] || [ $status = 135 ] || [ $status = 134 ] && return
    [ $status = 2 ] || { cat "$work/log"; fail "$1: status $status"; }
    grep -q "tandem: selftest: cuda: .* wrong" "$work/log" || { cat "$work/log"; fail "$1: not named"; }
    grep -q "Please send the authors" "$work/log" || fail "$1: nothing to send"
}
for kernel in $kernels; do
    case $kernel in record.cu:*) continue ;; esac # below: it is the exchange's
    only=$(operation "$kernel")
    [ -n "$only" ] || only=$(operation "${kernel%:*}")
    [ -n "$only" ] || fail "$kernel: which operation is it of?"
    for fault in "$kernel" "$kernel/block"; do
        case $only in
        attend | ffn | linear) sees "$fault" "$only" 2>/dev/null ;; # a whole one takes seconds
        *) ends "$fault" "$only" ;;
        esac
    done
done
echo "$(wc -l <<<"$kernels") kernels: a number that is wrong and a block left out are seen in each"

# ---- in a job -----------------------------------------------------------------------------------
# Of a small model: a self-test takes the shapes of its job.
"$tandem" generate "$work/model" family=step3 hidden=64 layers=3 vocab=301 context=160 heads=4 head_dim=32 q_rank=48 dense=96 \
    experts=8 topk=3 expert=40 shared=64 moe_layers=1 dtype=f32 >"$work/log" || { cat "$work/log"; fail "generate"; }
echo '{"tokens": [0, 3, 7]}
{"tokens": [0, 5]}' >"$work/prompts.jsonl"
"$tandem" import "$work/prompts.jsonl" "$work/in.h5" --format jsonl --tokens tokens >/dev/null || fail "import"
job=$work/job.yaml
sed "s|^model: .*|model: $work/model\ntokenizer: none|; s|file: input/prompts.h5|file: $work/in.h5|" tests/mpi/job.yaml >"$job"
export TANDEM_EMU_DEVICES=8
small=(device=cuda layout.threads=1 prompts.count=2 sampling.max_new_tokens=3)
TANDEM_EMU_FAULT=rope.cu:rope_kernel/block decode broken 2 "${small[@]}" >/dev/null && fail "a broken GPU decodes"
grep -q 'selftest: rank 0: cuda: .*attend: ' "$work/broken.log" || { cat "$work/broken.log"; fail "attend is not named"; }
grep -q 'tests of kernels have failed on emulation, driver for CUDA 13.0' "$work/broken.log" || fail "no word on the device"
[ ! -e "$XDG_CACHE_HOME/tandem/selftest" ] || fail "what is broken has passed"
decode first 2 "${small[@]}" || fail "first"
grep -q -e 'TANDEM_OVERLAP' -e 'tensor cores' "$work/first.log" && fail "nobody asked for overlap or tensor cores"
[ "$(wc -l <"$XDG_CACHE_HOME/tandem/selftest")" = 1 ] || fail "what has passed is not noted"
TANDEM_EMU_UNLIKE=1 decode unlike 2 "${small[@]}" || fail "unlike"
[ "$(wc -l <"$XDG_CACHE_HOME/tandem/selftest")" = 2 ] && grep -q '^emulation of another card' "$XDG_CACHE_HOME/tandem/selftest" ||
    fail "a host's second sort of card was not tested"
grep -q '^rail 0 .*nccl: .* rows out and back in .* us' "$work/first.log" || fail "the exchange is not shown"
# Noted: the fault is not looked for now, in this job; with another driver, or kernels that are set up early, it is.
TANDEM_EMU_FAULT=score.cu:score_kernel decode second 2 "${small[@]}" || fail "it was tested again"
TANDEM_OVERLAP=1 TANDEM_EMU_DRIVER=12020 TANDEM_EMU_FAULT=score.cu:score_kernel/block decode third 2 "${small[@]}" >/dev/null &&
    fail "a new driver was not tested"
grep -q 'driver for CUDA 12.2' "$work/third.log" || fail "the driver is not named"
grep -q '^ *TANDEM_OVERLAP=1 does nothing here: .* driver is older' "$work/third.log" || fail "overlap by an old driver"
TANDEM_OVERLAP=1 TANDEM_EMU_FAULT=score.cu:score_kernel/block decode fourth 2 "${small[@]}" precision.activations=bf16 >/dev/null &&
    fail "kernels that are set up early were not tested"
grep -q 'failed on .*, TANDEM_OVERLAP=1' "$work/fourth.log" || fail "TANDEM_OVERLAP=1 is not named"
grep -q '^ *kernels are set up while others run (TANDEM_OVERLAP=1)' "$work/fourth.log" || fail "overlap is not said at the start"
grep -q '^tandem: warning: the FFN of 3 layers and [0-9]* matrices of a rank cannot use tensor cores' "$work/fourth.log" || fail "f32 weights under bf16"

# ---- with a job, without decoding ---------------------------------------------------------------
self() { # RANKS PROGRAM [KEY=VALUE]...
    local ranks=$1 program=$2 set=()
    shift 2
    for pair in "$@"; do set+=(--set "$pair"); done
    tests/mpirun "$ranks" "$program" selftest "$job" --set output.file="$work/none.h5" "${set[@]}" >"$work/log" 2>&1
}
TANDEM_EMU_NCCL_COUNT=$work/calls self 4 "$tandem" "${small[@]}" layout.micro_batches=1 layout.attention=2 layout.ffn.tensor=2 precision.dispatch=fp8 ||
    { cat "$work/log"; fail "2A2F"; }
[ "$(grep -c '^rail' "$work/log")" = 2 ] || fail "two rails are not shown"
# A layer of a micro-batch: attention sends once and receives once; FFN receives from its rail, gathers, sends and
# receives one partial sum of the other rank, and answers.
awk '{ n = $4 ? $4 : $2; bad += $4 ? $2 != 2 * n || $3 != 2 * n : $3 != n; layers[n]++ }
    END { exit NR != 4 || bad || length(layers) != 1 }' "$work/calls" || { cat "$work/calls"; fail "more calls of NCCL"; }
for fault in pack_kernel unpack_kernel/block; do
    TANDEM_EMU_FAULT=record.cu:$fault self 2 "$counted" "${small[@]}"
    [ $? = 2 ] && grep -q 'exchange nccl: FFN rank 0 has got' "$work/log" || { cat "$work/log"; fail "$fault"; }
done
[ ! -e "$work/none.h5" ] && [ ! -e "$work/none.h5.partial" ] || fail "a self-test has written an output"
self 4 "$BUILD/tandem" layout.attention=2 layout.ffn.tensor=2 layout.exchange=mpi layout.threads=1 || { cat "$work/log"; fail "mpi"; }
self 3 "$BUILD/tandem" layout.attention=2 layout.exchange=shared layout.threads=1 || { cat "$work/log"; fail "shared"; }
need "$BUILD/emu/planted/receive"
found=
for seed in 1 2 3 4 5 6; do
    TANDEM_EMU_SEED=$seed self 2 "$BUILD/emu/planted/receive" "${small[@]}" || { found=$seed; break; }
done
[ -n "$found" ] || fail "an event left out of nccl_receive() was not seen"
grep -q 'exchange nccl: FFN rank 0 has got' "$work/log" || { cat "$work/log"; fail "the row is not named"; }
echo "jobs test what is new"
