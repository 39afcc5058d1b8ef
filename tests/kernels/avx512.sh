#!/bin/bash
# The kernels of AVX-512 on any x86-64, emulated and compiled without optimisation: an instruction that the emulation
# lacks shows where the processor has it, too. Every twelfth shape of some operations; `make test-avx512` tries all.
# timeout: 300
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}
[ "$(uname -m)" = x86_64 ] || { echo "the kernels of AVX-512 are for x86-64"; exit 77; }
[ -z "${SAN:-}" ] || { echo "emulated without sanitizers only"; exit 77; }
some="linear linear_grouped linear_integers ffn attend residual_norm score sample"
# shellcheck disable=SC2086
said=$(EMULATED=1 QUICK=1 OMP_WAIT_POLICY=passive "$BUILD/emu/avx512/quick/parity" plain avx512 $some 2>&1) || { tail -n 40 <<<"$said"; exit 1; }
n=$(grep -c 'OK ] avx512' <<<"$said")
[ "$n" = "$(wc -w <<<"$some")" ] || { tail -n 40 <<<"$said"; echo "$n operations of AVX-512 were tested"; exit 1; }
echo "$n operations of AVX-512, emulated, give the bits of the plain ones"
