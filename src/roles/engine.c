#include "roles/engine.h"

#include "base/hash.h"
#include "base/mem.h"
#include "kernels/exact.h"
#include "roles/replay.h"
#include "schedule/bucket.h"

#include <stdio.h>
#include <string.h>

/* What auto means for this job. */
static enum exchange_kind natural_transport(const struct job *job, bool cuda, bool one_host)
{
    if (job->layout.colocated)
        return EXCHANGE_LOCAL;
    if (cuda)
        return EXCHANGE_NCCL;
    return one_host ? EXCHANGE_SHARED : EXCHANGE_MPI;
}

const struct exchange_ops *engine_transport(const struct job *job, bool one_host, struct err *e)
{
    bool cuda = strcmp(job->device, "cuda") == 0;
    enum exchange_kind kind = job->exchange;
    if (kind == EXCHANGE_AUTO)
        kind = natural_transport(job, cuda, one_host);
    if (job->layout.colocated != (kind == EXCHANGE_LOCAL))
        err_set(e, "%s: layout.exchange: 'local' is for colocated layouts, and only they have it",
                job->path);
    else if (kind == EXCHANGE_NCCL && !cuda)
        err_set(e, "%s: layout.exchange: 'nccl' needs device: cuda; use auto", job->path);
    else if ((kind == EXCHANGE_MPI || kind == EXCHANGE_SHARED) && cuda)
        err_set(e, "%s: layout.exchange: device cuda exchanges by 'nccl'; use auto", job->path);
    else if (kind == EXCHANGE_NCCL && job->layout.tensor > EXACT_PARTS)
        err_set(
            e,
            "%s: layout.ffn.tensor: %d, but GPUs add the sums of at most %d ranks of an instance; "
            "use more instances (layout.ffn.expert)",
            job->path, job->layout.tensor, EXACT_PARTS);
    else if (kind == EXCHANGE_SHARED && !one_host)
        err_set(e, "%s: layout.exchange: 'shared' needs all ranks on one host; use mpi", job->path);
    else
        return exchange_find(kind == EXCHANGE_LOCAL    ? "local"
                             : kind == EXCHANGE_SHARED ? "shared"
                             : kind == EXCHANGE_MPI    ? "mpi"
                                                       : "nccl");
    return NULL;
}

int engine_micro_batches(const struct job *job, bool shared_cores, bool one_host)
{
    if (job->micro_batches > 0)
        return job->micro_batches;
    bool cuda = strcmp(job->device, "cuda") == 0;
    if (job->layout.colocated || (shared_cores && !cuda))
        return 1;
    return cuda && !one_host ? 3 : 2;
}

/* Sums that several ranks share travel as they are (kernels/exact.h). */
static enum dtype combine_of(const struct job *job)
{
    bool several = layout_ffn_ranks(&job->layout) > 1;
    return several && job->precision.combine == DTYPE_F32 ? DTYPE_F64 : job->precision.combine;
}

