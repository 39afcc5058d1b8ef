/* ffn.c - the experts of one layer: packing them, and ffn (ops.h). All of a layer lies in one piece
 * of device memory: the table of struct cuda_mlp, then the matrices. */
#include "kernels/cuda/device_cuda.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* The matrices of a layer as they will be, without pointers. */
struct plan {
    int count, layout, hidden, inter, inter_shared;
    int type, down_type; /* TILED */
    int slices, shared_slices;
    struct cuda_mlp *mlp; /* [count + 1] */
    size_t bytes;
};

static const struct mlp_part *part_of(const struct ffn_part *f, int i)
{
    return i < f->n_experts ? &f->experts[i] : &f->shared;
}

static bool absent(const struct mlp_part *m)
{
    return m->gate.n == 0;
}

/* Whether GROUP8 can have what the type has: one scale for a row is one group. */
static bool has_groups(int type)
{
    return type == MATRIX_GROUP4 || type == MATRIX_GROUP8 || type == DTYPE_I8;
}

/* The type that serves matrices of both; F32: there is none. */
static int common_type(int a, int b)
{
    return a == b ? a : has_groups(a) && has_groups(b) ? MATRIX_GROUP8 : DTYPE_F32;
}

/* Gate and up are one matrix for the kernels. */
static bool alike(const struct mlp_part *m, enum weight_keep keep, int type)
{
    struct cuda_form gate = {0}, up = {0};
    if (type == DTYPE_F8E4M3)
        return m->gate.col0 % MATRIX_BLOCK == m->up.col0 % MATRIX_BLOCK && m->gate.col0 % 8 == 0;
    if (type == MATRIX_GROUP4 || type == MATRIX_GROUP8) {
        pack_form(&m->gate, keep, type, &gate);
        pack_form(&m->up, keep, type, &up);
    }
    return memcmp(&gate, &up, sizeof gate) == 0;
}

/* Whether the tensor core kernels can have all matrices of a layer: those of gate and up in one type,
 * those of down in one. read: pack_tiled_type(). */
static bool all_tiled(enum dtype act, const struct ffn_part *f, enum weight_keep keep, bool read,
                      struct plan *p)
{
    bool known = false;
    p->type = p->down_type = DTYPE_BF16;
    if (act != DTYPE_BF16)
        return false;
    for (int i = 0; i <= f->n_experts; i++) {
        const struct mlp_part *m = part_of(f, i);
        if (absent(m))
            continue;
        int type =
            common_type(pack_tiled_type(&m->gate, keep, read), pack_tiled_type(&m->up, keep, read));
        int down = pack_tiled_type(&m->down, keep, read);
        p->type = known ? common_type(p->type, type) : type;
        p->down_type = known ? common_type(p->down_type, down) : down;
        known = true;
        if (p->type == DTYPE_F32 || p->down_type == DTYPE_F32 ||
            (down == DTYPE_F8E4M3 && m->down.col0 % 8 != 0))
            return false;
    }
    for (int i = 0; i <= f->n_experts; i++)
        if (!absent(part_of(f, i)) && !alike(part_of(f, i), keep, p->type))
            return false;
    return true;
}

static void describe_mlp(const struct mlp_part *part, const struct plan *p, enum weight_keep keep,
                         struct cuda_mlp *m)
{
    struct weight_part gate = part->gate, up = part->up, down = part->down;
    if (absent(part)) {
        gate = up = (struct weight_part){.codec = &codec_f32, .k = (size_t)p->hidden};
        down = (struct weight_part){.codec = &codec_f32, .n = (size_t)p->hidden};
        keep = WEIGHT_KEEP;
    }
    bool tiled = p->layout == MATRIX_TILED;
    m->limit = part->limit;
    m->alpha = part->alpha;
    pack_describe(&gate, keep, tiled ? p->type : (int)pack_type(&gate, keep), p->layout, &m->gate);
    pack_describe(&up, keep, tiled ? p->type : (int)pack_type(&up, keep), p->layout, &m->up);
    pack_describe(&down, keep, tiled ? p->down_type : (int)pack_type(&down, keep), p->layout,
                  &m->down);
}

static size_t gate_bytes(const struct cuda_matrix *gate)
{
    return gate->layout == MATRIX_TILED ? 0 : pack_data_bytes(gate);
}

static size_t up_bytes(const struct cuda_matrix *up)
{
    return (up->layout == MATRIX_TILED ? 2 : 1) * pack_data_bytes(up);
}

/* Does a slice end there? Tensor cores' kernels copy eight columns at a time: where others end, which is where
 * ranks have no whole slices, two slices are one. */
