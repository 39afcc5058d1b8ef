/* generate_blocks.h - random blocks of GGUF's formats. For generate_gguf.c only.
 *
 * Pure functions of the place; any thread.
 */
#ifndef TANDEM_MODEL_GENERATE_BLOCKS_H
#define TANDEM_MODEL_GENERATE_BLOCKS_H

#include "kernels/weights/codec.h"

#include <stddef.h>
#include <stdint.h>

/* "q4_k" and so on; NULL: no format of GGUF. */
const struct codec *generate_blocks_named(const char *name);

/* The format itself, or what ggml's quantizer takes for rows of so many columns that are no whole
 * blocks. */
const struct codec *generate_blocks_fit(const struct codec *c, size_t columns);

/* n numbers in a dense format. */
void generate_blocks_store(const struct codec *c, const float *x, size_t n, uint8_t *to);

/* Blocks for the elements first .. first + n - 1 of a tensor, both multiples of a block: random codes,
 * scales and minima that give them about that deviation and a mean near 0. */
void generate_blocks(const struct codec *c, uint64_t seed, uint32_t stream, size_t first, size_t n,
                     float deviation, uint8_t *to);

#endif
