#include "model/weights.h"

#include "base/mem.h"
#include "model/family.h"
#include "model/rope.h"

#include <stdlib.h>
#include <string.h>

/* What every function of this file passes on. */
struct loader {
    const struct backend *b;
    struct device *d;
    const struct model *m;
    const struct checkpoint *c;
    enum weight_keep keep;
    weights_progress progress;
    void *progress_context;
    size_t done, total;
};

static void report(struct loader *l, size_t bytes)
{
    l->done += bytes;
    if (l->progress)
        l->progress(l->progress_context, l->done, l->total);
}

/* ---- parts of tensors ----------------------------------------------------------------------- */

/* A matrix of the checkpoint; `expert` chooses one of a stacked tensor. */
static struct weight_part matrix(const struct model *m, const struct checkpoint *c,
                                 enum model_tensor kind, size_t layer, size_t expert)
{
    const struct tensor *scale, *t = model_tensor(m, c, kind, layer, &scale);
    struct weight_part p = {
        .codec = t->codec, .n = t->shape[t->dims - 2], .k = t->shape[t->dims - 1]};
    p.stride = p.k;
    p.data = (const char *)t->data + mem_mul(expert, weight_data_bytes(&p, p.n));
    if (scale) {
        p.scale_rows = p.scale_columns = FAMILY_BLOCK;
        p.scale_stride = scale->shape[scale->dims - 1];
        size_t blocks = mem_mul(scale->shape[scale->dims - 2], p.scale_stride);
        p.scale = (const float *)scale->data + mem_mul(expert, blocks);
    }
    return p;
}

static struct weight_part rows_of(struct weight_part p, struct span s)
{
    p.row0 += s.first;
    p.n = s.count;
    return p;
}

static struct weight_part columns_of(struct weight_part p, struct span s)
{
    p.col0 += s.first;
    p.k = s.count;
    return p;
}

/* Tells the kernel about the rows that hold the part. */
static void hint(const struct weight_part *p, void (*tell)(const void *, size_t))
{
    if (p->n && p->k)
        tell((const char *)p->data + weight_data_bytes(p, p->row0), weight_data_bytes(p, p->n));
}

/* ---- attention ------------------------------------------------------------------------------ */

static const enum model_tensor projections[] = {TENSOR_Q_DOWN, TENSOR_Q_UP, TENSOR_K, TENSOR_V,
                                                TENSOR_O};
#define PROJECTIONS (sizeof projections / sizeof *projections)

static size_t angles_bytes(const struct model *m, size_t context)
{
    return mem_mul(mem_mul(context, m->head_dim), sizeof(float));
}

static size_t elements_of(const struct tensor *t)
{
    size_t n = 1;
    for (int i = 0; i < t->dims; i++)
        n = mem_mul(n, t->shape[i]);
    return n;
}

static size_t f32_bytes(const struct model *m, const struct checkpoint *c, enum model_tensor kind,
                        size_t layer)
{
    return mem_mul(elements_of(model_tensor(m, c, kind, layer, NULL)), sizeof(float));
}

size_t attention_weights_bytes(const struct backend *b, const struct device *d,
                               const struct model *m, const struct checkpoint *c, size_t context,
                               enum weight_keep keep)
{
    struct weight_part embed = matrix(m, c, TENSOR_EMBED, 0, 0);
    struct weight_part head = matrix(m, c, TENSOR_LM_HEAD, 0, 0);
    size_t bytes = b->ops->weight_bytes(d, &embed, WEIGHT_KEEP) +
                   b->ops->weight_bytes(d, &head, keep) + f32_bytes(m, c, TENSOR_FINAL_NORM, 0) +
                   angles_bytes(m, context);
    for (size_t l = 0; l < m->layers; l++) {
        for (size_t i = 0; i < PROJECTIONS; i++) {
            struct weight_part p = matrix(m, c, projections[i], l, 0);
            bytes += b->ops->weight_bytes(d, &p, keep);
        }
        bytes += f32_bytes(m, c, TENSOR_INPUT_NORM, l) + f32_bytes(m, c, TENSOR_INTER_NORM, l) +
                 f32_bytes(m, c, TENSOR_POST_NORM, l);
        if (m->moe[l])
            bytes += f32_bytes(m, c, TENSOR_ROUTER, l);
    }
    return bytes;
}

