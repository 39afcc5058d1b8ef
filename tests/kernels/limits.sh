#!/bin/bash
# limits.sh - the loops that find a processor's peak (kernels/cpu/limits.c) really do the arithmetic that they are
# counted for: a compiler that merges their chains of sums makes the peak higher than it is, and every share of it
# lower. Looks at the machine code.
# timeout: 30
object=$BUILD/kernels/cpu/limits.o
[ -f "$object" ] || { echo "limits: no $object"; exit 1; }
command -v objdump >/dev/null || { echo "objdump (binutils) is missing"; exit 77; }
case $(uname -m) in
x86_64) wanted=("12 vfmadd[0-9]+ps.*%ymm" "12 vdpbf16ps.*%zmm") ;;
aarch64) wanted=("16 fmla.*[.]4s") ;;
*) echo "no loop of vectors for $(uname -m)"; exit 77 ;;
esac
status=0
for one in "${wanted[@]}"; do
    found=$(objdump -d --no-show-raw-insn "$object" | grep -cE "${one#* }")
    [ "$found" -ge "${one%% *}" ] || { echo "limits: wanted ${one%% *} of ${one#* }, found $found"; status=1; }
done
[ $status = 0 ] && echo "limits: all chains are there"
exit $status
