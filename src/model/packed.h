/* packed.h - one matrix that stands in a checkpoint as several tensors: packed integers, their scales
 * and zero points.
 *
 *     X.qweight, X.scales, X.qzeros                               AutoAWQ, "gemm"
 *     X.weight_packed, _scale, _shape and perhaps _zero_point     compressed-tensors, 4 or 8 bits
 *     X.weight of I8 or F8_E4M3, X.weight_scale                   compressed-tensors, quantized
 *
 * in place of X.weight, or the same for all experts, with a dimension more in front; of a tensor X
 * whose name has no .weight: X_packed, X_scale, X_zero_point, X_shape; or gpt-oss's MXFP4: X_blocks of
 * U8 [experts][rows][groups of 32][16 bytes] and X_scales of U8 [experts][rows][groups]. Bits and groups follow from
 * the shapes. Pure functions of the checkpoint.
 */
#ifndef TANDEM_MODEL_PACKED_H
#define TANDEM_MODEL_PACKED_H

#include "data/checkpoint.h"
#include "kernels/weights/codec.h"

enum packed_kind { PACKED_NONE, PACKED_AWQ, PACKED_INTEGERS, PACKED_SCALED, PACKED_MXFP4 };

struct packed {
    enum packed_kind kind;
    const struct tensor *data, *scale;
    const struct tensor *zero, *shape; /* NULL: there is none */
};

/* What stands in the place of the tensor `name`; kind PACKED_NONE and false when there is nothing. */
bool packed_find(const struct checkpoint *c, const char *name, struct packed *p);

/* Do the tensors make a matrix of these rows and columns, or (matrices > 0) so many? -1 and what is
 * wrong with which. */
int packed_check(const struct packed *p, size_t matrices, size_t rows, size_t columns,
                 struct err *e);

/* Can its rows be cut in two halves? Only after packed_check(). */
bool packed_halves(const struct packed *p);

/* The whole matrix `matrix` (0 of one); only after packed_check(). columns: looked at where several
 * matrices stand in one tensor that does not say it. */
struct weight_part packed_part(const struct packed *p, size_t columns, size_t matrix);

#endif
