/* block_qkv.h - the weights of attention with keys and values of its own (block_qkv.c). */
#ifndef TANDEM_MODEL_BLOCK_QKV_H
#define TANDEM_MODEL_BLOCK_QKV_H

#include "model/block.h"

/* Pointers are NULL where the layer's spec has no such thing. */
struct qkv_weights {
    struct weight *q_down, *q_up; /* [q_rank][H]; [heads D][q_rank or H] */
    struct weight *k, *v, *o;     /* [kv_heads D][H] x 2, [H][heads D] */
    struct weight *gate;          /* [heads][H] */
    float *inter_norm;            /* [q_rank] */
    float *q_norm, *k_norm;       /* of a head, or of all */
    float *q_bias, *k_bias, *v_bias, *o_bias;
    float *sinks; /* [heads] */
};

#endif
