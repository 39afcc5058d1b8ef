/* ffn_down.cu - out = sum of weight x down h over the experts, and the shared expert (ops.h: ffn).
 *
 * The first kernel makes products on their own, all at the same time, and leaves weight x product as f32:
 * `shares`, a row for each row of each expert, in the order of h. Of many rows these cost memory traffic,
 * but a chain of experts, one after the other in each block, would cost a round of latencies for each of them.
 * What a row has is added up, the shared expert's first and then in the order of the experts: by the block that
 * makes the shared expert's products, in the same launch, where rows are many; or, where there is no such expert,
 * `hidden` is odd, or rows are so few that a launch is what counts, by a kernel of its own, with the same bits.
 *
 * In the same launch shares are for slabs of SLAB pieces of the columns, and stay in the L2 cache: of the columns
 * there is room for a ring of FFN_SLABS of them. Blocks take items one after the other, as they come to them, in an order
 * in which those that wait for others come behind these: the products of a slab, and LAG slabs later the sums of it.
 * So the items that an item waits for have all been taken by blocks that run, and the first that is not done waits
 * for none. Each warp counts what it has done of a piece: products, which the sums wait for, and sums, which the
 * products wait for that take the same place of the ring.
 *
 * Sums that are to be exact (kernels/exact.h) need the product with every slice of the columns by itself: all
 * products and the sum of doubles run once for each slice. */
#include "kernels/cuda/grouped.cuh"

#define ADD_THREADS 256
#define SLAB        4 /* pieces */
#define LAG         (FFN_SLABS - 1)
#define PIECE       (FFN_RING / FFN_SLABS / SLAB)

/* Where column c of a row of shares is: the four columns of 32 that a lane has of a product lie side by side. */
static __device__ __forceinline__ int share_place(int c)
{
    return c / 32 * 32 + c % 8 * 4 + c % 32 / 8;
}

static __device__ __forceinline__ void add_share(float sum[4], const float *from)
{
    float4 v = load_far((const float4 *)from);
    sum[0] += v.x, sum[1] += v.y, sum[2] += v.z, sum[3] += v.w;
}

/* What one launch makes. */
struct down_part {
    int hidden, slice; /* -1: all columns */
    int topk, stride;  /* of shares */
    float *shares, *shared_shares;
    uint16_t *out;   /* NULL: shares; else the sums of all */
    uint32_t *turns; /* of g, where they and the shares are made in the same launch */
};

