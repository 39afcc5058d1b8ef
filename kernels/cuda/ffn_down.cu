/* ffn_down.cu - out = sum of weight x down h over the experts in their order, then the shared
 * expert (ops.h: ffn).
 *
 * A block owns some columns of the output and works through all experts in order, so the order of
 * additions is that of the experts, without atomics, and contributions are never stored on their
 * own. A row that is not finished leaves its sum in its slot: in the block's shared memory, or,
 * from slot `slots` on, in `acc`. A row that finishes at an expert stays in registers while the
 * block goes on with the shared expert for the same tile of rows; nothing of it is in memory
 * between.
 *
 * A block has a processor for itself: what its queue leaves of the shared memory holds sums. Two
 * narrow blocks on one processor would have more weights on their way, but by reckoning (bandwidth
 * times latency, divided by the processors) the queue of one block is enough; and each would read
 * all of h and have less than half the slots. So where the columns are too many for one wave of
 * blocks a block is made wider instead (cuda_down_place). Registers allow for either: a thread of
 * 128 may have 255 whether one block is asked for or two. */
#include "kernels/cuda/gemm.cuh"

#define MAX_WARPS 8 /* of a block; gemm.cuh wants at least 4 */

template <int TYPE, int OUT> struct down_work {
    const cuda_mlp *mlp;
    cuda_groups g;
    const uint16_t *h, *h_shared;
    int h_stride, h_shared_stride, hidden, n;
    float *acc, *sums; /* [row][hidden], [slot][columns of the block] */
    int slots;
    void *out;               /* of type OUT: f32 or bf16 */
    cuda_entry *entries;     /* [2][GEMM_TOKENS] of two items in turn; NULL: not wanted */
    const float *bias;       /* of the item's matrix, or NULL */
    int expert, row, before; /* the item's rows: in list `expert` from `row`; rows listed before */
    int turn;                /* which of the entries */
    bool finishing;          /* the item is the shared expert's share of them */
    float kept[8][4];        /* sums of the tile's rows that finish, as gemm.cuh has them */

    __device__ int listed(int e) const { return g.experts > 0 ? g.count[e] : n; }

    __device__ int finish_of(int e) const { return g.experts > 0 ? g.finish[e] : n; }

    __device__ __forceinline__ cuda_entry entry(int e, int i) const
    {
        if (g.experts > 0)
            return load_constant(g.entry + (size_t)e * g.capacity + i);
        cuda_entry all = {i, -1, 0.0f, 1};
        return all;
    }

    __device__ bool first(gemm_tile<1> &t)
    {
        expert = row = before = 0;
        finishing = false;
        return describe(t);
    }

    __device__ bool next(gemm_tile<1> &t)
    {
        if (!finishing && row < finish_of(expert)) {
            finishing = true;
        } else {
            finishing = false;
            row += GEMM_TOKENS;
        }
        return describe(t);
    }

    __device__ __forceinline__ bool describe(gemm_tile<1> &t)
    {
        t.begin = t.end = 0;
        while (expert <= g.experts && row >= listed(expert)) {
            before += listed(expert);
            expert++;
            row = 0;
        }
        if (expert > g.experts)
            return false;
        finishing = finishing || expert == g.experts;
        const cuda_mlp &m = mlp[finishing ? g.experts : expert];
        const cuda_matrix &w = m.down;
        bias = m.down_bias;
        int left = (finishing ? finish_of(expert) : listed(expert)) - row;
        t.a = ((int)(blockIdx.x * blockDim.x) + (int)threadIdx.x) / 32 * MATRIX_TILE;
        t.b = row;
        t.c = expert * 2 + finishing;
        t.tokens = left < GEMM_TOKENS ? left : GEMM_TOKENS;
        t.w_step = tile_bytes<TYPE>(w);
        t.w_tiles = t.a < w.n ? 1 : 0;
        t.w = (const uint8_t *)w.data + (t.w_tiles ? (size_t)(t.a / MATRIX_TILE) * t.w_step : 0);
        t.k = w.k;
        t.lead = w.lead;
        t.end = w.chunks;
        t.scale[0][0] = scale_row<TYPE>(w, t.a + (int)threadIdx.x % 32 / 4);
        t.scale[0][1] = scale_row<TYPE>(w, t.a + (int)threadIdx.x % 32 / 4 + 8);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int token = (int)threadIdx.x / 8 + 16 * i;
            t.x[i] = NULL;
            if (token < t.tokens)
                t.x[i] = finishing
                             ? h_shared + (size_t)entry(expert, row + token).row * h_shared_stride
                             : h + (size_t)(before + row + token) * h_stride;
        }
        if (entries)
            keep_entries(t);
        return true;
    }

    /* Where the running sum of a row stands. In shared memory a slot's columns are turned by its
     * number, or the slots of neighbouring tokens would lie in the same banks. */
    __device__ __forceinline__ float *place(const cuda_entry &e, int column) const
    {
        int width = (int)blockDim.x / 32 * MATRIX_TILE;
        int at = column - (int)blockIdx.x * width + e.slot % 4 * 8;
        return e.slot < slots ? sums + e.slot * width + (at < width ? at : at - width)
                              : acc + (size_t)e.row * hidden + column;
    }

    /* The item's entries, for the epilogue: there is a barrier of the block before it. What it does
     * not have is a row that needs nothing. */
    __device__ __forceinline__ void keep_entries(const gemm_tile<1> &t)
    {
        int token = (int)threadIdx.x;
        turn = 1 - turn;
        if (token >= GEMM_TOKENS)
            return;
        cuda_entry none = {0, -1, 0.0f, 1};
        entries[turn * GEMM_TOKENS + token] = token < t.tokens ? entry(expert, row + token) : none;
    }

    /* 32 tokens of an item. All is read before anything is written, so that no read waits for
     * another. */
    template <int HALF>
    __device__ __forceinline__ void store_half(const gemm_tile<1> &t, const float (*shares)[8][4])
    {
        const cuda_entry *tile = entries + turn * GEMM_TOKENS;
        int lane = opaque((int)threadIdx.x % 32), column = t.a + lane / 4;
        bool routed = t.c % 2 == 0, last = t.c / 2 == g.experts;
        int unfinished = routed ? finish_of(t.c / 2) - t.b : 0;
        bool there[2] = {column < hidden, column + 8 < hidden};
        float add[2] = {there[0] ? bias_at(bias, column) : 0.0f,
                        there[1] ? bias_at(bias, column + 8) : 0.0f};
#pragma unroll
        for (int i = HALF * 16; i < HALF * 16 + 16; i++) {
            const cuda_entry &e = tile[i / 4 * 8 + lane % 4 * 2 + i % 2];
            int right = i / 2 % 2;
            float *sum = &kept[i / 4][i % 4], share = shares[0][i / 4][i % 4] + add[right];
            if (routed || last)
                *sum = (routed ? !e.first : e.slot >= 0) && there[right]
                           ? *place(e, column + 8 * right)
                           : 0.0f;
            *sum =
                routed && e.first ? e.weight * share : *sum + (routed ? e.weight * share : share);
        }
#pragma unroll
        for (int i = HALF * 16; i < HALF * 16 + 16; i++) {
            int token = i / 4 * 8 + lane % 4 * 2 + i % 2, right = i / 2 % 2;
            const cuda_entry &e = tile[token];
            if (token >= t.tokens || !there[right] || (routed && token < unfinished))
                continue;
            size_t at = (size_t)e.row * hidden + column + 8 * right;
            if (routed)
                *place(e, column + 8 * right) = kept[i / 4][i % 4];
            else if (OUT == NUMBER_BF16)
                ((uint16_t *)out)[at] = bf16_round(kept[i / 4][i % 4]);
            else
                ((float *)out)[at] = kept[i / 4][i % 4];
        }
    }

    __device__ __forceinline__ void store(const gemm_tile<1> &t, const float (*shares)[8][4])
    {
        store_half<0>(t, shares);
        if (t.tokens > 32)
            store_half<1>(t, shares);
    }
};

