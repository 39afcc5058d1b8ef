#!/bin/bash
# Four cells of one attention and one FFN rank decode what one cell decodes, bit for bit, each with a
# journal of its own; when one is killed, or asked to stop, the same command continues.
# timeout: 300
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
settings=(prompts.count=21 sampling.samples=3 sampling.temperature=0.8 sampling.max_new_tokens=60
    sampling.ignore_eos=true output.commit_seconds=0.05)

decode one 2 "${settings[@]}" || fail "one cell"
decode four 8 "${settings[@]}" layout.cells=4 || fail "four cells"
same one four
[ "$("$PYTHON" -c "import h5py, sys; print(h5py.File(sys.argv[1]).attrs['ranks'].count('ffn'))" \
    "$work/four.h5")" = 4 ] || fail "the output does not say which ranks made it"
sed 's/ffn: .*/colocated: true/' $job >"$work/colocated.yaml"
job=$work/colocated.yaml decode colocated 3 "${settings[@]}" layout.cells=3 || fail "three colocated cells"
same one colocated

# start NAME CELLS - in the background, until some completions are on disk; false when it ended before.
start() {
    rm -rf "$work/$1".*
    tests/mpirun $((2 * $2)) "$tandem" run $job --set output.file="$work/$1.h5" --set layout.cells="$2" \
        $(printf -- '--set %s ' "${settings[@]}") >"$work/$1.log" 2>&1 &
    pid=$!
    seals "$work/$1.h5" 5 $pid
}
# kill_one - false when the job had ended, well or not, before a rank of it was killed.
kill_one() {
    local killed=1
    start killed 4 && kill -KILL "$(rank_of "$work/killed.h5" 5)" && killed=0
    wait $pid 2>/dev/null
    [ $killed = 0 ] && [ ! -f "$work/killed.h5" ]
}
stop_one() {
    start stopped 4 && kill -USR1 "$(rank_of "$work/stopped.h5" 7)"
    wait $pid
    status=$?
    [ $status != 0 ]
}

in_time kill_one
[ "$(ls "$work/killed.h5.partial"/*.journal | wc -l)" = 4 ] || fail "there are not four journals"
decode killed 8 "${settings[@]}" layout.cells=4 || fail "continued after a kill"
same one killed
grep -q ' 63 of 63 completions to do' "$work/killed.log" && fail "what the killed cells had done was lost"

in_time stop_one
[ $status = 75 ] || fail "one rank of four cells was asked to stop: exit status $status, wanted 75"
decode stopped 2 "${settings[@]}" || fail "four cells continued by one"
same one stopped
echo "cells change nothing"
