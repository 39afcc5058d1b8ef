/* attend.cuh - what attend.cu and attend_latent.cu do alike: the queries, softmax, and a row's result.
 *
 * An e4m3 cache is multiplied as f16, which has all its numbers, and which a processor since 8.9 makes
 * of two codes with one instruction; bf16 would take ten, in each of a row's warps. A head's query is
 * brought into f16's range by a power of 2 of its own: what is below 2^-28 of its largest number loses
 * bits, nothing else does. Probabilities are 2^15 at most, so that those of 2^-39 of it still count.
 *
 * Rescaling all sums because the maximum has grown costs as much as an eighth of a tile; so the scores
 * are taken relative to a number that only follows the maximum when it is 2^ATTEND_RISE behind.
 */
#ifndef TANDEM_CUDA_ATTEND_CUH
#define TANDEM_CUDA_ATTEND_CUH

#include "kernels/cuda/kv.cuh"

#define LOG2_E       1.4426950408889634f
#define ATTEND_RISE  8.0f
#define ATTEND_SHIFT 7.0f /* probabilities are 2^7 larger: 2^15 at most */

struct attend_args {
    cuda_kv kv;
    cuda_batch batch;
    int row, rows, heads, tiles; /* tiles: of 16 heads, of a row in a block */
    int chunks;                  /* of a row at most: stride of partial */
    int apart;   /* rows of segments with one row, and the others, have launches of their own */
    int window;  /* 0: none */
    float scale; /* of the scores, over ln 2 */
    const float *sinks;
    const uint16_t *q;
    uint16_t *out;
    float *partial;
};

static inline attend_args attend_args_of(const struct cuda_attn *spec, const struct cuda_kv *kv,
                                         const struct cuda_batch *batch, int row, int rows,
                                         const void *q, void *out, float *partial)
{
    return {*kv,
            *batch,
            row,
            rows,
            spec->heads,
            1,
            cuda_attend_chunks(kv->type, spec->window, batch->max_context),
            0,
            spec->window,
            LOG2_E * spec->scale,
            spec->sinks,
            (const uint16_t *)q,
            (uint16_t *)out,
            partial};
}

/* What a warp keeps of N dimensions of its 16 heads: lane 4g + t has heads g and g + 8. */
template <int N> struct attend_state {
    float o[N / 8][4]; /* dimensions 8i + 2t, + 1 of head g, then of head g + 8 */
    float most[2], total[2];
    float scale[2]; /* of its scores, over ln 2 */
};

template <int N> static __device__ __forceinline__ void begin_state(attend_state<N> &w)
{
#pragma unroll
    for (int i = 0; i < N / 2; i++)
        w.o[i / 4][i % 4] = 0.0f;
    w.most[0] = w.most[1] = -INFINITY;
    w.total[0] = w.total[1] = 0.0f;
}

/* The first token that the row sees. */
static __device__ __forceinline__ int first_token(const attend_args &a, int row)
{
    int context = a.batch.row_pos[row] + 1;
    return a.window > 0 && context > a.window ? context - a.window : 0;
}

/* Two bf16 to two f16, times factor. */
static __device__ __forceinline__ uint32_t scaled_f16(uint32_t v, float factor)
{
    return pack_f16(bits_to_f32(v << 16) * factor, bits_to_f32(v & 0xffff0000u) * factor);
}

/* The query of the warp's heads as f16: largest of a head 2^14 to 2^15. Exponents as f32 has them. */
template <int D>
static __device__ __forceinline__ void query_to_f16(unsigned char *query, float scale[2])
{
    int lane = (int)threadIdx.x % 32;
    uint32_t most[2] = {0, 0};
    float factor[2];
#pragma unroll 4
    for (int k = 0; k < D / 16; k++) {
        uint4 v = *(const uint4 *)(query + k * 512 + lane * 16);
        uint32_t head[2][2] = {{v.x, v.z}, {v.y, v.w}};
#pragma unroll
        for (int h = 0; h < 4; h++) {
            uint32_t low = head[h / 2][h % 2] << 16 & 0x7fffffffu;
            uint32_t high = head[h / 2][h % 2] & 0x7fff0000u, more = low > high ? low : high;
            most[h / 2] = more > most[h / 2] ? more : most[h / 2];
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float value = bits_to_f32(most[h]);
        value = fmaxf(value, warp_xor(value, 1));
        value = fmaxf(value, warp_xor(value, 2));
        int exponent = 268 - (int)(f32_to_bits(value) >> 23);
        exponent = exponent < 253 ? exponent : 253;
        factor[h] = bits_to_f32((uint32_t)exponent << 23);
        scale[h] *= bits_to_f32((uint32_t)(254 - exponent) << 23);
    }
#pragma unroll 4
    for (int k = 0; k < D / 16; k++) {
        uint4 *at = (uint4 *)(query + k * 512 + lane * 16), v = *at;
        *at = make_uint4(scaled_f16(v.x, factor[0]), scaled_f16(v.y, factor[1]),
                         scaled_f16(v.z, factor[0]), scaled_f16(v.w, factor[1]));
    }
}

/* The warp's queries, in the order of mma's left operand; each lane keeps its own. */
template <int D, int TYPE>
static __device__ __forceinline__ void load_query(const attend_args &a, int row, int head, int left,
                                                  unsigned char *to, float scale[2])
{
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint32_t *q = (const uint32_t *)(a.q + ((size_t)row * a.heads + head) * D);
#pragma unroll 4
    for (int k = 0; k < D / 16; k++) {
        const uint32_t *low = q + g * (D / 2) + k * 8 + t, *high = low + 8 * (D / 2);
        bool has_low = g < left, has_high = g + 8 < left;
        *(uint4 *)(to + k * 512 + lane * 16) =
            make_uint4(has_low ? low[0] : 0, has_high ? high[0] : 0, has_low ? low[4] : 0,
                       has_high ? high[4] : 0);
    }
    scale[0] = scale[1] = a.scale;
    if (TYPE == NUMBER_F8E4M3)
        query_to_f16<D>(to, scale);
}

/* c += a b, in the type that the cache is multiplied in. */
template <int TYPE>
static __device__ __forceinline__ void mma(float c[4], const uint32_t a[4], uint32_t b0,
                                           uint32_t b1)
{
    if (TYPE == NUMBER_BF16)
        mma_bf16(c, a, b0, b1);
    else
        mma_f16(c, a, b0, b1);
}

/* The largest score of each of the lane's heads, in NT x 8 tokens. */
template <int NT>
static __device__ __forceinline__ void largest(const float s[NT][4], float most[2])
{
    most[0] = most[1] = -INFINITY;
#pragma unroll
    for (int i = 0; i < 4 * NT; i++)
        most[i / 2 % 2] = fmaxf(most[i / 2 % 2], s[i / 4][i % 4]);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        most[h] = fmaxf(most[h], warp_xor(most[h], 1));
        most[h] = fmaxf(most[h], warp_xor(most[h], 2));
    }
}

