/* gemm.cuh - the core of linear and of the experts: y = W x over TILED matrices (card/matrix.h).
 *
 * W is the left operand of mma.m16n8k16, tokens are its columns, so a few tokens cost a few columns and
 * not a whole tile. A FRAME says how a block's warps share its part of the result. A narrow frame, for
 * up to 32 or 64 tokens: 4 warps, each two tiles of W. The wide one, for many tokens: 128 of them; of bf16
 * warps stand side by side too, each with four tiles of W, so that what is read from shared memory serves more
 * products; where weights must be turned into bf16 first, each warp has all tokens, so that they are turned once.
 *
 * Weights and tokens wait in a queue of stages in shared memory, one chunk of columns each; tokens are
 * swizzled for ldmatrix. What the next 16 columns need is read while these are multiplied, over the
 * borders of stages and of work items too. The queue runs on over the borders of items, so memory
 * never waits for an epilogue.
 *
 * Order of additions: every element adds its columns from the first to the last, 16 at a time, in
 * one accumulator. e4m3: which counts in units of the scale of the block of 128 columns it is in; it is
 * multiplied by the ratio of two scales at each border, and by the scale at the end. The order does
 * not depend on the frame, the number of tokens, their place, or the grid.
 *
 * e4m3 and int8 weights become bf16 in registers, exactly; scales are applied in f32. Grouped weights
 * (gemm_groups.cuh): their codes less an integer zero are added up in bf16 products, exactly as well, for
 * 16 or 32 columns at a time; d scale x that sum and then m min x the sum of the tokens are added to the
 * accumulator.
 */
#ifndef TANDEM_CUDA_GEMM_CUH
#define TANDEM_CUDA_GEMM_CUH

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define GEMM_PIECE  512         /* 32 lanes x 16 bytes */
#define GEMM_SHARED (216 << 10) /* of a processor, for the queues of its blocks, */
#define GEMM_QUEUE  (96 << 10)  /* and for that of one, which small cards have room for too */

/* FRAME: 32, 64, or 128, the tokens of a block's tile. */
template <int TYPE, int FRAME> struct gemm_shape {
    static const bool wide = FRAME > 64;
    static const int tokens = FRAME;
    static const int across = wide && TYPE == NUMBER_BF16 ? 2 : 1; /* warps that share rows of W, */
    static const int down = 4 / across;                            /* and that share tokens */
    static const int tiles = 2 * across;                           /* of W, of a warp */
    static const int threads = down * across * 32;
    static const int rows = down * tiles * MATRIX_TILE; /* of W, of a block */
    static const int pairs = tokens / 16 / across;      /* of groups of 8 tokens, of a warp */
    static const int groups = 2 * pairs;
    static const int ahead =
        pairs > 4 ? 2 : pairs; /* pairs that are read while others are multiplied */
    static const int passes = tokens * 8 / threads; /* 16 bytes of tokens a thread */
    static const int x_bytes = tokens * MATRIX_CHUNK * 2;
    static const bool grouped = TYPE == MATRIX_GROUP4 || TYPE == MATRIX_GROUP8;
    /* Of a tile and chunk, and its bytes in a stage. */
    static const int pieces = TYPE == NUMBER_BF16 ? 4 : TYPE == MATRIX_GROUP4 ? 1 : 2;
    static const int tile = pieces * GEMM_PIECE + (grouped ? MATRIX_FORM : 0);
    /* Blocks that a processor has registers and, with 227 KB, shared memory for. */
    static const int blocks =
        wide ? 2 : (FRAME == 64 ? 3 : 4) - (TYPE == NUMBER_BF16 || grouped ? 1 : 0);
    /* Bytes of a stage, tokens and weights, and of the whole queue. */
    static const int stage = x_bytes + down * tiles * tile;
    static const int share = GEMM_SHARED / blocks < GEMM_QUEUE ? GEMM_SHARED / blocks : GEMM_QUEUE;
    static const int most = share / stage;
    static const int stages = most > (wide ? 3 : 6) ? (wide ? 3 : 6) : most;
    static const int queue = stages * stage;
    /* And, where registers are too few for them, of the places that threads copy tokens from (gemm_places). */
    static const int places = passes > 4 && pairs > 4 ? tokens * 8 * 4 : 0;
    static const int shared = queue + places;
};

