#include "model/weights.h"

#include "base/mem.h"
#include "model/reading.h"
#include "model/tensors.h"

#include <stdlib.h>

/* What the functions of loading pass on. */
struct loader {
    const struct weights_plan *p;
    struct slices slices;
    size_t done;
    size_t copies, passing; /* of a plan: slices.h */
};

/* An MLP's intermediate dimension, this rank's share of it, and the slices that this has. */
struct share {
    struct slices_share all;
    struct span mine;
    float limit;
    size_t cuts[PLACEMENT_SLICES_MAX + 1], n_cuts;
};

static struct share share_of(const struct weights_plan *p, const struct slices_share *all,
                             float limit)
{
    struct share s = {.all = *all, .limit = limit};
    s.all.layout = p->layout;
    s.all.rank = p->ffn_rank;
    s.mine = all->of(all->width, p->layout, p->ffn_rank);
    s.n_cuts = placement_cuts(all->width, p->layout->granule, s.mine, s.cuts);
    return s;
}

/* Of a routed expert: the ranks of an instance have it. */
static struct share routed_share(const struct weights_plan *p, const struct ffn_spec *spec)
{
    size_t tensor = p->layout->colocated ? 1 : (size_t)p->layout->tensor;
    const struct slices_share all = {.of = placement_expert_inter,
                                     .width = spec->inter,
                                     .ranks = {(size_t)p->ffn_rank / tensor * tensor, tensor}};
    return share_of(p, &all, spec->limit);
}

/* Of the shared expert or a dense MLP: all have it. */
static struct share common_share(const struct weights_plan *p, size_t width, float limit)
{
    const struct slices_share all = {.of = placement_shared_inter,
                                     .width = width,
                                     .ranks = {0, (size_t)layout_ffn_ranks(p->layout)}};
    return share_of(p, &all, limit);
}

