#!/bin/bash
# What tests/cuda/gpu.sh says of its parts, with programs in place of the real ones that do as they are told: what is
# right, what is not and how it ended, and no report is lost when it is stopped.
. "$(dirname "$0")/../mpi/lib.sh"
mkdir -p "$work/b/emu/tests/cuda" "$work/b/tests/cuda" "$work/bin"
# does NAME LINES... - a program of both builds.
does() {
    local name=$1
    shift
    printf '%s\n' '#!/bin/sh' "$@" | tee "$work/b/emu/$name" >"$work/b/$name"
    chmod +x "$work/b/emu/$name" "$work/b/$name"
}
# gives STATUS [NAME=VALUE]... - how gpu.sh ends; what it says is in $work/said.
gives() {
    local want=$1 got
    shift
    env BUILD="$work/b" "$@" timeout 60 bash tests/cuda/gpu.sh "$work/report" >"$work/said" 2>&1
    got=$?
    [ $got = "$want" ] || { cat "$work/said"; fail "$*: status $got, not $want"; }
}
# says PATTERN FILE - a line of it.
says() { grep -q "$1" "$work/$2" || { cat "$work/$2"; fail "no line '$1' in $2"; }; }
does tandem 'echo tested'
does tests/cuda/gpu_bench 'echo "this card reads 4.50 TB/s"' \
    'echo "linear o_proj bf16, 64 rows                           69.0 us     41.5 roof (bytes)  60.1 %   2.71 TB/s    1.0 TFLOP/s"'
does tests/cuda/edges true
does tests/cuda/limits true
does tests/cuda/experts true

# ---- all is right; what others have in the folder stays --------------------------------------------
mkdir "$work/report"
touch "$work/report/mine.log"
gives 0 EMULATED=1 PARTS="selftest bench edges limits experts ptxas memcheck"
says '^All is right' said
says '^| linear o_proj bf16, 64 rows | 69.0 | 60.1 % |$' report/report.txt
says '^this card reads' report/report.txt
for part in selftest bench edges limits experts; do says "^$part  *[0-9]* s  right$" report/report.txt; done
for part in ptxas memcheck; do says "^$part .* left out: " report/report.txt; done
[ -e "$work/report/mine.log" ] || fail "a file of someone else is gone"

# ---- what is wrong, what has no end, what is not there ---------------------------------------------
does tests/cuda/edges 'echo row 3 is wrong' 'exit 3'
does tests/cuda/experts 'kill -SEGV $$'
rm "$work/b/emu/tests/cuda/gpu_bench"
gives 1 EMULATED=1 PARTS="selftest bench edges experts job"
says 'Something is wrong: send the folder' said
says '| row 3 is wrong' said
says '^selftest .* right$' report/report.txt
says '^bench .* WRONG, exit status 127$' report/report.txt
says '^edges .* WRONG, exit status 3$' report/report.txt
says '^experts .* WRONG, exit status 139$' report/report.txt
says '^job .* WRONG, exit status 1$' report/report.txt
gives 1 EMULATED=1 PARTS="memcheck"
says '^all .*nothing was tested' report/report.txt
gives 1 EMULATED=1 PARTS="bech"
says "there is no 'bech'" said

# ---- stopped in the middle -------------------------------------------------------------------------
does tests/cuda/experts 'sleep 50'
env BUILD="$work/b" EMULATED=1 PARTS="selftest edges experts" bash tests/cuda/gpu.sh "$work/report" >"$work/said" 2>&1 &
pid=$!
for ((try = 0; try < 200; try++)); do
    [ -e "$work/report/experts.log" ] && grep -q '^edges' "$work/report/report.txt" && break
    sleep 0.1
done
says '^edges .* WRONG' report/report.txt # already
kill -TERM $pid
wait $pid
[ $? = 1 ] || fail "stopped, and the status is not 1"
says '^selftest .* right$' report/report.txt
says '^experts .* STOPPED$' report/report.txt

# ---- as where there is a GPU -----------------------------------------------------------------------
printf '%s\n' '#!/bin/sh' 'case $* in' '-L) echo "GPU 0: a card" ;;' '*compute_cap*noheader*) echo ${CAPABILITY:-9.0} ;;' \
    '*) echo "a card, driver 580" ;;' esac >"$work/bin/nvidia-smi"
printf '%s\n' '#!/bin/sh' 'echo "$*"' '[ ! -e "$NOT" ]' >"$work/bin/make"
chmod +x "$work"/bin/*
here=(PATH="$work/bin:$PATH" NOT="$work/none")
gives 0 "${here[@]}" PARTS="selftest nccl"
says '^a card, driver 580' report/report.txt
says 'CUDA_ARCHS=90 gpu-tests' report/build.log
says '^nccl .* skipped: NCCL needs two GPUs, here are 1$' report/report.txt
gives 0 "${here[@]}" CAPABILITY=8.9 PARTS="selftest overlap"
says '^overlap .* skipped: .* from compute capability 9.0 on, here is 8.9$' report/report.txt
gives 0 EMULATED=1 GPUS=0 PARTS="selftest overlap nccl"
says '^overlap .* skipped: there are no GPUs$' report/report.txt
says '^nccl .* skipped: NCCL needs two GPUs, here are 0$' report/report.txt
gives 1 "${here[@]}" NOT="$work" PARTS=selftest
says 'does not build for sm_90' said
command -v nvidia-smi >/dev/null || gives 77 PARTS=selftest
echo "a report says what was right"
