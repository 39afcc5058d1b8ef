/* pack.h - checkpoint matrices in the layouts of a card (matrix.h): what fits which, how many bytes it takes, and
 * writing it, on the host.
 *
 * Pure functions that need neither CUDA nor a card, so that memory can be planned for cards that are elsewhere
 * (roles/card.h); any thread.
 */
#ifndef TANDEM_CARD_PACK_H
#define TANDEM_CARD_PACK_H

#include "kernels/card/matrix.h"
#include "kernels/device.h"
#include "kernels/ops.h"

#define CARD_ALIGN 256 /* of what lies in a card's memory */

static inline size_t card_round(size_t bytes)
{
    return (bytes + CARD_ALIGN - 1) / CARD_ALIGN * CARD_ALIGN;
}

/* The number format a part is kept in, but in TILED matrices: grouped forms become f32. */
enum dtype pack_type(const struct weight_part *w, enum weight_keep keep);

/* The type of the part in a TILED matrix; F32: it cannot be one (pack_obstacle()). read: scales of e4m3 may be looked at; else they
 * count as even. */
int pack_tiled_type(const struct weight_part *w, enum weight_keep keep, bool read);

/* Whether the scales of an e4m3 part, if it has them already, are near enough to each other for TILED. */
bool pack_even(const struct weight_part *w);

/* Why a part cannot be TILED, which needs bf16 activations; NULL: it can. */
const char *pack_obstacle(const struct weight_part *w, enum weight_keep keep);

/* As linear and linear_heads have it with the activations of c. can: cuda_linear_heads_can(). */
void pack_linear(const struct device_config *c, const struct weight_part *w, enum weight_keep keep,
                 struct cuda_matrix *m);
void pack_head(const struct device_config *c, const struct weight_part *w, enum weight_keep keep,
               bool can, struct cuda_matrix *m);

/* Fills everything but the pointers. */
void pack_describe(const struct weight_part *w, enum weight_keep keep, int type, int layout,
                   struct cuda_matrix *m);

/* Of GROUP4 and GROUP8 (pack_groups.c): the form of a matrix of `type`, where GROUP8 also holds codes of 4
 * bits; the bytes of a tile's chunk; and row r of a tile, written from its codes and groups. */
void pack_form(const struct weight_part *w, enum weight_keep keep, int type,
               struct cuda_form *form);
size_t pack_group_bytes(const struct cuda_matrix *m);
void pack_group_row(const struct cuda_matrix *m, const struct weight_form *f, size_t tile, int r,
                    const int8_t *codes, const struct form_group *groups, void *data);

/* Where the 64 columns of a chunk go within their tile's chunk, in elements of `size` bytes, for row r of
 * the tile (matrix.h: TILED). */
void pack_places(int r, size_t size, uint16_t place[MATRIX_CHUNK]);

/* Bytes of weights and of scales, rounded. */
size_t pack_data_bytes(const struct cuda_matrix *m);
size_t pack_scale_bytes(const struct cuda_matrix *m);

/* Writes the part in m's layout to `data` (zeroed before) and its scales to `scale`, with so many threads.
 * TILED: tile i becomes tile i * step + offset of `data`. */
void pack_write(int threads, const struct weight_part *w, enum weight_keep keep,
                const struct cuda_matrix *m, int step, int offset, void *data, float *scale);

#endif
