/* linear.c - dense matrices: packing them, and linear (ops.h).
 *
 * Which kernel: TILED (tensor cores) for bf16 activations and weights of at most 16 bits; PLAIN for
 * the rest. With device_config.blas, bf16 weights under bf16 activations go to cuBLAS instead.
 *
 * Why cuBLAS is not the default: it chooses a kernel, and with it the order of additions, from the
 * number of rows, and says nothing about rows in different places of one call. So every call here
 * has exactly BLAS_PANEL rows, the last ones padded: then the choice is a function of the matrix
 * alone. What remains, and cannot be promised from here, is that a row gets the same bits in all
 * BLAS_PANEL places. Padding costs little: 128 rows are below the point where a matrix product
 * stops being bound by reading its weights. */
#include "kernels/cuda/device_cuda.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

size_t cuda_weight_bytes(const struct device *d, const struct weight_part *w, enum weight_keep keep)
{
    struct cuda_matrix m;
    pack_linear(&d->config, w, keep, &m);
    return pack_data_bytes(&m) + pack_scale_bytes(&m);
}

const char *cuda_weight_obstacle(const struct device *d, const struct weight_part *w,
                                 enum weight_keep keep)
{
    return d->config.act == DTYPE_BF16 ? pack_obstacle(w, keep) : NULL;
}

static struct weight *create(struct device *d, const struct weight_part *w, enum weight_keep keep,
                             const struct cuda_matrix *as)
{
    struct weight *packed = mem_zeroed(1, sizeof *packed);
    struct cuda_matrix *m = &packed->m;
    *m = *as;
    size_t data = pack_data_bytes(m), bytes = data + pack_scale_bytes(m);
    unsigned char *host = mem_zeroed(bytes ? bytes : 1, 1);
    pack_write(d->config.threads, w, keep, m, 1, 0, host, (float *)(void *)(host + data));
    cuda_check(cudaMalloc(&packed->memory, bytes ? bytes : 1), "taking memory for weights");
    cuda_check(
        cudaMemcpyAsync(packed->memory, host, bytes, cudaMemcpyHostToDevice, d->loading->cuda),
        "copying weights");
    cuda_check(cudaStreamSynchronize(d->loading->cuda), "copying weights");
    free(host);
    m->data = packed->memory;
    m->scale = (const float *)(void *)((unsigned char *)packed->memory + data);
    return packed;
}

struct weight *cuda_weight_create(struct device *d, const struct weight_part *w,
                                  enum weight_keep keep)
{
    struct cuda_matrix m;
    pack_linear(&d->config, w, keep, &m);
    return create(d, w, keep, &m);
}

struct weight *cuda_table_create(struct device *d, const struct weight_part *w)
{
    struct cuda_matrix m;
    pack_describe(w, WEIGHT_KEEP, (int)pack_type(w, WEIGHT_KEEP), MATRIX_ROWS, &m);
    return create(d, w, WEIGHT_KEEP, &m);
}

void cuda_weight_destroy(struct device *d, struct weight *w)
{
    (void)d;
    if (!w)
        return;
    cuda_check(cudaFree(w->memory), "giving back weights");
    free(w);
}

static void linear_blas(struct device *d, struct stream *s, const struct cuda_matrix *m,
                        const unsigned char *x, int n, unsigned char *y, enum dtype y_dtype)
{
    size_t in = (size_t)m->k * 2, out = (size_t)m->n * dtype_size(y_dtype);
    for (int row = 0; row < n; row += BLAS_PANEL) {
        const unsigned char *from = x + (size_t)row * in;
        unsigned char *to = y + (size_t)row * out;
        size_t rows = (size_t)(n - row);
        if (rows >= BLAS_PANEL) {
            cuda_blas_panel(d, s, m, from, to, y_dtype);
            continue;
        }
        scratch_begin(s);
        unsigned char *padded = scratch_take(s, BLAS_PANEL, in);
        unsigned char *result = scratch_take(s, BLAS_PANEL, out);
        cuda_check(cudaMemsetAsync(padded, 0, BLAS_PANEL * in, s->cuda), "padding rows");
        cuda_check(cudaMemcpyAsync(padded, from, rows * in, cudaMemcpyDeviceToDevice, s->cuda),
                   "padding rows");
        cuda_blas_panel(d, s, m, padded, result, y_dtype);
        cuda_check(cudaMemcpyAsync(to, result, rows * out, cudaMemcpyDeviceToDevice, s->cuda),
                   "padding rows");
    }
}