static size_t largest(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* The widest intermediate part and the experts of this FFN rank. */
static void limit_ffn(struct device_limits *l, const struct model *m, const struct layout *layout,
                      int index)
{
    size_t expert = placement_expert_inter(m->most.inter, layout, index).count;
    size_t shared = placement_shared_inter(m->most.shared_inter, layout, index).count;
    size_t dense = placement_shared_inter(m->most.dense_inter, layout, index).count;
    l->experts = placement_experts(m->most.experts, layout, index).count;
    l->inter = largest(expert, largest(shared, dense));
}

#define AUTO_DRAFT_ROWS 64

/* Rows of guesses in a step. Where they must pay there is no use for many: a step that is full already
 * has no time to spare. */
static int draft_rows(const struct job *job)
{
    int all = job->schedule.slots * job->speculate.tokens;
    if (job->speculate.draft == SPECULATE_AUTO)
        return all < AUTO_DRAFT_ROWS ? all : AUTO_DRAFT_ROWS;
    return job->speculate.draft == SPECULATE_OFF ? 0 : all;
}

/* Are steps kept as graphs? */
static bool graphs(const struct engine *g)
{
    return g->in->job.graphs == TRI_TRUE && g->backend->device->capture_begin;
}

static void plan_shapes(struct engine *g)
{
    const struct job *job = &g->in->job;
    const struct model *m = &g->in->model;
    g->limits = (struct schedule_limits){
        .slots = job->schedule.slots,
        .micro_batches = job->micro_batches,
        .prefill_chunk = job->schedule.prefill_chunk,
        .max_context = g->in->max_context,
        .share = job->schedule.share,
        .draft_rows = draft_rows(job),
        .ahead = (int)m->drafts,
        .fill = graphs(g),
        .score = job->sampling.prompt_logprobs >= 0 ||
                 (g->in->prompts && prompts_override(g->in->prompts, "prompt_logprobs")),
    };
    g->limits.pools = caches_plan(&g->caches, m, g->in->max_context, g->limits.pool);
    g->shape = (struct exchange_shape){
        .micro_batches = job->micro_batches,
        .layers = m->layers + m->drafts,
        .routed = m->moe,
        .hidden = m->hidden,
        .topk = m->most.topk,
        .rows = (size_t)bucket_most(&g->limits).rows,
        .dispatch = job->precision.dispatch,
        .combine = combine_of(job),
        .timeout = job->schedule.step_timeout,
        .nccl_blocks = job->nccl_blocks,
    };
}

/* Launchers show a rank all GPUs of its host, or only its own: then that is number 0 for each. */
static int device_of(const struct engine *g)
{
    int count = g->backend->device->count ? g->backend->device->count() : 0;
    return count > 0 ? g->place.host_rank % count : g->place.host_rank;
}

static bool values_apart(const struct model *m)
{
    for (size_t l = 0; l < weights_layers(m); l++)
        if (m->layer[l].attention.attn.value_in_key)
            return false;
    return true;
}

static void plan_device(struct engine *g, int threads)
{
    const struct job *job = &g->in->job;
    const struct model *m = &g->in->model;
    bool gathers = g->place.ffn && !job->layout.colocated;
    struct device_limits l = {
        .rows = g->shape.rows * (gathers ? (size_t)job->layout.attention : 1),
        .hidden = m->hidden,
        .topk = m->most.topk,
    };
    if (g->place.attention) {
        l.q_width = m->most.q_width;
        l.heads = m->most.heads;
        l.head_dim = m->most.head_dim;
        l.values_apart = values_apart(m);
        l.context = g->in->max_context;
        l.vocab = m->vocab;
        l.logit_rows = (size_t)bucket_most(&g->limits).sampled;
    }
    if (g->place.ffn)
        limit_ffn(&l, m, &job->layout, g->place.index);
    g->config = (struct device_config){
        .index = device_of(g),
        .threads = threads,
        .takes_turns = g->place.shared_cores,
        .act = job->precision.activations,
        .kv = job->precision.kv_cache,
        .int8_products = job->precision.products == JOB_PRODUCTS_INT8,
        .blas = job->cublas,
        .limits = l,
    };
}

static struct side side_of(const struct engine *g)
{
    return (struct side){
        .model = &g->in->model,
        .backend = g->backend,
        .device = g->device,
        .stream = g->stream,
        .exchange_ops = g->exchange_ops,
        .exchange = g->exchange,
        .place = &g->place,
        .shape = &g->shape,
        .act = g->config.act,
    };
}

static struct weights_plan weights_plan(const struct engine *g)
{
    return (struct weights_plan){
        .backend = g->backend,
        .device = g->device,
        .model = &g->in->model,
        .checkpoint = g->in->checkpoint,
        .keep = inputs_keep(&g->in->job),
        .context = g->in->max_context,
        .layout = &g->in->job.layout,
        .ffn_rank = g->place.index,
        .fingerprint = g->fingerprint,
        .threads = g->config.threads,
    };
}

/* Launches and copies of a layer: counted, of both roles, and rounded up. */
#define LAYER_NODES_ATTENTION 28
#define LAYER_NODES_FFN       8 /* without those of a panel of rows (ffn_rows) */
#define PANEL_NODES           4
#define SLICE_NODES           2 /* of a slice whose sums are exact: down, and adding */

/* Slices that this rank has of the widest MLP of a layer. */
static size_t slices_of(const struct engine *g, size_t layer)
{
    const struct layout *l = &g->in->job.layout;
    const struct model *m = &g->in->model;
    const struct ffn_spec *f = &m->layer[layer].ffn;
    size_t cuts[PLACEMENT_SLICES_MAX + 1], common = m->moe[layer] ? f->shared_inter : f->inter;
    struct span routed = placement_expert_inter(f->inter, l, g->place.index);
    struct span shared = placement_shared_inter(common, l, g->place.index);
    return largest(m->moe[layer] ? placement_cuts(f->inter, l->granule, routed, cuts) : 0,
                   placement_cuts(common, l->granule, shared, cuts));
}

/* With f32 activations an FFN takes all rows at once, and a launch has all slices. */
static size_t ffn_nodes(const struct engine *g, size_t layer)
{
    size_t rows = g->backend->device->ffn_rows(g->device),
           panels = largest((g->config.limits.rows + rows - 1) / rows, 1);
    if (g->config.act == DTYPE_F32)
        return LAYER_NODES_FFN + PANEL_NODES;
    size_t slices = g->shape.combine == DTYPE_BF16 ? 0 : slices_of(g, layer);
    return LAYER_NODES_FFN + mem_mul(PANEL_NODES + SLICE_NODES * slices, panels);
}

static size_t graphs_bytes(const struct engine *g)
{
    size_t layers = g->in->model.layers + g->in->model.drafts, nodes = 0;
    if (!graphs(g))
        return 0;
    if (g->place.attention) /* one more: what begins and ends a step */
        nodes += mem_mul(LAYER_NODES_ATTENTION, layers + 1);
    for (size_t i = 0; i < layers && g->place.ffn; i++)
        nodes += ffn_nodes(g, i);
    nodes = mem_mul(nodes, (size_t)g->shape.micro_batches);
    return mem_mul(REPLAY_GRAPHS, mem_mul(nodes, REPLAY_NODE_BYTES));
}

/* All but the KV cache, which gets what is left. */
static void plan_memory(struct engine *g)
{
    struct weights_plan weights = weights_plan(g);
    struct side side = side_of(g);
    size_t scratch = g->backend->device->scratch_bytes(g->device);
    g->memory.buffers = scratch + g->exchange_ops->bytes(&g->shape, &g->place) + graphs_bytes(g);
    if (g->place.attention) {
        g->memory.weights += attention_weights_bytes(&weights);
        g->memory.slow_matrices = attention_weights_slow(&weights);
        g->memory.buffers += attention_bytes(&side, &g->limits);
        for (int i = 0; i < g->limits.pools && g->limits.fill; i++) /* of dead rows */
            g->memory.buffers +=
                caches_bytes(&g->caches, g->backend, g->device, &g->in->model, i, 1);
    }
    if (g->place.ffn) {
        g->memory.weights += ffn_weights_bytes(&weights);
        g->memory.widened = ffn_weights_widened(&weights);
        g->memory.slow_ffns = ffn_weights_slow(&weights);
        g->memory.buffers += ffn_bytes(&side);
    }
    /* Copies of slices are gone before most of the buffers come. */
    if (g->place.ffn && !g->backend->device->count) {
        size_t loading = scratch + ffn_weights_loading(&weights);
        g->memory.buffers = loading > g->memory.buffers ? loading : g->memory.buffers;
    }
}

int engine_plan(struct engine *g, const struct inputs *in, const struct place *place, int threads,
                const struct exchange_ops *transport, struct err *e)
{
    *g = (struct engine){.in = in, .place = *place, .backend = in->backend};
    g->exchange_ops = transport;
    plan_shapes(g);
    plan_device(g, threads);
    if (g->backend->device->open(&g->config, &g->device, e) != 0)
        return -1;
    plan_memory(g);
    return 0;
}

struct engine_tenant engine_tenant(const struct engine *g)
{
    char card[128];
    struct engine_tenant t = {.bytes = g->memory.weights + g->memory.buffers,
                              .caches = g->place.attention};
    if (g->backend->device->count) {
        g->backend->device->describe(g->device, card, sizeof card);
        t.memory = hash_string(HASH_START, card);
    }
    return t;
}

/* "7.00 KiB": three digits in the unit that suits. */
static const char *size_text(size_t bytes, char text[32])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    int unit = 0;
    for (; value >= 1024 && unit < 4; unit++)
        value /= 1024;
    snprintf(text, 32, "%.*f %s",
             unit == 0 || value >= 100 ? 0
             : value >= 10             ? 1
                                       : 2,
             value, units[unit]);
    return text;
}