/* Where a warp stands in its block. */
template <typename SHAPE> struct gemm_place {
    int lane, down, across;

    __device__ __forceinline__ gemm_place(unsigned thread)
        : lane((int)(thread % 32)), down((int)(thread / 32 / SHAPE::across)),
          across((int)(thread / 32 % SHAPE::across))
    {
    }

    /* The warp's first row of W in the block, and the first token of its group in the tile. */
    __device__ __forceinline__ int row() const { return down * SHAPE::tiles * MATRIX_TILE; }
    __device__ __forceinline__ int token(int group) const
    {
        return (group / 2 * SHAPE::across + across) * 16 + group % 2 * 8;
    }
};

/* Where the tokens of an item begin that a thread copies, which are thread / 8 + i threads / 8: bytes behind t.x. */
template <typename SHAPE> struct gemm_places {
    uint32_t own[SHAPE::passes];

    static __device__ __forceinline__ uint4 *kept(int i)
    {
        return (uint4 *)(shared_memory() + SHAPE::queue) + i / 4 * SHAPE::threads + threadIdx.x;
    }

    __device__ __forceinline__ void put(int i, uint32_t at)
    {
        if (SHAPE::places)
            ((uint32_t *)kept(i))[i % 4] = at;
        else
            own[i] = at;
    }

    __device__ __forceinline__ void get(uint32_t at[SHAPE::passes]) const
    {
#pragma unroll
        for (int i = 0; i < SHAPE::passes; i++) {
            if (SHAPE::places && i % 4 == 0)
                memcpy(at + i, kept(i), 16);
            else if (!SHAPE::places)
                at[i] = own[i];
        }
    }
};

/* What a thread knows of one work item: `loads`, one whose chunks are copied, or one that is multiplied. */
template <typename SHAPE> struct gemm_tile {
    const uint8_t *w;   /* the warp's first tile, chunk 0; of what is loaded: gemm_begin */
    uint32_t w_step;    /* bytes to its next tile */
    int w_tiles;        /* of its tiles, how many exist */
    const float *scale; /* of the matrix, */
    int scale_at[SHAPE::tiles][2]; /* of rows g and g + 8 of each tile, */
    int ratios;                    /* and from a scale to its ratio */
    const uint16_t *x;             /* rows of tokens, */
    gemm_places<SHAPE> x_at;       /* and of the one that is copied where each begins */
    cuda_form form;
    int k, lead;    /* columns of x, and where they begin among the packed columns */
    int begin, end; /* chunks */
    int whole,
        many; /* from the end, the first chunk that gemm_copy may take as whole, and how many do */
    int behind;  /* the column that this thread would copy of the chunk behind the end */
    int tokens;  /* 1 to those of the frame */
    int a, b, c; /* for the epilogue */
    const bool loads;

    __device__ __forceinline__ explicit gemm_tile(bool loads_) : loads(loads_) {}
};

/* Where a thread copies to and reads from in a stage. */
template <typename SHAPE> struct gemm_lane {
    int w_to, x_to, w_from, x_from;

    __device__ __forceinline__ gemm_lane()
    {
        const gemm_place<SHAPE> at(threadIdx.x);
        int eight = (int)(threadIdx.x % 8), token = (int)(threadIdx.x / 8);
        w_from = SHAPE::x_bytes + at.down * SHAPE::tiles * SHAPE::tile + at.lane * 16;
        /* Warps that share rows of W copy a part of them each. */
        w_to = w_from + at.across * GEMM_PIECE;
        /* The swizzle is one for all tokens of a thread: a multiple of 8 apart. */
        x_to = token * (MATRIX_CHUNK * 2) + ((eight ^ (token & 7)) * 16);
        token = at.across * 16 + at.lane / 16 * 8 + at.lane % 8; /* token % 8 is lane % 8 */
        x_from = token * (MATRIX_CHUNK * 2) + (((at.lane / 8 % 2) ^ (at.lane & 7)) * 16);
    }
};

/* The tokens of a tile whose columns are being multiplied, and the weights as they lie in memory. */
template <typename SHAPE> struct gemm_operands {
    uint4 w[SHAPE::tiles];
    uint32_t x[SHAPE::ahead][4];
};

/* Bytes of one tile of w. */
template <typename SHAPE> static __device__ __forceinline__ size_t tile_bytes(const cuda_matrix &w)
{
    return (size_t)w.chunks *
           (size_t)(SHAPE::pieces * GEMM_PIECE + (SHAPE::grouped ? w.form.bytes : 0));
}

