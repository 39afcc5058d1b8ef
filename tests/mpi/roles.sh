#!/bin/bash
# --role chooses who is attention and who FFN, in any order of ranks (MPMD, heterogeneous jobs).
# timeout: 120
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
decode plain 3 layout.ffn.expert=2 || fail "roles by rank"

# mpmd NAME ROLE... - one rank for each role, in this order.
mpmd() {
    local name=$1 parts=()
    shift
    for role in "$@"; do
        [ ${#parts[@]} -gt 0 ] && parts+=(:)
        parts+=(-n 1 "$tandem" run "$job" --role "$role" --set layout.ffn.expert=2
            --set output.file="$work/$name.h5")
    done
    local options=(--bind-to none --oversubscribe)
    [ "$(id -u)" = 0 ] && options+=(--allow-run-as-root)
    mpirun "${options[@]}" "${parts[@]}" >"$work/$name.log" 2>&1
}
mpmd chosen ffn attention ffn || { cat "$work/chosen.log"; fail "roles by --role"; }
same plain chosen
grep -q '1  .*attention 0' "$work/chosen.log" || fail "rank 1 is not attention 0 in the start table"
mpmd wrong ffn ffn ffn
[ $? = 1 ] || fail "three FFN ranks were accepted"
grep -q '^tandem: 0 ranks have --role attention and 3' "$work/wrong.log" || fail "no clear message"
echo "roles are as told"