/* Bytes of scratch for the parts of one row. */
static size_t partial_bytes(const struct cuda_matrix *m)
{
    int splits = cuda_linear_splits(m->n, m->k);
    return splits > 1 ? mem_mul((size_t)splits, (size_t)m->n) * sizeof(float) : 0;
}

/* Rows whose parts there is scratch for: one at least (scratch.c), and whole blocks of rows where one is full. */
static int panel_of(const struct stream *s, const struct cuda_linear *l)
{
    size_t row = 0, most = LINEAR_PANEL, rounded = (size_t)l->count * card_round(1);
    for (int i = 0; i < l->count; i++)
        row += partial_bytes(&l->w[i]);
    if (row == 0)
        return l->n;
    if (most * row + rounded > s->bytes)
        most = s->bytes > rounded ? (s->bytes - rounded) / row : 0;
    if (most == 0)
        die("no scratch memory for the parts of one row, %zu bytes", row);
    return (int)(most < 64 ? most : most / 64 * 64);
}

static void linear_tiled(struct stream *s, const struct cuda_linear *all, enum dtype y_dtype)
{
    int panel = panel_of(s, all);
    for (int row = 0; row < all->n; row += panel) {
        struct cuda_linear l = *all;
        size_t at = (size_t)row;
        l.n = all->n - row < panel ? all->n - row : panel;
        l.x = (const unsigned char *)all->x + at * (size_t)l.w[0].k * 2;
        scratch_begin(s);
        for (int i = 0; i < l.count; i++) {
            size_t bytes = partial_bytes(&l.w[i]);
            l.y[i] = (unsigned char *)all->y[i] + at * (size_t)l.w[i].n * dtype_size(y_dtype);
            l.partial[i] = bytes > 0 ? scratch_take(s, (size_t)l.n, bytes) : NULL;
        }
        cuda_linear_tiled(s->cuda, &l, (int)y_dtype);
    }
}

void cuda_linear_op(struct device *d, struct stream *s, const struct weight *w, const void *x,
                    int n, void *y, enum dtype y_dtype)
{
    const struct cuda_matrix *m = &w->m;
    if (n == 0 || m->n == 0)
        return;
    if (m->layout == MATRIX_TILED)
        linear_tiled(s, &(struct cuda_linear){1, n, x, {*m}, {y}, {NULL}}, y_dtype);
    else if (m->layout == MATRIX_ROWS && m->k > 0)
        linear_blas(d, s, m, x, n, y, y_dtype);
    else
        cuda_linear_plain(s->cuda, m, x, (int)d->config.act, n, y, (int)y_dtype);
}

/* Whether the matrices can stand side by side (kernels.h: struct cuda_linear). */
static bool alike(const struct cuda_matrix *a, const struct cuda_matrix *b)
{
    return a->type == b->type && a->k == b->k && a->chunks == b->chunks && a->lead == b->lead &&
           a->scale_stride == b->scale_stride && memcmp(&a->form, &b->form, sizeof a->form) == 0 &&
           (partial_bytes(a) > 0) == (partial_bytes(b) > 0);
}

void cuda_linears_op(struct device *d, struct stream *s, const struct linear_part *parts, int count,
                     const void *x, int n, enum dtype y_dtype)
{
    struct cuda_linear l = {.n = n, .x = x};
    for (int i = 0; i < count; i++) {
        const struct cuda_matrix *m = &parts[i].w->m;
        bool beside = m->layout == MATRIX_TILED && m->n > 0 && l.count < LINEAR_BESIDE &&
                      (l.count == 0 || alike(m, &l.w[0]));
        if (!beside) {
            cuda_linear_op(d, s, parts[i].w, x, n, parts[i].y, y_dtype);
            continue;
        }
        l.w[l.count] = *m;
        l.y[l.count++] = parts[i].y;
    }
    if (n > 0 && l.count > 0)
        linear_tiled(s, &l, y_dtype);
}
