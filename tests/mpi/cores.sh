#!/bin/bash
# Roles that may use the same cores take turns on all of them with one micro-batch; roles with cores of their
# own overlap two, and the start table says that they had better share. The completions are the same.
# timeout: 120
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
[ "$(nproc)" -ge 2 ] || skip "this machine has one core: roles cannot be kept apart"
cores=($(taskset -cp $$ | sed 's/.*: //; s/[,-].*//') $(taskset -cp $$ | sed 's/.*[,-]//'))

decode shared 2 trace="$work/shared.json" || fail "roles on the same cores"
grep -q "^ *0 .* attention 0 *$(nproc) " "$work/shared.log" ||
    { cat "$work/shared.log"; fail "attention has not a thread for each of $(nproc) cores"; }
grep -q '"micro_batch":0' "$work/shared.json" || fail "no micro-batch in the trace"
grep -q '"micro_batch":1' "$work/shared.json" && fail "two micro-batches on cores that both roles share"
grep -q 'cores of their own' "$work/shared.log" && fail "a note about cores of their own"

rank() {
    echo taskset -c "$1" "$tandem" run "$job" --set output.file="$work/apart.h5" --set trace="$work/apart.json"
}
options=(--bind-to none --oversubscribe)
[ "$(id -u)" = 0 ] && options+=(--allow-run-as-root)
mpirun "${options[@]}" -n 1 $(rank "${cores[0]}") : -n 1 $(rank "${cores[1]}") >"$work/apart.log" 2>&1 ||
    { cat "$work/apart.log"; fail "roles on cores of their own"; }
grep -q '"micro_batch":1' "$work/apart.json" || fail "one micro-batch, though each role has a core of its own"
grep -q 'cores of their own' "$work/apart.log" || { cat "$work/apart.log"; fail "no note about the cores"; }
same shared apart
echo "roles take turns where they share cores, and overlap where they do not"
