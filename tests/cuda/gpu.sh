#!/bin/bash
# What to run first where there is a GPU: builds for it; every kernel against its reference, the edges
# and the experts; the whole program with several ranks on that one GPU, every kind of model, and steps as graphs;
# NCCL where there are several GPUs; times; and at the end a table with the card, the driver, what passed and what did
# not, and lines for the README. Not executable, so that no test run starts it:
#   bash tests/cuda/gpu.sh [folder for the report]
#   EMULATED=1 bash tests/cuda/gpu.sh       the same on emulated GPUs, as far as that goes: what is in build/emu is not
#                                           made here (make emu-tests)
#   PARTS="selftest nccl" bash ...          only these
# Exit status: 0 all is right; 1 something is wrong, and the report says what; 77 there is no GPU.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
report=${1:-$build/gpu}
known=(selftest bench edges limits experts ptxas job families buckets overlap nccl memcheck racecheck synccheck)
for name in ${PARTS:-}; do
    [[ " ${known[*]} " == *" $name "* ]] || { echo "PARTS: there is no '$name', but ${known[*]}"; exit 1; }
done
mkdir -p "$report" || exit 1
for name in "${known[@]}" build; do # what an earlier run has left says nothing about this one
    rm -f "$report/$name.log"
done
rm -f "$report/report.txt"
[ -f input/demo/config.json ] || { echo "the demo model is not there"; exit 1; }
if [ -n "${EMULATED:-}" ]; then
    in=$build/emu real=() nccl=() count=${GPUS:-8} sm=
    echo "emulated GPUs" >"$report/card.txt"
    export TANDEM_EMU_DEVICES=1
else
    in=$build real=(REAL=1) nccl=(REAL=nccl)
    command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1 || { echo "no GPU: nvidia-smi finds none"; exit 77; }
    nvidia-smi --query-gpu=name,uuid,driver_version,compute_cap,memory.total,clocks.max.sm --format=csv >"$report/card.txt"
    nvidia-smi topo -m >>"$report/card.txt" 2>/dev/null
    count=$(nvidia-smi -L | grep -c '^GPU')
    sm=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
    make -j"$(nproc)" BUILD="$build" CUDA=1 CUDA_ARCHS="$sm" gpu-tests >"$report/build.log" 2>&1 || {
        tail -n 30 "$report/build.log"
        echo "it does not build for sm_$sm: $report/build.log"
        exit 1
    }
fi
cat "$report/card.txt"

wrong=0 right=0
rows=()
row() { rows+=("$(printf '%-10s %6s s  %s' "$1" "$2" "$3")"); }
# What gpu_bench has measured, as rows of a table: name, microseconds, share of the roof.
readme() {
    echo "| One card's part | us | of the roof |"
    echo "|---|---|---|"
    sed -n 's/^\(.*[^ ]\)  *\([0-9.]*\) us .* roof ([a-z]*)  *\([0-9.]*\) %.*/| \1 | \2 | \3 % |/p' "$report/bench.log"
}
# The report as it is by now: a machine may be taken away at any time.
report() {
    {
        cat "$report/card.txt"
        echo
        grep '^this card' "$report/bench.log"
        grep -h '; rail' "$report/nccl.log"
        [ ! -e "$report/bench.log" ] || readme
        echo
        printf '%s\n' "${rows[@]}"
    } >"$report/report.txt" 2>/dev/null
}
# finish: the table, and how it ended.
finish() {
    report
    cat "$report/report.txt"
    echo
    if [ $wrong = 0 ]; then
        echo "All is right. $report/report.txt has the rows for the README."
    else
        echo "Something is wrong: send the folder $report to the authors."
    fi
    exit $wrong
}
# stopped: by whoever waits no longer; the part under way ends too.
stopped() {
    row "${now:-none}" $((SECONDS - ${start:-$SECONDS})) "STOPPED"
    wrong=1
    [ -z "${under_way:-}" ] || kill "$under_way" 2>/dev/null
    finish
}
trap stopped INT TERM HUP
# part NAME SECONDS COMMAND ...
part() {
    local name=$1 limit=$2 status said
    start=$SECONDS
    shift 2
    [[ " ${PARTS:-$name} " == *" $name "* ]] || return
    case "${EMULATED:+emulated} $name" in
    'emulated ptxas' | emulated\ *check)
        row "$name" 0 "left out: it looks at what runs on a real GPU"
        return
        ;;
    esac
    echo "== $name"
    now=$name
    timeout -k 10 "$limit" "$@" >"$report/$name.log" 2>&1 &
    under_way=$!
    wait $under_way
    status=$?
    now='' under_way=''
    case $status in
    0) said=right right=$((right + 1)) ;;
    77) said="skipped: $(tail -n 1 "$report/$name.log")" ;;
    124 | 137) said="NO END after $limit s" ;;
    *) said="WRONG, exit status $status" ;;
    esac
    [ $status = 0 ] || [ $status = 77 ] || { wrong=1; tail -n 20 "$report/$name.log" | sed 's/^/   | /'; }
    row "$name" $((SECONDS - start)) "$said"
    report
}
# A tool of compute-sanitizer.
sanitize() {
    local tool=$1
    shift
    if ! command -v compute-sanitizer >/dev/null; then
        echo "compute-sanitizer is not there"
        return 77
    fi
    timeout 1700 compute-sanitizer --tool "$tool" --error-exitcode 9 "$@"
}
export -f sanitize

part selftest 600 $in/tandem selftest --device cuda
part bench 1800 $in/tests/cuda/gpu_bench
part edges 900 $in/tests/cuda/edges
part limits 300 $in/tests/cuda/limits
part experts 900 $in/tests/cuda/experts
part ptxas 900 env BUILD="$build" CUDA_ARCHS="$sm" tests/cuda/ptxas.sh
part job 1800 env "${real[@]}" BUILD="$build" tests/cuda/job.sh
part families 900 env "${real[@]}" BUILD="$build" tests/cuda/families.sh
part buckets 600 env "${real[@]}" BUILD="$build" tests/cuda/buckets.sh
part overlap 600 env "${nccl[@]}" GPUS="$count" BUILD="$build" bash tests/cuda/overlap.sh
part nccl 1800 env "${nccl[@]}" GPUS="$count" BUILD="$build" bash tests/cuda/several_gpus.sh
part memcheck 1800 bash -c "sanitize memcheck $in/tests/cuda/edges"
part racecheck 1800 bash -c "sanitize racecheck $in/tandem selftest --device cuda"
part synccheck 1800 bash -c "sanitize synccheck $in/tests/cuda/experts"
[ $right -gt 0 ] || { wrong=1; row all 0 "WRONG, nothing was tested"; }
finish
