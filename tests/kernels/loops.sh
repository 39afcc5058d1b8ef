#!/bin/bash
# loops.sh - the loops of the fast kernels hold their sums in registers, and need no more instructions a multiply-add than
# they are known to (tests/bench/loops.txt): what a harmless change made of them is seen in the machine code, where no
# test of results and no time on a busy machine shows it.
# timeout: 60
command -v objdump >/dev/null || { echo "objdump (binutils) is missing"; exit 77; }
[ -z "$SAN" ] && grep -q -- ' -O2 ' "$BUILD/flags" 2>/dev/null || { echo "compiled with sanitizers, or other than -O2"; exit 77; }
"$PYTHON" tests/bench/loops.py --check
