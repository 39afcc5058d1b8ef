/* ffn.c - the experts of one layer: loading them, and ffn (ops.h). */
#include "kernels/cuda/device_cuda.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

size_t cuda_ffn_bytes(const struct device *d, const struct ffn_part *f, enum weight_keep keep)
{
    struct ffn_plan p = pack_ffn_plan(&d->config, f, keep);
    free(p.mlp);
    return p.bytes;
}

const char *cuda_ffn_obstacle(const struct device *d, const struct ffn_part *f,
                              enum weight_keep keep)
{
    return d->config.act == DTYPE_BF16 ? pack_ffn_obstacle(f, keep) : NULL;
}

static void copy_to(struct device *d, void *to, const void *from, size_t bytes)
{
    cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, d->loading->cuda),
               "copying experts");
    cuda_check(cudaStreamSynchronize(d->loading->cuda), "copying experts");
}

/* Packs and uploads MLP i to `to`; returns the bytes it took. */
static size_t load_mlp(struct device *d, struct ffn_plan *p, const struct ffn_part *f,
                       enum weight_keep keep, int i, unsigned char *to)
{
    size_t bytes = pack_ffn_bytes(p, f, i);
    unsigned char *host = mem_zeroed(bytes ? bytes : 1, 1);
    pack_ffn_write(p, f, keep, d->config.threads, i, host, to);
    copy_to(d, to, host, bytes);
    free(host);
    return bytes;
}

struct ffn *cuda_ffn_create(struct device *d, const struct ffn_part *f, enum weight_keep keep)
{
    struct ffn_plan p = pack_ffn_plan(&d->config, f, keep);
    struct ffn *packed = mem_zeroed(1, sizeof *packed);
    packed->first_expert = f->first_expert;
    packed->n_experts = p.count;
    packed->hidden = p.hidden;
    packed->inter = p.inter;
    packed->inter_shared = p.inter_shared;
    packed->type = p.type;
    packed->down_type = p.down_type;
    packed->slices = p.slices;
    packed->shared_slices = p.shared_slices;
    packed->layout = p.layout;
    cuda_check(cudaMalloc(&packed->memory, p.bytes), "taking memory for experts");
    packed->mlp = packed->memory;

    size_t at = pack_ffn_table(&p);
    for (int i = 0; i <= p.count; i++)
        at += load_mlp(d, &p, f, keep, i, (unsigned char *)packed->memory + at);
    copy_to(d, packed->mlp, p.mlp, ((size_t)p.count + 1) * sizeof *p.mlp);
    free(p.mlp);
    return packed;
}

void cuda_ffn_destroy(struct device *d, struct ffn *f)
{
    (void)d;
    if (!f)
        return;
    cuda_check(cudaFree(f->memory), "giving back experts");
    free(f);
}

static int round8(int n)
{
    return (n + 7) / 8 * 8;
}

/* What `down` works with, and where its products go. */
struct down {
    const struct cuda_groups *g;
    const void *h, *h_shared;
    int stride, shared_stride;
    float *shares, *shared; /* shared: NULL without a shared expert */
};

static void down_tiled(struct device *d, struct stream *s, const struct ffn *f,
                       const struct down *w, int topk, int n, int slice, void *out)
{
    cuda_ffn_down_tiled(s->cuda, f->mlp, w->g, f->down_type, w->h, w->stride, w->h_shared,
                        w->shared_stride, f->hidden, n, topk, slice, w->shares, w->shared, out,
                        d->processors);
}

/* kernels/exact.h */
static void add_slices(struct device *d, struct stream *s, const struct ffn *f,
                       const struct down *w, int topk, int n, void *out, enum dtype out_dtype)
{
    int slices = f->slices > f->shared_slices ? f->slices : f->shared_slices;
    double *sums = scratch_take(s, (size_t)n, (size_t)f->hidden * sizeof *sums);
    for (int c = 0; c == 0 || c < slices; c++) {
        if (c < slices)
            down_tiled(d, s, f, w, topk, n, c, NULL);
        cuda_ffn_add_exact(s->cuda, w->g, topk, c < f->slices ? w->shares : NULL,
                           c < f->shared_slices ? w->shared : NULL, f->hidden, n, sums, c == 0,
                           c + 1 < slices ? NULL : out, (int)out_dtype);
    }
}