/* The place of the scales of output row n (e4m3: of its block, int8: its own). */
template <int TYPE> static __device__ __forceinline__ int scale_row(const cuda_matrix &w, int n)
{
    n = n < w.n ? n : (w.n > 0 ? w.n - 1 : 0);
    if (TYPE == NUMBER_F8E4M3)
        return (w.row_lead + n) / MATRIX_BLOCK * 2 * w.scale_stride;
    return TYPE == NUMBER_I8 ? n : 0;
}

/* Bytes of a tile's chunk. */
template <typename SHAPE>
static __device__ __forceinline__ int chunk_bytes(const gemm_tile<SHAPE> &t)
{
    return SHAPE::pieces * GEMM_PIECE + (SHAPE::grouped ? t.form.bytes : 0);
}

/* From here on t.w and t.x are what this thread copies next. */
template <typename SHAPE> static __device__ __forceinline__ void gemm_begin(gemm_tile<SHAPE> &t)
{
    const gemm_place<SHAPE> at(threadIdx.x);
    int first = t.begin * MATRIX_CHUNK + (int)(threadIdx.x % 8) * 8 - t.lead;
    int from = (t.lead + MATRIX_CHUNK - 1) / MATRIX_CHUNK, to = (t.lead + t.k) / MATRIX_CHUNK;
    t.w += (size_t)(unsigned)t.begin * (unsigned)chunk_bytes(t) +
           (unsigned)(at.across * GEMM_PIECE + at.lane * 16);
    t.x += first;
    t.behind = first + (t.end - t.begin) * MATRIX_CHUNK;
    t.whole = t.end - from;
    t.many = t.w_tiles == SHAPE::tiles && to > from ? to - from : 0;
}

/* Starts the copies of one chunk, the `left`-th from the end. What does not exist is 0: of 0 bytes nothing
 * is read, whatever the address. WHOLE: all of the warp's tiles and of the columns exist, so no sizes are
 * worked out, and tokens that do not exist may have any numbers: they have columns of the result for
 * themselves. */
template <typename SHAPE, bool ALIGNED, bool WHOLE>
static __device__ __forceinline__ void gemm_copy(unsigned char *stage, const gemm_lane<SHAPE> &lane,
                                                 const gemm_tile<SHAPE> &t, int left)
{
    unsigned char *to = stage + lane.w_to, *place = stage + lane.x_to;
    uint32_t x_at[SHAPE::passes];
    const uint8_t *w = t.w, *x = (const uint8_t *)t.x;
#pragma unroll
    for (int m = 0; m < SHAPE::tiles; m++, w += t.w_step) {
        int bytes = WHOLE || m < t.w_tiles ? 16 : 0;
#pragma unroll
        for (int p = 0; p < SHAPE::pieces; p += SHAPE::across)
            cp_async16(to + m * SHAPE::tile + p * GEMM_PIECE, w + p * GEMM_PIECE, bytes);
        if (SHAPE::grouped && (int)(threadIdx.x % 32) * 16 < t.form.bytes)
            cp_async16(to + m * SHAPE::tile + SHAPE::pieces * GEMM_PIECE,
                       w + SHAPE::pieces * GEMM_PIECE, bytes);
    }
    t.x_at.get(x_at);
    int token = (int)(threadIdx.x / 8);
    int first = t.behind - left * MATRIX_CHUNK;
    int count = first < 0 || first >= t.k ? 0 : t.k - first < 8 ? (t.k - first) * 2 : 16;
#pragma unroll
    for (int i = 0; i < SHAPE::passes; i++, place += SHAPE::threads / 8 * MATRIX_CHUNK * 2) {
        bool there = token + SHAPE::threads / 8 * i < t.tokens;
        if (WHOLE) {
            cp_async16(place, x + x_at[i], 16);
        } else if (ALIGNED) {
            cp_async16(place, x + x_at[i], there ? count : 0);
        } else {
            uint32_t v[4] = {0, 0, 0, 0};
            for (int c = 0; c < 8; c++)
                if (there && first + c >= 0 && first + c < t.k)
                    v[c / 2] |= (uint32_t)((const uint16_t *)(x + x_at[i]))[c] << (c % 2 * 16);
            *(uint4 *)place = make_uint4(v[0], v[1], v[2], v[3]);
        }
    }
}

