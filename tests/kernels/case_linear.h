/* case_linear.h - what the tests of y = x W^T share. */
#ifndef TANDEM_TESTS_KERNELS_CASE_LINEAR_H
#define TANDEM_TESTS_KERNELS_CASE_LINEAR_H

#include "tests/kernels/rig.h"

struct linear_inputs {
    struct rig_weight w;
    enum weight_keep keep;
    enum dtype out;
    const float *x;
    bool integers; /* are the rows rounded to integers? */
};

/* y of the n rows of x that are picked, as f32, of linear_inputs; the rig's. */
unsigned char *run_linear(struct rig *r, const void *inputs, const int *rows, int n);

#endif
