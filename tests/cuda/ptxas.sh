#!/bin/sh
# Registers, shared memory and spills of every CUDA kernel, as a table; fails on a spill, on a local
# array ("stack"), and on any warning of nvcc or ptxas.
#   tests/cuda/ptxas.sh [sm ...]     NVCC=nvcc  defaults: 80 90 100
# Dynamic shared memory is chosen at the launch and stands in kernels/cuda/*.cuh.
# timeout: 900
set -u
nvcc=${NVCC:-nvcc}
command -v "$nvcc" >/dev/null || { echo "$nvcc was not found; set NVCC"; exit 77; }
[ $# -gt 0 ] || set -- 80 90 100
log=$(mktemp) || exit 2
trap 'rm -f "$log"' EXIT
status=0
printf '%-62s %4s %5s %6s %6s %7s\n' kernel sm regs spills stack static
for sm; do
    for file in kernels/cuda/*.cu; do
        if ! "$nvcc" -O3 -fmad=false -std=c++17 -DTANDEM_CUDA -Isrc -I. -arch="sm_$sm" \
            -Xcompiler -Wall,-Wextra -cubin -o /dev/null -Xptxas -v,-warn-spills \
            "$file" >"$log" 2>&1; then
            cat "$log"
            status=1
        fi
        if grep -i 'warning' "$log"; then
            status=1
        fi
        c++filt <"$log" | awk -v sm="$sm" '
            /Function properties for/ { sub(/.*properties for /, ""); name = $0
                sub(/\(.*/, "", name); sub(/^void /, "", name) }
            /bytes stack frame/ { stack = $1; spills = $5 + $9 }
            /Used [0-9]+ registers/ {
                match($0, /Used [0-9]+/); regs = substr($0, RSTART + 5, RLENGTH - 5)
                static = 0
                if (match($0, /[0-9]+ bytes smem/)) static = substr($0, RSTART, RLENGTH - 11)
                printf "%-62s %4s %5s %6s %6s %7s\n", name, sm, regs, spills, stack, static
                if (spills + stack > 0) bad = 1 }
            END { exit bad }' || status=1
    done
done
[ $status -eq 0 ] || echo "ptxas.sh: a kernel spills, keeps an array in memory, or warns"
exit $status
