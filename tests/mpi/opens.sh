#!/bin/bash
# While a job starts, one rank reads its small files (job, configuration, tokenizer, index) for all, and ranks
# without prompts open neither those nor the tokenizer; a rank whose files are copies of its own reads those.
# timeout: 120
. "$(dirname "$0")/lib.sh"
need "$tandem"
tandem=$(realpath "$tandem")
[ -z "${SAN:-}" ] || skip "a sanitizer wants to be the first library of a program"
: "${CC:=cc}" # or several words: ccache gcc
command -v "${CC%% *}" >/dev/null || skip "there is no C compiler ($CC)"
# Goes before the program's own libraries: every file that a rank opens is a line "RANK PATH" in $OPENS.
cat >"$work/opens.c" <<'C' || fail "no room"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void note(const char *path)
{
    char line[1024];
    const char *log = getenv("OPENS"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (!rank)
        rank = getenv("PMI_RANK");
    if (!log || !rank)
        return;
    int n = snprintf(line, sizeof line, "%s %s\n", rank, path);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd < 0 || n >= (int)sizeof line || write(fd, line, (size_t)n) != n)
        abort();
    close(fd);
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, flags);                                                                     \
        mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;                                  \
        va_end(args);                                                                              \
        note(path);                                                                                \
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);                              \
    }

#define FOPEN(name)                                                                                \
    FILE *name(const char *path, const char *how)                                                  \
    {                                                                                              \
        static FILE *(*real)(const char *, const char *);                                          \
        if (!real)                                                                                 \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                             \
        note(path);                                                                                \
        return real(path, how);                                                                    \
    }

OPEN(open)
OPEN(open64)
FOPEN(fopen)
FOPEN(fopen64)
C
$CC -shared -fPIC -O1 -o "$work/opens.so" "$work/opens.c" -ldl || fail "the library that counts cannot be made"
cat >"$work/rank" <<'R'
#!/bin/bash
cd "$FOLDER${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" 2>/dev/null # where ranks have folders of their own
LD_PRELOAD=$COUNTER exec "$@"
R
chmod +x "$work/rank"
export OPENS=$work/opens COUNTER=$work/opens.so FOLDER=

# The demo's weights in two files, with an index.
mkdir "$work/model"
cp input/demo/*.json "$work/model"
"$PYTHON" - input/demo/model.safetensors "$work/model" <<'P' || fail "two files"
import json, sys
data = open(sys.argv[1], "rb").read()
n = int.from_bytes(data[:8], "little")
tensors = {k: v for k, v in json.loads(data[8:8 + n]).items() if k != "__metadata__"}
names = sorted(tensors, key=lambda k: tensors[k]["data_offsets"])
index = {}
for part, few in enumerate((names[:len(names) // 2], names[len(names) // 2:])):
    file, at, head, body = f"part-{part}.safetensors", 0, {}, b""
    for name in few:
        a, b = tensors[name]["data_offsets"]
        head[name] = dict(tensors[name], data_offsets=[at, at + b - a])
        body, at, index[name] = body + data[8 + n + a:8 + n + b], at + b - a, file
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    open(f"{sys.argv[2]}/{file}", "wb").write(len(text).to_bytes(8, "little") + text + body)
json.dump({"weight_map": index}, open(f"{sys.argv[2]}/model.safetensors.index.json", "w"))
P
sed "s|^model:.*|model: $work/model|; s|file: input/prompts.h5|file: $PWD/input/prompts.h5|" tests/mpi/job.yaml >"$work/job.yaml"

# run NAME - with two attention and two FFN ranks.
run() {
    rm -f "$OPENS" "$work/$1.h5"*
    tests/mpirun 4 "$work/rank" "$tandem" run "$job" --set output.file="$work/$1.h5" --set layout.attention=2 \
        --set layout.ffn.expert=2 --set prompts.count=5 >"$work/log" 2>&1 || fail "$1: $(cat "$work/log")"
}
opened() { grep -cE "^$1 (.*/)?$2\$" "$OPENS"; }

job=$work/job.yaml
run shared
for file in job.yaml config.json tokenizer.json tokenizer_config.json model.safetensors.index.json; do
    [ "$(opened '[0-9]+' $file)" = 1 ] || fail "$file: opened by ranks $(grep "/$file\$" "$OPENS" | cut -d ' ' -f 1 | sort | tr '\n' ' ')"
done
[ "$(opened 0 tokenizer.json)" = 1 ] || fail "the tokenizer is read by another rank than the first"
[ "$(opened '[23]' '(prompts\.h5|tokenizer.*)')" = 0 ] || fail "an FFN rank opens prompts or tokenizer"
for rank in 0 1 2 3; do # the weights' data are everybody's own
    [ "$(opened $rank part-0.safetensors)" = 1 ] || fail "rank $rank opens weights $(opened $rank part-0.safetensors) times"
done

# Copies of their own: each reads its own, and the result is the same.
for rank in 0 1 2 3; do
    mkdir "$work/r$rank"
    cp -r "$work/model" "$work/job.yaml" "$work/r$rank"
    sed -i 's|^model:.*|model: model|' "$work/r$rank/job.yaml"
done
FOLDER=$work/r job=job.yaml run copies
for rank in 0 1 2 3; do
    [ "$(opened $rank config.json)" = 1 ] || fail "rank $rank does not read its own config.json"
done
same shared copies

# A GGUF file is all of these in one: opened for its configuration, for its tokenizer, for the identity and for its weights.
FOLDER=
"$tandem" generate "$work/one.gguf" family=llama dtype=q8_0 hidden=64 layers=2 vocab=300 dense=96 heads=4 kv_heads=2 head_dim=16 >/dev/null || fail generate
for i in 1 2 3; do echo '{"tokens": [5, 6, 7]}'; done >"$work/t.jsonl"
"$tandem" import "$work/t.jsonl" "$work/t.h5" --tokens tokens >/dev/null || fail import
rm -f "$OPENS"
tests/mpirun 2 "$work/rank" "$tandem" run tests/mpi/job.yaml --set model="$work/one.gguf" --set prompts.file="$work/t.h5" \
    --set prompts.count=all --set output.file="$work/one.h5" >"$work/log" 2>&1 || fail "a GGUF file: $(cat "$work/log")"
[ "$(opened 0 one.gguf)" = 4 ] || fail "the first rank opens a GGUF file $(opened 0 one.gguf) times"
[ "$(opened 1 one.gguf)" = 3 ] || # without the tokenizer
    fail "the second rank opens a GGUF file $(opened 1 one.gguf) times"
echo "one rank reads what is small"
