/* heads.c - a matrix for every head: latent attention's way into and out of its cache. */
#include "kernels/cpu/plain/kept.h"

#include "base/mem.h"

#include <omp.h>
#include <stdlib.h>

struct weight_heads {
    int heads;
    struct weight **head; /* [heads] */
};

size_t plain_heads_bytes(const struct device *d, const struct weight_part *w, int heads,
                         enum weight_keep keep)
{
    size_t bytes = 0;
    for (int h = 0; h < heads; h++)
        bytes += plain_weight_bytes(d, &w[h], keep);
    return bytes;
}

struct weight_heads *plain_heads_create(struct device *d, const struct weight_part *w, int heads,
                                        enum weight_keep keep)
{
    struct weight_heads *all = mem_new(1, sizeof *all);
    all->heads = heads;
    all->head = mem_new((size_t)heads, sizeof *all->head);
    for (int h = 0; h < heads; h++) {
        all->head[h] = plain_weight_create(d, &w[h], keep);
        all->head[h]->integers =
            false; /* they make queries and values of the cache: as exact as these */
    }
    return all;
}

void plain_heads_destroy(struct device *d, struct weight_heads *w)
{
    if (!w)
        return;
    for (int h = 0; h < w->heads; h++)
        plain_weight_destroy(d, w->head[h]);
    free(w->head);
    free(w);
}

size_t plain_heads_scratch(const struct device_config *c)
{
    size_t width = c->limits.head_dim;
    return cpu_scratch_size(mem_mul((size_t)c->threads, PLAIN_BLOCK(width) + width), sizeof(float));
}

void plain_linear_heads(struct device *d, struct stream *s, const struct weight_heads *w,
                        const struct rows *x, int x_step, int n, const struct rows *y, int y_step)
{
    (void)s;
    size_t in = w->head[0]->k, out = w->head[0]->n;
    cpu_scratch_begin(d);
    size_t room = PLAIN_BLOCK(in) + in, units = (out + PLAIN_OUTPUTS - 1) / PLAIN_OUTPUTS;
    float *rooms = cpu_scratch(d, (size_t)d->threads * room, sizeof(float));
    struct team team =
        team_begin(d, TEAM_LINEAR, (size_t)w->heads * in * out * (1 + (size_t)n / 16));
#pragma omp parallel for num_threads(team.threads)
    for (size_t task = 0; task < (size_t)w->heads * units; task++) {
        size_t h = task / units, first = task % units * PLAIN_OUTPUTS;
        float *block = rooms + (size_t)omp_get_thread_num() * room,
              *input = block + PLAIN_BLOCK(in);
        float sums[PLAIN_OUTPUTS];
        plain_outputs(d, w->head[h], first, block);
        for (size_t i = 0; i < (size_t)n; i++) {
            plain_load(d, x->dtype, x->data, i * x->stride + h * (size_t)x_step, in, input);
            plain_products(w->head[h], first, block, (struct plain_row){input, NULL}, 0, in, sums);
            for (size_t o = 0; o < PLAIN_OUTPUTS && first + o < out; o++)
                plain_store_one(y->dtype, sums[o], y->data,
                                i * y->stride + h * (size_t)y_step + first + o);
        }
    }
    team_end(&team);
}
