/* gemm.cuh - the core of linear and of the experts: y = W x over TILED matrices (kernels.h).
 *
 * A block of 4 warps makes MT x 16 rows of W a warp for up to 64 tokens. W is the left
 * operand of mma.m16n8k16, tokens are its columns, so a few tokens cost a few columns and not a
 * whole tile. Weights pass through shared memory only as a queue: each lane reads back the very
 * bytes it asked for, so they need no barrier; tokens are shared by the warps and swizzled for
 * ldmatrix. The queue runs on over the borders of work items, so memory never waits for an
 * epilogue.
 *
 * Order of additions: every element adds its columns from the first to the last, 16 at a time, in
 * one accumulator (e4m3: one for each block of 128, times its scale, added to a second). It does
 * not depend on the number of tokens, their place, or the grid.
 *
 * e4m3 and int8 weights become bf16 in registers, exactly; scales are applied in f32. Grouped weights
 * (gemm_groups.cuh): their codes less an integer zero are added up in bf16 products, exactly as well, for
 * 16 or 32 columns at a time; d scale x that sum and then m min x the sum of the tokens are added to a
 * second accumulator.
 */
#ifndef TANDEM_CUDA_GEMM_CUH
#define TANDEM_CUDA_GEMM_CUH

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define GEMM_WARPS   4
#define GEMM_THREADS (GEMM_WARPS * 32)
#define GEMM_TOKENS  64  /* of a tile at most; TOKENS below: 64, or 32 with half the registers */
#define GEMM_PIECE   512 /* 32 lanes x 16 bytes */

template <int TYPE, int MT, int TOKENS> struct gemm_shape {
    static const int x_bytes = TOKENS * MATRIX_CHUNK * 2;
    static const bool grouped = TYPE == MATRIX_GROUP4 || TYPE == MATRIX_GROUP8;
    /* Of a tile and chunk, and its bytes in a stage. */
    static const int pieces = TYPE == NUMBER_BF16 ? 4 : TYPE == MATRIX_GROUP4 ? 1 : 2;
    static const int tile = pieces * GEMM_PIECE + (grouped ? MATRIX_FORM : 0);
    static const int stages = TYPE == NUMBER_BF16 ? 4 : TYPE == MATRIX_GROUP8 ? 5 : 6;
    /* Bytes of a stage, tokens and weights, and of the whole queue. */
    static const int stage = x_bytes + GEMM_WARPS * MT * tile;
    static const int queue = stages * stage;
    /* Blocks that a processor has registers and, with 227 KB, shared memory for. */
    static const int blocks = TOKENS > 32 || TYPE == NUMBER_BF16 ? 2 : 3;
};

/* What a thread knows of one work item. */
template <int MT, int TOKENS> struct gemm_tile {
    const uint8_t *w;          /* the warp's first tile, chunk 0 */
    size_t w_step;             /* bytes to its next tile */
    int w_tiles;               /* of its MT tiles, how many exist */
    const float *scale[MT][2]; /* of rows g and g + 8 of each tile */
    /* Rows of tokens thread / 8 + 16 i, or NULL. */
    const uint16_t *x[TOKENS / 16];
    cuda_form form;
    int k, lead;    /* columns of x, and where they begin among the packed columns */
    int begin, end; /* chunks */
    int tokens;     /* 1..TOKENS */
    int a, b, c;    /* for the epilogue */
};

/* Bytes of one tile of w. */
template <int TYPE> static __device__ __forceinline__ size_t tile_bytes(const cuda_matrix &w)
{
    typedef gemm_shape<TYPE, 1, GEMM_TOKENS> shape;
    return (size_t)w.chunks *
           (size_t)(shape::pieces * GEMM_PIECE + (shape::grouped ? w.form.bytes : 0));
}

