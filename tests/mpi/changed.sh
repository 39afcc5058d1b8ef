#!/bin/bash
# A prompts file that is replaced or written while a job uses it ends the job with status 1; no row of the
# other file is kept, and when the file is back, the same command gives what it would have given.
# timeout: 120
. "$(dirname "$0")/lib.sh"
need "$tandem"
sed 's/^  ffn:.*/  colocated: true/; s/count: 21/count: all/; s/max_new_tokens: .*/max_new_tokens: 8/' \
    tests/mpi/job.yaml >"$work/alone.yaml"
seq 300 | sed 's/.*/harbor &, noun:/' | "$tandem" import - "$work/right.h5" >/dev/null || fail import
seq 300 | sed 's/.*/pigeon &, noun:/' | "$tandem" import - "$work/wrong.h5" >/dev/null || fail import
job=$work/alone.yaml

# start NAME - the job, in the background; returns when it decodes.
start() {
    : >"$work/$1.log"
    timeout -k 1 60 "$tandem" run "$job" --set output.file="$work/$1.h5" --set output.commit_seconds=0.1 \
        --set prompts.file="$work/p.h5" >"$work/$1.log" 2>&1 &
    pid=$!
    decodes "$work/$1.log" $pid
}
cp "$work/right.h5" "$work/p.h5"
start whole
wait $pid || fail "undisturbed: $(cat "$work/whole.log")"
# noticed UNDISTURBED - waits for the job; sets status. False when it had ended, or had looked for the last time: that
# may be once, and then it wrote what UNDISTURBED is.
unseen=0
noticed() {
    local alive=0
    kill -0 $pid 2>/dev/null && alive=1
    wait $pid
    status=$?
    [ $status = 0 ] || return 0
    same "$1" "$name"
    [ $((unseen += alive)) -lt 2 ] || fail "$name: a change was not noticed"
    return 1
}
# change - does it to the file of a job that decodes.
change() {
    rm -rf "$work/$name".*
    cp "$work/right.h5" "$work/p.h5"
    cp "$work/wrong.h5" "$work/moved.h5"
    start "$name"
    $way
    noticed whole
}
for way in "cp $work/wrong.h5 $work/p.h5" "mv $work/moved.h5 $work/p.h5" "truncate -s 3000 $work/p.h5" "rm $work/p.h5"; do
    name=${way%% *}
    in_time change
    [ $status = 1 ] || fail "$way: exit status $status: $(cat "$work/$name.log")"
    grep -q 'p.h5: was .* while the job was using it' "$work/$name.log" || fail "$way: $(cat "$work/$name.log")"
    [ "$(grep -c '^tandem:' "$work/$name.log")" = 1 ] || fail "$way: more than one message: $(cat "$work/$name.log")"
    cp "$work/right.h5" "$work/p.h5"
    start "$name"
    wait $pid || fail "after $way: $(cat "$work/$name.log")"
    same whole "$name"
done

# The last prompt has been read, its completion is still being decoded: nothing may be made of it.
start_late() {
    cp "$work/right.h5" "$work/p.h5"
    : >"$work/$1.log"
    timeout -k 1 60 "$tandem" run "$job" --set output.file="$work/$1.h5" --set prompts.file="$work/p.h5" \
        --set prompts.count=1 --set kernels=plain --set layout.threads=1 --set sampling.max_new_tokens=140 \
        --set sampling.ignore_eos=true --set speculate.draft=off >"$work/$1.log" 2>&1 &
    pid=$!
    decodes "$work/$1.log" $pid
}
change_late() {
    rm -rf "$work"/late.*
    start_late late
    [ $turn = 0 ] && sleep 0.1
    cp "$work/wrong.h5" "$work/p.h5"
    noticed calm
}
start_late calm
wait $pid || fail "undisturbed: $(cat "$work/calm.log")"
name=late
in_time change_late
[ $status = 1 ] || fail "prompts changed behind the last row: exit status $status: $(cat "$work/late.log")"
cp "$work/right.h5" "$work/p.h5"

# Weights that change while they are loaded: the job stands still meanwhile, and whenever its log is looked at.
cp -r input/demo "$work/model"
status=loaded
for ((try = 0; try < 10; try++)); do
    rm -rf "$work"/weights.h5*
    : >"$work/weights.log"
    timeout -k 1 60 "$tandem" run "$job" --set model="$work/model" --set output.file="$work/weights.h5" \
        --set prompts.file="$work/p.h5" >"$work/weights.log" 2>&1 &
    pid=$!
    until stopped=$(pgrep -P $pid -x tandem) || ! kill -0 $pid 2>/dev/null; do sleep 0.001; done
    kill -STOP "$stopped"
    until grep -q 'colocated 0' "$work/weights.log" || ! kill -0 $pid 2>/dev/null; do
        kill -CONT "$stopped"
        sleep 0.002
        kill -STOP "$stopped"
    done
    if grep -q '^loaded' "$work/weights.log"; then # too late
        kill -KILL "$stopped"
        wait $pid
        continue
    fi
    touch "$work"/model/*.safetensors
    kill -CONT "$stopped"
    wait $pid
    status=$?
    break
done
[ $status = 1 ] || fail "weights that change: exit status $status: $(cat "$work/weights.log")"
echo "a file that changes ends the job"
