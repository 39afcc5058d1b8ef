#include "model/weights.h"

#include "base/mem.h"
#include "model/reading.h"
#include "model/rope.h"
#include "model/tensors.h"

#include <stdlib.h>
#include <string.h>

/* What the functions of loading pass on. */
struct loader {
    const struct weights_plan *p;
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

static struct weight_part part_of(const struct weights_plan *p, enum model_tensor kind,
                                  size_t layer, size_t expert)
{
    return tensors_part(p->model, p->checkpoint, kind, layer, expert);
}

/* All of a member's tensor; of embeddings and lm_head only the tokens there are. */
static struct weight_part member_part(const struct weights_plan *p, const struct member *member,
                                      size_t layer)
{
    struct weight_part part = part_of(p, member->tensor, layer, 0);
    return member->dim[0] == DIM_VOCAB ? reading_rows(part, (struct span){0, p->model->vocab})
                                       : part;
}

/* ---- one matrix for every head -------------------------------------------------------------- */

/* A matrix of its own; or what KV_UP gives each head: its key rows turned over, [rank][nope], or its
 * value rows. The former are numbers of their own, in `turned`: bf16 when the checkpoint has that,
 * else f32. */
struct heads {
    struct weight_part *part; /* [heads] */
    int n;
    void *turned;
};

static void turn_head(const struct weight_part *from, enum dtype t, size_t head, void *to)
{
    float *row = mem_new(from->k, sizeof *row);
    for (size_t i = 0; i < from->n; i++) {
        weight_row(from, i, row);
        for (size_t j = 0; j < from->k; j++) {
            size_t at = (head * from->k + j) * from->n + i;
            if (t == DTYPE_BF16)
                ((bf16_t *)to)[at] = bf16_from_f32(row[j]);
            else
                ((float *)to)[at] = row[j];
        }
    }
    free(row);
}

static struct heads own_heads(const struct weights_plan *p, const struct member *member,
                              size_t layer)
{
    struct heads h = {.n = p->model->layer[layer].attention.attn.heads};
    h.part = mem_new((size_t)h.n, sizeof *h.part);
    for (size_t i = 0; i < (size_t)h.n; i++)
        h.part[i] = part_of(p, member->tensor, layer, i);
    return h;
}

/* filled: the turned numbers are made; for a plan only their shape counts. */
static struct heads heads_of(const struct weights_plan *p, const struct member *member,
                             size_t layer, bool filled)
{
    if (member->as == AS_HEADS)
        return own_heads(p, member, layer);
    const struct attention_spec *a = &p->model->layer[layer].attention;
    struct weight_part all = part_of(p, member->tensor, layer, 0);
    struct heads h = {.n = a->attn.heads};
    size_t nope = a->nope_dim, each = nope + a->head_value_dim;
    bool keys = member->as == AS_HEAD_KEYS;
    enum dtype t = all.codec == codec_of(DTYPE_BF16) ? DTYPE_BF16 : DTYPE_F32;
    h.part = mem_new((size_t)h.n, sizeof *h.part);
    if (keys && filled)
        h.turned = mem_new(mem_mul((size_t)h.n, nope * all.k), dtype_size(t));
    for (size_t i = 0; i < (size_t)h.n; i++) {
        struct span rows = {i * each + (keys ? 0 : nope), keys ? nope : a->head_value_dim};
        h.part[i] = reading_rows(all, rows);
        if (!keys)
            continue;
        if (filled)
            turn_head(&h.part[i], t, i, h.turned);
        h.part[i] =
            (struct weight_part){.codec = codec_of(t), .n = all.k, .k = nope, .stride = nope};
        if (filled)
            h.part[i].data = (char *)h.turned + i * nope * all.k * dtype_size(t);
    }
    return h;
}

static void heads_free(struct heads *h)
{
    free(h->part);
    free(h->turned);
}

/* ---- members -------------------------------------------------------------------------------- */

static size_t numbers_of(const struct weight_part *p)
{
    return mem_mul(p->n, p->k);
}

static size_t member_bytes(const struct weights_plan *p, const struct member *member, size_t layer)
{
    const struct ops *op = p->backend->ops;
    struct weight_part part = member_part(p, member, layer);
    if (member->as == AS_F32)
        return mem_mul(numbers_of(&part), sizeof(float));
    if (member->as == AS_MATRIX || member->as == AS_TABLE)
        return op->weight_bytes(p->device, &part, member->as == AS_TABLE ? WEIGHT_KEEP : p->keep);
    struct heads h = heads_of(p, member, layer, false);
    size_t bytes = op->heads_bytes(p->device, h.part, h.n, p->keep);
    heads_free(&h);
    return bytes;
}

static float *upload(struct loader *l, const float *host, size_t bytes)
{
    const struct device_ops *dev = l->p->backend->device;
    struct stream *s = dev->stream_create(l->p->device);
    float *on_device = dev->alloc(l->p->device, bytes);
    dev->upload(l->p->device, s, on_device, host, bytes);
    dev->stream_sync(l->p->device, s);
    dev->stream_destroy(l->p->device, s);
    return on_device;
}

/* Gains, biases and routers: any format of the file, f32 on the device. */
static float *load_numbers(struct loader *l, const struct weight_part *p, enum tensor_use use)
{
    size_t n = numbers_of(p);
    float *host = mem_new(n, sizeof *host);
    for (size_t i = 0; i < p->n; i++)
        weight_row(p, i, host + i * p->k);
    float offset = l->p->model->gain_offset;
    for (size_t i = 0; use == USE_GAIN && offset != 0 && i < n; i++)
        host[i] += offset;
    float *on_device = upload(l, host, mem_mul(n, sizeof *host));
    free(host);
    return on_device;
}

static void *load_heads(struct loader *l, const struct member *member, size_t layer)
{
    struct heads h = heads_of(l->p, member, layer, true);
    void *w = l->p->backend->ops->heads_create(l->p->device, h.part, h.n, l->p->keep);
    heads_free(&h);
    return w;
}

static void load_member(struct loader *l, const struct member *member, size_t layer, void *base)
{
    const struct ops *op = l->p->backend->ops;
    struct weight_part part = member_part(l->p, member, layer);
    void **to = (void **)((char *)base + member->at);
    if (member->as == AS_HEADS) /* they stand one behind the other */
        part.n *= (size_t)l->p->model->layer[layer].attention.attn.heads;
    reading_hint(&part, checkpoint_prefetch);
    reading_note(l->p->fingerprint, &part);
    if (member->as == AS_F32)
        *to = load_numbers(l, &part, member->use);
    else if (member->as == AS_TABLE)
        *to = op->table_create(l->p->device, &part);
    else if (member->as == AS_MATRIX)
        *to = op->weight_create(l->p->device, &part, l->p->keep);
    else
        *to = load_heads(l, member, layer);
    reading_hint(&part, checkpoint_release);
    report(l, member_bytes(l->p, member, layer));
}

static void free_member(const struct weights_plan *p, const struct member *member, void *base)
{
    void **at = (void **)((char *)base + member->at), *held = *at;
    if (!held)
        return;
    *at = NULL; /* several members may share the place */
    if (member->as == AS_F32)
        p->backend->device->release(p->device, held);
    else if (member->as == AS_MATRIX || member->as == AS_TABLE)
        p->backend->ops->weight_destroy(p->device, held);
    else
        p->backend->ops->heads_destroy(p->device, held);
}

/* ---- attention ------------------------------------------------------------------------------ */

static bool wanted(const struct weights_plan *p, const struct member *member, size_t layer)
{
    /* A tied lm_head is packed like one of its own, from the embeddings. */
    return member->tensor == TENSOR_LM_HEAD || !member->wanted ||
           member->wanted(p->model, &p->model->layer[layer]);
}

/* Of members that are wanted. */
struct sum {
    size_t bytes;
    struct weights_slow slow;
};

static const char *member_obstacle(const struct weights_plan *p, const struct member *member,
                                   size_t layer)
{
    struct weight_part part = member_part(p, member, layer);
    if (member->as != AS_MATRIX || !p->backend->ops->weight_obstacle)
        return NULL;
    return p->backend->ops->weight_obstacle(p->device, &part, p->keep);
}

static void add_list(struct sum *sum, const struct weights_plan *p, struct members list,
                     size_t layer)
{
    for (size_t i = 0; i < list.n; i++) {
        if (!wanted(p, &list.list[i], layer))
            continue;
        const char *why = member_obstacle(p, &list.list[i], layer);
        sum->bytes += member_bytes(p, &list.list[i], layer);
        sum->slow.count += why != NULL;
        sum->slow.why = sum->slow.why ? sum->slow.why : why;
    }
}

static void load_list(struct loader *l, struct members list, size_t layer, void *base)
{
    for (size_t i = 0; i < list.n; i++)
        if (wanted(l->p, &list.list[i], layer))
            load_member(l, &list.list[i], layer, base);
}

static void free_list(const struct weights_plan *p, struct members list, void *base)
{
    for (size_t i = 0; i < list.n; i++)
        free_member(p, &list.list[i], base);
}

static struct members block_members(const struct block *b)
{
    return (struct members){b->members, b->n_members};
}

size_t weights_layers(const struct model *m)
{
    return m->layers + model_mtp_loaded(m);
}

static size_t angles_bytes(const struct rope_spec *rope, size_t context)
{
    return mem_mul(mem_mul(context, rope->dim), sizeof(float));
}

static struct sum sum_members(const struct weights_plan *p)
{
    const struct model *m = p->model;
    struct sum sum = {0};
    add_list(&sum, p, model_members, 0);
    for (size_t l = m->layers; l < weights_layers(m); l++)
        add_list(&sum, p, mtp_members, l);
    for (int i = 0; i < m->n_ropes; i++)
        sum.bytes += angles_bytes(&m->ropes[i], p->context);
    for (size_t l = 0; l < weights_layers(m); l++) {
        add_list(&sum, p, layer_members, l);
        add_list(&sum, p, block_members(m->layer[l].attention.block), l);
    }
    return sum;
}

size_t attention_weights_bytes(const struct weights_plan *p)
{
    return sum_members(p).bytes;
}

struct weights_slow attention_weights_slow(const struct weights_plan *p)
{
    return sum_members(p).slow;
}

static void load_angles(struct loader *l, const struct rope_spec *rope, float **to)
{
    size_t bytes = angles_bytes(rope, l->p->context);
    float *angles = mem_new(bytes, 1);
    rope_angles(angles, l->p->context, rope);
    *to = upload(l, angles, bytes);
    free(angles);
    report(l, bytes);
}

/* Drafts change no completion, so whoever loads MTP layers is not told apart from who does not. */
static struct weights_plan without_fingerprint(const struct weights_plan *p)
{
    struct weights_plan silent = *p;
    silent.fingerprint = NULL;
    return silent;
}

void attention_weights_load(struct attention_weights *w, const struct weights_plan *p,
                            weights_progress progress, void *progress_context)
{
    const struct model *m = p->model;
    struct weights_plan silent = without_fingerprint(p);
    struct loader l = {p, progress, progress_context, 0, attention_weights_bytes(p)};
    *w = (struct attention_weights){.layers = mem_zeroed(weights_layers(m), sizeof *w->layers),
                                    .mtp = mem_zeroed(model_mtp_loaded(m), sizeof *w->mtp)};
    load_list(&l, model_members, 0, &w->once);
    for (size_t i = 0; i < weights_layers(m); i++) {
        if (i >= m->layers) {
            l.p = &silent;
            load_list(&l, mtp_members, i, &w->mtp[i - m->layers]);
        }
        const struct block *b = m->layer[i].attention.block;
        w->layers[i].block = mem_zeroed(1, b->weights_size);
        load_list(&l, layer_members, i, &w->layers[i]);
        load_list(&l, block_members(b), i, w->layers[i].block);
    }
    for (int i = 0; i < m->n_ropes; i++)
        load_angles(&l, &m->ropes[i], &w->angles[i]);
}

void attention_weights_free(struct attention_weights *w, const struct weights_plan *p)
{
    for (size_t i = 0; i < model_mtp_loaded(p->model); i++)
        free_list(p, mtp_members, &w->mtp[i]);
    free(w->mtp);
    for (size_t i = 0; i < weights_layers(p->model); i++) {
        free_list(p, layer_members, &w->layers[i]);
        free_list(p, block_members(p->model->layer[i].attention.block), w->layers[i].block);
        free(w->layers[i].block);
    }
    free(w->layers);
    free_list(p, model_members, &w->once);
    for (int i = 0; i < p->model->n_ropes; i++)
        p->backend->device->release(p->device, w->angles[i]);
    *w = (struct attention_weights){0};
}
