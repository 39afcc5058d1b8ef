#!/bin/bash
# A job is one model, one tokenizer, one prompts file: on every rank, and after every restart. Whatever
# differs is named, and no rank goes on.
# timeout: 300
. "$(dirname "$0")/lib.sh"
need "$tandem"
tandem=$PWD/$tandem
demo=$PWD/input/demo
for n in 0 1 2; do
    mkdir -p "$work/r$n/model" # two attention ranks and one FFN rank, each sees a folder of its own
done
sed "s|^model:.*|model: model|; s|file: input/prompts.h5|file: p.h5|; s|attention: 1|attention: 2|; s|count: 21|count: all|" \
    tests/mpi/job.yaml >"$work/job.yaml"
seq 12 | sed 's/.*/harbor&, noun:/' | "$tandem" import - "$work/same.h5" >/dev/null || fail import
seq 12 | sed 's/.*/to waltz&, verb:/' | "$tandem" import - "$work/other.h5" >/dev/null || fail import

fresh() { # NUMBER - that rank's files as they should be
    rm -rf "$work/r$1/model"
    cp -r "$demo" "$work/r$1/model"
    cp "$work/same.h5" "$work/r$1/p.h5"
    cp "$work/job.yaml" "$work/r$1/job.yaml"
}
for n in 0 1 2; do
    fresh $n
done

# Each rank in its own folder.
each() {
    rm -rf "$work/r0/o.h5"*
    tests/mpirun 3 bash -c 'cd "$1/r${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" && shift && exec "$@"' - "$work" \
        "$tandem" run job.yaml --set output.file=o.h5 "$@" >"$work/log" 2>&1
}

# differs RANK WORDS - the job is refused, and the words of our message say why.
differs() {
    each
    local status=$?
    [ $status = 1 ] || fail "rank $1 with another $2: exit status $status: $(cat "$work/log")"
    grep -q "rank $1 on .*$2" "$work/log" || fail "rank $1: no '$2': $(cat "$work/log")"
    fresh "$1"
}
each || fail "ranks with equal copies: $(cat "$work/log")"
sed -i 's/"rope_theta": 10000.0/"rope_theta": 500000.0/' "$work/r2/model/config.json"
differs 2 'config.rope_theta is 500000.0 here, 10000.0 there'
sed -i 's/"add_bos_token": *[a-z]*/"add_bos_token": false/' "$work/r1/model/tokenizer_config.json"
differs 1 'bos is -1 here'
echo >>"$work/r1/model/tokenizer.json"
differs 1 'tokenizer is'
cp "$work/other.h5" "$work/r1/p.h5"
differs 1 'prompts is'
# A byte in the middle of the weights of the FFN rank, whose copy is newer.
size=$(stat -c %s "$work/r2/model/model.safetensors")
printf '\001' | dd of="$work/r2/model/model.safetensors" bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
differs 2 'weights is'
sed -i 's/slots: 5/slots: 6/' "$work/r1/job.yaml"
differs 1 'schedule.slots is 6 here, 5 there'

# ---- restarts ------------------------------------------------------------------------------------
sed 's|^  ffn:.*|  colocated: true|; s|attention: 2|attention: 1|' "$work/job.yaml" >"$work/r0/job.yaml"
cd "$work/r0" || fail "no folder"
again() {
    timeout 60 "$tandem" run job.yaml --set output.file=c.h5 --set sampling.samples=4000 "$@" >"$work/log" 2>&1
}
again --set schedule.time_limit=1s
status=$?
[ $status = 75 ] || fail "a job with a time limit: exit status $status: $(cat "$work/log")"

# refused WORDS [--set ...] - the same command does not continue, and says why.
refused() {
    local words=$1 status
    shift
    again "$@"
    status=$?
    [ $status = 1 ] || fail "$words: exit status $status: $(cat "$work/log")"
    grep -q "belongs to another job.*$words" "$work/log" || fail "no '$words': $(cat "$work/log")"
}
for change in 's/"rope_theta": 10000.0/"rope_theta": 10.0/ config.rope_theta' \
    's/"eos_token_id": [0-9]*/"eos_token_id": 7/ config.eos_token_id' \
    's/"moe_top_k": [0-9]*/"moe_top_k": 1/ config.moe_top_k' \
    's/"rms_norm_eps": [0-9e.-]*/"rms_norm_eps": 0.1/ config.rms_norm_eps'; do
    sed -i "${change% *}" model/config.json
    cmp -s model/config.json "$demo/config.json" && continue # not in this model
    refused "${change##* }"
    cp "$demo/config.json" model/config.json
