/* plain.c - the table of the reference backend, and what its operations share. */
#include "kernels/cpu/plain/plain.h"

#include "base/mem.h"

#include <string.h>

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t floats(size_t a, size_t b)
{
    return cpu_scratch_size(mem_mul(a, b), sizeof(float));
}

/* Rows in groups of integers. */
static size_t codes(const struct device_config *c, size_t rows, size_t width)
{
    return c->int8_products
               ? cpu_scratch_size(mem_mul(rows, integer_groups(width)), sizeof(struct integers))
               : 0;
}

size_t plain_scratch_bytes(const struct device_config *config)
{
    const struct device_limits *l = &config->limits;
    size_t threads = (size_t)config->threads;
    size_t rows = larger(l->rows, l->logit_rows);
    size_t width = larger(larger(l->hidden, l->q_width), l->inter);

    size_t most = floats(rows, width) + floats(threads, PLAIN_BLOCK(width)) +
                  codes(config, rows, width); /* linear; norm and route need less */
    size_t ffn = 3 * floats(rows, l->hidden) + floats(rows, l->inter) + 2 * floats(rows, 1) +
                 2 * floats(threads, PLAIN_BLOCK(width));
    most = larger(most, ffn + codes(config, rows, l->hidden) + codes(config, rows, l->inter));
    most = larger(most, larger(plain_attend_scratch(config), plain_heads_scratch(config)));
    return larger(most, floats(threads, l->vocab)); /* sample */
}

void plain_load(const struct device *d, enum dtype t, const void *from, size_t at, size_t n,
                float *to)
{
    if (t == DTYPE_F32) {
        memcpy(to, (const float *)from + at, n * sizeof(float));
    } else if (t == DTYPE_BF16) {
        const bf16_t *b = (const bf16_t *)from + at;
        for (size_t i = 0; i < n; i++)
            to[i] = f32_from_bf16(b[i]);
    } else if (t == DTYPE_F8E4M3) {
        const f8e4m3_t *b = (const f8e4m3_t *)from + at;
        for (size_t i = 0; i < n; i++)
            to[i] = d->f8_value[b[i]];
    } else {
        die("numbers of format %s cannot be read as rows", dtype_name(t));
    }
}

void plain_store(enum dtype t, const float *from, size_t n, void *to, size_t at)
{
    if (t == DTYPE_F32) {
        memcpy((float *)to + at, from, n * sizeof(float));
    } else if (t == DTYPE_BF16) {
        bf16_t *b = (bf16_t *)to + at;
        for (size_t i = 0; i < n; i++)
            b[i] = bf16_from_f32(from[i]);
    } else if (t == DTYPE_F8E4M3) {
        f8e4m3_t *b = (f8e4m3_t *)to + at;
        for (size_t i = 0; i < n; i++)
            b[i] = f8e4m3_from_f32(from[i]);
    } else {
        die("numbers of format %s cannot be written as rows", dtype_name(t));
    }
}

float plain_dot(const float *a, const float *b, size_t n)
{
    float sum[16] = {0};
    size_t whole = n / 16 * 16;
    for (size_t j = 0; j < whole; j += 16)
        for (size_t l = 0; l < 16; l++)
            sum[l] += a[j + l] * b[j + l];
    for (size_t j = whole; j < n; j++)
        sum[j - whole] += a[j] * b[j];
    for (size_t half = 8; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++)
            sum[l] += sum[l + half];
    return sum[0];
}

static int usable(struct err *e)
{
    (void)e;
    return 0;
}

static int open_plain(const struct device_config *config, struct device **out, struct err *e)
{
    return cpu_device_open(config, "plain", plain_scratch_bytes(config), out, e);
}

static const struct device_ops device_ops = CPU_DEVICE_OPS(open_plain);

static const struct ops ops = {
    .weight_bytes = plain_weight_bytes,
    .weight_create = plain_weight_create,
    .weight_destroy = plain_weight_destroy,
    .heads_bytes = plain_heads_bytes,
    .heads_create = plain_heads_create,
    .heads_destroy = plain_heads_destroy,
    .ffn_bytes = plain_ffn_bytes,
    .ffn_create = plain_ffn_create,
    .ffn_destroy = plain_ffn_destroy,
    .kv_bytes = plain_kv_bytes,
    .kv_create = plain_kv_create,
    .kv_destroy = plain_kv_destroy,
    .table_create = plain_table_create,
    .embed = plain_embed,
    .residual_norm = plain_residual_norm,
    .norm = plain_norm,
    .copy = plain_copy,
    .bias = plain_bias,
    .gate = plain_gate,
    .linear = plain_linear,
    .linear_heads = plain_linear_heads,
    .rope_append = plain_rope_append,
    .attend = plain_attend,
    .route = plain_route,
    .tally = plain_tally,
    .ffn = plain_ffn,
    .sum = plain_sum,
    .gather = plain_gather,
    .edit = plain_edit,
    .mask = plain_mask,
    .sample = plain_sample,
    .score = plain_score,
};

extern const struct backend backend_plain;
const struct backend backend_plain = {
    .name = "plain",
    .device = &device_ops,
    .ops = &ops,
    .usable = usable,
};
