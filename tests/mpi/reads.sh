#!/bin/bash
# Every byte of the FFN's matrices is read by one of the ranks that share them, however their file lies to the cut:
# the pages of the checkpoint that each rank has touched are counted. And a job that does so finds what one rank finds.
# timeout: 120
. "$(dirname "$0")/lib.sh"
need "$tandem"
tandem=$(realpath "$tandem")
[ -z "${SAN:-}" ] || skip "a sanitizer wants to be the first library of a program"
: "${CC:=cc}" # or several words: ccache gcc
command -v "${CC%% *}" >/dev/null || skip "there is no C compiler ($CC)"
# Goes before the program's own libraries: pages that were read stay, and when a checkpoint is unmapped how
# many there are is a line "RANK KIB" in $READS.
cat >"$work/reads.c" <<'C' || fail "no room"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int madvise(void *at, size_t n, int advice)
{
    return advice == MADV_DONTNEED ? 0 : (int)syscall(SYS_madvise, at, n, advice);
}

static void note(const char *at, size_t n)
{
    char line[1024];
    const char *log = getenv("READS"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    FILE *f = fopen("/proc/self/smaps", "r"), *to;
    unsigned long begin, from = (unsigned long)at, kib;
    int here = 0;
    if (!rank)
        rank = getenv("PMI_RANK");
    while (log && rank && f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-", &begin) == 1 && strchr(line, '-') && strchr(line, ':') > strchr(line, '-'))
            here = begin >= from && begin < from + n && strstr(line, ".safetensors");
        else if (here && sscanf(line, "Rss: %lu", &kib) == 1 && (to = fopen(log, "a"))) {
            fprintf(to, "%s %lu\n", rank, kib);
            fclose(to);
        }
    }
    if (f)
        fclose(f);
}

int munmap(void *at, size_t n)
{
    note(at, n);
    return (int)syscall(SYS_munmap, at, n);
}
C
$CC -shared -fPIC -O1 -o "$work/reads.so" "$work/reads.c" -ldl || fail "the library that counts cannot be made"
printf '#!/bin/bash\nLD_PRELOAD=$COUNTER exec "$@"\n' >"$work/rank"
chmod +x "$work/rank"
export READS=$work/reads COUNTER=$work/reads.so
job=tests/mpi/job.yaml

# model NAME [KEY=VALUE]...
model() {
    name=$1 ffn=
    shift
    "$tandem" generate "$work/$name" family=qwen3_moe vocab=90 hidden=1024 layers=1 context=160 heads=4 kv_heads=2 head_dim=32 \
        experts=2 topk=2 expert=2048 "$@" >/dev/null || fail "generate $name"
}
# run NAME FFN-RANKS [KEY=VALUE]... - the FFN ranks together touch what one touches that is alone, run first, and little
# more (whole blocks of 1 MiB are hashed, and the kernel maps pages around one that is touched).
run() {
    local sum pair set=()
    for pair in "${@:3}"; do
        set+=(--set "$pair")
    done
    rm -f "$READS" "$work/$1".h5*
    tests/mpirun $((1 + $2)) "$work/rank" "$tandem" run "$job" --set model="$work/$name" --set tokenizer=none \
        --set output.file="$work/$1.h5" --set prompts.file="$work/in.h5" --set prompts.count=all \
        --set sampling.max_new_tokens=3 --set sampling.ignore_eos=true "${set[@]}" >"$work/log" 2>&1 || fail "$1: $(cat "$work/log")"
    sum=$(awk '$1 > 0 { s += $2 } END { print 1024 * s }' "$READS")
    [ "$ffn" ] || { ffn=$sum && [ "$2" = 1 ]; } || fail "$1: one rank first"
    echo "$1: MiB read by ranks 0, 1, ...: $(awk '{ kib[$1] += $2 } END { for (i = 0; i in kib; i++) printf " %.1f", kib[i] / 1024 }' "$READS")"
    awk "BEGIN { exit !($sum > 4e6 && $sum <= 1.25 * $ffn) }" || fail "$1: FFN ranks read $sum bytes; one read $ffn"
}
echo '{"tokens": [1, 17, 30, 5]}' >"$work/prompts.jsonl"
"$tandem" import "$work/prompts.jsonl" "$work/in.h5" --format jsonl --tokens tokens >/dev/null || fail "import"

model bf16 dtype=bf16
run bf16 1
run bf16-2 2 layout.ffn.tensor=2
run bf16-4 4 layout.ffn.tensor=4 layout.exchange=mpi
same bf16 bf16-2
same bf16 bf16-4
run made-int8 1 precision.weights=int8
run made-int8-2 2 layout.ffn.tensor=2 precision.weights=int8 # whose steps are those of whole rows
same made-int8 made-int8-2
# Stored turned; packed in words; in blocks of scales, and with a shared expert, which instances share.
model awq dtype=awq expert=4096
run awq 1
run awq-2 2 layout.ffn.tensor=2
same awq awq-2
run awq-int8 1 precision.weights=int8
run awq-int8-2 2 layout.ffn.tensor=2 precision.weights=int8
same awq-int8 awq-int8-2
model int4 dtype=int4 expert=4096
run int4 1
run int4-2 2 layout.ffn.tensor=2
same int4 int4-2
model fp8 family=step3 kv_heads=1 q_rank=64 shared=2048 dtype=fp8
run fp8 1
run fp8-2 2 layout.ffn.expert=2
same fp8 fp8-2
echo "every byte is read by one rank"
