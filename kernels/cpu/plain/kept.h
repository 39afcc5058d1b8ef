/* kept.h - weights and KV cache as the reference keeps them. Internal to kernels/cpu/plain. */
#ifndef TANDEM_KERNELS_CPU_PLAIN_KEPT_H
#define TANDEM_KERNELS_CPU_PLAIN_KEPT_H

#include "kernels/cpu/plain/plain.h"
#include "kernels/weights/form.h"

/* W[n][k] without gaps, in its form. */
struct weight {
    struct weight_form form;
    size_t
        run; /* inputs whose sums are scaled (product.c); 0: the weights are multiplied as numbers */
    size_t before; /* of a run before the first */
    bool integers; /* I8, I4: rows are rounded to integers too (kernels/cpu/integer.h) */
    size_t n, k;
    void *data;          /* numbers; F8, I8: [n][k]; I4: [n][k/2], of two inputs the first is low */
    float *scale;        /* F8: scales of the blocks touched */
    size_t scale_stride; /* F8: f32 between block rows */
    size_t row0, col0;   /* F8: of element (0, 0) within its block: 0..127 */
    void *factors;  /* I8, I4: of form.factor, [n][outer groups] d, or d and m where m is own */
    int8_t *smalls; /* I8, I4: [n][inner groups] scale, min, as far as the form has them */
};

struct mlp {
    size_t inter; /* 0: nothing here, the weights are NULL */
    float limit, alpha;
    float *gate_bias, *up_bias, *down_bias; /* [inter], [inter], [hidden] or NULL */
    size_t *cuts; /* [n_cuts] of the inputs of down (ops.h: struct mlp_part) */
    size_t n_cuts;
    struct weight *gate, *up, *down;
};

struct ffn {
    size_t hidden;
    int first_expert, n_experts;
    struct mlp *experts; /* [n_experts] */
    struct mlp shared;
};

/* [layers][blocks][KV_BLOCK][kv_heads][D], keys and values apart, in the device's KV dtype. */
struct kv {
    struct kv_shape shape;
    enum dtype dtype;
    size_t key_width,
        value_width; /* of a token, all KV heads; no values when they are in the keys */
    unsigned char *keys, *values;
};

#endif
