#include "model/weights.h"

#include "base/mem.h"
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

static struct weight_part cut_rows(struct weight_part p, struct span s)
{
    p.row0 += s.first;
    p.n = s.count;
    return p;
}

/* All of a member's tensor; of embeddings and lm_head only the tokens there are. */
static struct weight_part member_part(const struct weights_plan *p, const struct member *member,
                                      size_t layer)
{
    struct weight_part part = part_of(p, member->tensor, layer, 0);
    return member->dim[0] == DIM_VOCAB ? cut_rows(part, (struct span){0, p->model->vocab}) : part;
}

static struct weight_part cut_columns(struct weight_part p, struct span s)
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

/* Of scales and zero points that do not lie as the rows do, all. */
static void take(struct fingerprint *f, const struct weight_part *p)
{
    if (!f || !p->n || !p->k)
        return;
    bool rows = p->codec->block_bytes > 0; /* one after the other */
    const struct fingerprint_share share = {p->col0, p->col0 + p->k, p->stride};
    if (rows)
        fingerprint_add(f, (const char *)p->data + weight_data_bytes(p, p->row0),
                        weight_data_bytes(p, p->n), &share);
    else
        fingerprint_add_tensor(f, p->data);
    if (rows && p->scale && p->scale_rows) {
        size_t first = p->row0 / p->scale_rows, last = (p->row0 + p->n - 1) / p->scale_rows;
        size_t row = mem_mul(p->scale_stride, dtype_size(p->scale_dtype));
        fingerprint_add(f, (const char *)p->scale + first * row, (last - first + 1) * row, NULL);
    } else if (p->scale) {
        fingerprint_add_tensor(f, p->scale);
    }
    if (p->zero)
        fingerprint_add_tensor(f, p->zero);
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
        h.part[i] = cut_rows(all, rows);
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
    hint(&part, checkpoint_prefetch);
    take(l->p->fingerprint, &part);
    if (member->as == AS_F32)
        *to = load_numbers(l, &part, member->use);
    else if (member->as == AS_TABLE)
        *to = op->table_create(l->p->device, &part);
    else if (member->as == AS_MATRIX)
        *to = op->weight_create(l->p->device, &part, l->p->keep);
    else
        *to = load_heads(l, member, layer);
    hint(&part, checkpoint_release);
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

static size_t list_bytes(const struct weights_plan *p, struct members list, size_t layer)
{
    size_t bytes = 0;
    for (size_t i = 0; i < list.n; i++)
        if (wanted(p, &list.list[i], layer))
            bytes += member_bytes(p, &list.list[i], layer);
    return bytes;
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

static size_t angles_bytes(const struct rope_spec *rope, size_t context)
{
    return mem_mul(mem_mul(context, rope->dim), sizeof(float));
}

static size_t loaded_layers(const struct model *m)
{
    return m->layers + model_mtp_loaded(m);
}

size_t attention_weights_bytes(const struct weights_plan *p)
{
    const struct model *m = p->model;
    size_t bytes = list_bytes(p, model_members, 0);
    for (size_t l = m->layers; l < loaded_layers(m); l++)
        bytes += list_bytes(p, mtp_members, l);
    for (int i = 0; i < m->n_ropes; i++)
        bytes += angles_bytes(&m->ropes[i], p->context);
    for (size_t l = 0; l < loaded_layers(m); l++)
        bytes += list_bytes(p, layer_members, l) +
                 list_bytes(p, block_members(m->layer[l].attention.block), l);
    return bytes;
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
    *w = (struct attention_weights){.layers = mem_zeroed(loaded_layers(m), sizeof *w->layers),
                                    .mtp = mem_zeroed(model_mtp_loaded(m), sizeof *w->mtp)};
    load_list(&l, model_members, 0, &w->once);
    for (size_t i = 0; i < loaded_layers(m); i++) {
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
    for (size_t i = 0; i < loaded_layers(p->model); i++) {
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

/* ---- FFN ------------------------------------------------------------------------------------ */

/* gate and up: rows of the intermediate dimension; down: its columns. */
/* An MLP's intermediate dimension, this rank's share of it, and the slices that this has. */
struct share {
    struct span mine;
    float limit;
    size_t cuts[PLACEMENT_SLICES_MAX + 1], n_cuts;
};

static struct share share_of(const struct weights_plan *p, size_t width, struct span mine,
                             float limit)
{
    struct share s = {.mine = mine, .limit = limit};
    s.n_cuts = placement_cuts(width, p->layout->granule, mine, s.cuts);
    return s;
}

static struct mlp_part mlp_slice(const struct weights_plan *p, enum model_tensor gate, size_t layer,
                                 size_t expert, const struct share *share)
{
    const enum model_tensor up = gate + 1, down = gate + 2;
    return (struct mlp_part){
        .gate = cut_rows(part_of(p, gate, layer, expert), share->mine),
        .up = cut_rows(part_of(p, up, layer, expert), share->mine),
        .down = cut_columns(part_of(p, down, layer, expert), share->mine),
        .limit = share->limit,
        .cuts = share->cuts,
        .n_cuts = share->n_cuts,
    };
}

static struct mlp_part no_mlp(const struct model *m)
{
    const struct codec *any = codec_of(DTYPE_F32);
    const struct weight_part in = {.codec = any, .n = 0, .k = m->hidden, .stride = m->hidden};
    const struct weight_part out = {.codec = any, .n = m->hidden, .k = 0, .stride = 0};
    return (struct mlp_part){.gate = in, .up = in, .down = out};
}

/* What an FFN rank's part of a layer points to. */
struct layer_room {
    struct mlp_part *experts; /* for all of the rank's */
    float *biases;            /* theirs, one behind the other */
    size_t used;
    bool filled; /* the biases are read; for a plan only that they are there counts */
    struct share routed, shared;
};

static const float *bias_of(const struct weights_plan *p, struct layer_room *room,
                            enum model_tensor kind, size_t layer, size_t expert, struct span rows)
{
    float *to = room->biases + room->used;
    room->used += rows.count;
    if (!room->filled)
        return to;
    struct weight_part part = cut_rows(part_of(p, kind, layer, expert), rows);
    for (size_t i = 0; i < part.n; i++)
        weight_row(&part, i, to + i);
    return to;
}

/* The bias of down is added by whoever has its first column. */
static void add_biases(const struct weights_plan *p, struct layer_room *room, size_t layer,
                       size_t expert, struct mlp_part *m)
{
    struct span mine = room->routed.mine, outputs = {0, p->model->hidden};
    m->gate_bias = bias_of(p, room, TENSOR_EXPERT_GATE_BIAS, layer, expert, mine);
    m->up_bias = bias_of(p, room, TENSOR_EXPERT_UP_BIAS, layer, expert, mine);
    if (mine.first == 0)
        m->down_bias = bias_of(p, room, TENSOR_EXPERT_DOWN_BIAS, layer, expert, outputs);
}

static struct ffn_part layer_part(const struct weights_plan *p, size_t layer,
                                  struct layer_room *room)
{
    const struct ffn_spec *spec = &p->model->layer[layer].ffn;
    struct ffn_part f = {.experts = room->experts, .shared = no_mlp(p->model)};
    bool moe = p->model->moe[layer];
    size_t all = moe ? spec->shared_inter : spec->inter;
    room->shared = share_of(p, all, placement_shared_inter(all, p->layout, p->ffn_rank),
                            moe ? spec->shared_limit : spec->limit);
    if (!moe) {
        f.shared = mlp_slice(p, TENSOR_DENSE_GATE, layer, 0, &room->shared);
        return f;
    }
    struct span mine = placement_experts((size_t)spec->router.experts, p->layout, p->ffn_rank);
    room->routed = share_of(
        p, spec->inter, placement_expert_inter(spec->inter, p->layout, p->ffn_rank), spec->limit);
    f.first_expert = (int)mine.first;
    f.n_experts = (int)mine.count;
    room->used = 0;
    for (size_t i = 0; i < mine.count; i++) {
        room->experts[i] = mlp_slice(p, TENSOR_EXPERT_GATE, layer, mine.first + i, &room->routed);
        room->experts[i].alpha = spec->alpha;
        if (spec->expert_bias)
            add_biases(p, room, layer, mine.first + i, &room->experts[i]);
    }
    if (spec->shared_inter)
        f.shared = mlp_slice(p, TENSOR_SHARED_GATE, layer, 0, &room->shared);
    return f;
}

static void for_each_part(const struct ffn_part *f, void (*tell)(const void *, size_t))
{
    for (int i = -1; i < f->n_experts; i++) {
        const struct mlp_part *p = i < 0 ? &f->shared : &f->experts[i];
        hint(&p->gate, tell);
        hint(&p->up, tell);
        hint(&p->down, tell);
    }
}

static void take_all(struct fingerprint *to, const struct ffn_part *f)
{
    for (int i = -1; i < f->n_experts; i++) {
        const struct mlp_part *p = i < 0 ? &f->shared : &f->experts[i];
        take(to, &p->gate);
        take(to, &p->up);
        take(to, &p->down);
    }
}

static struct layer_room layer_room(const struct model *m, bool filled)
{
    size_t each = 0;
    for (size_t l = 0; l < m->layers; l++)
        if (m->layer[l].ffn.expert_bias)
            each = 2 * m->most.inter + m->hidden;
    return (struct layer_room){.experts = mem_new(m->most.experts, sizeof(struct mlp_part)),
                               .biases = mem_new(mem_mul(m->most.experts, each), sizeof(float)),
                               .filled = filled};
}

static void layer_room_free(struct layer_room *room)
{
    free(room->experts);
    free(room->biases);
}

size_t ffn_weights_bytes(const struct weights_plan *p)
{
    struct layer_room room = layer_room(p->model, false);
    size_t bytes = 0;
    for (size_t i = 0; i < loaded_layers(p->model); i++) {
        struct ffn_part f = layer_part(p, i, &room);
        bytes += p->backend->ops->ffn_bytes(p->device, &f, p->keep);
    }
    layer_room_free(&room);
    return bytes;
}

void ffn_weights_load(struct ffn_weights *w, const struct weights_plan *p,
                      weights_progress progress, void *progress_context)
{
    struct loader l = {p, progress, progress_context, 0, ffn_weights_bytes(p)};
    w->layers = mem_zeroed(loaded_layers(p->model), sizeof *w->layers);
    struct layer_room room = layer_room(p->model, true);
    for (size_t i = 0; i < loaded_layers(p->model); i++) {
        struct ffn_part f = layer_part(p, i, &room);
        for_each_part(&f, checkpoint_prefetch);
        take_all(i < p->model->layers ? p->fingerprint : NULL, &f);
        w->layers[i] = p->backend->ops->ffn_create(p->device, &f, p->keep);
        for_each_part(&f, checkpoint_release);
        report(&l, p->backend->ops->ffn_bytes(p->device, &f, p->keep));
    }
    layer_room_free(&room);
}

void ffn_weights_free(struct ffn_weights *w, const struct weights_plan *p)
{
    for (size_t i = 0; i < loaded_layers(p->model); i++)
        p->backend->ops->ffn_destroy(p->device, w->layers[i]);
    free(w->layers);
    w->layers = NULL;
}
