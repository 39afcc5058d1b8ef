#include "data/fingerprint.h"

#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct fingerprint {
    const struct tensor **tensors; /* by address */
    size_t *first;                 /* [n + 1] the first block of each */
    size_t *named;                 /* tensors in the order of their names */
    size_t n, block;
    uint64_t *blocks;
    int threads;
};

static size_t blocks_of(const struct fingerprint *f, const struct tensor *t)
{
    return (t->bytes + f->block - 1) / f->block;
}

/* Mappings lie elsewhere on every rank, so blocks are numbered in the order of names. */
static int by_name(const void *left, const void *right, void *context)
{
    const struct tensor *const *t = context;
    return strcmp(t[*(const size_t *)left]->name, t[*(const size_t *)right]->name);
}

struct fingerprint *fingerprint_new(const struct tensor **tensors, size_t n, size_t block,
                                    int threads)
{
    struct fingerprint *f = mem_zeroed(1, sizeof *f);
    size_t next = 0;
    f->tensors = tensors;
    f->n = n;
    f->block = block;
    f->threads = threads;
    f->first = mem_new(n + 1, sizeof *f->first);
    f->named = mem_new(n, sizeof *f->named);
    for (size_t i = 0; i < n; i++)
        f->named[i] = i;
    if (n)
        qsort_r(f->named, n, sizeof *f->named, by_name, (void *)tensors);
    for (size_t i = 0; i < n; i++) {
        f->first[f->named[i]] = next;
        next += blocks_of(f, tensors[f->named[i]]);
    }
    f->first[n] = next;
    f->blocks = mem_zeroed(next, sizeof *f->blocks);
    return f;
}

void fingerprint_free(struct fingerprint *f)
{
    if (!f)
        return;
    free(f->tensors);
    free(f->first);
    free(f->named);
    free(f->blocks);
    free(f);
}

/* Blocks first .. first + n - 1 of tensor i. One that is known is not read again. */
static void hash_blocks(struct fingerprint *f, size_t i, size_t first, size_t n)
{
    const struct tensor *t = f->tensors[i];
#pragma omp parallel for schedule(dynamic) num_threads(f->threads) if (n > 1)
    for (size_t k = 0; k < n; k++) {
        size_t at = (first + k) * f->block, left = t->bytes - at;
        uint64_t *to = &f->blocks[f->first[i] + first + k];
        if (*to)
            continue;
        uint64_t h =
            hash_wide(HASH_START, (const char *)t->data + at, left < f->block ? left : f->block);
        *to = h ? h : 1;
    }
}

/* The last tensor that begins at the address or before it; n: none holds it. */
static size_t tensor_at(const struct fingerprint *f, const char *data)
{
    size_t low = 0, high = f->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((const char *)f->tensors[middle]->data <= data)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || data >= (const char *)f->tensors[low - 1]->data + f->tensors[low - 1]->bytes)
        return f->n;
    return low - 1;
}

void fingerprint_add(struct fingerprint *f, const void *data, size_t bytes)
{
    size_t i = tensor_at(f, data);
    if (i == f->n || bytes == 0)
        return;
    size_t at = (size_t)((const char *)data - (const char *)f->tensors[i]->data);
    size_t first = at / f->block, last = (at + bytes - 1) / f->block;
    hash_blocks(f, i, first, last - first + 1);
}

void fingerprint_add_tensor(struct fingerprint *f, const void *data)
{
    size_t i = tensor_at(f, data);
    if (i < f->n)
        hash_blocks(f, i, 0, blocks_of(f, f->tensors[i]));
}

void fingerprint_rest(struct fingerprint *f)
{
    for (size_t i = 0; i < f->n; i++)
        hash_blocks(f, i, 0, blocks_of(f, f->tensors[i]));
}

uint64_t *fingerprint_blocks(struct fingerprint *f, size_t *n)
{
    *n = f->first[f->n];
    return f->blocks;
}

const struct tensor *fingerprint_at(const struct fingerprint *f, size_t block, size_t *offset)
{
    for (size_t i = 0; i < f->n; i++)
        if (block >= f->first[i] && block < f->first[i] + blocks_of(f, f->tensors[i])) {
            *offset = (block - f->first[i]) * f->block;
            return f->tensors[i];
        }
    die("block %zu is of no tensor", block);
}

uint64_t fingerprint_sum(const struct fingerprint *f)
{
    uint64_t h = HASH_START;
    for (size_t i = 0; i < f->n; i++) {
        const struct tensor *t = f->tensors[f->named[i]];
        h = hash_string(h, t->name);
        h = hash_string(h, t->dtype_text);
        h = hash_bytes(h, t->shape, (size_t)t->dims * sizeof *t->shape);
        for (size_t k = 0; k < blocks_of(f, t); k++) {
            uint64_t block = f->blocks[f->first[f->named[i]] + k];
            if (!block)
                die("fingerprint of %s: block %zu was read by nobody", t->name, k);
            h = hash_u64(h, block);
        }
    }
    return h;
}
