#!/bin/bash
# Registers, shared memory and spills of every CUDA kernel, as a table; fails on a spill, on a local
# array ("stack"), and on any warning of nvcc or ptxas.
#   tests/cuda/ptxas.sh     NVCC=nvcc  BUILD=build  CUDA_ARCHS="80 90 100"
# What nvcc said when it built the program for these is used, where that was after the last change; else the
# kernels are compiled, several at a time, and what was said is kept in $BUILD/ptxas until they change.
# Dynamic shared memory is chosen at the launch and stands in kernels/cuda/*.cuh.
# timeout: 900
set -u
nvcc=${NVCC:-nvcc} # may be two words, as of a compiler's cache
for word in $nvcc; do
    command -v "$word" >/dev/null || { echo "$word was not found; set NVCC"; exit 77; }
done
# shellcheck disable=SC2086
set -- ${CUDA_ARCHS:-80 90 100}
flags=(-O3 -fmad=false -std=c++17 -DTANDEM_CUDA -Isrc -I. -Xcompiler -Wall,-Wextra -Xptxas -v,-warn-spills)
for sm; do
    flags+=(-gencode "arch=compute_$sm,code=sm_$sm")
done
logs=${BUILD:-build}/ptxas objects=${BUILD:-build}/sm-$(IFS=-; echo "$*")
mkdir -p "$logs" || exit 2
headers=$(echo kernels/*.h kernels/*/*.h kernels/cuda/*.cuh src/base/*.h) # all that a kernel can include
# shellcheck disable=SC2086
key=$({ $nvcc --version; echo "${flags[@]}"; cat $headers; } | sha256sum)

# said FILE - the log of this file: of the build if it is newer than all sources.
said() {
    local built=$objects/${1%.cu}.cu.o.log
    # shellcheck disable=SC2086
    [ -s "$built" ] && [ -z "$(find "$1" $headers -newer "$built")" ] && { echo "$built"; return; }
    echo "$logs/$(basename "$1" .cu).$( { echo "$key"; cat "$1"; } | sha256sum | cut -c1-16)"
}

# compile FILE - keeps a log only of what compiles without a warning.
compile() {
    local log
    log=$(said "$1")
    [ -e "$log" ] && return
    rm -f "$logs/$(basename "$1" .cu)".*
    # shellcheck disable=SC2086
    if $nvcc $nvcc_flags -fatbin -o /dev/null "$1" >"$log.new" 2>&1 && ! grep -qi warning "$log.new"; then
        mv "$log.new" "$log"
    else
        cat "$log.new"
        rm -f "$log.new"
        return 1
    fi
}
export -f said compile
export nvcc logs key objects headers nvcc_flags="${flags[*]}"
status=0
printf '%s\n' kernels/cuda/*.cu | xargs -P "$(nproc)" -I{} bash -c 'compile {}' || status=1
printf '%-62s %4s %5s %6s %6s %7s\n' kernel sm regs spills stack static
for file in kernels/cuda/*.cu; do
    log=$(said "$file")
    [ -e "$log" ] || continue
    grep -i warning "$log" && status=1
    c++filt <"$log" | awk -v wanted=" $* " '
        /Compiling entry function/ { match($0, /sm_[0-9]+/); sm = substr($0, RSTART + 3, RLENGTH - 3) }
        /Function properties for/ { sub(/.*properties for /, ""); name = $0
            sub(/\(.*/, "", name); sub(/^void /, "", name) }
        /bytes stack frame/ { stack = $1; spills = $5 + $9 }
        /Used [0-9]+ registers/ {
            match($0, /Used [0-9]+/); regs = substr($0, RSTART + 5, RLENGTH - 5)
            static = 0
            if (match($0, /[0-9]+ bytes smem/)) static = substr($0, RSTART, RLENGTH - 11)
            if (!index(wanted, " " sm " ")) next
            printf "%-62s %4s %5s %6s %6s %7s\n", name, sm, regs, spills, stack, static
            kernels++
            if (spills + stack > 0) bad = 1 }
        END { exit bad || kernels == 0 }' || status=1
done
[ $status -eq 0 ] || echo "ptxas.sh: a kernel spills, keeps an array in memory, or warns"
exit $status