static bool ends_slice(const struct mlp_part *p, size_t i, bool tiled)
{
    return !tiled || p->cuts[i] % 8 == 0 || i + 1 == p->n_cuts;
}

static int count_slices(const struct mlp_part *p, bool tiled)
{
    int n = 0;
    if (absent(p))
        return 0;
    for (size_t i = 0; i < p->n_cuts; i++)
        n += ends_slice(p, i, tiled);
    return n > 0 ? n : 1;
}

/* The ends of slices, then biases of gate, up and down, as one run of numbers; where one is missing there is
 * nothing. */
static size_t extra_bytes(const struct mlp_part *p, int slices)
{
    size_t n = (p->gate_bias ? p->gate.n : 0) + (p->up_bias ? p->up.n : 0) +
               (p->down_bias ? p->down.n : 0);
    return scratch_round(((absent(p) ? 0 : n) + (size_t)slices) * sizeof(float));
}

static const float *put_bias(const float *bias, size_t n, float **host, const unsigned char **to)
{
    const void *place = *to;
    if (!bias)
        return NULL;
    memcpy(*host, bias, n * sizeof *bias);
    *host += n;
    *to += n * sizeof *bias;
    return place;
}

/* Into host memory, for the place `to` on the device. All experts have as many slices: behind its own end there
 * are empty ones. */
static void put_extras(const struct mlp_part *p, struct cuda_mlp *m, int slices, void *host,
                       const unsigned char *to)
{
    int32_t *cuts = host;
    float *at = (float *)host + slices;
    int n = 0;
    for (size_t i = 0; i < p->n_cuts && !absent(p); i++)
        if (ends_slice(p, i, m->down.layout == MATRIX_TILED))
            cuts[n++] = (int32_t)p->cuts[i];
    for (; n < slices; n++)
        cuts[n] = (int32_t)p->gate.n;
    m->n_cuts = slices;
    m->cuts = (const int32_t *)(const void *)to;
    to += (size_t)slices * sizeof *at;
    if (absent(p))
        return;
    m->gate_bias = put_bias(p->gate_bias, p->gate.n, &at, &to);
    m->up_bias = put_bias(p->up_bias, p->up.n, &at, &to);
    m->down_bias = put_bias(p->down_bias, p->down.n, &at, &to);
}

static struct plan plan_ffn(const struct device *d, const struct ffn_part *f, enum weight_keep keep)
{
    struct plan p = {.count = f->n_experts, .hidden = (int)d->config.limits.hidden};
    p.layout = all_tiled(d->config.act, f, keep, true, &p) ? MATRIX_TILED : MATRIX_PLAIN;
    for (int i = 0; i <= p.count; i++)
        if (!absent(part_of(f, i)))
            p.hidden = (int)part_of(f, i)->gate.k;
    p.mlp = mem_zeroed((size_t)p.count + 1, sizeof *p.mlp);
    p.bytes = scratch_round(((size_t)p.count + 1) * sizeof *p.mlp);
    for (int i = 0; i <= p.count; i++) {
        int n = count_slices(part_of(f, i), p.layout == MATRIX_TILED);
        int *most = i < p.count ? &p.slices : &p.shared_slices;
        *most = n > *most ? n : *most;
    }
    for (int i = 0; i <= p.count; i++) {
        struct cuda_mlp *m = &p.mlp[i];
        describe_mlp(part_of(f, i), &p, keep, m);
        p.bytes += gate_bytes(&m->gate) + up_bytes(&m->up) + pack_data_bytes(&m->down) +
                   pack_scale_bytes(&m->gate) + pack_scale_bytes(&m->up) +
                   pack_scale_bytes(&m->down) +
                   extra_bytes(part_of(f, i), i < p.count ? p.slices : p.shared_slices);
        if (i < p.count && m->up.n > p.inter)
            p.inter = m->up.n;
    }
    p.inter_shared = p.mlp[p.count].up.n;
    return p;
}

size_t cuda_ffn_bytes(const struct device *d, const struct ffn_part *f, enum weight_keep keep)
{
    struct plan p = plan_ffn(d, f, keep);
    free(p.mlp);
    return p.bytes;
}

/* ---- parts that come to the same ------------------------------------------------------------- */

/* Of TILED matrices: a slice begins where tensor cores begin a product, or a sum of a group, and groups change
 * at the same places in a part of down. */
