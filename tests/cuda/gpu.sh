#!/bin/bash
# What to run first where there is a GPU: builds for it; every kernel against its reference, the edges
# and the experts; the whole program with several ranks on that one GPU; times and a report with the
# card, the driver, what passed and what did not. Not executable, so that no test run starts it:
#   bash tests/cuda/gpu.sh [folder for the report]
# Exit status: 0 all is right; 1 something is wrong, and the report says what; 77 there is no GPU.
set -u
cd "$(dirname "$0")/../.." || exit 1
report=${1:-build/gpu}
mkdir -p "$report" || exit 1
command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1 || { echo "no GPU: nvidia-smi finds none"; exit 77; }
nvidia-smi --query-gpu=name,uuid,driver_version,compute_cap,memory.total,clocks.max.sm --format=csv >"$report/card.txt"
cat "$report/card.txt"
[ -f input/demo/config.json ] || { echo "the demo model is not there"; exit 1; }
sm=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
make -j"$(nproc)" CUDA=1 CUDA_ARCHS="$sm" gpu-tests >"$report/build.log" 2>&1 || {
    tail -n 30 "$report/build.log"
    echo "it does not build for sm_$sm: $report/build.log"
    exit 1
}

wrong=0
rows=()
# part NAME SECONDS COMMAND ...
part() {
    local name=$1 limit=$2 status start=$SECONDS said
    shift 2
    echo "== $name"
    timeout -k 10 "$limit" "$@" >"$report/$name.log" 2>&1
    status=$?
    case $status in
    0) said=right ;;
    77) said="skipped: $(tail -n 1 "$report/$name.log")" ;;
    124 | 137) said="NO END after $limit s" ;;
    *) said="WRONG, exit status $status" ;;
    esac
    [ $status = 0 ] || [ $status = 77 ] || { wrong=1; tail -n 20 "$report/$name.log" | sed 's/^/   | /'; }
    rows+=("$(printf '%-10s %6s s  %s' "$name" $((SECONDS - start)) "$said")")
}

part selftest 600 build/tandem selftest --device cuda
part bench 1800 build/tests/cuda/gpu_bench
part edges 900 build/tests/cuda/edges
part experts 900 build/tests/cuda/experts
part ptxas 900 tests/cuda/ptxas.sh "$sm"
part job 1800 env REAL=1 BUILD=build tests/cuda/job.sh
if command -v compute-sanitizer >/dev/null; then
    part memcheck 1800 compute-sanitizer --error-exitcode 9 build/tests/cuda/edges
    part racecheck 1800 compute-sanitizer --tool racecheck --error-exitcode 9 build/tandem selftest --device cuda
fi

{
    cat "$report/card.txt"
    grep ' us ' "$report/bench.log"
    echo
    printf '%s\n' "${rows[@]}"
} | tee "$report/report.txt"
echo
if [ $wrong = 0 ]; then
    echo "All is right. $report/report.txt has the times for the README."
else
    echo "Something is wrong: send the folder $report to the authors."
fi
exit $wrong