static struct pools_use pools_use(const struct engine *g)
{
    return (struct pools_use){.slots = (size_t)g->limits.slots,
                              .context = g->limits.max_context,
                              .chunk = (size_t)g->limits.prefill_chunk};
}

/* Bytes of the KV cache from a pool on; least: of one longest sequence. */
static size_t cache_bytes(const struct engine *g, int from, bool least)
{
    const struct pools_use use = pools_use(g);
    size_t bytes = 0;
    for (int i = from; i < g->limits.pools; i++) {
        const struct kv_pool *pool = &g->limits.pool[i];
        bytes += caches_bytes(&g->caches, g->backend, g->device, &g->in->model, i,
                              least ? pool_least(pool, &use) : pool->blocks);
    }
    return bytes;
}

/* KV blocks: what all slots can use, within what the job grants, or what is left. */
static int size_cache(struct engine *g, size_t left, struct err *e)
{
    char needs[32], has[32];
    const struct job *job = &g->in->job;
    const struct pools_use use = pools_use(g);
    size_t granted = job->schedule.kv_memory ? job->schedule.kv_memory : left;
    size_t block[KV_POOLS_MAX];
    for (int i = 0; i < g->limits.pools; i++)
        block[i] = caches_bytes(&g->caches, g->backend, g->device, &g->in->model, i, 1);
    bool fits = pools_divide(g->limits.pool, g->limits.pools, block, &use, granted);
    g->memory.kv = cache_bytes(g, 0, false);
    if (!fits)
        return err_set(e,
                       "%s: one sequence of %zu tokens needs %s of KV cache, but %s %s; lower "
                       "schedule.max_context%s",
                       job->path, g->limits.max_context, size_text(cache_bytes(g, 0, true), needs),
                       job->schedule.kv_memory ? "schedule.kv_memory gives" : "there are",
                       size_text(granted, has),
                       job->schedule.kv_memory ? " or raise schedule.kv_memory" : "");
    if (g->memory.kv > left)
        return err_set(
            e,
            "%s: schedule.kv_memory asks for %s of KV cache for a rank, but there is room "
            "for %s; lower it or say auto",
            job->path, size_text(g->memory.kv, needs), size_text(left, has));
    return 0;
}