static bool same_mlp(const struct mlp_part *whole, const struct mlp_part *part,
                     enum weight_keep keep, int down_type)
{
    bool groups = down_type == MATRIX_GROUP4 || down_type == MATRIX_GROUP8;
    struct cuda_form all = {0}, own = {0};
    if (absent(part))
        return true;
    for (size_t i = 0; i + 1 < whole->n_cuts; i++)
        if (whole->cuts[i] % (groups ? 32 : 16))
            return false;
    if (groups) {
        pack_form(&whole->down, keep, down_type, &all);
        pack_form(&part->down, keep, down_type, &own);
    }
    return memcmp(&all, &own, sizeof all) == 0;
}

/* PLAIN matrices have one kernel, and a row's chain is its own. */
bool cuda_ffn_same(enum dtype act, const struct ffn_part *whole, const struct ffn_part *part,
                   enum weight_keep keep)
{
    struct plan all = {0}, own = {0};
    bool tiled = all_tiled(act, whole, keep, false, &all), empty = absent(&part->shared);
    int first = part->first_expert - whole->first_expert;
    for (int i = 0; i < part->n_experts; i++)
        empty = empty && absent(&part->experts[i]);
    if (empty)
        return true;
    if (all_tiled(act, part, keep, false, &own) != tiled)
        return false;
    if (!tiled)
        return true;
    if (own.type != all.type || own.down_type != all.down_type)
        return false;
    for (int i = 0; i < part->n_experts; i++)
        if (!same_mlp(&whole->experts[first + i], &part->experts[i], keep, all.down_type))
            return false;
    return same_mlp(&whole->shared, &part->shared, keep, all.down_type);
}

/* Packs and uploads one MLP to `to`, sets its pointers, and returns the bytes it took. */
static size_t load_mlp(struct device *d, const struct mlp_part *part, enum weight_keep keep,
                       int slices, struct cuda_mlp *m, unsigned char *to)
{
    size_t size[7] = {gate_bytes(&m->gate),      up_bytes(&m->up),
                      pack_data_bytes(&m->down), pack_scale_bytes(&m->gate),
                      pack_scale_bytes(&m->up),  pack_scale_bytes(&m->down),
                      extra_bytes(part, slices)};
    size_t at[8] = {0};
    for (int i = 0; i < 7; i++)
        at[i + 1] = at[i] + size[i];
    unsigned char *host = mem_zeroed(at[7] ? at[7] : 1, 1);
    bool tiled = m->up.layout == MATRIX_TILED;
    if (!absent(part)) {
        pack_write(d, &part->gate, keep, &m->gate, tiled ? 2 : 1, 0, host + (tiled ? at[1] : 0),
                   (float *)(void *)(host + at[3]));
        pack_write(d, &part->up, keep, &m->up, tiled ? 2 : 1, tiled ? 1 : 0, host + at[1],
                   (float *)(void *)(host + at[4]));
        pack_write(d, &part->down, keep, &m->down, 1, 0, host + at[2],
                   (float *)(void *)(host + at[5]));
    }
    put_extras(part, m, slices, host + at[6], to + at[6]);
    cuda_check(cudaMemcpyAsync(to, host, at[7], cudaMemcpyHostToDevice, d->loading->cuda),
               "copying experts");
    cuda_check(cudaStreamSynchronize(d->loading->cuda), "copying experts");
    free(host);
    m->gate.data = to + (tiled ? at[1] : 0);
    m->up.data = to + at[1];
    m->down.data = to + at[2];
    m->gate.scale = (const float *)(void *)(to + at[3]);
    m->up.scale = (const float *)(void *)(to + at[4]);
    m->down.scale = (const float *)(void *)(to + at[5]);
    return at[7];
}

struct ffn *cuda_ffn_create(struct device *d, const struct ffn_part *f, enum weight_keep keep)
{
    struct plan p = plan_ffn(d, f, keep);
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

    size_t table = ((size_t)p.count + 1) * sizeof *p.mlp, at = scratch_round(table);
    for (int i = 0; i <= p.count; i++)
        at += load_mlp(d, part_of(f, i), keep, i < p.count ? p.slices : p.shared_slices, &p.mlp[i],
                       (unsigned char *)packed->memory + at);
    cuda_check(cudaMemcpyAsync(packed->mlp, p.mlp, table, cudaMemcpyHostToDevice, d->loading->cuda),
               "copying experts");
    cuda_check(cudaStreamSynchronize(d->loading->cuda), "copying experts");
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
    void *h = scratch_take(s, rows * held, (size_t)stride * 2);
    void *h_shared = scratch_take(s, rows, (size_t)shared_stride * 2);
    size_t share = (size_t)FFN_STRIDE(f->hidden) * sizeof(float);
    float *shares = scratch_take(s, rows * held, share);
    bool joins = out_dtype == DTYPE_BF16 &&
                 cuda_ffn_joins(f->n_experts, n, topk, f->hidden, f->inter_shared);
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
