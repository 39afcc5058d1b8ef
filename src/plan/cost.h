/* cost.h - the cost model of the Step-3 report (arXiv 2507.19427, sections 3 to 5), and step times.
 *
 * What a decoded token needs is counted from shapes: bytes of KV cache, operations of attention,
 * projections and FFN. A card needs at least the larger of operations / peak and bytes / bandwidth
 * for it. All times here are such bounds: nothing real is faster, and real machines reach a share
 * of it, which is measured, not planned. Pure; any thread.
 */
#ifndef TANDEM_PLAN_COST_H
#define TANDEM_PLAN_COST_H

#include "plan/hardware.h"
#include "plan/shape.h"

/* How numbers are kept, in bits. The report's tables: 8 everywhere, rows back in 16. */
struct formats {
    double weights, kv; /* of an element */
    double out, back;   /* rows on the wire: to the FFN, partial sums to attention */
};

/* ---- one token ------------------------------------------------------------------------------ */

/* Of one decoded token at a context; embedding, lm_head and router left out, as the report does. */
struct token_cost {
    double kv_bytes, attention_flops, projection_flops, ffn_flops;
};
struct token_cost cost_token(const struct model_shape *s, double context, double kv_bits);

/* USD for a token of attention (with its projections), and of the FFN, on a card whose price is
 * known: its price an hour, spread over peak operations and bytes. */
double cost_attention_usd(const struct token_cost *t, const struct card *c);
double cost_ffn_usd(const struct token_cost *t, const struct card *c);

/* ---- when an FFN is bound by products ------------------------------------------------------- */

/* Rows at which products of a dense matrix take as long as reading it: peak / (2 bandwidth) with
 * 8-bit weights (section 4.1). A mixture of experts needs that / sparsity. */
double cost_dense_rows(const struct card *c, double weight_bits);

/* The smallest sparsity (active share of experts) with which a network carries as many rows as make
 * the FFN bound by products, within the time of a stage (section 4.2): an instance sends 8-bit rows
 * and receives 16-bit ones. link: bytes/s of the whole instance. */
double cost_least_sparsity(const struct card *c, double link, double hidden, double layers,
                           double stage_seconds);

/* ---- a step of a cluster -------------------------------------------------------------------- */

struct split {
    int attention, ffn; /* instances */
    int micro_batches;
    int rows; /* of one attention card in one micro-batch */
};

/* Bounds for a split: seconds a micro-batch and layer, averaged over the layers. */
struct step_cost {
    double attention, ffn, out, back;
    double head;   /* lm_head, once a micro-batch */
    double step;   /* of all layers and micro-batches: the time per output token */
    double tokens; /* per second and card */
    double usd;    /* for a million tokens; 0: a price is not known */
    double attention_bytes, ffn_bytes; /* memory of one card */
    bool fits;                         /* both in 0.9 of their cards */
};
struct step_cost cost_step(const struct model_shape *s, const struct cluster *c,
                           const struct formats *f, const struct split *p, double context);

/* The splits with the most tokens per second and card that keep the time per output token within
 * tpot, best first, with the largest batch each can have; at most `room`, returned how many. Looks
 * at up to 16 instances of either role (or as many as the cluster has) and 1 to 4 micro-batches;
 * of splits with equal ratios only the smaller one counts unless the larger is faster. */
struct plan_choice {
    struct split split;
    struct step_cost cost;
};
int cost_search(const struct model_shape *s, const struct cluster *c, const struct formats *f,
                double context, double tpot, struct plan_choice *best, int room);

#endif
