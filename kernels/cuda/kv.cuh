/* kv.cuh - where an element of the KV cache lies (kernels.h: struct cuda_kv).
 *
 * TILED: a half block is 32 tokens. Keys are the right operand of q k^T (columns are tokens),
 * values that of p v (columns are dimensions). For a 16x8 operand lane 4g+t holds rows 2t, 2t+1,
 * 2t+8, 2t+9 of column g: 4 elements. 16 bytes of a lane are several such quadruples: keys    of 8
 * tokens: the next 16 dimensions (bf16: 2 of them, e4m3: 4) values  of 8 dimensions: tokens 0..15
 * and 16..31; e4m3: then those of the next 8 dimensions
 */
#ifndef TANDEM_CUDA_KV_CUH
#define TANDEM_CUDA_KV_CUH

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define KV_TOKENS 64 /* KV_BLOCK of ops.h */
#define KV_HALF   32

/* Elements before the keys (value: the values) of a block and kv head. */
static __device__ __forceinline__ size_t kv_base(const cuda_kv &kv, int block, int kv_head,
                                                 bool value)
{
    size_t place = (size_t)block * kv.kv_heads + kv_head;
    int keys = kv.key_dim, width = kv.value_in_key ? keys : keys + kv.value_dim;
    return (place * width + (value && !kv.value_in_key ? keys : 0)) * KV_TOKENS;
}

/* The block of a row's sequence that has this token. */
static __device__ __forceinline__ int kv_block(const cuda_batch &batch, int seg, int token)
{
    int entry = token / KV_TOKENS;
    if (batch.ring > 0)
        entry = entry % batch.ring;
    return batch.blocks[(size_t)seg * batch.blocks_stride + entry];
}

/* The quadruple place of row r (0..15) of a 16-row operand, and its lane group t. */
static __device__ __forceinline__ int quad_place(int r)
{
    return r / 8 * 2 + r % 2;
}

static __device__ __forceinline__ int quad_lane(int r)
{
    return r % 8 / 2;
}

/* Elements from kv_base() to dimension d of token `token` (0..63). */
static __device__ __forceinline__ size_t kv_place(const cuda_kv &kv, int token, int d, bool value)
{
    if (!kv.tiled)
        return (size_t)token * (value && !kv.value_in_key ? kv.value_dim : kv.key_dim) + d;
    int per_lane = kv.type == NUMBER_BF16 ? 8 : 16, quads = per_lane / 4;
    int half = token / KV_HALF, t = token % KV_HALF;
    int lane, unit, quad, place;
    if (value) {
        lane = d % 8 * 4 + quad_lane(t % 16);
        unit = d / 8 / (quads / 2);
        quad = d / 8 % (quads / 2) * 2 + t / 16;
        place = quad_place(t % 16);
    } else {
        lane = t % 8 * 4 + quad_lane(d % 16);
        unit = t / 8 * (kv.key_dim / 16 / quads) + d / 16 / quads;
        quad = d / 16 % quads;
        place = quad_place(d % 16);
    }
    return (size_t)half * KV_HALF * kv.key_dim + (size_t)unit * 32 * per_lane + lane * per_lane +
           quad * 4 + place;
}

#endif
