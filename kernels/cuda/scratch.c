/* scratch.c - memory that operations work in: how much, and handing it out. */
#include "kernels/cuda/device_cuda.h"

#include "base/mem.h"

size_t ffn_shares = (size_t)512 << 20;

static size_t bytes_of(size_t count, size_t size)
{
    return card_round(mem_mul(count, size));
}

void scratch_begin(struct stream *s)
{
    s->used = 0;
}

void *scratch_take(struct stream *s, size_t count, size_t size)
{
    size_t bytes = bytes_of(count, size);
    if (bytes > s->bytes - s->used)
        die("an operation needs %zu bytes of scratch memory, %zu of %zu are left: it is larger "
            "than "
            "the limits its device was opened with",
            bytes, s->bytes - s->used, s->bytes);
    void *p = s->scratch + s->used;
    s->used += bytes;
    return p;
}

static size_t max(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t linear_bytes(const struct device_limits *l, bool blas)
{
    /* Matrices side by side have fewer rows at a time where they need more, but one each at least. */
    size_t rows = max(min(max(l->rows, l->logit_rows), LINEAR_PANEL), LINEAR_BESIDE);
    size_t bytes =
        bytes_of(rows * LINEAR_MOST, 2 * 64 * sizeof(float)) + LINEAR_BESIDE * CARD_ALIGN;
    size_t in = max(max(l->hidden, l->q_width), l->inter), out = max(in, l->vocab);
    return blas ? max(bytes, bytes_of(in, BLAS_PANEL * 2) + bytes_of(out, BLAS_PANEL * 4)) : bytes;
}

static size_t attend_bytes(const struct device_config *c)
{
    const struct device_limits *l = &c->limits;
    size_t chunk = ATTEND_CHUNK(c->kv), chunks = (l->context + chunk - 1) / chunk;
    if (chunks <= 1 || l->heads == 0)
        return 0;
    return bytes_of(max(chunks, min(ATTEND_PAIRS, mem_mul(l->rows, chunks))),
                    mem_mul(ATTEND_PARTIAL(l->heads, l->head_dim), sizeof(float)));
}

static size_t held(const struct device_limits *l)
{
    return min(l->topk, l->experts);
}

size_t ffn_slice(const struct device_limits *l)
{
    size_t row =
        mem_mul(held(l) + 1, FFN_STRIDE(l->hidden) * sizeof(float)) + l->hidden * sizeof(double);
    return min(max(l->rows, 1), max(ffn_shares / (row ? row : 1), 256));
}

static size_t ffn_bytes(const struct device_limits *l)
{
    size_t inter = (l->inter + 7) / 8 * 8, rows = ffn_slice(l), pairs = mem_mul(rows, held(l));
    size_t lists = 2 * bytes_of(l->experts, 4) + 2 * bytes_of(rows, l->topk * 4) +
                   bytes_of(mem_mul(l->experts, rows), sizeof(struct cuda_entry)) +
                   bytes_of(FFN_TURNS(l->hidden), 4);
    size_t tiled = lists + bytes_of(pairs, mem_mul(inter, 2)) + bytes_of(rows, mem_mul(inter, 2)) +
                   bytes_of(pairs, mem_mul(FFN_STRIDE(l->hidden), 4)) +
                   bytes_of(rows, mem_mul(FFN_STRIDE(l->hidden), 4)) +
                   bytes_of(rows, mem_mul(l->hidden, 8));
    return max(tiled, bytes_of(mem_mul(l->rows, l->topk + 1), mem_mul(l->inter, 4)));
}

size_t scratch_bytes(const struct device_config *config)
{
    const struct device_limits *l = &config->limits;
    size_t bytes = max(linear_bytes(l, config->blas), attend_bytes(config));
    bytes = max(bytes, ffn_bytes(l));
    return max(bytes, bytes_of(l->rows, ROUTER_MAX * sizeof(float)));
}