template <typename SHAPE, bool ALIGNED>
static __device__ __forceinline__ void
gemm_stage(unsigned char *stage, const gemm_lane<SHAPE> &lane, gemm_tile<SHAPE> &t, int left)
{
    if (ALIGNED && (unsigned)(t.whole - left) < (unsigned)t.many)
        gemm_copy<SHAPE, true, true>(stage, lane, t, left);
    else
        gemm_copy<SHAPE, ALIGNED, false>(stage, lane, t, left);
    t.w += chunk_bytes(t);
    t.x += MATRIX_CHUNK;
}

/* Reads what columns [16 kk, 16 kk + 16) of a stage need. An 8-bit piece serves two such steps. */
template <int TYPE, typename SHAPE>
static __device__ __forceinline__ void
gemm_read_weights(int stage, int kk, const gemm_lane<SHAPE> &lane, uint4 w[SHAPE::tiles])
{
    const unsigned char *from = shared_memory() + (stage + lane.w_from);
#pragma unroll
    for (int m = 0; m < SHAPE::tiles; m++) {
        int piece = TYPE == NUMBER_BF16 ? kk : kk / 2;
        w[m] = *(const uint4 *)(from + m * SHAPE::tile + piece * GEMM_PIECE);
    }
}

/* The swizzle of columns 16 kk is that of the first ones, two bits turned: stages begin at multiples of 128. */
template <typename SHAPE>
static __device__ __forceinline__ void gemm_read_tokens(int stage, int kk, int pair,
                                                        const gemm_lane<SHAPE> &lane, uint32_t x[4])
{
    const unsigned char *from = shared_memory() + ((stage + lane.x_from) ^ (kk * 32));
    ldmatrix_x4(x, from + pair * SHAPE::across * 16 * (MATRIX_CHUNK * 2));
}

/* What a stage begins with. */
template <int TYPE, typename SHAPE>
static __device__ __forceinline__ void gemm_read_first(int stage, const gemm_lane<SHAPE> &lane,
                                                       gemm_operands<SHAPE> &ready)
{
#pragma unroll
    for (int pair = 0; pair < SHAPE::ahead; pair++)
        gemm_read_tokens<SHAPE>(stage, 0, pair, lane, ready.x[pair]);
    gemm_read_weights<TYPE, SHAPE>(stage, 0, lane, ready.w);
}

/* The weights of a tile and of 16 columns, the left or the right ones of an 8-bit piece, as bf16. */
template <int TYPE>
static __device__ __forceinline__ void gemm_weights(uint4 v, bool second, uint32_t a[4])
{
    uint32_t left = second ? v.z : v.x, right = second ? v.w : v.y;
    if (TYPE == NUMBER_BF16) {
        a[0] = v.x, a[1] = v.y, a[2] = v.z, a[3] = v.w;
    } else if (TYPE == NUMBER_F8E4M3) {
        e4m3x4_split(left, &a[0], &a[1]);
        e4m3x4_split(right, &a[2], &a[3]);
    } else {
        i8x4_bf16(left, I8_BIAS, I8_BIAS, &a[0], &a[1]);
        i8x4_bf16(right, I8_BIAS, I8_BIAS, &a[2], &a[3]);
    }
}

#include "kernels/cuda/gemm_groups.cuh"

/* acc += W x of one chunk, for the warp's first PAIRS x 16 tokens: a number that is known when this is
 * compiled, or the loads of one pair would wait for the products of the one before. `stage` is where it lies
 * in shared memory, `next` where the one behind it does, `ready` those of its first columns afterwards.
 * Element: acc[tile][group][c], row g + 8 (c / 2), token 2t + c % 2 of the group, for lane 4g + t. */
