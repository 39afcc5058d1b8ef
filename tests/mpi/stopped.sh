#!/bin/bash
# A rank that is stopped (SIGSTOP) while ranks load, decode, commit or merge is named after schedule.step_timeout, by
# rank, role and host; the job ends with status 2, and the same command finishes it with the same bits.
# stopped.sh TRIALS for a soak; without, one trial a phase, over all transports.
# timeout: 120
# alone: it waits for a timeout that must not come before its time
. "$(dirname "$0")/lib.sh"
need "$tandem"
trials=${1:-4}
sed 's/count: 21/count: 40/' tests/mpi/job.yaml >"$work/job.yaml"
job=$work/job.yaml
common=(layout.attention=2 layout.threads=1 output.commit_seconds=0.1 schedule.step_timeout=2s
    sampling.max_new_tokens=40 sampling.ignore_eos=true)
began=${EPOCHREALTIME/./}
decode reference 3 "${common[@]}" || fail "the reference"
seconds=$(sed -n "s/^loaded in \([0-9.]*\) s.*/(${EPOCHREALTIME/./} - $began) \/ 1e6 - \1/p" "$work/reference.log")
[ "$seconds" ] || fail "the reference does not say how long it loaded"
completions reference >"$work/reference.jsonl"

# until_phase PHASE NAME: waits for it, at most 20 s.
until_phase() {
    local i
    for ((i = 0; i < 2000; i++)); do
        case $1 in
        load) grep -q ' attention 0 ' "$work/$2.log" 2>/dev/null && return ;;
        merge) compgen -G "$work/$2.h5.partial/merge*" >/dev/null && return ;;
        *) grep -q '^loaded in' "$work/$2.log" 2>/dev/null && return ;;
        esac
        sleep 0.01
    done
    return 1
}

# trial NUMBER: one job, stopped once. Writes "named", "finished" (before it could be stopped) or what is wrong.
trial() {
    local name=trial$1 phases=(load step commit merge) transports=(shared mpi mpi) rank=$((($1 + $1 / 4) % 3))
    local phase=${phases[$(($1 % 4))]} transport=${transports[$(($1 % 3))]} roles=("attention 0" "attention 1" "ffn 0")
    local status job_pid pid more=("${common[@]}" layout.exchange="$transport")
    ( [ $(($1 % 3)) = 2 ] && export TCP=1
        decode "$name" 3 "${more[@]}"; echo $? >"$work/$name.status" ) >/dev/null &
    job_pid=$!
    until_phase "$phase" "$name"
    # Four jobs at a time take longer than one did.
    [ "$phase" = step ] || [ "$phase" = commit ] && sleep "$(awk "BEGIN { print ($seconds) * $RANDOM / 32768 }")"
    pid=$(rank_of "$work/$name.h5" "$rank")
    [ -n "$pid" ] && kill -STOP "$pid"
    for ((i = 0; i < 300; i++)); do
        [ -f "$work/$name.status" ] && break
        sleep 0.1
    done
    [ -f "$work/$name.status" ] || { kill -KILL "$pid"; echo "$phase, $transport, rank $rank: hangs" >"$work/$name.verdict"; return; }
    wait "$job_pid"
    status=$(cat "$work/$name.status")
    if [ "$status" = 0 ]; then
        echo finished >"$work/$name.verdict"
    elif [ "$status" = 2 ] && grep -q "rank $rank (${roles[$rank]}, host .*no sign of life" "$work/$name.log"; then
        decode "$name" 3 "${more[@]}" >/dev/null || { echo "$phase: not continued" >"$work/$name.verdict"; return; }
        echo named >"$work/$name.verdict"
    else
        echo "$phase, $transport, rank $rank: status $status: $(tail -n 3 "$work/$name.log")" >"$work/$name.verdict"
        return
    fi
    completions "$name" | cmp -s - "$work/reference.jsonl" ||
        echo "$phase, $transport, rank $rank: other completions" >"$work/$name.verdict"
}

for ((n = 0; n < trials; n += 4)); do
    for ((k = n; k < n + 4 && k < trials; k++)); do
        trial "$k" &
    done
    wait
done
cat "$work"/trial*.verdict | sort | uniq -c
grep -qvE '^(named|finished)$' "$work"/trial*.verdict && fail "see above"
[ "$(cat "$work"/trial*.verdict | grep -c named)" -ge $((trials / 2)) ] || fail "hardly a rank was stopped in time"
[ "$(ls "$work"/trial*.verdict | wc -l)" = "$trials" ] || fail "a trial has no verdict"