template <int TYPE, typename SHAPE> struct down_work {
    grouped<SHAPE> all;
    const uint16_t *h, *h_shared;
    int h_stride, h_shared_stride;
    down_part part;

    __device__ grouped_item find(int turn) const
    {
        if (!part.turns)
            return all.find((int)(blockIdx.x + (unsigned)turn * gridDim.x));
        grouped_item item;
        do { /* the last slab may have fewer pieces */
            item = find_in_slabs(global_add(part.turns, 1));
        } while (item.piece * SHAPE::rows >= part.hidden);
        return item;
    }

    /* Rounds: the products of a slab, and the sums of the one LAG before it. */
    __device__ grouped_item find_in_slabs(unsigned item) const
    {
        int e = all.g.experts;
        const unsigned slabs = ((unsigned)part.hidden + SLAB * PIECE - 1) / (SLAB * PIECE);
        const unsigned lag = LAG < slabs ? LAG : slabs;
        const unsigned made = (unsigned)all.items()[e] * SLAB;
        const unsigned both = made + (unsigned)all.tiles_of(e) * SLAB;
        for (unsigned i = 0; i < lag; i++) /* the first rounds have no sums, */
            item += item >= i * both + made ? both - made : 0;
        for (unsigned i = slabs; i < slabs + lag; i++) /* and the last ones no products */
            item += item >= i * both ? made : 0;
        unsigned slab = item / both, at = item % both;
        if (slab >= slabs + lag)
            return {0, 0, 0, 0};
        if (at < made) {
            e = all.expert_of((int)(at / SLAB));
            at -= (unsigned)all.items()[e] * SLAB;
        } else {
            at -= made;
            slab -= lag;
        }
        const unsigned tiles = (unsigned)all.tiles_of(e);
        return all.tile(e, slab * SLAB + at / tiles, at % tiles);
    }

    __device__ bool first(gemm_tile<SHAPE> &t) { return next(t); }

    __device__ __forceinline__ bool next(gemm_tile<SHAPE> &t)
    {
        const gemm_place<SHAPE> at(threadIdx.x);
        const grouped_item item = all.take(*this, t.loads);
        t.begin = t.end = 0;
        if (item.many == 0)
            return false;
        bool routed = item.expert < all.g.experts;
        int tile = (item.piece * SHAPE::rows + at.row()) / MATRIX_TILE;
        const cuda_matrix &w = all.mlp[item.expert].down;
        int left = (w.n + MATRIX_TILE - 1) / MATRIX_TILE - tile;
        t.a = tile * MATRIX_TILE;
        t.b = item.row;
        t.c = item.expert;
        t.tokens = item.many;
        t.form = w.form;
        t.w_step = tile_bytes<SHAPE>(w);
        t.w_tiles = left < 0 ? 0 : left > SHAPE::tiles ? SHAPE::tiles : left;
        t.w = (const uint8_t *)w.data + (t.w_tiles > 0 ? (size_t)tile * t.w_step : 0);
        int first = 0, last = w.k, slice = part.slice;
        if (slice >= 0) {
            const int32_t *cut = all.mlp[item.expert].cuts + slice;
            first = slice > 0 ? cut[-1] : 0;
            last = *cut;
        }
        t.k = last - first;
        t.lead = w.lead + first;
        t.begin = slice >= 0 && t.k > 0 ? t.lead / MATRIX_CHUNK : 0;
        t.end = slice < 0 ? w.chunks
                : t.k > 0 ? (t.lead + t.k + MATRIX_CHUNK - 1) / MATRIX_CHUNK
                          : 1; /* an empty one: zeros */
        int stride = routed ? h_stride : h_shared_stride;
        t.x = (routed ? h : h_shared) + first +
              (size_t)(all.start_of(item.expert) + t.b) * (unsigned)stride;
#pragma unroll
        for (int i = 0; i < SHAPE::passes && t.loads; i++) {
            int token = (int)threadIdx.x / 8 + SHAPE::threads / 8 * i;
            t.x_at.put(i, token < t.tokens ? (uint32_t)token * (uint32_t)stride * 2 : 0);
        }
        t.scale = w.scale;
        t.ratios = w.scale_stride;
#pragma unroll
        for (int i = 0; i < SHAPE::tiles * 2; i++)
            t.scale_at[i / 2][i % 2] = scale_row<TYPE>(w, t.a + i * 8 + at.lane / 4);
        return true;
    }

    /* Whether a row of the tile has another share: place is that of the tile's first row. By all lanes of a warp. */
    static __device__ __forceinline__ bool any_left(const int32_t *place, int lane, int tokens)
    {
        int most = -1;
#pragma unroll
        for (int i = 0; i < SHAPE::tokens; i += 32) {
            int token = lane + i, at = token < tokens ? place[token] : -1;
            most = at > most ? at : most;
        }
        return warp_ballot(most >= 0) != 0;
    }

    __device__ __forceinline__ void store(const gemm_tile<SHAPE> &t,
                                          const float (*sums)[SHAPE::groups][4])
    {
        static_assert(SHAPE::tiles == 2, "of a warp, 32 columns");
        const gemm_place<SHAPE> at((unsigned)opaque((int)threadIdx.x));
        const float *biases = part.slice > 0 ? NULL : all.mlp[t.c].down_bias;
        float bias[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int c = t.a + at.lane / 4 + i * 8;
            bias[i] = c < part.hidden ? bias_at(biases, c) : 0.0f;
        }
        const bool adds = part.out && t.c == all.g.experts;
        const int piece = t.a / SHAPE::rows;
        const unsigned warps = SHAPE::threads / 32;
        /* What is done of each piece: products, and sums. */
        uint32_t *made = part.turns + 1 + piece,
                 *added = part.turns + FFN_TURNS(part.hidden) / 2 + 1 + piece;
        if (part.turns && adds)
            warp_await(made, warps * (unsigned)all.items()[all.g.experts]);
        else if (part.turns && piece >= FFN_SLABS * SLAB)
            warp_await(added - FFN_SLABS * SLAB, warps * (unsigned)all.tiles_of(all.g.experts));
        if (adds)
            store_sums(t, at, sums, bias);
        else
            store_shares(t, at, sums, bias);
        if (part.turns)
            warp_count(adds ? added : made);
    }

    /* Where the lane's columns of a row of shares begin. */
    __device__ __forceinline__ int share_column(const gemm_tile<SHAPE> &t,
                                                const gemm_place<SHAPE> &at) const
    {
        return (part.stride == FFN_RING ? t.a % FFN_RING : t.a) + at.lane / 4 * 4;
    }

    __device__ __forceinline__ void store_shares(const gemm_tile<SHAPE> &t,
                                                 const gemm_place<SHAPE> &at,
                                                 const float (*sums)[SHAPE::groups][4],
                                                 const float bias[4])
    {
        const bool routed = t.c < all.g.experts, weighted = routed && part.slice < 0;
        const unsigned stride = (unsigned)part.stride * (unsigned)sizeof(float);
        const int first = at.lane % 4 * 2, there = t.a < part.hidden ? t.tokens - first : 0;
        const unsigned entry = (unsigned)(t.c * all.g.capacity + t.b + first);
        float *shares = routed ? part.shares : part.shared_shares;
        unsigned char *to = (unsigned char *)(shares + share_column(t, at)) +
                            (size_t)(unsigned)(all.start_of(t.c) + t.b + first) * stride;
#pragma unroll
        for (int i = 0; i < SHAPE::groups * 2; i++) {
            int group = i / 2, odd = i % 2, token = at.token(group) + odd;
            if (i % 4 == 0) /* not too many loads ahead: registers are scarce */
                __syncwarp();
            float weight =
                weighted && token < there ? all.g.entry[entry + (unsigned)token].weight : 1.0f;
            if (token < there)
                *(float4 *)(to + (size_t)(unsigned)token *
                                     stride) = {weight * (sums[0][group][odd] + bias[0]),
                                                weight * (sums[0][group][odd + 2] + bias[1]),
                                                weight * (sums[1][group][odd] + bias[2]),
                                                weight * (sums[1][group][odd + 2] + bias[3])};
        }
    }

    /* The sums begin with the products: what they are added to needs no registers of its own. */
    __device__ __forceinline__ void store_sums(const gemm_tile<SHAPE> &t,
                                               const gemm_place<SHAPE> &at,
                                               const float (*products)[SHAPE::groups][4],
                                               const float bias[4])
    {
        const unsigned char *shares = (const unsigned char *)(part.shares + share_column(t, at));
        const unsigned stride = (unsigned)part.stride * (unsigned)sizeof(float);
        const int first = at.lane % 4 * 2, there = t.a < part.hidden ? t.tokens - first : 0;
        const int32_t *place = all.g.place + t.b + first;
        const int odd = at.lane / 4 % 2, column = t.a + at.lane / 4 - odd;
        float sums[SHAPE::groups * 2][4]; /* of a token */
#pragma unroll
        for (int i = 0; i < SHAPE::groups * 8; i++)
            sums[i / 4][i % 4] = products[i % 4 / 2][i / 8][i % 2 * 2 + i / 4 % 2] + bias[i % 4];
#pragma unroll 1
        for (int k = 0; k < part.topk && any_left(place - first, at.lane, t.tokens);
             k++, place += all.g.capacity) {
#pragma unroll
            for (int i = 0; i < SHAPE::groups * 2; i++) {
                int token = at.token(i / 2) + i % 2, from = -1;
                if (i % (SHAPE::wide ? 8 : 2) == 0)
                    __syncwarp();
                if (token < there)
                    from = place[token];
                if (from >= 0)
                    add_share(sums[i], (const float *)(shares + (size_t)(unsigned)from * stride));
            }
        }
#pragma unroll
        for (int i = 0; i < SHAPE::groups * 4; i++) {
            int group = i / 4, c = i % 4, token = at.token(group) + at.lane % 4 * 2 + odd;
            uint32_t both = gemm_turn(at.lane, sums[group * 2][c], sums[group * 2 + 1][c]);
            if (token < t.tokens && column + c * 8 < part.hidden)
                *(uint32_t *)(part.out + (size_t)(unsigned)(t.b + token) * part.hidden + column +
                              c * 8) = both;
        }
    }
};