static float *upload(struct loader *l, const float *host, size_t bytes)
{
    const struct device_ops *dev = l->b->device;
    struct stream *s = dev->stream_create(l->d);
    float *on_device = dev->alloc(l->d, bytes);
    dev->upload(l->d, s, on_device, host, bytes);
    dev->stream_sync(l->d, s);
    dev->stream_destroy(l->d, s);
    report(l, bytes);
    return on_device;
}

/* Gains and routers: any format of the file, f32 on the device. */
static float *load_f32(struct loader *l, enum model_tensor kind, size_t layer)
{
    const struct tensor *t = model_tensor(l->m, l->c, kind, layer, NULL);
    size_t n = elements_of(t);
    float *host = mem_new(n, sizeof *host);
    struct weight_part row = {.codec = t->codec, .data = t->data, .stride = n, .n = 1, .k = n};
    weight_row(&row, 0, host);
    float *on_device = upload(l, host, mem_mul(n, sizeof *host));
    free(host);
    return on_device;
}

static struct weight *load_matrix(struct loader *l, enum model_tensor kind, size_t layer)
{
    struct weight_part p = matrix(l->m, l->c, kind, layer, 0);
    bool table = kind == TENSOR_EMBED;
    hint(&p, checkpoint_prefetch);
    struct weight *w =
        table ? l->b->ops->table_create(l->d, &p) : l->b->ops->weight_create(l->d, &p, l->keep);
    hint(&p, checkpoint_release);
    report(l, l->b->ops->weight_bytes(l->d, &p, table ? WEIGHT_KEEP : l->keep));
    return w;
}

static void load_attention_layer(struct loader *l, size_t layer, struct attention_layer *a)
{
    a->input_norm = load_f32(l, TENSOR_INPUT_NORM, layer);
    a->inter_norm = load_f32(l, TENSOR_INTER_NORM, layer);
    a->post_norm = load_f32(l, TENSOR_POST_NORM, layer);
    a->q_down = load_matrix(l, TENSOR_Q_DOWN, layer);
    a->q_up = load_matrix(l, TENSOR_Q_UP, layer);
    a->k = load_matrix(l, TENSOR_K, layer);
    a->v = load_matrix(l, TENSOR_V, layer);
    a->o = load_matrix(l, TENSOR_O, layer);
    if (l->m->moe[layer])
        a->router = load_f32(l, TENSOR_ROUTER, layer);
}

void attention_weights_load(struct attention_weights *w, const struct backend *b, struct device *d,
                            const struct model *m, const struct checkpoint *c, size_t context,
                            enum weight_keep keep, weights_progress progress,
                            void *progress_context)
{
    struct loader l = {b, d, m, c, keep, progress, progress_context, 0, 0};
    l.total = attention_weights_bytes(b, d, m, c, context, keep);
    w->embed = load_matrix(&l, TENSOR_EMBED, 0);
    w->layers = mem_zeroed(m->layers, sizeof *w->layers);
    for (size_t i = 0; i < m->layers; i++)
        load_attention_layer(&l, i, &w->layers[i]);
    w->final_norm = load_f32(&l, TENSOR_FINAL_NORM, 0);
    w->lm_head = load_matrix(&l, TENSOR_LM_HEAD, 0);

    float *angles = mem_new(angles_bytes(m, context), 1);
    rope_angles(angles, context, m->head_dim, m->rope_theta);
    w->angles = upload(&l, angles, angles_bytes(m, context));
    free(angles);
}

void attention_weights_free(struct attention_weights *w, const struct backend *b, struct device *d,
                            const struct model *m)
{
    for (size_t i = 0; i < m->layers; i++) {
        struct attention_layer *a = &w->layers[i];
        float *const plain[] = {a->input_norm, a->inter_norm, a->post_norm, a->router};
        struct weight *const packed[] = {a->q_down, a->q_up, a->k, a->v, a->o};
        for (size_t j = 0; j < sizeof plain / sizeof *plain; j++)
            if (plain[j])
                b->device->release(d, plain[j]);
        for (size_t j = 0; j < sizeof packed / sizeof *packed; j++)
            b->ops->weight_destroy(d, packed[j]);
    }
    free(w->layers);
    b->ops->weight_destroy(d, w->embed);
    b->ops->weight_destroy(d, w->lm_head);
    b->device->release(d, w->final_norm);
    b->device->release(d, w->angles);
    memset(w, 0, sizeof *w);
}

/* ---- FFN ------------------------------------------------------------------------------------ */

