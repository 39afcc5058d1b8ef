#!/bin/bash
# The job scripts of slurm/ on a real Slurm cluster: one node with mpirun, two nodes with srun, a
# heterogeneous job with roles, a job array that is merged, and a job that is signalled, goes back into the queue and continues.
# timeout: 360
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/slurm/cluster.bash
TANDEM=$(realpath "${BUILD:-build}/tandem") && export TANDEM

# submit SCRIPT SBATCH-OPTIONS -- ARGUMENTS: the id of the job.
submit() {
    local script=$1 options=()
    shift
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    sbatch --parsable --output="$CLUSTER/%x-%j.log" "${options[@]}" "$script" "$@"
}

log_of() {
    cat "$CLUSTER/"*"-$1.log" 2>/dev/null
}

say() {
    echo "$SECONDS s: $*"
}

fail() {
    echo "FAILED: $1"
    log_of "$2" | tail -n 40
    exit 1
}

# expect_done ID OUTPUT ROWS
expect_done() {
    local rows
    job_wait "$1" 60 COMPLETED || fail "job $1" "$1"
    rows=$("$TANDEM" export "$2" | wc -l)
    [ "$rows" = "$3" ] || fail "$2 has $rows rows, not $3" "$1"
}

cluster_start
out=$CLUSTER/out
mkdir "$out"
small=(jobs/demo.yaml --set prompts.count=8 --set layout.threads=1)

say "one node, mpirun"
id=$(submit slurm/one-node.sh --cpus-per-task=1 -- "${small[@]}" --set output.file="$out/one.h5")
expect_done "$id" "$out/one.h5" 8

say "two nodes, srun"
id=$(submit slurm/nodes.sh --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 -- "${small[@]}" \
    --set output.file="$out/two.h5")
expect_done "$id" "$out/two.h5" 8

say "heterogeneous job"
sed '/^#SBATCH/{s/--nodes=2/--nodes=1/;s/--ntasks-per-node=8/--ntasks-per-node=1/;s/--cpus-per-task=8/--cpus-per-task=1/}' \
    slurm/hetjob.sh >"$CLUSTER/hetjob.sh"
id=$(submit "$CLUSTER/hetjob.sh" -- "${small[@]}" --set output.file="$out/het.h5")
expect_done "$id" "$out/het.h5" 8

say "a job array, one of its tasks signalled and queued again; its outputs merged"
array=(jobs/demo.yaml --set layout.threads=1 --set prompts.count=31 --set sampling.samples=4 --set schedule.slots=2 --set sampling.max_new_tokens=60
    --set sampling.ignore_eos=true --set output.commit_seconds=0.2)
id=$(sbatch --parsable --array=1-3%2 --cpus-per-task=1 --output="$CLUSTER/%x-%A_%a.log" slurm/array.sh "${array[@]}" \
    --set output.file="$out/part-%a.h5")
for ((i = 0; i < 300; i++)); do
    grep -q 'completions to do' "$CLUSTER"/*-"${id}_2.log" 2>/dev/null && break
    sleep 0.1
done
scancel --batch --signal=USR1 "${id}_2"
for ((i = 0; i < 600; i++)); do
    [ -e "$out/part-1.h5" ] && [ -e "$out/part-2.h5" ] && [ -e "$out/part-3.h5" ] && break
    sleep 0.3
done
[ "$(cat "$CLUSTER"/*-"${id}_2.log" | grep -c 'completions to do')" = 2 ] || fail "task 2 was not queued again" "${id}_2"
"$TANDEM" merge "$out"/part-[123].h5 "$out/whole.h5" || fail "the parts are not merged" "${id}_1"
tests/mpirun 2 "$TANDEM" run "${array[@]}" --set output.file="$out/uncut.h5" >"$CLUSTER/straight" 2>&1 ||
    fail "the job in one piece: $(cat "$CLUSTER/straight")" "${id}_1"
cmp <("$TANDEM" export "$out/whole.h5") <("$TANDEM" export "$out/uncut.h5") || fail "the array and the job in one piece differ" "${id}_1"

say "a wrong job ends with status 1 and is not queued again"
id=$(submit slurm/one-node.sh --cpus-per-task=1 -- "${small[@]}" --set schedule.slotz=1)
job_wait "$id" 30 FAILED >/dev/null || fail "a wrong job" "$id"
[ "$(job_field "$id" ExitCode)" = 1:0 ] || fail "exit code $(job_field "$id" ExitCode)" "$id"
log_of "$id" | grep -q "did you mean 'slots'" || fail "no message" "$id"

say "signalled, queued again, continued"
long=(jobs/demo.yaml --set layout.threads=1 --set prompts.count=32 --set schedule.slots=4
    --set sampling.max_new_tokens=100 --set sampling.samples=3 --set sampling.ignore_eos=true --set output.commit_seconds=0.2)
id=$(submit slurm/one-node.sh --cpus-per-task=1 -- "${long[@]}" --set output.file="$out/long.h5")
for ((i = 0; i < 300; i++)); do
    [ -n "$(ls "$out/long.h5.partial" 2>/dev/null | grep -v tmp)" ] && break
    sleep 0.1
done
scancel --batch --signal=USR1 "$id"
for ((i = 0; i < 150; i++)); do
    [ "$(job_field "$id" Restarts)" = 1 ] && break
    sleep 0.2
done
[ "$(job_field "$id" Restarts)" = 1 ] || fail "the job was not queued again" "$id"
[ -e "$out/long.h5" ] && fail "the job was finished before the signal: nothing was tested" "$id"
say "queued again"
job_wait "$id" 120 COMPLETED || fail "the continued job" "$id"
say "finished"
tests/mpirun 2 "$TANDEM" run "${long[@]}" --set output.file="$out/straight.h5" >"$CLUSTER/straight" 2>&1 ||
    fail "the uninterrupted job: $(cat "$CLUSTER/straight")" "$id"
for name in long straight; do
    "$TANDEM" export "$out/$name.h5" >"$out/$name.txt" || fail "export of $name" "$id"
done
cmp "$out/long.txt" "$out/straight.txt" || fail "interrupted and uninterrupted jobs differ" "$id"
say "equal to an uninterrupted run"