template <int TYPE, int OUT>
static __global__ void __launch_bounds__(MAX_WARPS * 32, 1)
    down_kernel(const cuda_mlp *mlp, cuda_groups g, const uint16_t *h, int h_stride,
                const uint16_t *h_shared, int h_shared_stride, int hidden, int n, float *acc,
                int slots, void *out)
{
    typedef gemm_shape<TYPE, 1> shape;
    down_work<TYPE, OUT> work;
    work.mlp = mlp;
    work.g = g;
    work.h = h;
    work.h_shared = h_shared;
    work.h_stride = h_stride;
    work.h_shared_stride = h_shared_stride;
    work.hidden = hidden;
    work.n = n;
    work.acc = acc;
    work.entries = (cuda_entry *)(shared_memory() + shape::queue((int)blockDim.x / 32));
    work.turn = 0;
    work.sums = (float *)(work.entries + 2 * GEMM_TOKENS);
    work.slots = slots;
    work.out = out;
    down_work<TYPE, OUT> load = work;
    load.entries = NULL;
    gemm_run<TYPE, 1, true, 0>(load, work);
}

/* Of the queue and the entries. */
static size_t queue_bytes(int type, int warps)
{
    return 2 * GEMM_TOKENS * (int)sizeof(cuda_entry) +
           (type == NUMBER_BF16 ? gemm_shape<NUMBER_BF16, 1>::queue(warps)
                                : gemm_shape<NUMBER_I8, 1>::queue(warps));
}

