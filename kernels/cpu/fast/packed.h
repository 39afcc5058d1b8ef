/* packed.h - weights as the vector backends keep them (panel.h says how a panel is laid out).
 * Internal to kernels/cpu/fast.
 */
#ifndef TANDEM_KERNELS_CPU_FAST_PACKED_H
#define TANDEM_KERNELS_CPU_FAST_PACKED_H

#include "kernels/cpu/fast/fast.h"

/* One matrix in panels. Several matrices may share one allocation (ffn): the pointers are into it.
 */
struct weight {
    enum w_format format;
    enum weight_keep keep;
    size_t n, k;     /* outputs and inputs as the caller knows them */
    size_t k_before; /* zeros in front of the inputs (where a part begins within a run) */
    size_t k_padded; /* k_before + k and zeros behind */
    size_t panels;
    size_t panel_bytes;  /* of weights */
    size_t panel_scales; /* floats per panel (struct panel: scale), or what takes as many bytes */
    struct grouped grouped;
    uint8_t *data; /* [panels][panel_bytes] */
    float *scale;  /* [panels][panel_scales] */

    /* A table (fast_table_create) keeps the checkpoint's rows instead. */
    bool table;
    struct weight_part part; /* reads `data` */
};

/* Two matrices whose panels are half and half: outputs 16 i .. 16 i + 15 of the first, then of the
 * second (gate and up). second NULL: one matrix, 32 outputs a panel. */
struct source {
    const struct weight_part *first, *second;
};

/* Fills everything but the pointers; n is of the panel's outputs (twice I for gate and up). */
void packed_plan(const struct device *d, struct weight *w, const struct source *from,
                 enum weight_keep keep);

/* Bytes of data and scale, each a multiple of MEM_ALIGN. */
size_t packed_bytes(const struct weight *w);

/* Points data and scale into `memory` (packed_bytes() of it) and fills them, panels shared
 * out to the device's threads. */
void packed_fill(const struct device *d, struct weight *w, const struct source *from,
                 uint8_t *memory);

/* The row format that w wants from activations of this device. */
enum x_format packed_x_format(const struct device *d, const struct weight *w);

/* Chunks of a row as w wants it; the row itself, from k numbers of act; and one whose numbers are in their
 * places already, as packed_mid_format() says: what it lacks is added. */
size_t packed_row_chunks(const struct device *d, const struct weight *w);
void packed_row(const struct device *d, const struct weight *w, const void *from, uint8_t *to,
                size_t chunk);
enum x_format packed_mid_format(const struct device *d, const struct weight *w);
bool packed_mid_lacks(const struct weight *w);
void packed_mid(const struct device *d, const struct weight *w, uint8_t *row, size_t chunk);

/* Panel i of w, all its inputs, ready but for x, rows and c. `next`: what will be read after it. */
struct panel packed_panel(const struct weight *w, size_t i, const uint8_t *next);

/* How many panels of w are multiplied together with a slab of so many rows (linear.c). */
size_t fast_linear_together(const struct device *d, const struct weight *w, size_t rows);

#endif