/* Probabilities of scores, of which `most` are the largest of a tile; the sums so far follow. */
template <int NT, int N>
static __device__ __forceinline__ void softmax(float s[NT][4], const float most[2],
                                               attend_state<N> &w)
{
    float keep[2], shift[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float now = (most[h] - w.most[h]) * w.scale[h] > ATTEND_RISE ? most[h] : w.most[h];
        keep[h] = exp2_fast((w.most[h] - now) * w.scale[h]);
        shift[h] = ATTEND_SHIFT - now * w.scale[h];
        w.most[h] = now;
        w.total[h] = w.total[h] * keep[h];
    }
#pragma unroll
    for (int i = 0; i < 4 * NT; i++) {
        float p = exp2_fast(fmaf(s[i / 4][i % 4], w.scale[i / 2 % 2], shift[i / 2 % 2]));
        s[i / 4][i % 4] = p;
        w.total[i / 2 % 2] += p;
    }
    /* Times 1 changes nothing and may be left out. */
    if (warp_ballot(keep[0] != 1.0f || keep[1] != 1.0f) != 0) {
#pragma unroll
        for (int i = 0; i < N / 2; i++)
            w.o[i / 4][i % 4] *= keep[i / 2 % 2];
    }
}

/* From sums over a lane's tokens to sums over the warp's. */
static __device__ __forceinline__ void add_totals(float total[2])
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        total[h] += warp_xor(total[h], 1);
        total[h] += warp_xor(total[h], 2);
    }
}

/* Dimensions first .. first + N - 1 of the D of the row's result, when one chunk was all, or of the part of
 * it that its chunk number `chunk` is. `total` are sums of whole heads. */
template <int D, int N>
static __device__ __forceinline__ void finish(const attend_args &a, int row, int head, int left,
                                              int first, bool whole, int chunk, attend_state<N> &w)
{
    int lane = (int)threadIdx.x % 32;
    size_t parts = (size_t)a.rows * a.chunks * a.heads;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int mine = lane / 4 + 8 * h;
        float most = w.most[h] * w.scale[h] - ATTEND_SHIFT;
        if (mine >= left)
            continue;
        if (whole) {
            if (a.sinks)
                w.total[h] += exp2f(a.sinks[head + mine] * LOG2_E - most);
            float inverse = 1.0f / w.total[h];
            uint32_t *out = (uint32_t *)(a.out + ((size_t)row * a.heads + head + mine) * D + first);
#pragma unroll
            for (int i = 0; i < N / 8; i++)
                out[i * 4 + lane % 4] =
                    pack_bf16(w.o[i][2 * h] * inverse, w.o[i][2 * h + 1] * inverse);
            continue;
        }
        size_t part = ((size_t)(row - a.row) * a.chunks + chunk) * a.heads + head + mine;
#pragma unroll
        for (int i = 0; i < N / 8; i++)
            *(float2 *)(a.partial + part * D + first + i * 8 + lane % 4 * 2) =
                make_float2(w.o[i][2 * h], w.o[i][2 * h + 1]);
        if (first == 0 && lane % 4 == 0)
            *(float2 *)(a.partial + parts * D + part * 2) = make_float2(most, w.total[h]);
    }
}

/* Chunks of rows that have more than one, in order. */
template <int D> static __global__ void combine_kernel(attend_args a, int chunk)
{
    grid_begin();
    int row = a.row + (int)blockIdx.x, head = (int)blockIdx.y, d = (int)threadIdx.x;
    int chunks = a.batch.row_pos[row] / chunk - first_token(a, row) / chunk + 1;
    if (chunks == 1)
        return;
    size_t first = (size_t)blockIdx.x * a.chunks * a.heads + head;
    const float *sums = a.partial + (size_t)a.rows * a.chunks * a.heads * D;
    float most = -INFINITY, total = 0.0f, o = 0.0f;
    for (int c = 0; c < chunks; c++)
        most = fmaxf(most, sums[(first + (size_t)c * a.heads) * 2]);
    for (int c = 0; c < chunks; c++) {
        size_t part = first + (size_t)c * a.heads;
        float factor = exp2f(sums[part * 2] - most);
        total = fmaf(sums[part * 2 + 1], factor, total);
        o = fmaf(a.partial[part * D + d], factor, o);
    }
    if (a.sinks)
        total += exp2f(a.sinks[head] * LOG2_E - most);
    a.out[((size_t)row * a.heads + head) * D + d] = bf16_round(o / total);
}

#endif
