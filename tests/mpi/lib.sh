# lib.sh - what the scripts of this folder share. Sourced, never run.
# Each script gets a folder of its own, $work, removed at the end.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
BUILD=${BUILD:-build}
PYTHON=${PYTHON:-python3}
tandem=$BUILD/tandem
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
# Devices that have passed a self-test are noted under it: not in the user's.
export XDG_CACHE_HOME=$work/cache
mkdir "$XDG_CACHE_HOME"

fail() {
    echo "FAILED: $*"
    exit 1
}

skip() {
    echo "$*"
    exit 77
}

need() {
    [ -x "$1" ] || fail "$1 is not built"
}

# decode NAME RANKS [KEY=VALUE]... - runs $job with the output $work/NAME.h5; prints what it said
# when it fails. The exit status is that of the job.
decode() {
    local name=$1 ranks=$2 status
    shift 2
    local set=()
    for pair in "$@"; do
        set+=(--set "$pair")
    done
    tests/mpirun "$ranks" "$tandem" run "$job" --set output.file="$work/$name.h5" "${set[@]}" \
        >"$work/$name.log" 2>&1
    status=$?
    [ $status = 0 ] || cat "$work/$name.log"
    return $status
}

# run NAME RANKS JOB [KEY=VALUE]... - decodes all prompts of $work/in.h5, which are tokens, by $work/model, with
# the settings of the array `usual`.
run() {
    local name=$1 ranks=$2
    job=$3
    shift 3
    decode "$name" "$ranks" model="$work/model" tokenizer=none prompts.file="$work/in.h5" prompts.count=all \
        sampling.ignore_eos=true "${usual[@]}" "$@" || fail "${family:-}: $name"
}

# completions NAME - what was decoded, one JSON line a completion: everything but times and ranks.
completions() {
    local lines=$work/$1.completions new=$work/$1.completions.$BASHPID # whole, or not there: others may look at the same time
    [ -f "$work/$1.h5" ] && [ "$lines" -nt "$work/$1.h5" ] ||
        { "$tandem" export "$work/$1.h5" --tokens --logprobs >"$new" && mv "$new" "$lines"; } || fail "export of $1"
    cat "$lines"
}

# tokens NAME - the same without the logprobs.
tokens() {
    "$tandem" export "$work/$1.h5" --tokens || fail "export of $1"
}

# same NAME NAME - the completions are equal to the last bit of every logprob.
same() {
    cmp <(completions "$1") <(completions "$2") || fail "$1 and $2 differ"
}

# same_tokens NAME NAME - the completions are equal; logprobs may differ in their last bits.
same_tokens() {
    cmp <(tokens "$1") <(tokens "$2") || fail "$1 and $2 differ in tokens"
}

# decodes LOG PID [PATTERN] - waits, for 3000 looks and pauses, until the job that is this process says so, by default that it
# decodes; false when it ended before.
decodes() {
    local pattern=${3:-completions to do} try
    for ((try = 0; try < 3000; try++)); do
        grep -qs "$pattern" "$1" && return
        kill -0 "$2" 2>/dev/null || break
        sleep 0.02
    done
    grep -qs "$pattern" "$1"
}

# seals FILE COUNT PID - the same until so many completions are on disk.
seals() {
    local try
    for ((try = 0; try < 1200; try++)); do
        [ "$("$tandem" export "$1" --partial 2>/dev/null | wc -l)" -ge "$2" ] && return
        kill -0 "$3" 2>/dev/null || return
        sleep 0.05
    done
    return 1
}

# in_time COMMAND ... - disturbs a job that must be running then. How fast it runs and how late the shell is, nobody
# knows: the command is false when the job had ended before, and is tried again, ten times.
in_time() {
    local turn
    for ((turn = 0; turn < 10; turn++)); do
        "$@" && return
    done
    fail "$*: ten jobs had ended before they were disturbed"
}

# kill_job FILE PID - kills the ranks of the job with that output, then the group of its mpirun, which would have ended
# them in an orderly way; returns when all have let go of the output.
kill_job() {
    local rank ranks threads
    ranks=$(pgrep -f "^[^ ]*tandem run .*output.file=$1 ")
    kill -KILL $ranks 2>/dev/null
    kill -KILL -- "-$2" 2>/dev/null
    wait "$2" 2>/dev/null # says "Killed"
    for rank in $ranks; do
        # Its first thread is a zombie while others may still end.
        while threads=("/proc/$rank/task/"*) && { [ ${#threads[@]} -gt 1 ] || grep -qs '^State:[[:space:]]*[^[:space:]ZX]' "/proc/$rank/status"; }; do
            sleep 0.01
        done
    done
}

# handles PID SIGNAL - waits until the process has a handler for it; false when it ended before.
handles() {
    local try mask
    for ((try = 0; try < 3000; try++)); do
        mask=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null)
        ((0x${mask:-0} >> ($(kill -l "$2") - 1) & 1)) && return
        kill -0 "$1" 2>/dev/null || return
        sleep 0.02
    done
    return 1
}

# rank_of FILE RANK - the process that is this rank of the job with that output.
rank_of() {
    local pid
    for pid in $(pgrep -f "^[^ ]*tandem run .*output.file=$1 "); do
        grep -qz "^\(OMPI_COMM_WORLD_RANK\|PMI_RANK\)=$2\$" "/proc/$pid/environ" 2>/dev/null && echo "$pid" && return
    done
}
