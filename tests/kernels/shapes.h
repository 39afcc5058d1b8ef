/* shapes.h - the sizes that cases go through: nothing that a vector or a tile divides, and the
 * sizes around one. */
#ifndef TANDEM_TESTS_KERNELS_SHAPES_H
#define TANDEM_TESTS_KERNELS_SHAPES_H

#include "base/dtype.h"

static const int shape_rows[] = {0, 1, 2, 3, 5, 17, 64};
static const int shape_widths[] = {1, 7, 63, 64, 65, 77, 256, 300};
static const enum dtype shape_acts[] = {DTYPE_F32, DTYPE_BF16};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

#endif
