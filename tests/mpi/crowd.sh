#!/bin/bash
# More ranks than cores: 8A8F and 4A12F finish, with the same bits over shared memory and by messages. And ranks
# that wait leave their cores alone: while one is stopped, the others take less than 5 % of a core each; it goes
# on, and nothing was lost.
# timeout: 300
# alone: it measures what waiting costs
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
small=(layout.threads=1 prompts.count=9 sampling.max_new_tokens=5)

crowd() { # NAME ATTENTION EXPERT TENSOR EXCHANGE
    decode "$1" $(($2 + $3 * $4)) "${small[@]}" layout.attention="$2" layout.ffn.expert="$3" layout.ffn.tensor="$4" \
        layout.exchange="$5" || fail "$1"
}
crowd 8a8f-shared 8 4 2 shared
crowd 8a8f-mpi 8 4 2 mpi
crowd 4a12f-shared 4 6 2 shared
crowd 4a12f-mpi 4 6 2 mpi
same 8a8f-shared 8a8f-mpi
same 4a12f-shared 4a12f-mpi

# Hundredths of a second of processor time, and how often each process of the job was looked at: PID TICKS.
ticks() {
    local pid
    for pid in $(pgrep -f "^[^ ]*tandem run .*output.file=$1 "); do
        awk -v pid="$pid" '{ sub(/.*\) /, ""); print pid, $12 + $13 }' "/proc/$pid/stat"
    done
}

waiting() { # EXCHANGE - false when the job had ended before a rank was stopped
    local name=waiting-$1 pid before after job_pid
    rm -rf "$work/$name".*
    decode "$name" 3 layout.threads=1 layout.attention=2 layout.exchange="$1" sampling.max_new_tokens=60 \
        sampling.ignore_eos=true >/dev/null &
    job_pid=$!
    decodes "$work/$name.log" $job_pid '^loaded in' || fail "$name: $(cat "$work/$name.log")"
    pid=$(pgrep -f "^[^ ]*tandem run .*output.file=$work/$name.h5 " | tail -n 1)
    [ "$pid" ] && kill -STOP "$pid" || return
    sleep 0.5
    before=$(ticks "$work/$name.h5")
    sleep 3
    after=$(ticks "$work/$name.h5")
    kill -CONT "$pid"
    wait $job_pid || fail "$1: after the pause"
    [ "$(wc -l <<<"$before")" = 3 ] && [ "$(wc -l <<<"$after")" = 3 ] || return
    join <(sort <<<"$before") <(sort <<<"$after") | awk -v how="$1" -v hz="$(getconf CLK_TCK)" '
        { share = 100 * ($3 - $2) / hz / 3; printf "%s: rank waits with %.1f %% of a core\n", how, share
          if (share > 5) bad = 1; n++ }
        END { exit bad || n != 3 }' || fail "$1: ranks are busy while they wait"
}
decode reference 3 layout.threads=1 layout.attention=2 sampling.max_new_tokens=60 sampling.ignore_eos=true ||
    fail "reference"
for exchange in shared mpi; do
    in_time waiting $exchange
    same reference waiting-$exchange
done