/* The scale row of output row n (e4m3: of its block, int8: its own). */
template <int TYPE>
static __device__ __forceinline__ const float *scale_row(const cuda_matrix &w, int n)
{
    n = n < w.n ? n : (w.n > 0 ? w.n - 1 : 0);
    if (TYPE == NUMBER_F8E4M3)
        return w.scale + (size_t)((w.row_lead + n) / MATRIX_BLOCK) * w.scale_stride;
    return TYPE == NUMBER_I8 ? w.scale + n : NULL;
}

/* Starts the copies of one chunk. What does not exist is 0: of 0 bytes nothing is read, whatever
 * the address. */
template <int TYPE, int MT, int TOKENS, bool ALIGNED>
static __device__ __forceinline__ void gemm_stage(unsigned char *stage,
                                                  const gemm_tile<MT, TOKENS> &t, int chunk)
{
    typedef gemm_shape<TYPE, MT, TOKENS> shape;
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    int form = shape::grouped ? t.form.bytes : 0, step = shape::pieces * GEMM_PIECE + form;
    unsigned char *to = stage + shape::x_bytes + warp * MT * shape::tile + lane * 16;
    const uint8_t *w = t.w + ((size_t)(unsigned)chunk * (unsigned)step + (unsigned)(lane * 16));
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int p = 0; p < shape::pieces; p++)
            cp_async16(to + m * shape::tile + p * GEMM_PIECE, w + p * GEMM_PIECE,
                       m < t.w_tiles ? 16 : 0);
        if (shape::grouped && lane * 16 < form)
            cp_async16(to + m * shape::tile + shape::pieces * GEMM_PIECE,
                       w + shape::pieces * GEMM_PIECE, m < t.w_tiles ? 16 : 0);
        w += t.w_step;
    }
    /* The swizzle is one for all tokens of a thread: 16 apart. */
    int part = (int)threadIdx.x % 8, token = (int)threadIdx.x / 8;
    int first = chunk * MATRIX_CHUNK + part * 8 - t.lead;
    unsigned char *place = stage + token * (MATRIX_CHUNK * 2) + ((part ^ (token & 7)) * 16);
    int left = first < 0 || first >= t.k ? 0 : t.k - first < 8 ? (t.k - first) * 2 : 16;
#pragma unroll
    for (int i = 0; i < TOKENS / 16; i++, place += 16 * MATRIX_CHUNK * 2) {
        if (ALIGNED) {
            cp_async16(place, t.x[i] + first, t.x[i] != NULL ? left : 0);
        } else {
            uint32_t v[4] = {0, 0, 0, 0};
            for (int c = 0; c < 8; c++)
                if (t.x[i] != NULL && first + c >= 0 && first + c < t.k)
                    v[c / 2] |= (uint32_t)t.x[i][first + c] << (c % 2 * 16);
            *(uint4 *)place = make_uint4(v[0], v[1], v[2], v[3]);
        }
    }
}

/* The weights of 16 columns as bf16: a step of gemm_multiply. */
template <int TYPE, int MT>
static __device__ __forceinline__ void gemm_weights(const unsigned char *ws, int kk,
                                                    uint32_t a[MT][4])
{
#pragma unroll
    for (int m = 0; m < MT; m++) {
        /* An 8-bit piece serves two steps; unrolled, it is read once. */
        int piece = TYPE == NUMBER_BF16 ? m * 4 + kk : m * 2 + kk / 2;
        uint4 v = *(const uint4 *)(ws + piece * GEMM_PIECE);
        uint32_t left = kk % 2 ? v.z : v.x, right = kk % 2 ? v.w : v.y;
        if (TYPE == NUMBER_BF16) {
            a[m][0] = v.x, a[m][1] = v.y, a[m][2] = v.z, a[m][3] = v.w;
        } else if (TYPE == NUMBER_F8E4M3) {
            e4m3x4_bf16(left, &a[m][0], &a[m][1]);
            e4m3x4_bf16(right, &a[m][2], &a[m][3]);
        } else {
            i8x4_bf16(left, I8_BIAS, I8_BIAS, &a[m][0], &a[m][1]);
            i8x4_bf16(right, I8_BIAS, I8_BIAS, &a[m][2], &a[m][3]);
        }
    }
}