template <int TYPE, typename SHAPE, int PAIRS>
static __device__ __forceinline__ void
gemm_multiply_pairs(int stage, int next, const gemm_lane<SHAPE> &lane, gemm_operands<SHAPE> &ready,
                    float acc[SHAPE::tiles][SHAPE::groups][4])
{
    const int steps = 4 * PAIRS, ahead = PAIRS < SHAPE::ahead ? PAIRS : SHAPE::ahead;
    uint32_t x[steps][4], a[SHAPE::tiles][4];
#pragma unroll
    for (int i = 0; i < ahead * 4; i++)
        x[i / 4][i % 4] = ready.x[i / 4][i % 4];
#pragma unroll
    for (int step = 0; step < steps; step++) {
        const int kk = step / PAIRS, pair = step % PAIRS, then = step + ahead;
#pragma unroll
        for (int m = 0; m < SHAPE::tiles && pair == 0; m++)
            gemm_weights<TYPE>(ready.w[m], kk % 2 == 1, a[m]);
        if (then == steps) {
            /* All have read this stage; the next one is there. */
            cp_async_wait<SHAPE::stages - 2>();
            __syncthreads();
            gemm_read_first<TYPE, SHAPE>(next, lane, ready);
        } else if (then < steps) {
            gemm_read_tokens<SHAPE>(stage, then / PAIRS, then % PAIRS, lane, x[then]);
        }
        if (pair == 0 && kk < 3 && (TYPE == NUMBER_BF16 || kk == 1))
            gemm_read_weights<TYPE, SHAPE>(stage, kk + 1, lane, ready.w);
#pragma unroll
        for (int i = 0; i < 2 * SHAPE::tiles; i++) {
            int m = i % SHAPE::tiles, half = i / SHAPE::tiles;
            mma_bf16(acc[m][pair * 2 + half], a[m], x[step][half * 2], x[step][half * 2 + 1]);
        }
    }
}

/* The same, or for grouped weights, of which nothing is read ahead, what they have instead. */
template <int TYPE, typename SHAPE, int PAIRS>
static __device__ __forceinline__ void
gemm_multiply_some(int stage, int next, const gemm_lane<SHAPE> &lane, const cuda_form &form,
                   gemm_operands<SHAPE> &ready, float acc[SHAPE::tiles][SHAPE::groups][4])
{
    if constexpr (SHAPE::grouped) {
        gemm_multiply_groups<TYPE, SHAPE, PAIRS>(shared_memory() + stage, form, acc);
        cp_async_wait<SHAPE::stages - 2>();
        __syncthreads();
    } else {
        gemm_multiply_pairs<TYPE, SHAPE, PAIRS>(stage, next, lane, ready, acc);
    }
}

/* PAIRS: at least as many as have tokens. */
template <int TYPE, typename SHAPE, int PAIRS = SHAPE::pairs>
static __device__ __forceinline__ void
gemm_multiply(int stage, int next, const gemm_lane<SHAPE> &lane, const gemm_tile<SHAPE> &t,
              gemm_operands<SHAPE> &ready, float acc[SHAPE::tiles][SHAPE::groups][4])
{
    if (PAIRS == 1 || t.tokens > (PAIRS - 1) * 16 * SHAPE::across)
        gemm_multiply_some<TYPE, SHAPE, PAIRS>(stage, next, lane, t.form, ready, acc);
    else
        gemm_multiply<TYPE, SHAPE, (PAIRS > 1 ? PAIRS - 1 : 1)>(stage, next, lane, t, ready, acc);
}

template <typename SHAPE>
static __device__ __forceinline__ void gemm_clear(float acc[SHAPE::tiles][SHAPE::groups][4])
{
#pragma unroll
    for (int i = 0; i < SHAPE::tiles * SHAPE::groups * 4; i++)
        acc[i / 4 / SHAPE::groups][i / 4 % SHAPE::groups][i % 4] = 0.0f;
}

/* The chunk behind which an item's numbers change their unit next, at or behind `chunk`, and by what then.
 * int8: at the end; e4m3: at the end of each block of 128 columns, by the ratio of its scale to the next
 * one's, and at the end of all by the scale. -1: never. */
template <int TYPE, typename SHAPE>
static __device__ __forceinline__ int gemm_scales(const gemm_tile<SHAPE> &t, int chunk,
                                                  float scale[SHAPE::tiles][2])
{
    if (TYPE != NUMBER_I8 && TYPE != NUMBER_F8E4M3)
        return -1;
    int last = t.end - 1, at = TYPE == NUMBER_I8 || (chunk | 1) > last ? last : chunk | 1;
    int block = TYPE == NUMBER_I8 ? 0 : (at >> 1) + (at == last ? 0 : t.ratios + 1);
#pragma unroll
    for (int i = 0; i < SHAPE::tiles * 2; i++)
        scale[i / 2][i % 2] = t.scale[t.scale_at[i / 2][i % 2] + block];
    return at;
}

