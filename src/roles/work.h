/* work.h - what a rank's steps have to read, and how many operations they have to make, at least.
 *
 * Counted where the rows are known, step by step, for the steps file: a report holds the time of a rank
 * against what its machine can do (report/roofline.h). As in roofs.h weights count as they are kept, once
 * for every micro-batch; caches once for every sequence; norms, router, embeddings, draws and layers that
 * only draft are not counted. On CPUs an expert counts where a row has chosen it; on a GPU, whose choices
 * the host does not see, as many as even chance would touch. One thread.
 */
#ifndef TANDEM_ROLES_WORK_H
#define TANDEM_ROLES_WORK_H

#include "exchange/exchange.h"
#include "roles/roofs.h"

struct work {
    struct roofs roofs;
    const struct engine *engine;
    double attention_bytes, attention_flops; /* of all layers: weights, and of a row */
    uint64_t *seen;                          /* [experts] for which layer it was last counted */
    uint64_t layers;                         /* counted so far */
    double bytes, flops;                     /* since work_take() */
};

/* The engine is planned, and outlives it. */
void work_open(struct work *w, const struct engine *g);
void work_close(struct work *w);

/* A micro-batch of this rank's sequences, all layers and the head. */
void work_attention(struct work *w, const struct micro_batch *b);

/* A layer of the FFN for rows that came. */
void work_ffn(struct work *w, int layer, const struct wire *in);

/* What was counted since the last call. */
void work_take(struct work *w, double *bytes, double *flops);

#endif
