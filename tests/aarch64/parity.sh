#!/bin/bash
# The kernels of 64-bit ARM, compiled by a cross compiler and run by an emulator: NEON against the plain ones, bit by
# bit, and both against references in double. Every twelfth shape, since an emulator takes its time; LONG=1: every fourth, and
# odd numbers.
# timeout: 400
set -u
BUILD=${BUILD:-build}
for program in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v "$program" >/dev/null || { echo "no $program: tests/packages.sh --print arm"; exit 77; }
done
cc=aarch64-linux-gnu-gcc
command -v ccache >/dev/null && cc="ccache $cc"
make -s -j2 -f tests/aarch64/parity.mk BUILD="$BUILD" CC="$cc" 2>"$BUILD/aarch64.log" || { grep -E 'error|undefined' "$BUILD/aarch64.log"; exit 1; }
export EMULATED=1 QUICK=1 OMP_WAIT_POLICY=passive
some="linear attend linear_grouped linear_bits linear_integers linear_integers_edges residual_norm sum gather embed sample_ties sample_equal mechanisms"
others="ffn ffn_integers route wire norm greedy edit score sample ffn_order ${LONG:+odd_linear odd_rows odd_choices odd_attend odd_ffn}"
run() {
    qemu-aarch64 "$BUILD/aarch64/parity" plain neon "$@" >"$BUILD/aarch64.$1.log" 2>&1 && return
    tail -n 20 "$BUILD/aarch64.$1.log"
    exit 1
}
# shellcheck disable=SC2086
run $some &
# shellcheck disable=SC2086
run $others || exit 1
wait $! || exit 1
wanted=$(echo "$some $others" | wc -w)
n=$(cat "$BUILD"/aarch64.{linear,ffn}.log | grep -c '^parity neon')
[ "$n" = $wanted ] || { echo "$n operations of NEON were tested, not $wanted"; exit 1; }
echo "$n operations of NEON give the bits of the plain ones"