/* gate and up: rows of the intermediate dimension; down: its columns. */
static struct mlp_part mlp_slice(const struct weights_plan *p, enum model_tensor gate, size_t layer,
                                 size_t expert, const struct share *share)
{
    const enum model_tensor up = gate + 1, down = gate + 2;
    return (struct mlp_part){
        .gate =
            reading_rows(tensors_part(p->model, p->checkpoint, gate, layer, expert), share->mine),
        .up = reading_rows(tensors_part(p->model, p->checkpoint, up, layer, expert), share->mine),
        .down = reading_columns(tensors_part(p->model, p->checkpoint, down, layer, expert),
                                share->mine),
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
    struct weight_part part =
        reading_rows(tensors_part(p->model, p->checkpoint, kind, layer, expert), rows);
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
    room->shared = common_share(p, moe ? spec->shared_inter : spec->inter,
                                moe ? spec->shared_limit : spec->limit);
    if (!moe) {
        f.shared = mlp_slice(p, TENSOR_DENSE_GATE, layer, 0, &room->shared);
        return f;
    }
    struct span mine = placement_experts((size_t)spec->router.experts, p->layout, p->ffn_rank);
    room->routed = routed_share(p, spec);
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

/* What is done with each matrix of a layer: `columns` of it (else rows) are shared out. */
typedef void (*matrix_visit)(struct loader *l, struct weight_part *p, bool columns,
                             const struct slices_share *share);

static void visit_mlp(struct loader *l, struct mlp_part *m, const struct slices_share *share,
                      matrix_visit visit)
{
    visit(l, &m->gate, false, share);
    visit(l, &m->up, false, share);
    visit(l, &m->down, true, share);
}

/* Ranks that share a matrix come to it in the same order. */
static void visit_layer(struct loader *l, struct ffn_part *f, struct layer_room *room,
                        matrix_visit visit)
{
    for (int i = 0; i < f->n_experts; i++)
        visit_mlp(l, &room->experts[i], &room->routed.all, visit);
    if (room->shared.all.width)
        visit_mlp(l, &f->shared, &room->shared.all, visit);
}

static void prefetch(struct loader *l, struct weight_part *p, bool columns,
                     const struct slices_share *share)
{
    const struct weight_part read = slices_read(&l->slices, p, columns, share);
    reading_hint(&read, checkpoint_prefetch);
}

static void note_read(struct loader *l, struct weight_part *p, bool columns,
                      const struct slices_share *share)
{
    const struct weight_part read = slices_read(&l->slices, p, columns, share);
    reading_note(l->p->fingerprint, &read);
}

static void gather(struct loader *l, struct weight_part *p, bool columns,
                   const struct slices_share *share)
{
    slices_gather(&l->slices, p, columns, share);
}

static void count_copy(struct loader *l, struct weight_part *p, bool columns,
                       const struct slices_share *share)
{
    size_t passing;
    l->copies += slices_bytes(p, columns, share, &passing);
    l->passing = passing > l->passing ? passing : l->passing;
}

static void release(struct loader *l, struct weight_part *p, bool columns,
                    const struct slices_share *share)
{
    const struct weight_part read = slices_read(&l->slices, p, columns, share);
    reading_hint(&read, checkpoint_release);
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
    for (size_t i = 0; i < weights_layers(p->model); i++) {
        struct ffn_part f = layer_part(p, i, &room);
        bytes += p->backend->ops->ffn_bytes(p->device, &f, p->keep);
    }
    layer_room_free(&room);
    return bytes;
}

/* Whether some gate of a layer is kept in another form than its up. */
static bool unlike(const struct weights_plan *p, const struct ffn_part *f)
{
    for (int i = 0; i <= f->n_experts; i++) {
        const struct mlp_part *m = i < f->n_experts ? &f->experts[i] : &f->shared;
        if (!m->gate.codec)
            continue;
        struct weight_form a = weight_form(&m->gate, p->keep), b = weight_form(&m->up, p->keep);
        if (a.kind != b.kind || a.inner != b.inner || a.values != b.values || a.mins != b.mins)
            return true;
    }
    return false;
}

/* Bytes of a layer if its gates had the format of the ups, or the other way round. */
static size_t bytes_alike(const struct weights_plan *p, struct ffn_part f, struct layer_room *room,
                          bool as_up)
{
    for (int i = 0; i <= f.n_experts; i++) {
        struct mlp_part *m = i < f.n_experts ? &room->experts[i] : &f.shared;
        if (as_up)
            m->gate = m->up;
        else
            m->up = m->gate;
    }
    return p->backend->ops->ffn_bytes(p->device, &f, p->keep);
}

size_t ffn_weights_widened(const struct weights_plan *p)
{
    struct layer_room room = layer_room(p->model, false);
    size_t more = 0;
    for (size_t i = 0; i < weights_layers(p->model); i++) {
        struct ffn_part f = layer_part(p, i, &room);
        if (!unlike(p, &f))
            continue;
        size_t bytes = p->backend->ops->ffn_bytes(p->device, &f, p->keep);
        size_t gates = bytes_alike(p, f, &room, false);
        f = layer_part(p, i, &room);
        size_t between = (gates + bytes_alike(p, f, &room, true)) / 2;
        more += bytes > between ? bytes - between : 0;
    }
    layer_room_free(&room);
    return more;
}

struct weights_slow ffn_weights_slow(const struct weights_plan *p)
{
    struct weights_slow slow = {0};
    if (!p->backend->ops->ffn_obstacle)
        return slow;
    struct layer_room room = layer_room(p->model, false);
    for (size_t i = 0; i < weights_layers(p->model); i++) {
        struct ffn_part f = layer_part(p, i, &room);
        const char *why = p->backend->ops->ffn_obstacle(p->device, &f, p->keep);
        slow.count += why != NULL;
        slow.why = slow.why ? slow.why : why;
    }
    layer_room_free(&room);
    return slow;
}

bool ffn_weights_same(const struct weights_plan *p, enum dtype act)
{
    struct layout one = {.expert = 1, .tensor = 1, .granule = p->layout->granule};
    struct weights_plan all = *p, own = *p;
    struct layer_room all_room = layer_room(p->model, false);
    struct layer_room own_room = layer_room(p->model, false);
    bool same = true;
    all.layout = &one;
    all.ffn_rank = 0;
    for (size_t i = 0; i < p->model->layers && same && p->backend->ops->ffn_same; i++) {
        struct ffn_part whole = layer_part(&all, i, &all_room);
        for (own.ffn_rank = 0; own.ffn_rank < layout_ffn_ranks(p->layout) && same; own.ffn_rank++) {
            struct ffn_part part = layer_part(&own, i, &own_room);
            same = p->backend->ops->ffn_same(act, &whole, &part, p->keep);
        }
    }
    layer_room_free(&all_room);
    layer_room_free(&own_room);
    return same;
}

size_t ffn_weights_loading(const struct weights_plan *p)
{
    struct layer_room room = layer_room(p->model, false);
    size_t most = 0;
    for (size_t i = 0; i < weights_layers(p->model); i++) {
        struct loader l = {.p = p};
        struct ffn_part f = layer_part(p, i, &room);
        visit_layer(&l, &f, &room, count_copy);
        most = l.copies + l.passing > most ? l.copies + l.passing : most;
    }
    layer_room_free(&room);
    return most;
}

static struct ffn *load_layer(struct loader *l, size_t layer, struct layer_room *room)
{
    const struct weights_plan *p = l->p;
    struct ffn_part f = layer_part(p, layer, room);
    visit_layer(l, &f, room, prefetch);
    if (layer < p->model->layers)
        visit_layer(l, &f, room, note_read);
    visit_layer(l, &f, room, gather);
    struct ffn *made = p->backend->ops->ffn_create(p->device, &f, p->keep);
    slices_free(&l->slices);
    room->filled = false;           /* biases are not read again */
    f = layer_part(p, layer, room); /* that of the file again */
    room->filled = true;
    visit_layer(l, &f, room, release);
    l->done += p->backend->ops->ffn_bytes(p->device, &f, p->keep);
    return made;
}

void ffn_weights_load(struct ffn_weights *w, const struct weights_plan *p,
                      weights_progress progress, void *progress_context)
{
    struct loader l = {.p = p, .slices = {.way = p->way, .keep = p->keep, .threads = p->threads}};
    size_t total = ffn_weights_bytes(p);
    w->layers = mem_zeroed(weights_layers(p->model), sizeof *w->layers);
    struct layer_room room = layer_room(p->model, true);
    for (size_t i = 0; i < weights_layers(p->model); i++) {
        w->layers[i] = load_layer(&l, i, &room);
        if (progress)
            progress(progress_context, l.done, total);
    }
    layer_room_free(&room);
}

void ffn_weights_free(struct ffn_weights *w, const struct weights_plan *p)
{
    for (size_t i = 0; i < weights_layers(p->model); i++)
        p->backend->ops->ffn_destroy(p->device, w->layers[i]);
    free(w->layers);
    w->layers = NULL;
}