done
sed -i 's/"add_bos_token": *[a-z]*/"add_bos_token": false/' model/tokenizer_config.json
refused 'bos '
echo '{"eos_token_id": [1, 259]}' >model/generation_config.json
refused 'stop tokens 1 instead of 1,259'
rm model/generation_config.json
cp "$demo/tokenizer_config.json" model
printf '\001' | dd of=model/model.safetensors bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
refused weights
cp "$demo/model.safetensors" model
# A program whose kernels give other bits: this one, with another number of them (OPS_BITS_CPU).
LC_ALL=C sed 's/edition \([0-9]*\)[0-9] of CPUs/edition \1x of CPUs/g' "$tandem" >"$work/tandem" && chmod +x "$work/tandem" || fail "no copy of the program"
ours=$tandem tandem=$work/tandem
refused 'kernels edition [0-9]* of CPUs instead of edition [0-9]*x of CPUs'
tandem=$ours
again --set schedule.time_limit=1s
status=$?
[ $status = 75 ] || fail "everything is as it was, and the job does not go on: $(cat "$work/log")"

# ---- growing, and trying again -------------------------------------------------------------------
some() { # NAME [--set ...] - a job that has an error row, 40 times
    local name=$1
    shift
    timeout 60 "$tandem" run job.yaml --set output.file="$name.h5" --set sampling.samples=40 \
        --set sampling.max_new_tokens=3 --set schedule.slots=2 "$@" >"$work/log" 2>&1
}
rows() { # NUMBER WORD - a prompt that is too long, and others
    { printf 'word %.0s' {1..600}; echo; seq "$1" | sed "s/.*/$2&, noun:/"; } |
        "$tandem" import - p.h5 --force >/dev/null || fail import
}
stopped() { # as some, but stopped when it decodes; what was there before is there again if that was too late
    local pid status
    rm -rf before
    [ -e "$1.h5.partial" ] && cp -r "$1.h5.partial" before
    : >"$work/log"
    some "$@" &
    pid=$!
    decodes "$work/log" $pid && [ $turn = 0 ] && sleep 0.2
    pkill -USR1 -P "$(pgrep -P $pid -x timeout)"
    wait $pid
    status=$?
    if [ $status != 75 ] && [ -e "$1.h5" ]; then
        rm -rf "$1".*
        [ -e before ] && mv before "$1.h5.partial"
        return 1
    fi
    [ $status = 75 ] || fail "a job that was asked to stop: exit status $status: $(cat "$work/log")"
}
to_do() { sed -n 's/.*; \([0-9]*\) of .* to do.*/\1/p' "$work/log"; }
rows 12 harbor
in_time stopped grown
rows 14 pigeon
some grown
[ $? = 1 ] && grep -q 'belongs to another job.*prompts' "$work/log" || fail "other rows, grown: $(cat "$work/log")"
rows 14 harbor
in_time stopped grown
done=$("$tandem" export --partial grown.h5 | wc -l)
in_time stopped grown --retry-errors --set kernels=plain # which have the same bits
[ "$(to_do)" = $((600 - done + 40)) ] || fail "--retry-errors: $done done, then $(to_do) of 600 to do"
some grown || fail "a grown job: $(cat "$work/log")"
some fresh || fail "a fresh job: $(cat "$work/log")"
cmp <("$tandem" export grown.h5 --tokens --logprobs) <("$tandem" export fresh.h5 --tokens --logprobs) ||
    fail "a grown job differs from one that had all rows"
[ "$("$tandem" export grown.h5 | wc -l)" = 600 ] || fail "rows of a grown job"

# ---- finished, and the weight files were touched, then changed -------------------------------------
some fresh && ! grep -q "reads model" "$work/log" || fail "a finished job: $(cat "$work/log")"
touch model/model.safetensors
some fresh && grep -q "reads model to see" "$work/log" && grep -q "finished already" "$work/log" ||
    fail "a finished job with newer weights: $(cat "$work/log")"
printf '\001' | dd of=model/model.safetensors bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
some fresh
[ $? = 1 ] && grep -q "fresh.h5: belongs to another job.*weights" "$work/log" ||
    fail "a finished job with other weights: $(cat "$work/log")"
echo "what differs is named"