/* Sums that travel in bf16 are added in f32. */
static void ffn_tiled(struct device *d, struct stream *s, const struct ffn *f, const void *x,
                      const int32_t *ids, const float *weights, int topk, int n, void *out,
                      enum dtype out_dtype)
{
    size_t rows = (size_t)n, experts = (size_t)f->n_experts;
    size_t held = (size_t)(topk < f->n_experts ? topk : f->n_experts);
    int stride = round8(f->inter), shared_stride = round8(f->inter_shared);
    struct cuda_groups g = {.experts = f->n_experts, .capacity = n};
    scratch_begin(s);
    g.count = scratch_take(s, experts, sizeof *g.count);
    g.start = scratch_take(s, experts, sizeof *g.start);
    g.entry = scratch_take(s, experts * rows, sizeof *g.entry);
    g.place = scratch_take(s, rows * (size_t)topk, sizeof *g.place);
    g.weight = scratch_take(s, rows * (size_t)topk, sizeof *g.weight);
    g.n_turns = FFN_TURNS(f->hidden);
    g.turns = scratch_take(s, (size_t)g.n_turns, sizeof *g.turns);
    void *h = scratch_take(s, rows * held, (size_t)stride * 2);
    void *h_shared = scratch_take(s, rows, (size_t)shared_stride * 2);
    bool joins = out_dtype == DTYPE_BF16 &&
                 cuda_ffn_joins(f->n_experts, n, topk, f->hidden, f->inter_shared);
    size_t share =
        (size_t)(joins ? FFN_RING_STRIDE(f->hidden) : FFN_STRIDE(f->hidden)) * sizeof(float);
    float *shares = scratch_take(s, rows * held, share);
    float *shared = f->inter_shared > 0 && !joins ? scratch_take(s, rows, share) : NULL;
    if (f->n_experts > 0)
        cuda_group(s->cuda, &g, ids, weights, topk, n, f->first_expert);
    cuda_ffn_up_tiled(s->cuda, f->mlp, &g, f->type, x, f->hidden, n, topk, h, stride, h_shared,
                      shared_stride, d->processors);
    const struct down w = {&g, h, h_shared, stride, shared_stride, shares, shared};
    if (out_dtype != DTYPE_BF16) {
        add_slices(d, s, f, &w, topk, n, out, out_dtype);
        return;
    }
    down_tiled(d, s, f, &w, topk, n, -1, joins ? out : NULL);
    if (!joins)
        cuda_ffn_add(s->cuda, &g, topk, shares, shared, f->hidden, n, out);
}

static void ffn_plain(struct device *d, struct stream *s, const struct ffn *f, const void *x,
                      const int32_t *ids, const float *weights, int topk, int n, void *out,
                      enum dtype out_dtype)
{
    int inter = f->inter > f->inter_shared ? f->inter : f->inter_shared, act = (int)d->config.act;
    scratch_begin(s);
    void *h = scratch_take(s, mem_mul((size_t)n, (size_t)topk + 1),
                           (size_t)inter * dtype_size(d->config.act));
    if (inter > 0)
        cuda_ffn_up_plain(s->cuda, f->mlp, f->first_expert, f->n_experts, x, act, ids, topk, n, h,
                          inter);
    cuda_ffn_down_plain(s->cuda, f->mlp, f->first_expert, f->n_experts, h, act, inter, ids, weights,
                        topk, n, f->hidden, out, (int)out_dtype);
}

void cuda_ffn_op(struct device *d, struct stream *s, const struct ffn *f, const void *x,
                 const int32_t *ids, const float *weights, int topk, int n, void *out,
                 enum dtype out_dtype)
{
    if (n == 0 || f->hidden == 0)
        return;
    if (f->n_experts == 0)
        topk = 0; /* a dense layer has no ids */
    if (f->layout != MATRIX_TILED) {
        ffn_plain(d, s, f, x, ids, weights, topk, n, out, out_dtype);
        return;
    }
    int most = (int)ffn_slice(&d->config.limits);
    for (int row = 0; row < n; row += most) {
        size_t at = (size_t)row * (size_t)f->hidden, choice = (size_t)row * (size_t)topk;
        ffn_tiled(d, s, f, (const unsigned char *)x + at * 2, topk > 0 ? ids + choice : NULL,
                  topk > 0 ? weights + choice : NULL, topk, n - row < most ? n - row : most,
                  (unsigned char *)out + at * dtype_size(out_dtype), out_dtype);
    }
}