#include "kernels/cuda/gemm_groups.cuh"

/* acc += W x of one chunk, for the first PAIRS x 16 tokens: a number that is known when this is
 * compiled, or the loads of one pair would wait for the products of the one before. Element:
 * acc[tile][token group][c], row g + 8 (c / 2), token 8 group + 2t + c % 2, for lane 4g + t. */
template <int TYPE, int MT, int TOKENS, int PAIRS>
static __device__ __forceinline__ void gemm_multiply_pairs(const unsigned char *stage,
                                                           float acc[MT][TOKENS / 8][4])
{
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    typedef gemm_shape<TYPE, MT, TOKENS> shape;
    const unsigned char *ws = stage + shape::x_bytes + warp * MT * shape::tile + lane * 16;
    const unsigned char *xs = stage + (lane / 16 * 8 + lane % 8) * (MATRIX_CHUNK * 2);
#pragma unroll
    for (int kk = 0; kk < 4; kk++) {
        uint32_t a[MT][4], b[PAIRS][4];
        int part = (kk * 2 + lane / 8 % 2) ^ (lane & 7); /* token % 8 is lane % 8 */
#pragma unroll
        for (int pair = 0; pair < PAIRS; pair++)
            ldmatrix_x4(b[pair], xs + pair * 16 * (MATRIX_CHUNK * 2) + part * 16);
        gemm_weights<TYPE, MT>(ws, kk, a);
#pragma unroll
        for (int i = 0; i < PAIRS * 2 * MT; i++) {
            int m = i % MT, group = i / MT;
            mma_bf16(acc[m][group], a[m], b[group / 2][group % 2 * 2],
                     b[group / 2][group % 2 * 2 + 1]);
        }
    }
}

/* The same, or for grouped weights everything: total += W x. */
template <int TYPE, int MT, int TOKENS, int PAIRS>
static __device__ __forceinline__ void
gemm_multiply_some(const unsigned char *stage, const cuda_form &form, float acc[MT][TOKENS / 8][4],
                   float total[MT][TOKENS / 8][4])
{
    if (gemm_shape<TYPE, MT, TOKENS>::grouped)
        gemm_multiply_groups<TYPE, MT, TOKENS, PAIRS>(stage, form, total);
    else
        gemm_multiply_pairs<TYPE, MT, TOKENS, PAIRS>(stage, acc);
}

template <int TYPE, int MT, int TOKENS>
static __device__ __forceinline__ void
gemm_multiply(const unsigned char *stage, const gemm_tile<MT, TOKENS> &t,
              float acc[MT][TOKENS / 8][4], float total[MT][TOKENS / 8][4])
{
    if (TOKENS > 32 && t.tokens > 32)
        gemm_multiply_some<TYPE, MT, TOKENS, TOKENS / 16>(stage, t.form, acc, total);
    else if (t.tokens > 16)
        gemm_multiply_some<TYPE, MT, TOKENS, 2>(stage, t.form, acc, total);
    else
        gemm_multiply_some<TYPE, MT, TOKENS, 1>(stage, t.form, acc, total);
}

template <int MT, int TOKENS>
static __device__ __forceinline__ void gemm_clear(float acc[MT][TOKENS / 8][4])
{
#pragma unroll
    for (int i = 0; i < MT * TOKENS / 2; i++)
        acc[i / (TOKENS / 2)][i / 4 % (TOKENS / 8)][i % 4] = 0.0f;
}

/* e4m3: the scales of a block of 128 columns. */
template <int MT, int TOKENS>
static __device__ __forceinline__ void gemm_scales(const gemm_tile<MT, TOKENS> &t, int block,
                                                   float scale[MT][2])
{
#pragma unroll
    for (int m = 0; m < MT; m++) {
        scale[m][0] = t.scale[m][0][block];
        scale[m][1] = t.scale[m][1][block];
    }
}

