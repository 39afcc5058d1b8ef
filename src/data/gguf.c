#include "data/gguf.h"

#include "base/mem.h"
#include "data/gguf_part.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PARTS  99999
#define SUFFIX_LEN 20 /* "-00001-of-00005.gguf" */

struct gguf {
    struct gguf_part **parts;
    size_t n_parts;
    const struct tensor **tensors; /* of all parts */
    size_t count;
};

bool gguf_is_path(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".gguf") == 0;
}

/* ---- values ----------------------------------------------------------------------------------- */

bool gguf_is_text(const struct gguf_value *v, const char *text)
{
    return v && v->type == GGUF_STRING && v->count == 1 && v->strings[0].bytes == strlen(text) &&
           memcmp(v->strings[0].text, text, v->strings[0].bytes) == 0;
}

/* Element i, `size` bytes long, in the lowest bytes of a u64. */
static uint64_t element(const struct gguf_value *v, size_t i, size_t size)
{
    uint64_t bits = 0;
    memcpy(&bits, v->data + i * size, size);
    return bits;
}

bool gguf_integer(const struct gguf_value *v, size_t i, int64_t *out)
{
    uint64_t bits;
    if (i >= v->count)
        return false;
    switch (v->type) {
    case GGUF_U8:
    case GGUF_BOOL:
        *out = v->data[i];
        return true;
    case GGUF_I8:
        *out = (int8_t)v->data[i];
        return true;
    case GGUF_U16:
        *out = (int64_t)element(v, i, 2);
        return true;
    case GGUF_I16:
        *out = (int16_t)element(v, i, 2);
        return true;
    case GGUF_U32:
        *out = (int64_t)element(v, i, 4);
        return true;
    case GGUF_I32:
        *out = (int32_t)element(v, i, 4);
        return true;
    case GGUF_U64:
        bits = element(v, i, 8);
        *out = (int64_t)bits;
        return bits <= INT64_MAX;
    case GGUF_I64:
        *out = (int64_t)element(v, i, 8);
        return true;
    default:
        return false;
    }
}

bool gguf_number(const struct gguf_value *v, size_t i, double *out)
{
    int64_t n;
    if (i >= v->count)
        return false;
    if (v->type == GGUF_F32) {
        float f;
        memcpy(&f, v->data + i * sizeof f, sizeof f);
        *out = (double)f;
        return true;
    }
    if (v->type == GGUF_F64) {
        memcpy(out, v->data + i * sizeof *out, sizeof *out);
        return true;
    }
    if (!gguf_integer(v, i, &n))
        return false;
    *out = (double)n;
    return true;
}

const char *gguf_type_text(const struct gguf_value *v, char text[32])
{
    static const char *const names[GGUF_TYPES] = {"u8",  "i8",  "u16",  "i16",    "u32",
                                                  "i32", "f32", "bool", "string", "array",
                                                  "u64", "i64", "f64"};
    snprintf(text, 32, "%s%s", v->array ? "array of " : "", names[v->type]);
    return text;
}

/* ---- parts ------------------------------------------------------------------------------------ */

static int split_number(const struct gguf_part *p, const char *key, int64_t otherwise, int64_t *out,
                        struct err *e)
{
    const struct gguf_value *v = gguf_part_find(p, key);
    *out = otherwise;
    if (v && (v->array || !gguf_integer(v, 0, out) || *out < 0))
        return err_set(e, "%s: %s is not a number of 0 or more", p->file.path, key);
    return 0;
}

/* What a part says about itself, against what is wanted of it. */
static int check_split(const struct gguf_part *p, int64_t number, int64_t count, struct err *e)
{
    int64_t no, of;
    if (split_number(p, "split.no", 0, &no, e) != 0 ||
        split_number(p, "split.count", 1, &of, e) != 0)
        return -1;
    if (no != number || of != count)
        return err_set(
            e,
            "%s: is part %lld of %lld; wanted part %lld of %lld (split.no counts from 0). "
            "Files of different models, or renamed ones?",
            p->file.path, (long long)no + 1, (long long)of, (long long)number + 1,
            (long long)count);
    return 0;
}

/* The path of part `number` from that of the first; malloc'd, NULL after the error. */
static char *part_path(const char *first, int64_t number, int64_t count, struct err *e)
{
    char wanted[64], made[64];
    size_t n = strlen(first);
    snprintf(wanted, sizeof wanted, "-00001-of-%05lld.gguf", (long long)count);
    if (n < SUFFIX_LEN || strcmp(first + n - SUFFIX_LEN, wanted) != 0) {
        err_set(e,
                "%s: is the first of %lld files (split.count), so its name must end in \"%s\" for "
                "the others to be found",
                first, (long long)count, wanted);
        return NULL;
    }
    snprintf(made, sizeof made, "-%05lld-of-%05lld.gguf", (long long)number + 1, (long long)count);
    char *path = mem_string(first);
    memcpy(path + n - SUFFIX_LEN, made, SUFFIX_LEN);
    return path;
}

