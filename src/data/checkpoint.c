#include "data/checkpoint.h"

#include "base/config.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/mem.h"
#include "data/gguf_view.h"
#include "data/safetensors.h"

#include <errno.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ONE_FILE   "model.safetensors"
#define INDEX_FILE "model.safetensors.index.json"

#define HASHED_WHOLE ((size_t)256 << 20) /* bytes of a checkpoint whose hash takes all of them */

struct checkpoint {
    char *directory;
    struct safetensors **files;
    size_t n_files;
    struct gguf_view *gguf;         /* in place of files */
    const struct tensor **in_order; /* as in the files, one after the other */
    const struct tensor **by_name;  /* sorted, for checkpoint_find() */
    size_t count;
};

static int add_file(struct checkpoint *c, const char *name, struct err *e)
{
    char *path = files_join(c->directory, name);
    struct safetensors *file;
    int rc = safetensors_open(&file, path, e);
    free(path);
    if (rc == 0) {
        c->files = mem_resize(c->files, c->n_files + 1, sizeof *c->files);
        c->files[c->n_files++] = file;
    }
    return rc;
}

static int compare_names(const void *left, const void *right)
{
    const struct tensor *a = *(const struct tensor *const *)left;
    const struct tensor *b = *(const struct tensor *const *)right;
    return strcmp(a->name, b->name);
}

/* Lists the tensors of all files; a name may stand in one file only. */
static int list_tensors(struct checkpoint *c, struct err *e)
{
    for (size_t f = 0; f < c->n_files; f++)
        c->count += safetensors_count(c->files[f]);
    if (c->gguf)
        c->count = c->gguf->count;
    c->in_order = mem_new(c->count, sizeof *c->in_order);
    c->by_name = mem_new(c->count, sizeof *c->by_name);
    size_t n = 0;
    for (size_t f = 0; f < c->n_files; f++)
        for (size_t i = 0; i < safetensors_count(c->files[f]); i++)
            c->in_order[n++] = safetensors_at(c->files[f], i);
    for (size_t i = 0; c->gguf && i < c->gguf->count; i++)
        c->in_order[n++] = &c->gguf->tensors[i];
    if (n == 0)
        return err_set(e, "%s: the checkpoint has no tensors", c->directory);
    memcpy(c->by_name, c->in_order, n * sizeof *c->by_name);
    qsort(c->by_name, n, sizeof *c->by_name, compare_names);
    for (size_t i = 1; i < n; i++)
        if (strcmp(c->by_name[i - 1]->name, c->by_name[i]->name) == 0)
            return err_set(e, "%s: tensor \"%.200s\" stands in %s as well; which one is meant?",
                           c->by_name[i]->file, c->by_name[i]->name, c->by_name[i - 1]->file);
    return 0;
}

/* weight_map: tensor -> file name; adds every distinct name once, in alphabetical order. */
static int compare_strings(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int add_files_of_index(struct checkpoint *c, const char *index, json_t *map, struct err *e)
{
    size_t n = 0;
    const char **names = mem_new(json_object_size(map), sizeof *names);
    int rc = 0;
    for (void *at = json_object_iter(map); at && rc == 0; at = json_object_iter_next(map, at)) {
        const char *file = json_string_value(json_object_iter_value(at));
        if (!file)
            rc = err_set(e, "%s: tensor \"%.200s\": wanted a file name", index,
                         json_object_iter_key(at));
        else if (!*file || strchr(file, '/') || strcmp(file, ".") == 0 || strcmp(file, "..") == 0)
            rc = err_set(e,
                         "%s: tensor \"%.200s\": \"%.200s\" is not the name of a file in the "
                         "checkpoint's directory",
                         index, json_object_iter_key(at), file);
        else
            names[n++] = file;
    }
    if (rc == 0 && n)
        qsort(names, n, sizeof *names, compare_strings);
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (i && strcmp(names[i - 1], names[i]) == 0)
            continue;
        rc = add_file(c, names[i], e);
        if (rc != 0)
            err_prefix(e, "%s", index);
    }
    free(names);
    return rc;
}

/* Every tensor of the index is in the file the index says. */
static int check_index(const struct checkpoint *c, const char *index, json_t *map, struct err *e)
{
    for (void *at = json_object_iter(map); at; at = json_object_iter_next(map, at)) {
        const char *name = json_object_iter_key(at);
        const char *file = json_string_value(json_object_iter_value(at));
        const struct tensor *t = checkpoint_find(c, name);
        if (!t)
            return err_set(e, "%s: tensor \"%.200s\" is not in %s", index, name, file);
        if (strcmp(strrchr(t->file, '/') + 1, file) != 0)
            return err_set(e, "%s: tensor \"%.200s\" is not in %s but in %s", index, name, file,
                           t->file);
    }
    return 0;
}