/* gate and up: rows of the intermediate dimension; down: its columns. */
static struct mlp_part mlp_slice(const struct model *m, const struct checkpoint *c,
                                 enum model_tensor gate, enum model_tensor up,
                                 enum model_tensor down, size_t layer, size_t expert,
                                 struct span inter)
{
    return (struct mlp_part){
        .gate = rows_of(matrix(m, c, gate, layer, expert), inter),
        .up = rows_of(matrix(m, c, up, layer, expert), inter),
        .down = columns_of(matrix(m, c, down, layer, expert), inter),
    };
}

static struct mlp_part no_mlp(const struct model *m)
{
    const struct weight_part in = {.n = 0, .k = m->hidden, .stride = m->hidden};
    const struct weight_part out = {.n = m->hidden, .k = 0, .stride = 0};
    return (struct mlp_part){.gate = in, .up = in, .down = out};
}

/* experts: room for all of the rank's. */
static struct ffn_part layer_part(const struct model *m, const struct checkpoint *c,
                                  const struct layout *l, int ffn_rank, size_t layer,
                                  struct mlp_part *experts)
{
    struct ffn_part f = {.experts = experts, .shared = no_mlp(m)};
    if (!m->moe[layer]) {
        f.shared = mlp_slice(m, c, TENSOR_DENSE_GATE, TENSOR_DENSE_UP, TENSOR_DENSE_DOWN, layer, 0,
                             placement_shared_inter(m->dense_inter, l, ffn_rank));
        return f;
    }
    struct span mine = placement_experts((size_t)m->router.experts, l, ffn_rank);
    struct span inter = placement_expert_inter(m->expert_inter, l, ffn_rank);
    f.first_expert = (int)mine.first;
    f.n_experts = (int)mine.count;
    for (size_t i = 0; i < mine.count; i++)
        experts[i] = mlp_slice(m, c, TENSOR_EXPERT_GATE, TENSOR_EXPERT_UP, TENSOR_EXPERT_DOWN,
                               layer, mine.first + i, inter);
    if (m->shared_inter)
        f.shared = mlp_slice(m, c, TENSOR_SHARED_GATE, TENSOR_SHARED_UP, TENSOR_SHARED_DOWN, layer,
                             0, placement_shared_inter(m->shared_inter, l, ffn_rank));
    return f;
}

static void hint_ffn(const struct ffn_part *f, void (*tell)(const void *, size_t))
{
    for (int i = -1; i < f->n_experts; i++) {
        const struct mlp_part *p = i < 0 ? &f->shared : &f->experts[i];
        hint(&p->gate, tell);
        hint(&p->up, tell);
        hint(&p->down, tell);
    }
}

size_t ffn_weights_bytes(const struct backend *b, const struct device *d, const struct model *m,
                         const struct checkpoint *c, const struct layout *l, int ffn_rank,
                         enum weight_keep keep)
{
    struct mlp_part *experts = mem_new((size_t)m->router.experts, sizeof *experts);
    size_t bytes = 0;
    for (size_t i = 0; i < m->layers; i++) {
        struct ffn_part f = layer_part(m, c, l, ffn_rank, i, experts);
        bytes += b->ops->ffn_bytes(d, &f, keep);
    }
    free(experts);
    return bytes;
}

void ffn_weights_load(struct ffn_weights *w, const struct backend *b, struct device *d,
                      const struct model *m, const struct checkpoint *c, const struct layout *l,
                      int ffn_rank, enum weight_keep keep, weights_progress progress,
                      void *progress_context)
{
    struct loader load = {b, d, m, c, keep, progress, progress_context, 0, 0};
    load.total = ffn_weights_bytes(b, d, m, c, l, ffn_rank, keep);
    w->layers = mem_zeroed(m->layers, sizeof *w->layers);
    struct mlp_part *experts = mem_new((size_t)m->router.experts, sizeof *experts);
    for (size_t i = 0; i < m->layers; i++) {
        struct ffn_part f = layer_part(m, c, l, ffn_rank, i, experts);
        hint_ffn(&f, checkpoint_prefetch);
        w->layers[i] = b->ops->ffn_create(d, &f, keep);
        hint_ffn(&f, checkpoint_release);
        report(&load, b->ops->ffn_bytes(d, &f, keep));
    }
    free(experts);
}

void ffn_weights_free(struct ffn_weights *w, const struct backend *b, struct device *d,
                      const struct model *m)
{
    for (size_t i = 0; i < m->layers; i++)
        b->ops->ffn_destroy(d, w->layers[i]);
    free(w->layers);
    w->layers = NULL;
}
