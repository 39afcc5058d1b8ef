#include "plan/cost.h"

#include <math.h>
#include <string.h>

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* ---- one token ------------------------------------------------------------------------------ */

struct token_cost cost_token(const struct model_shape *s, double context, double kv_bits)
{
    return (struct token_cost){
        .kv_bytes = shape_kv_values(s, context) * kv_bits / 8,
        .attention_flops = shape_context_flops(s, context),
        .projection_flops = 2 * shape_projections(s),
        .ffn_flops = 2 * shape_ffn_active(s),
    };
}

/* Cards that cannot multiply 8-bit numbers are charged by their 16-bit peak. */
static double usd_per_flop(const struct card *c)
{
    return c->price / 3600 / card_flops(c, 8);
}

double cost_attention_usd(const struct token_cost *t, const struct card *c)
{
    double byte = c->price / 3600 / c->bandwidth;
    return larger(t->attention_flops * usd_per_flop(c), t->kv_bytes * byte) +
           t->projection_flops * usd_per_flop(c);
}

double cost_ffn_usd(const struct token_cost *t, const struct card *c)
{
    return t->ffn_flops * usd_per_flop(c);
}

/* ---- when an FFN is bound by products ------------------------------------------------------- */

double cost_dense_rows(const struct card *c, double weight_bits)
{
    return card_flops(c, weight_bits) * (weight_bits / 8) / (2 * c->bandwidth);
}

double cost_least_sparsity(const struct card *c, double link, double hidden, double layers,
                           double stage_seconds)
{
    /* rows = dense_rows / sparsity, 3 bytes a row, hidden unit and layer, within the stage. */
    return 3 * hidden * cost_dense_rows(c, 8) * layers / (link * stage_seconds);
}

/* ---- a step --------------------------------------------------------------------------------- */

static double bound(double flops, double peak, double bytes, double bandwidth)
{
    return larger(flops / peak, bytes / bandwidth);
}

/* Attention of one layer for the rows of one card. Products of rows and cache stay in bf16. */
static double attention_layer(const struct layer_shape *l, const struct card *c,
                              const struct formats *f, double rows, double context)
{
    double seen = l->window > 0 && l->window < context ? l->window : context;
    double weights = l->projections + l->router;
    return bound(2 * rows * weights, card_flops(c, f->weights), weights * f->weights / 8,
                 c->bandwidth) +
           bound(rows * seen * l->context_flops, c->bf16, rows * seen * l->kv_values * f->kv / 8,
                 c->bandwidth);
}

/* The share of one card among `cards` that hold a layer's FFN, for `rows` of all attention cards.
 * Every expert is read that one of the rows chose: of E experts, 1 - (1 - k/E)^rows. */
static double ffn_layer(const struct layer_shape *l, const struct card *c, const struct formats *f,
                        double rows, double cards)
{
    double touched = l->experts ? 1 - pow(1 - (double)l->topk / l->experts, rows) : 0;
    double active = l->dense + l->topk * l->expert;
    double read = l->dense + touched * l->experts * l->expert;
    return bound(2 * rows * active / cards, card_flops(c, f->weights),
                 read * f->weights / 8 / cards, c->bandwidth);
}

/* A row on the wire, once for each instance it goes to: its values, a scale for 128 of them where
 * they have 8 bits, and the choice of experts. Partial sums come back the same way. */
static void exchange_layer(const struct model_shape *s, const struct layer_shape *l,
                           const struct cluster *c, const struct formats *f, const struct split *p,
                           double *out, double *back)
{
    double row =
        s->hidden * f->out / 8 + (f->out <= 8 ? ceil(s->hidden / 128.0) * 4 : 0) + l->topk * 8.0;
    double sum = s->hidden * f->back / 8, rows = p->rows;
    double attention = rows * p->ffn / c->attention.link, ffn = rows * p->attention / c->ffn.link;
    *out = row * larger(attention, ffn);
    *back = sum * larger(attention, ffn);
}

static void memory(struct step_cost *t, const struct model_shape *s, const struct cluster *c,
                   const struct formats *f, const struct split *p, double context)
{
    double rows = (double)p->rows * p->micro_batches;
    /* Embedding and lm_head stay in 16 bits, routers in 32. */
    t->attention_bytes = shape_projections(s) * f->weights / 8 + shape_routers(s) * 4 +
                         shape_head(s) * (s->tied ? 2 : 4) +
                         rows * shape_kv_values(s, context) * f->kv / 8;
    t->ffn_bytes = shape_ffn_stored(s) * f->weights / 8 / ((double)p->ffn * c->per_instance);
    t->fits =
        t->attention_bytes <= 0.9 * c->attention.memory && t->ffn_bytes <= 0.9 * c->ffn.memory;
}

