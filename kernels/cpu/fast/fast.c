/* fast.c - what the vector backends share: their table. */
#include "kernels/cpu/fast/fast.h"

#include "kernels/cpu/plain/plain.h"

#include <string.h>

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

int fast_open(const struct isa *isa, const struct device_config *c, struct device **out,
              struct err *e)
{
    if (c->threads < 1)
        return err_set(e, "a CPU rank needs at least 1 thread, not %d", c->threads);
    size_t scratch = larger(larger(fast_linear_scratch(c), fast_ffn_scratch(c)),
                            larger(fast_attend_scratch(c), fast_sample_scratch(c)));
    scratch = larger(scratch, fast_rows_scratch(c));
    scratch = larger(scratch, plain_heads_scratch(c));
    if (cpu_device_open(c, isa->name, scratch, out, e) != 0)
        return -1;
    (*out)->isa = isa;
    return 0;
}

/* Copies of rows are as fast as they can be without us. */
static void gather(struct device *d, struct stream *s, const float *x, const int32_t *index, int n,
                   int width, float *y)
{
    (void)s;
    size_t row = (size_t)width;
    struct team team = team_begin(d, TEAM_ROWS, (size_t)n * row);
#pragma omp parallel for num_threads(team.threads) schedule(static)
    for (int i = 0; i < n; i++)
        memcpy(y + (size_t)i * row, x + (size_t)index[i] * row, row * sizeof *y);
    team_end(&team);
}

const struct ops fast_ops = {
    .weight_bytes = fast_weight_bytes,
    .weight_create = fast_weight_create,
    .weight_destroy = fast_weight_destroy,
    .heads_bytes = plain_heads_bytes,
    .heads_create = plain_heads_create,
    .heads_destroy = plain_heads_destroy,
    .ffn_bytes = fast_ffn_bytes,
    .ffn_create = fast_ffn_create,
    .ffn_destroy = fast_ffn_destroy,
    .kv_bytes = fast_kv_bytes,
    .kv_create = fast_kv_create,
    .kv_destroy = fast_kv_destroy,
    .table_create = fast_table_create,
    .embed = fast_embed,
    .residual_norm = fast_residual_norm,
    .norm = fast_norm,
    .copy = fast_copy,
    .bias = plain_bias,
    .gate = plain_gate,
    .linear = fast_linear,
    .linear_heads = plain_linear_heads,
    .rope_append = fast_rope_append,
    .attend = fast_attend,
    .route = fast_route,
    .tally = plain_tally,
    .ffn = fast_ffn,
    .sum = fast_sum,
    .gather = gather,
    .edit = plain_edit,
    .mask = plain_mask,
    .sample = fast_sample,
    .score = fast_score,
};
