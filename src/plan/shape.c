#include "plan/shape.h"

#include <string.h>

/* ---- attention mechanisms ------------------------------------------------------------------- */

/* Every query head on its group's keys and values: multi-head, grouped, and (with q_rank) the
 * factorized queries of MFA. */
static void grouped_attention(struct layer_shape *l, double hidden, double heads, double kv_heads,
                              double width, double q_rank)
{
    double q = heads * width, kv = 2 * kv_heads * width;
    l->projections =
        (q_rank > 0 ? hidden * q_rank + q_rank * q : hidden * q) + hidden * kv + q * hidden;
    l->kv_values = kv;
    l->context_flops = 4 * heads * width;
}

/* Latent attention, absorbed: queries and sums live in the latent space, so both products of a
 * token cost `latent + rope` multiplications a head. The report charges them equally (section 3);
 * the sum could do without the rotated part. */
static void latent_attention(struct layer_shape *l, double hidden, double heads, double q_rank,
                             double latent, double rope, double nope, double v)
{
    l->projections = hidden * q_rank + q_rank * heads * (nope + rope) + hidden * (latent + rope) +
                     heads * nope * latent + heads * v * latent + heads * v * hidden;
    l->kv_values = latent + rope;
    l->context_flops = 4 * heads * (latent + rope);
}

/* ---- published models ----------------------------------------------------------------------- */

struct published {
    const char *name;
    int hidden, layers, vocab;
    int heads, kv_heads, width, q_rank;
    /* Latent attention when latent > 0; width is then the part of a head without rotation. */
    int latent, rope, v;
    int dense_layers, dense_inter;
    int experts, topk, expert_inter, shared_inter;
};

/* config.json of each model as it was published. */
static const struct published published[] = {
    {.name = "step3",
     .hidden = 7168,
     .layers = 61,
     .vocab = 128815,
     .heads = 64,
     .kv_heads = 1,
     .width = 256,
     .q_rank = 2048,
     .dense_layers = 5,
     .dense_inter = 18432,
     .experts = 48,
     .topk = 3,
     .expert_inter = 5120,
     .shared_inter = 5120},
    {.name = "deepseek-v3",
     .hidden = 7168,
     .layers = 61,
     .vocab = 129280,
     .heads = 128,
     .width = 128,
     .q_rank = 1536,
     .latent = 512,
     .rope = 64,
     .v = 128,
     .dense_layers = 3,
     .dense_inter = 18432,
     .experts = 256,
     .topk = 8,
     .expert_inter = 2048,
     .shared_inter = 2048},
    {.name = "kimi-k2",
     .hidden = 7168,
     .layers = 61,
     .vocab = 163840,
     .heads = 64,
     .width = 128,
     .q_rank = 1536,
     .latent = 512,
     .rope = 64,
     .v = 128,
     .dense_layers = 1,
     .dense_inter = 18432,
     .experts = 384,
     .topk = 8,
     .expert_inter = 2048,
     .shared_inter = 2048},
    {.name = "qwen3-235b",
     .hidden = 4096,
     .layers = 94,
     .vocab = 151936,
     .heads = 64,
     .kv_heads = 4,
     .width = 128,
     .experts = 128,
     .topk = 8,
     .expert_inter = 1536},
    {.name = "qwen3-32b",
     .hidden = 5120,
     .layers = 64,
     .vocab = 151936,
     .heads = 64,
     .kv_heads = 8,
     .width = 128,
     .dense_layers = 64,
     .dense_inter = 25600},
};
#define N_PUBLISHED (sizeof published / sizeof *published)

static void published_layer(struct layer_shape *l, const struct published *p, bool dense)
{
    if (p->latent)
        latent_attention(l, p->hidden, p->heads, p->q_rank, p->latent, p->rope, p->width, p->v);
    else
        grouped_attention(l, p->hidden, p->heads, p->kv_heads, p->width, p->q_rank);
    if (dense) {
        l->dense = 3.0 * p->hidden * p->dense_inter;
        return;
    }
    l->router = (double)p->hidden * p->experts;
    l->dense = 3.0 * p->hidden * p->shared_inter;
    l->expert = 3.0 * p->hidden * p->expert_inter;
    l->experts = p->experts;
    l->topk = p->topk;
}

