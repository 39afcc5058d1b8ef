/* heads.c - a matrix for every head (ops.h: linear_heads), all in one piece of device memory: the
 * matrices with their scales one after the other, then the table of them. */
#include "kernels/cuda/device_cuda.h"

#include "base/mem.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static size_t matrix_bytes(const struct cuda_matrix *m)
{
    return pack_data_bytes(m) + pack_scale_bytes(m);
}

static void describe_head(const struct device *d, const struct weight_part *w,
                          enum weight_keep keep, struct cuda_matrix *m)
{
    bool can = w->k < INT_MAX && cuda_linear_heads_can((int)w->k, d->shared);
    pack_head(&d->config, w, keep, can, m);
}

size_t cuda_heads_bytes(const struct device *d, const struct weight_part *w, int heads,
                        enum weight_keep keep)
{
    size_t bytes = card_round((size_t)heads * sizeof(struct cuda_matrix));
    for (int h = 0; h < heads; h++) {
        struct cuda_matrix m;
        describe_head(d, &w[h], keep, &m);
        bytes += matrix_bytes(&m);
    }
    return bytes;
}

struct weight_heads *cuda_heads_create(struct device *d, const struct weight_part *w, int heads,
                                       enum weight_keep keep)
{
    struct weight_heads *all = mem_zeroed(1, sizeof *all);
    size_t bytes = cuda_heads_bytes(d, w, heads, keep), at = 0;
    struct cuda_matrix *table = mem_new((size_t)heads, sizeof *table);
    unsigned char *host = mem_zeroed(bytes, 1);
    all->heads = heads;
    all->outputs = (int)w[0].n;
    all->inputs = (int)w[0].k;
    cuda_check(cudaMalloc(&all->memory, bytes), "taking memory for weights");
    for (int h = 0; h < heads; h++) {
        struct cuda_matrix *m = &table[h];
        describe_head(d, &w[h], keep, m);
        size_t scales = at + pack_data_bytes(m);
        pack_write(d->config.threads, &w[h], keep, m, 1, 0, host + at,
                   (float *)(void *)(host + scales));
        m->data = (unsigned char *)all->memory + at;
        m->scale = (const float *)(void *)((unsigned char *)all->memory + scales);
        at += matrix_bytes(m);
    }
    all->layout = table[0].layout;
    memcpy(host + at, table, (size_t)heads * sizeof *table);
    all->m = (struct cuda_matrix *)(void *)((unsigned char *)all->memory + at);
    cuda_check(cudaMemcpyAsync(all->memory, host, bytes, cudaMemcpyHostToDevice, d->loading->cuda),
               "copying weights");
    cuda_check(cudaStreamSynchronize(d->loading->cuda), "copying weights");
    free(host);
    free(table);
    return all;
}

void cuda_heads_destroy(struct device *d, struct weight_heads *w)
{
    (void)d;
    if (!w)
        return;
    cuda_check(cudaFree(w->memory), "giving back weights");
    free(w);
}

void cuda_heads_op(struct device *d, struct stream *s, const struct weight_heads *w,
                   const struct rows *x, int x_step, int n, const struct rows *y, int y_step)
{
    struct cuda_rows from = cuda_rows_of(x), to = cuda_rows_of(y);
    (void)d;
    if (n > 0 && w->layout == MATRIX_TILED)
        cuda_linear_heads_tiled(s->cuda, w->m, w->heads, w->outputs, w->inputs, &from, x_step, n,
                                &to, y_step);
    else if (n > 0)
        cuda_linear_heads(s->cuda, w->m, w->heads, w->outputs, &from, x_step, n, &to, y_step);
}