template <typename SHAPE>
static __device__ __forceinline__ void gemm_rescale(const float scale[SHAPE::tiles][2],
                                                    float acc[SHAPE::tiles][SHAPE::groups][4])
{
#pragma unroll
    for (int i = 0; i < SHAPE::tiles * SHAPE::groups * 4; i++)
        acc[i / 4 / SHAPE::groups][i / 4 % SHAPE::groups][i % 4] *=
            scale[i / 4 / SHAPE::groups][i % 4 / 2];
}

/* a, b: row g of tokens 2t and 2t + 1 of a group. Gives rows g & ~1 and g | 1 of token 2t + g % 2, as bf16. By
 * all lanes of a warp. */
static __device__ __forceinline__ uint32_t gemm_turn(int lane, float a, float b)
{
    uint32_t own = pack_bf16(a, b), other = warp_xor(own, 4);
    return byte_perm(own, other, lane / 4 % 2 == 1 ? 0x3276 : 0x5410);
}

/* What the queue takes first of the weights, which no kernel writes, to the L2 cache. */
template <typename SHAPE, typename WORK>
static __device__ __forceinline__ void gemm_prefetch(WORK &work)
{
    gemm_tile<SHAPE> t(false);
    if (!work.first(t))
        return;
    int chunks = t.end - t.begin < SHAPE::stages ? t.end - t.begin : SHAPE::stages;
    for (int m = 0; m < t.w_tiles; m++) {
        const uint8_t *w =
            t.w + m * t.w_step + (size_t)(unsigned)t.begin * (unsigned)chunk_bytes(t);
        for (int i = (int)(threadIdx.x % 32) * 128; i < chunks * chunk_bytes(t); i += 32 * 128)
            prefetch(w + i);
    }
}

/* Runs all items of `work`: work.first(tile) and work.next(tile) describe an item and say whether
 * there is one, the same for all threads of the block; work.store(tile, sums) is the epilogue.
 * Between two epilogues stands a barrier of the block. */
template <int TYPE, typename SHAPE, bool ALIGNED, typename WORK>
static __device__ __forceinline__ void gemm_run(WORK &load_work, WORK &work)
{
    unsigned char *memory = shared_memory();
    const gemm_lane<SHAPE> lane;
    gemm_tile<SHAPE> load(true), use(false);
    gemm_operands<SHAPE> ready;
    float acc[SHAPE::tiles][SHAPE::groups][4], scale[SHAPE::tiles][2];
    bool live = work.first(use);
    int left = load_work.first(load) ? load.end - load.begin : 0; /* chunks of its item to load */
    int chunk = use.begin, due = -1, slot = 0, to = 0, missing = SHAPE::stages - 1;

    gemm_begin(load);
    gemm_clear<SHAPE>(acc);
    if (live)
        due = gemm_scales<TYPE>(use, chunk, scale);
    while (live) {
        if (left > 0) {
            gemm_stage<SHAPE, ALIGNED>(memory + to, lane, load, left);
            if (--left == 0) {
                left = load_work.next(load) ? load.end - load.begin : 0;
                gemm_begin(load);
            }
        }
        cp_async_commit();
        to = to + SHAPE::stage < SHAPE::queue ? to + SHAPE::stage : 0;
        if (missing > 0) { /* the queue is not full for the first time */
            if (--missing > 0)
                continue;
            cp_async_wait<SHAPE::stages - 2>();
            __syncthreads();
            if (!SHAPE::grouped)
                gemm_read_first<TYPE, SHAPE>(0, lane, ready);
            continue;
        }

        int at = slot;
        slot = slot + SHAPE::stage < SHAPE::queue ? slot + SHAPE::stage : 0;
        gemm_multiply<TYPE, SHAPE>(at, slot, lane, use, ready, acc);
        if ((TYPE == NUMBER_I8 || TYPE == NUMBER_F8E4M3) &&
            chunk == due) { /* the next ones are here when they are needed */
            gemm_rescale<SHAPE>(scale, acc);
            if (chunk + 1 < use.end)
                due = gemm_scales<TYPE>(use, chunk + 1, scale);
        }
        if (++chunk < use.end)
            continue;
        work.store(use, acc);
        live = work.next(use);
        gemm_clear<SHAPE>(acc);
        chunk = use.begin;
        if (live)
            due = gemm_scales<TYPE>(use, chunk, scale);
    }
}

#endif