int engine_plan_kv(struct engine *g, const struct engine_tenant *all, struct err *e)
{
    char needs[32], has[32];
    size_t available = g->backend->device->memory_free(g->device);
    if (all->bytes >= available)
        return err_set(e,
                       "%s: weights and buffers of the ranks that share %s memory need %s, "
                       "but %s are free; use more hosts or a narrower precision%s",
                       g->in->job.path, g->backend->device->count ? "a card's" : "this host's",
                       size_text(all->bytes, needs), size_text(available, has),
                       g->in->job.speculate.draft == SPECULATE_AUTO && g->in->model.drafts > 0
                           ? ", or speculate.draft: off, as MTP layers are loaded for auto"
                           : "");
    if (!g->place.attention)
        return 0;
    return size_cache(g, (size_t)(0.9 * (double)(available - all->bytes)) / (size_t)all->caches, e);
}

struct endpoint engine_endpoint(const struct engine *g, MPI_Comm cell)
{
    return (struct endpoint){.place = g->place,
                             .cell = cell,
                             .backend = g->backend,
                             .device = g->device,
                             .compute = g->stream};
}

void engine_connect(struct engine *g, MPI_Comm cell)
{
    if (!g->stream)
        g->stream = g->backend->device->stream_create(g->device);
    const struct endpoint end = engine_endpoint(g, cell);
    g->exchange = g->exchange_ops->open(&g->shape, &end);
}

void engine_describe_kv(const struct engine *g, char *text, size_t size)
{
    const struct pools_use use = pools_use(g);
    size_t at_once = use.slots;
    for (int i = 0; i < g->limits.pools; i++) {
        size_t fit = g->limits.pool[i].blocks / pool_least(&g->limits.pool[i], &use);
        at_once = fit < at_once ? fit : at_once;
    }
    char each[32], rings[32];
    int windowed = g->limits.pool[0].window ? 0 : 1;
    bool any = windowed < g->limits.pools;
    snprintf(text, size, "%zu of %zu tokens at once in a rank, %s each%s%s%s", at_once, use.context,
             size_text(cache_bytes(g, 0, true), each), any ? " (" : "",
             any ? size_text(cache_bytes(g, windowed, true), rings) : "",
             any ? " of it for windows)" : "");
}