/* In a pipeline of m micro-batches a layer takes as long as the busiest of its four stations needs
 * for all of them, or as one micro-batch needs to pass all four: whichever is longer. */
struct step_cost cost_step(const struct model_shape *s, const struct cluster *c,
                           const struct formats *f, const struct split *p, double context)
{
    struct step_cost t = {0};
    double m = p->micro_batches, cards = (double)p->ffn * c->per_instance;
    double all_rows = (double)p->rows * p->attention * c->per_instance;
    for (int i = 0; i < s->layers; i++) {
        const struct layer_shape *l = &s->layer[i];
        double a = attention_layer(l, &c->attention, f, p->rows, context), out, back;
        double w = ffn_layer(l, &c->ffn, f, all_rows, cards);
        exchange_layer(s, l, c, f, p, &out, &back);
        t.step += larger(m * larger(larger(a, w), larger(out, back)), a + out + w + back);
        t.attention += a / s->layers;
        t.ffn += w / s->layers;
        t.out += out / s->layers;
        t.back += back / s->layers;
    }
    t.head = bound(2.0 * p->rows * shape_head(s), c->attention.bf16, shape_head(s) * 2,
                   c->attention.bandwidth);
    t.step += m * t.head;
    double instances = p->attention + p->ffn;
    double a_usd = p->attention * c->attention.price, f_usd = p->ffn * c->ffn.price;
    t.tokens = all_rows * m / t.step / (instances * c->per_instance);
    if (a_usd > 0 && f_usd > 0)
        t.usd = (a_usd + f_usd) * c->per_instance / 3600 / (all_rows * m / t.step) * 1e6;
    memory(&t, s, c, f, p, context);
    return t;
}

/* ---- search --------------------------------------------------------------------------------- */

/* Time and memory grow with the rows: the largest batch that keeps both, by halving. 0: none. */
static int most_rows(const struct model_shape *s, const struct cluster *c, const struct formats *f,
                     struct split p, double context, double tpot)
{
    int good = 0, bad = 1 << 16;
    while (bad - good > 1) {
        p.rows = (good + bad) / 2;
        struct step_cost t = cost_step(s, c, f, &p, context);
        if (t.fits && t.step <= tpot)
            good = p.rows;
        else
            bad = p.rows;
    }
    return good;
}

/* A split that is a multiple of one that is already listed and no faster says nothing new. */
static bool says_more(const struct plan_choice *best, int n, const struct plan_choice *next)
{
    for (int i = 0; i < n; i++) {
        const struct split *a = &best[i].split, *b = &next->split;
        if (a->attention * b->ffn == b->attention * a->ffn &&
            a->micro_batches == b->micro_batches && a->attention <= b->attention &&
            best[i].cost.tokens * 1.001 >= next->cost.tokens)
            return false;
    }
    return true;
}

static int insert(struct plan_choice *best, int n, int room, const struct plan_choice *next)
{
    int at = n;
    if (!says_more(best, n, next))
        return n;
    while (at > 0 && best[at - 1].cost.tokens < next->cost.tokens)
        at--;
    if (at == room)
        return n;
    if (n == room)
        n--;
    memmove(&best[at + 1], &best[at], (size_t)(n - at) * sizeof *best);
    best[at] = *next;
    return n + 1;
}

int cost_search(const struct model_shape *s, const struct cluster *c, const struct formats *f,
                double context, double tpot, struct plan_choice *best, int room)
{
    int most = c->instances > 1 && c->instances < 17 ? c->instances - 1 : 16, n = 0;
    for (int a = 1; a <= most; a++)
        for (int w = 1; w <= most; w++)
            for (int m = 1; m <= 4; m++) {
                struct plan_choice next = {.split = {a, w, m, 0}};
                if (c->instances > 0 && a + w > c->instances)
                    continue;
                next.split.rows = most_rows(s, c, f, next.split, context, tpot);
                if (next.split.rows == 0)
                    continue;
                next.cost = cost_step(s, c, f, &next.split, context);
                n = insert(best, n, room, &next);
            }
    return n;
}