static int slot_bytes(int warps)
{
    return warps * MATRIX_TILE * (int)sizeof(float);
}

/* The width for which the busiest processor has least to do; of equal ones the narrowest. */
extern "C" struct cuda_down_place cuda_down_place(int type, int hidden, int processors,
                                                  size_t shared)
{
    int tiles = (hidden + MATRIX_TILE - 1) / MATRIX_TILE, least = 0;
    struct cuda_down_place place = {0, 0};
    for (int warps = GEMM_WARPS; warps <= MAX_WARPS; warps++) {
        int blocks = (tiles + warps - 1) / warps;
        int work = (blocks + processors - 1) / processors * warps;
        if (queue_bytes(type, warps) <= shared && (place.warps == 0 || work < least)) {
            place.warps = warps;
            least = work;
        }
    }
    if (place.warps > 0)
        place.slots = (int)((shared - queue_bytes(type, place.warps)) / slot_bytes(place.warps));
    return place;
}

extern "C" int cuda_down_early(int type, int n, int experts, int shared, int slots)
{
    /* Bytes for one column of the output: of the sums of rows without a slot, written and read once
     * (at least), against the shared expert's weights, which are read for each tile of 64 rows; if
     * early, for each expert's own tiles. */
    double sums = n > slots ? (n - slots) * 2.0 * sizeof(float) : 0;
    double tiles = experts + 1 - (double)n / GEMM_TOKENS;
    double weights = tiles > 0 ? tiles * shared * (type == NUMBER_BF16 ? 2 : 1) : 0;
    return sums > weights;
}

template <int TYPE, int OUT>
static void start(cudaStream_t stream, const struct cuda_mlp *mlp, const struct cuda_groups *g,
                  const void *h, int h_stride, const void *h_shared, int h_shared_stride,
                  int hidden, int n, struct cuda_down_place place, float *acc, void *out)
{
    int slots = g->experts == 0 ? 0 : place.slots < n ? place.slots : n;
    int columns = place.warps * MATRIX_TILE;
    launch(down_kernel<TYPE, OUT>, (hidden + columns - 1) / columns, place.warps * 32,
           queue_bytes(TYPE, place.warps) + (size_t)slots * slot_bytes(place.warps), stream, mlp,
           *g, (const uint16_t *)h, h_stride, (const uint16_t *)h_shared, h_shared_stride, hidden,
           n, acc, slots, out);
}

extern "C" void cuda_ffn_down_tiled(cudaStream_t stream, const struct cuda_mlp *mlp,
                                    const struct cuda_groups *g, int type, const void *h,
                                    int h_stride, const void *h_shared, int h_shared_stride,
                                    int hidden, int n, struct cuda_down_place place, float *acc,
                                    void *out, int out_type)
{
    bool half = out_type == NUMBER_BF16;
    auto run = type == NUMBER_BF16
                   ? half ? start<NUMBER_BF16, NUMBER_BF16> : start<NUMBER_BF16, NUMBER_F32>
               : type == NUMBER_F8E4M3
                   ? half ? start<NUMBER_F8E4M3, NUMBER_BF16> : start<NUMBER_F8E4M3, NUMBER_F32>
               : half ? start<NUMBER_I8, NUMBER_BF16>
                      : start<NUMBER_I8, NUMBER_F32>;
    run(stream, mlp, g, h, h_stride, h_shared, h_shared_stride, hidden, n, place, acc, out);
}