const char *engine_describe_widened(size_t bytes, char text[ENGINE_WIDENED_TEXT])
{
    char size[32];
    text[0] = '\0';
    if (bytes > 0)
        snprintf(text, ENGINE_WIDENED_TEXT,
                 "gate and up matrices whose formats differ are kept in a wider one that holds "
                 "both: %s more",
                 size_text(bytes, size));
    return text;
}

struct engine_slow engine_slow(const struct engine *g)
{
    const struct weights_slow *m = &g->memory.slow_matrices, *f = &g->memory.slow_ffns;
    struct engine_slow slow = {.matrices = m->count, .ffns = f->count};
    snprintf(slow.why, sizeof slow.why, "%s", f->why ? f->why : m->why ? m->why : "");
    return slow;
}

void engine_slow_add(struct engine_slow *most, const struct engine_slow *rank)
{
    if (!*most->why || (most->ffns == 0 && rank->ffns > 0))
        memcpy(most->why, rank->why, sizeof most->why);
    most->matrices = rank->matrices > most->matrices ? rank->matrices : most->matrices;
    most->ffns = rank->ffns > most->ffns ? rank->ffns : most->ffns;
}

const char *engine_describe_slow(const struct engine_slow *most, char text[ENGINE_SLOW_TEXT])
{
    char matrices[48] = "", ffns[48] = "";
    if (most->matrices > 0)
        snprintf(matrices, sizeof matrices, "%d matri%s", most->matrices,
                 most->matrices == 1 ? "x" : "ces");
    if (most->ffns > 0)
        snprintf(ffns, sizeof ffns, "the FFN of %d layer%s", most->ffns,
                 most->ffns == 1 ? "" : "s");
    text[0] = '\0';
    if (*matrices || *ffns)
        snprintf(text, ENGINE_SLOW_TEXT,
                 "%s%s%s of a rank cannot use tensor cores and will be many times slower (%s); "
                 "precision.weights: int8 or int4 would bring them there",
                 ffns, *matrices && *ffns ? " and " : "", matrices, most->why);
    return text;
}

/* Slices of weights, between FFN ranks of the cell. */
struct swap {
    const struct group *cell;
    int first; /* FFN rank */
};

static void swap(void *context, struct span ranks, const struct slices_bytes *give,
                 const struct slices_bytes *take)
{
    const struct swap *w = context;
    comm_swap(w->cell, w->first + (int)ranks.first, ranks.count, give, take);
}

void engine_load(struct engine *g, const struct group *cell, weights_progress progress,
                 void *progress_context)
{
    struct swap between = {cell, g->in->job.layout.attention};
    const struct slices_way way = {swap, &between};
    g->stream = g->backend->device->stream_create(g->device);
    struct weights_plan weights = weights_plan(g);
    weights.way = &way;
    if (g->place.attention) {
        attention_weights_load(&g->attention_weights, &weights, progress, progress_context);
        caches_create(&g->caches, g->backend, g->device, weights.model, g->limits.pool,
                      g->limits.fill ? 1 : 0);
    }
    if (g->place.ffn)
        ffn_weights_load(&g->ffn_weights, &weights, progress, progress_context);
    engine_connect(g, cell->mpi);
    const struct side side = side_of(g);
    const struct attention_parts own = {&g->attention_weights, &g->caches, &g->limits};
    if (g->place.attention)
        g->attention = attention_open(&side, &own);
    if (g->place.ffn)
        g->ffn = ffn_open(&side, &g->ffn_weights);
}

void engine_close(struct engine *g)
{
    if (!g->device)
        return;
    attention_close(g->attention);
    ffn_close(g->ffn);
    g->exchange_ops->close(g->exchange);
    struct weights_plan weights = weights_plan(g);
    caches_destroy(&g->caches, g->backend, g->device);
    if (g->attention)
        attention_weights_free(&g->attention_weights, &weights);
    if (g->ffn)
        ffn_weights_free(&g->ffn_weights, &weights);
    if (g->stream)
        g->backend->device->stream_destroy(g->device, g->stream);
    g->backend->device->close(g->device);
    *g = (struct engine){0};
}