template <int TYPE, int FRAME>
static __global__ void __launch_bounds__((gemm_shape<TYPE, FRAME>::threads),
                                         (gemm_shape<TYPE, FRAME>::blocks))
    down_kernel(const cuda_mlp *mlp, cuda_groups g, const uint16_t *h, int h_stride,
                const uint16_t *h_shared, int h_shared_stride, int n, down_part part)
{
    typedef gemm_shape<TYPE, FRAME> shape;
    grid_begin();
    static_assert(shape::rows == PIECE, "slabs of whole pieces");
    grouped<shape> all = {mlp, g, n, 0};
    /* A shared expert without columns has nothing to add, nor has an expert without the slice. */
    all.count([=](int e) {
        if (part.turns)
            return e < g.experts ? 1 : 0;
        bool none = e == g.experts && (mlp[e].up.n == 0 || (!part.out && !part.shared_shares));
        none = none || part.slice >= (part.slice < 0 ? 0 : mlp[e].n_cuts);
        return none ? 0 : (part.hidden + shape::rows - 1) / shape::rows;
    });
    down_work<TYPE, shape> work = {all, h, h_shared, h_stride, h_shared_stride, part}, load = work;
    all.begin(work);
    gemm_run<TYPE, shape, true>(load, work);
}

/* shared_shares: NULL when there is no shared expert. */
static __global__ void add_kernel(cuda_groups g, int topk, const float *shares,
                                  const float *shared_shares, int hidden, uint16_t *out)
{
    grid_begin();
    size_t row = blockIdx.x, stride = FFN_STRIDE(hidden);
    unsigned at = (blockIdx.y * ADD_THREADS + threadIdx.x) * 4;
    const int32_t *place = g.place + row;
    if (at >= stride)
        return;
    /* As store_sums() begins: with what the shared expert has, not with its sum with 0, which is never -0. */
    float4 begin = {0.0f, 0.0f, 0.0f, 0.0f};
    if (shared_shares)
        begin = *(const float4 *)(shared_shares + row * stride + at);
    float sum[4] = {begin.x, begin.y, begin.z, begin.w};
    for (int k = 0; k < topk && *place >= 0; k++, place += g.capacity)
        add_share(sum, shares + (size_t)*place * stride + at);
    int column = (int)(at / 32 * 32 + at % 32 / 4);
    for (int i = 0; i < 4; i++)
        if (column + i * 8 < hidden)
            out[row * hidden + column + i * 8] = bf16_round(sum[i]);
}

