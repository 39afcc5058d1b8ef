/* generate_packed.h - random weights in packed formats (model/packed.h). For generate.c only.
 *
 * Codes are random bits; scales give the numbers the deviation they would have otherwise, half to one and
 * a half times. Pure functions of the place, as all of generate.h; any thread.
 */
#ifndef TANDEM_MODEL_GENERATE_PACKED_H
#define TANDEM_MODEL_GENERATE_PACKED_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum packing {
    PACKING_NONE,
    PACKING_AWQ,   /* 4 bits, groups of 32 inputs with zero points */
    PACKING_INT4,  /* compressed-tensors "pack-quantized": 4 bits, groups of 32, symmetric */
    PACKING_INT8,  /* the same with 8 bits */
    PACKING_MXFP4, /* experts of families that are published so: blocks and scales */
};

/* One of the tensors that stand for a matrix. */
struct packed_part {
    const char *suffix; /* in the place of ".weight", or behind a name without it */
    const char *type;   /* as safetensors names it */
    size_t width;       /* bytes of an element */
    enum { PACKED_CODES, PACKED_SCALES, PACKED_ZEROS, PACKED_SHAPE } is;
    size_t rows, columns; /* columns 0: a row */
    size_t inner; /* columns are written as two dimensions, the second this long; 0: as one */
};

#define PACKED_PARTS 3

/* Of a matrix of rows x columns; returns how many, 0 when it cannot be packed like that. */
int generate_parts(enum packing p, size_t rows, size_t columns,
                   struct packed_part part[PACKED_PARTS]);

/* Elements first .. first + n - 1 of a part of all matrices of a tensor. matrix: the size of one, for its shape. */
void generate_fill(enum packing p, const struct packed_part *part, const size_t matrix[2],
                   uint64_t seed, uint32_t stream, float deviation, size_t first, size_t n,
                   void *to);

/* The exponent of a block of MXFP4 with random codes. */
uint8_t generate_exponent(float deviation, uint32_t random);

/* Parameters in n elements of codes. */
size_t generate_codes(enum packing p, size_t n);

/* quantization_config; a new reference. */
json_t *generate_quantization(enum packing p);

#endif
