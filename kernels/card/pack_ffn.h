/* pack_ffn.h - the experts of one layer in a card's memory: one piece, which the table of struct cuda_mlp begins, the shared
 * expert's last, and each MLP's matrices follow.
 *
 * TILED, for tensor cores, where all matrices of the layer can be, else PLAIN. Like pack.h.
 */
#ifndef TANDEM_CARD_PACK_FFN_H
#define TANDEM_CARD_PACK_FFN_H

#include "kernels/card/matrix.h"
#include "kernels/device.h"
#include "kernels/ops.h"

struct ffn_plan {
    int count, layout, hidden; /* count: of experts without the shared one */
    int inter, inter_shared;   /* of the widest expert, and of the shared one */
    int type, down_type;       /* of gate and up, and of down, where layout is TILED */
    int slices, shared_slices; /* of the columns of down (kernels/exact.h) */
    struct cuda_mlp *mlp;      /* [count + 1], malloc'd, without pointers */
    size_t bytes;
};

struct ffn_plan pack_ffn_plan(const struct device_config *c, const struct ffn_part *f,
                              enum weight_keep keep);

/* Bytes of the table, and of MLP i. */
size_t pack_ffn_table(const struct ffn_plan *p);
size_t pack_ffn_bytes(const struct ffn_plan *p, const struct ffn_part *f, int i);

/* Writes MLP i to `host` (zeroed before), with so many threads, and sets its pointers for the place `to` in the
 * card's memory, where it will be copied. */
void pack_ffn_write(struct ffn_plan *p, const struct ffn_part *f, enum weight_keep keep,
                    int threads, int i, unsigned char *host, const unsigned char *to);

/* ops.h: ffn_same, and with bf16 activations ffn_obstacle. */
bool pack_ffn_same(enum dtype act, const struct ffn_part *whole, const struct ffn_part *part,
                   enum weight_keep keep);
const char *pack_ffn_obstacle(const struct ffn_part *f, enum weight_keep keep);

#endif