static int open_index(struct checkpoint *c, const char *index, struct err *e)
{
    json_t *root = config_read_file(index, e);
    if (!root)
        return -1;
    json_t *map = json_object_get(root, "weight_map");
    int rc = 0;
    if (!json_is_object(map))
        rc = err_set(e, "%s: wanted an object \"weight_map\" of tensor names and files", index);
    if (rc == 0)
        rc = add_files_of_index(c, index, map, e);
    if (rc == 0)
        rc = list_tensors(c, e);
    if (rc == 0)
        rc = check_index(c, index, map, e);
    json_decref(root);
    return rc;
}

static int open_files(struct checkpoint *c, struct err *e)
{
    struct stat st;
    if (gguf_is_path(c->directory))
        return gguf_view_open(&c->gguf, c->directory, e) != 0 ? -1 : list_tensors(c, e);
    if (stat(c->directory, &st) != 0)
        return err_set(e, "%s: the checkpoint's directory cannot be opened: %s", c->directory,
                       strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return err_set(e,
                       "%s: wanted a checkpoint directory (config.json, " ONE_FILE
                       "), found a file; name the directory it is in",
                       c->directory);
    char *one = files_join(c->directory, ONE_FILE), *index = files_join(c->directory, INDEX_FILE);
    int rc;
    if (files_exist(one)) {
        rc = add_file(c, ONE_FILE, e);
        if (rc == 0)
            rc = list_tensors(c, e);
    } else if (files_exist(index)) {
        rc = open_index(c, index, e);
    } else {
        rc = err_set(
            e,
            "%s: has neither " ONE_FILE " nor " INDEX_FILE
            "; weights are read from safetensors files, or from GGUF when model names a .gguf file",
            c->directory);
    }
    free(one);
    free(index);
    return rc;
}

int checkpoint_open(struct checkpoint **out, const char *directory, struct err *e)
{
    struct checkpoint *c = mem_zeroed(1, sizeof *c);
    c->directory = mem_string(directory);
    if (open_files(c, e) != 0) {
        checkpoint_close(c);
        return -1;
    }
    *out = c;
    return 0;
}

void checkpoint_close(struct checkpoint *c)
{
    if (!c)
        return;
    for (size_t f = 0; f < c->n_files; f++)
        safetensors_close(c->files[f]);
    gguf_view_close(c->gguf);
    free(c->files);
    free(c->in_order);
    free(c->by_name);
    free(c->directory);
    free(c);
}

const char *checkpoint_note(const struct checkpoint *c)
{
    return c->gguf ? c->gguf->note : "";
}

const char *checkpoint_directory(const struct checkpoint *c)
{
    return c->directory;
}

const struct tensor *checkpoint_find(const struct checkpoint *c, const char *name)
{
    size_t low = 0, high = c->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, c->by_name[middle]->name);
        if (order == 0)
            return c->by_name[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

size_t checkpoint_count(const struct checkpoint *c)
{
    return c->count;
}

const struct tensor *checkpoint_at(const struct checkpoint *c, size_t i)
{
    return c->in_order[i];
}

/* Whole pages that touch (outer) or lie inside (inner) the range. A hint: its failure is nothing.
 */
static void advise(const void *data, size_t bytes, bool outer, int advice)
{
    if (bytes == 0)
        return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)data, end = begin + bytes;
    begin = outer ? begin / page * page : (begin + page - 1) / page * page;
    if (!outer)
        end = end / page * page;
    if (begin < end)
        (void)madvise((void *)begin, end - begin, advice);
}

void checkpoint_prefetch(const void *data, size_t bytes)
{
    advise(data, bytes, true, MADV_WILLNEED);
}

void checkpoint_release(const void *data, size_t bytes)
{
    /* Only whole pages: an edge page belongs to the neighbouring tensor as well. */
    advise(data, bytes, false, MADV_DONTNEED);
}

/* All bytes of a small model; of a large one, block by block, the first and last and one in a stretch:
 * a copy that was broken off, or came from elsewhere, is seen. */
static uint64_t hash_data(uint64_t h, const uint8_t *data, size_t bytes, bool all)
{
    const size_t block = 4096, stretch = (size_t)16 << 20;
    if (all || bytes <= 2 * block)
        return hash_bytes(h, data, bytes);
    for (size_t at = 0; at + block < bytes; at += stretch)
        h = hash_bytes(h, data + at, block);
    return hash_bytes(h, data + bytes - block, block);
}

uint64_t checkpoint_hash(const struct checkpoint *c)
{
    uint64_t h = HASH_START;
    size_t total = 0;
    for (size_t i = 0; i < c->count; i++)
        total += c->by_name[i]->bytes;
    for (size_t i = 0; i < c->count; i++) {
        const struct tensor *t = c->by_name[i];
        h = hash_string(h, t->name);
        h = hash_string(h, t->dtype_text);
        h = hash_bytes(h, t->shape, (size_t)t->dims * sizeof *t->shape);
        h = hash_data(h, t->data, t->bytes, total <= HASHED_WHOLE);
    }
    return h;
}
