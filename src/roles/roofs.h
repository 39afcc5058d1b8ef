/* roofs.h - how long the operations of a decode step take at least, one after the other, from what they
 * have to read and to multiply: the larger of bytes / bandwidth and operations / peak for each.
 *
 * Weights count with the bytes that they are kept in, experts that no row chose are not read, and those
 * of a layer are one operation, the shared one included. Norms, router, embedding and draws are not
 * counted: time that goes there is lost.
 */
#ifndef TANDEM_ROLES_ROOFS_H
#define TANDEM_ROLES_ROOFS_H

#include "roles/engine.h"

/* What one layer takes: parameters, their bytes, and what a token of context costs a row. */
struct layer_roof {
    double projections, projection_bytes;
    double kv_bytes, context_flops, window; /* window 0: all tokens */
    double dense, dense_bytes;              /* the dense MLP, or the shared expert */
    double expert, expert_bytes;            /* one routed expert */
    int experts, topk;                      /* 0: a dense layer */
};

struct roofs {
    struct layer_roof *layers; /* [n] */
    size_t n;
    double head, head_bytes;
};

/* Of the engine's model, as its backend keeps weights; on any rank, between engine_plan() and close. */
void roofs_open(struct roofs *r, const struct engine *g);
void roofs_close(struct roofs *r);

/* Seconds of all layers' attention and FFN, and of the head. */
struct roof {
    double attention, ffn, head;
};

/* rows rows, each at the end of a sequence of `context` tokens; active[n]: experts of each layer that some
 * row chose. */
struct roof roofs_step(const struct roofs *r, double bandwidth, double peak, double rows,
                       double context, const double *active);

/* The larger of both. */
double roof_seconds(double bandwidth, double peak, double bytes, double flops);

#endif