/* total += scale x acc, and acc = 0. */
template <int MT, int TOKENS>
static __device__ __forceinline__ void
gemm_flush(const float scale[MT][2], float acc[MT][TOKENS / 8][4], float total[MT][TOKENS / 8][4])
{
#pragma unroll
    for (int i = 0; i < MT * TOKENS / 2; i++) {
        total[i / (TOKENS / 2)][i / 4 % (TOKENS / 8)][i % 4] = fmaf(
            scale[i / (TOKENS / 2)][i % 4 / 2], acc[i / (TOKENS / 2)][i / 4 % (TOKENS / 8)][i % 4],
            total[i / (TOKENS / 2)][i / 4 % (TOKENS / 8)][i % 4]);
        acc[i / (TOKENS / 2)][i / 4 % (TOKENS / 8)][i % 4] = 0.0f;
    }
}

/* Runs all items of `work`: work.first(tile) and work.next(tile) describe an item and say whether
 * there is one, the same for all threads of the block; work.store(tile, sums) is the epilogue.
 * Between two epilogues stands a barrier of the block. */
template <int TYPE, int MT, int TOKENS, bool ALIGNED, typename WORK>
static __device__ __forceinline__ void gemm_run(WORK &load_work, WORK &work)
{
    typedef gemm_shape<TYPE, MT, TOKENS> shape;
    const int stage_bytes = shape::stage;
    unsigned char *memory = shared_memory();
    gemm_tile<MT, TOKENS> load, use;
    /* total: e4m3 and grouped weights; scale: e4m3 */
    float acc[MT][TOKENS / 8][4], total[MT][TOKENS / 8][4], scale[MT][2];
    bool more = load_work.first(load), live = work.first(use);
    int load_chunk = load.begin, chunk = use.begin, slot = 0;

    gemm_clear<MT, TOKENS>(acc);
    gemm_clear<MT, TOKENS>(total);
    for (int stage = -(shape::stages - 1); live; stage++) {
        if (TYPE == NUMBER_F8E4M3 && stage >= 0)
            gemm_scales<MT, TOKENS>(use, chunk / 2, scale); /* they are here when they are needed */
        if (stage >= 0) {
            cp_async_wait<shape::stages - 2>();
            __syncthreads();
        }
        if (more) {
            int to =
                stage >= 0 ? (slot + shape::stages - 1) % shape::stages : stage + shape::stages - 1;
            gemm_stage<TYPE, MT, TOKENS, ALIGNED>(memory + to * stage_bytes, load, load_chunk);
            if (++load_chunk == load.end) {
                more = load_work.next(load);
                load_chunk = load.begin;
            }
        }
        cp_async_commit();
        if (stage < 0)
            continue;

        gemm_multiply<TYPE, MT, TOKENS>(memory + slot * stage_bytes, use, acc, total);
        slot = (slot + 1) % shape::stages;
        bool last = chunk + 1 == use.end;
        if (TYPE == NUMBER_F8E4M3 && (last || chunk % 2 == 1))
            gemm_flush<MT, TOKENS>(scale, acc, total);
        chunk++;
        if (!last)
            continue;
        if (TYPE == NUMBER_F8E4M3 || shape::grouped) {
            work.store(use, total);
            gemm_clear<MT, TOKENS>(total);
        } else {
            if (TYPE == NUMBER_I8) {
#pragma unroll
                for (int i = 0; i < MT * TOKENS / 2; i++)
                    acc[i / (TOKENS / 2)][i / 4 % (TOKENS / 8)][i % 4] *=
                        *use.scale[i / (TOKENS / 2)][i % 4 / 2];
            }
            work.store(use, acc);
            gemm_clear<MT, TOKENS>(acc);
        }
        live = work.next(use);
        chunk = use.begin;
    }
}

#endif