static int open_others(struct gguf *g, int64_t count, struct err *e)
{
    for (int64_t i = 1; i < count; i++) {
        char *path = part_path(g->parts[0]->file.path, i, count, e);
        if (!path)
            return -1;
        g->parts[g->n_parts++] = mem_zeroed(1, sizeof **g->parts);
        int rc = gguf_part_open(g->parts[i], path, e);
        free(path);
        if (rc != 0 || check_split(g->parts[i], i, count, e) != 0)
            return -1;
    }
    return 0;
}

static int open_parts(struct gguf *g, const char *path, struct err *e)
{
    int64_t number, count;
    struct gguf_part *first = mem_zeroed(1, sizeof *first);
    g->parts = mem_new(1, sizeof *g->parts);
    g->parts[g->n_parts++] = first;
    if (gguf_part_open(first, path, e) != 0 ||
        split_number(first, "split.no", 0, &number, e) != 0 ||
        split_number(first, "split.count", 1, &count, e) != 0)
        return -1;
    if (count <= 1)
        return 0;
    if (count > MAX_PARTS)
        return err_set(e, "%s: split.count is %lld; at most %d", path, (long long)count, MAX_PARTS);
    if (number != 0)
        return err_set(e, "%s: is part %lld of %lld of a model; name the first one (-00001-of-)",
                       path, (long long)number + 1, (long long)count);
    char *test = part_path(path, 1, count, e); /* before memory is taken for parts of any number */
    if (!test)
        return -1;
    free(test);
    g->parts = mem_resize(g->parts, (size_t)count, sizeof *g->parts);
    return open_others(g, count, e);
}

static int compare_names(const void *left, const void *right)
{
    return strcmp((*(const struct tensor *const *)left)->name,
                  (*(const struct tensor *const *)right)->name);
}

static int list_tensors(struct gguf *g, struct err *e)
{
    int64_t total;
    for (size_t i = 0; i < g->n_parts; i++)
        g->count += g->parts[i]->n_tensors;
    if (split_number(g->parts[0], "split.tensors.count", (int64_t)g->count, &total, e) != 0)
        return -1;
    if (g->n_parts > 1 && (size_t)total != g->count)
        return err_set(e, "%s: split.tensors.count is %lld, but its %zu files have %zu tensors",
                       g->parts[0]->file.path, (long long)total, g->n_parts, g->count);
    if (g->count == 0)
        return err_set(e, "%s: the model has no tensors", g->parts[0]->file.path);
    g->tensors = mem_new(g->count, sizeof *g->tensors);
    const struct tensor **sorted = mem_new(g->count, sizeof *sorted);
    size_t n = 0;
    for (size_t i = 0; i < g->n_parts; i++)
        for (size_t j = 0; j < g->parts[i]->n_tensors; j++)
            sorted[n] = g->tensors[n] = &g->parts[i]->tensors[j], n++;
    qsort(sorted, n, sizeof *sorted, compare_names);
    int rc = 0;
    for (size_t i = 1; i < n && rc == 0; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            rc = err_set(e, "%s: tensor \"%s\" stands there twice (also in %s)", sorted[i]->file,
                         sorted[i]->name, sorted[i - 1]->file);
    free(sorted);
    return rc;
}

int gguf_open(struct gguf **out, const char *path, struct err *e)
{
    struct gguf *g = mem_zeroed(1, sizeof *g);
    if (open_parts(g, path, e) != 0 || list_tensors(g, e) != 0) {
        gguf_close(g);
        return -1;
    }
    *out = g;
    return 0;
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->n_parts; i++) {
        gguf_part_close(g->parts[i]);
        free(g->parts[i]);
    }
    free(g->parts);
    free(g->tensors);
    free(g);
}

const char *gguf_path(const struct gguf *g)
{
    return g->parts[0]->file.path;
}

size_t gguf_count(const struct gguf *g)
{
    return g->count;
}

const struct tensor *gguf_at(const struct gguf *g, size_t i)
{
    return g->tensors[i];
}

const struct gguf_value *gguf_find(const struct gguf *g, const char *key)
{
    return gguf_part_find(g->parts[0], key);
}