int shape_published(struct model_shape *s, const char *name)
{
    for (size_t i = 0; i < N_PUBLISHED; i++) {
        const struct published *p = &published[i];
        if (strcmp(p->name, name) != 0)
            continue;
        *s = (struct model_shape){
            .name = p->name, .layers = p->layers, .hidden = p->hidden, .vocab = p->vocab};
        for (int l = 0; l < p->layers; l++)
            published_layer(&s->layer[l], p, l < p->dense_layers);
        return 0;
    }
    return -1;
}

const char *const *shape_names(void)
{
    static const char *names[N_PUBLISHED + 1];
    for (size_t i = 0; i < N_PUBLISHED; i++)
        names[i] = published[i].name;
    return names;
}

/* ---- from config.json ----------------------------------------------------------------------- */

static void attention_of(struct layer_shape *l, const struct attention_spec *a, double hidden)
{
    double heads = a->attn.heads;
    l->window = a->attn.window;
    if (a->kv_rank)
        latent_attention(l, hidden, heads, (double)a->q_rank, (double)a->kv_rank, a->attn.rope_dim,
                         (double)a->nope_dim, (double)a->head_value_dim);
    else
        grouped_attention(l, hidden, heads, a->attn.kv_heads, a->attn.key_dim, (double)a->q_rank);
}

void shape_of_model(struct model_shape *s, const struct model *m, const char *name)
{
    double hidden = (double)m->hidden;
    *s = (struct model_shape){.name = name,
                              .layers = (int)m->layers,
                              .hidden = (int)m->hidden,
                              .vocab = (int)m->vocab,
                              .tied = m->tied};
    for (size_t i = 0; i < m->layers; i++) {
        struct layer_shape *l = &s->layer[i];
        const struct attention_spec *a = &m->layer[i].attention;
        const struct ffn_spec *f = &m->layer[i].ffn;
        attention_of(l, a, hidden);
        if (!m->moe[i]) {
            l->dense = 3 * hidden * (double)f->inter;
            continue;
        }
        l->router = hidden * f->router.experts;
        l->dense = 3 * hidden * (double)f->shared_inter;
        l->expert = 3 * hidden * (double)f->inter;
        l->experts = f->router.experts;
        l->topk = f->router.topk;
    }
}

/* ---- sums ----------------------------------------------------------------------------------- */

double shape_projections(const struct model_shape *s)
{
    double sum = 0;
    for (int l = 0; l < s->layers; l++)
        sum += s->layer[l].projections;
    return sum;
}

double shape_ffn_active(const struct model_shape *s)
{
    double sum = 0;
    for (int l = 0; l < s->layers; l++)
        sum += s->layer[l].dense + s->layer[l].topk * s->layer[l].expert;
    return sum;
}

double shape_ffn_stored(const struct model_shape *s)
{
    double sum = 0;
    for (int l = 0; l < s->layers; l++)
        sum += s->layer[l].dense + s->layer[l].experts * s->layer[l].expert;
    return sum;
}

double shape_routers(const struct model_shape *s)
{
    double sum = 0;
    for (int l = 0; l < s->layers; l++)
        sum += s->layer[l].router;
    return sum;
}

double shape_head(const struct model_shape *s)
{
    return (double)s->vocab * s->hidden;
}

static double seen(const struct layer_shape *l, double context)
{
    return l->window > 0 && l->window < context ? l->window : context;
}

double shape_kv_values(const struct model_shape *s, double context)
{
    double sum = 0;
    for (int l = 0; l < s->layers; l++)
        sum += s->layer[l].kv_values * seen(&s->layer[l], context);
    return sum;
}

double shape_context_flops(const struct model_shape *s, double context)
{
    double sum = 0;
    for (int l = 0; l < s->layers; l++)
        sum += s->layer[l].context_flops * seen(&s->layer[l], context);
    return sum;
}

double shape_sparsity(const struct model_shape *s)
{
    double most = 0;
    for (int i = 0; i < s->layers; i++) {
        const struct layer_shape *l = &s->layer[i];
        double shared = l->expert > 0 ? l->dense / l->expert : 0;
        if (l->experts > 0 && (l->topk + shared) / (l->experts + shared) > most)
            most = (l->topk + shared) / (l->experts + shared);
    }
    return most > 0 ? most : 1;
}