static __global__ void add_exact_kernel(cuda_groups g, int topk, const float *shares,
                                        const float *shared_shares, int hidden, double *sums,
                                        int first, void *out, int out_type)
{
    size_t row = blockIdx.x, stride = FFN_STRIDE(hidden);
    int column = (int)(blockIdx.y * ADD_THREADS + threadIdx.x), at = share_place(column);
    if (column >= hidden)
        return;
    double sum = first ? 0.0 : sums[row * hidden + column];
    for (int k = 0; k < topk && shares; k++) {
        int from = g.place[(size_t)k * g.capacity + row];
        if (from >= 0)
            sum += exact_share(g.weight[row * topk + k], shares[(size_t)from * stride + at]);
    }
    if (shared_shares)
        sum += exact_share(1.0f, shared_shares[row * stride + at]);
    if (out)
        store_exact(out, row * hidden + column, out_type, sum);
    else
        sums[row * hidden + column] = sum;
}

template <int TYPE, int FRAME>
static void start(cudaStream_t stream, const struct cuda_mlp *mlp, const struct cuda_groups *g,
                  const void *h, int h_stride, const void *h_shared, int h_shared_stride, int n,
                  const down_part &part, int processors)
{
    typedef gemm_shape<TYPE, FRAME> shape;
    launch_waiting(down_kernel<TYPE, FRAME>, processors * shape::blocks, shape::threads,
                   shape::shared + grouped_bytes(g->experts), stream, mlp, *g, (const uint16_t *)h,
                   h_stride, (const uint16_t *)h_shared, h_shared_stride, n, part);
}

extern "C" void cuda_ffn_down_tiled(cudaStream_t stream, const struct cuda_mlp *mlp,
                                    const struct cuda_groups *g, int type, const void *h,
                                    int h_stride, const void *h_shared, int h_shared_stride,
                                    int hidden, int n, int topk, int slice, float *shares,
                                    float *shared_shares, void *out, int processors)
{
    auto run = GROUPED_START(start, type, grouped_few(g->experts, n, topk),
                             grouped_many(g->experts, n, topk, 1));
    down_part part = {hidden,
                      slice,
                      topk,
                      out ? FFN_RING_STRIDE(hidden) : FFN_STRIDE(hidden),
                      shares,
                      shared_shares,
                      (uint16_t *)out,
                      out && g->experts > 0 ? g->turns : NULL};
    run(stream, mlp, g, h, h_stride, h_shared, h_shared_stride, n, part, processors);
}

extern "C" int cuda_ffn_joins(int experts, int n, int topk, int hidden, int inter_shared)
{
    return inter_shared > 0 && hidden % 2 == 0 && (experts == 0 || !grouped_few(experts, n, topk));
}

extern "C" void cuda_ffn_add(cudaStream_t stream, const struct cuda_groups *g, int topk,
                             const float *shares, const float *shared_shares, int hidden, int n,
                             void *out)
{
    dim3 grid(n, (FFN_STRIDE(hidden) + ADD_THREADS * 4 - 1) / (ADD_THREADS * 4));
    launch_early(add_kernel, grid, ADD_THREADS, 0, stream, *g, topk, shares, shared_shares, hidden,
                 (uint16_t *)out);
}

extern "C" void cuda_ffn_add_exact(cudaStream_t stream, const struct cuda_groups *g, int topk,
                                   const float *shares, const float *shared_shares, int hidden,
                                   int n, double *sums, int first, void *out, int out_type)
{
    launch(add_exact_kernel, dim3(n, (hidden + ADD_THREADS - 1) / ADD_THREADS), ADD_THREADS, 0,
           stream, *g, topk, shares, shared_shares, hidden, sums, first, out, out_type);
}
