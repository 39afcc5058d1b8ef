/* ffn_down.cu - out = sum of weight x down h over the experts, and the shared expert (ops.h: ffn).
 *
 * Two kernels. The first makes every product on its own, all at the same time, and leaves weight x
 * product as f32: `shares`, a row for each row of each expert, in the order of h, and behind them those
 * of the shared expert. The second adds what a row has, in the order of the experts. Shares of few
 * rows stay in the L2 cache; those of many cost memory traffic (2,048 rows of Step-3: two fifths of a
 * layer's), but a chain of experts, one after the other in each block, would cost a round of latencies
 * for each of them.
 *
 * Sums that are to be exact (kernels/exact.h) need the product with every slice of the columns by itself: both
 * run once for each slice, the second adding up doubles. */
#include "kernels/cuda/grouped.cuh"

#define ADD_THREADS 256

template <int TYPE, typename SHAPE> struct down_work {
    grouped<SHAPE> all;
    const uint16_t *h, *h_shared;
    int h_stride, h_shared_stride, hidden, slice;
    float *shares, *shared_shares;

    __device__ bool first(gemm_tile<SHAPE> &t) { return describe(t); }

    __device__ bool next(gemm_tile<SHAPE> &t)
    {
        all.item += (int)gridDim.x;
        return describe(t);
    }

    __device__ __forceinline__ bool describe(gemm_tile<SHAPE> &t)
    {
        const gemm_place<SHAPE> at(threadIdx.x);
        int piece;
        t.begin = t.end = 0;
        if (!all.find(&piece, &t.b, &t.tokens))
            return false;
        bool routed = all.expert < all.g.experts;
        int tile = (piece * SHAPE::rows + at.row()) / MATRIX_TILE;
        const cuda_matrix &w = all.mlp[all.expert].down;
        int left = (w.n + MATRIX_TILE - 1) / MATRIX_TILE - tile;
        t.a = tile * MATRIX_TILE;
        t.c = all.expert;
        t.form = w.form;
        t.w_step = tile_bytes<SHAPE>(w);
        t.w_tiles = left < 0 ? 0 : left > SHAPE::tiles ? SHAPE::tiles : left;
        t.w = (const uint8_t *)w.data + (t.w_tiles > 0 ? (size_t)tile * t.w_step : 0);
        int first = 0, last = w.k;
        if (slice >= 0) {
            const int32_t *cuts = all.mlp[all.expert].cuts;
            first = slice > 0 ? cuts[slice - 1] : 0;
            last = cuts[slice];
        }
        t.k = last - first;
        t.lead = w.lead + first;
        t.begin = slice >= 0 && t.k > 0 ? t.lead / MATRIX_CHUNK : 0;
        t.end = slice < 0 ? w.chunks
                : t.k > 0 ? (t.lead + t.k + MATRIX_CHUNK - 1) / MATRIX_CHUNK
                          : 1; /* an empty one: zeros */
        int stride = routed ? h_stride : h_shared_stride;
        t.x = (routed ? h : h_shared) + first +
              (size_t)(all.start_of(all.expert) + t.b) * (unsigned)stride;
#pragma unroll
        for (int i = 0; i < SHAPE::passes; i++) {
            int token = (int)threadIdx.x / 8 + SHAPE::threads / 8 * i;
            t.x_at[i] = token < t.tokens ? (uint32_t)token * (uint32_t)stride * 2 : 0;
        }
        t.scale = w.scale;
        t.ratios = w.scale_stride;
#pragma unroll
        for (int i = 0; i < SHAPE::tiles * 2; i++)
            t.scale_at[i / 2][i % 2] = scale_row<TYPE>(w, t.a + i * 8 + at.lane / 4);
        return true;
    }

    __device__ __forceinline__ void store(const gemm_tile<SHAPE> &t,
                                          const float (*sums)[SHAPE::groups][4])
    {
        const gemm_place<SHAPE> at((unsigned)opaque((int)threadIdx.x));
        bool routed = t.c < all.g.experts;
        const float *biases = slice > 0 ? NULL : all.mlp[t.c].down_bias;
        const cuda_entry *entry = all.g.entry + (size_t)t.c * all.g.capacity + t.b;
        int odd = at.lane / 4 % 2, column = t.a + at.lane / 4 - odd;
        int left = FFN_STRIDE(hidden) - column;
        float *to = routed ? shares : shared_shares, bias[SHAPE::tiles * 2][2];
        to += (size_t)(all.start_of(t.c) + t.b) * (unsigned)FFN_STRIDE(hidden) + column;
#pragma unroll
        for (int i = 0; i < SHAPE::tiles * 4; i++) {
            int c = i / 2 * 8 + i % 2;
            bias[i / 2][i % 2] = column + c < hidden ? bias_at(biases, column + c) : 0.0f;
        }
#pragma unroll
        for (int group = 0; group < SHAPE::groups; group++) {
            int token = at.token(group) + at.lane % 4 * 2 + odd;
            int there = token < t.tokens ? left : 0;
            float *row = to + (size_t)(unsigned)token * (unsigned)FFN_STRIDE(hidden), weight = 1.0f;
            if (routed && slice < 0 && token < t.tokens)
                weight = entry[token].weight;
#pragma unroll
            for (int i = 0; i < SHAPE::tiles * 2; i++) {
                float v[2] = {sums[i / 2][group][i % 2 * 2], sums[i / 2][group][i % 2 * 2 + 1]};
                gemm_turn(at.lane, v);
                v[0] = weight * (v[0] + bias[i][0]);
                v[1] = weight * (v[1] + bias[i][1]);
                if (i * 8 < there)
                    *(float2 *)(row + i * 8) = {v[0], v[1]};
            }
        }
    }
};

template <int TYPE, int FRAME>
static __global__ void __launch_bounds__((gemm_shape<TYPE, FRAME>::threads),
                                         (gemm_shape<TYPE, FRAME>::blocks))
    down_kernel(const cuda_mlp *mlp, cuda_groups g, const uint16_t *h, int h_stride,
                const uint16_t *h_shared, int h_shared_stride, int hidden, int n, int slice,
                float *shares, float *shared_shares)
{
    typedef gemm_shape<TYPE, FRAME> shape;
    grid_begin();
    int *items = (int *)(shared_memory() + shape::queue);
    grouped<shape> all = {mlp, g, n, items, 0, 0};
    /* A shared expert without columns has nothing to add, nor has an expert without the slice. */
    all.count([=](int e) {
        bool none = slice < 0 ? e == g.experts && mlp[e].up.n == 0 : slice >= mlp[e].n_cuts;
        return none ? 0 : (hidden + shape::rows - 1) / shape::rows;
    });
    down_work<TYPE, shape> work = {all,    h,     h_shared, h_stride,     h_shared_stride,
                                   hidden, slice, shares,   shared_shares},
                           load = work;
    gemm_run<TYPE, shape, true>(load, work);
}

/* shared_shares: NULL when there is no shared expert. */
static __global__ void add_kernel(cuda_groups g, int topk, const float *shares,
                                  const float *shared_shares, int hidden, void *out, int out_type)
{
    grid_begin();
    size_t row = blockIdx.x, stride = FFN_STRIDE(hidden);
    int column = (int)(blockIdx.y * ADD_THREADS + threadIdx.x) * 4;
    const int32_t *place = g.place + row * topk;
    if (column >= hidden)
        return;
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    int many = hidden - column < 4 ? hidden - column : 4;
    bool whole = hidden % 4 == 0;
    for (int k = 0; k <= topk; k++) {
        const float *from = shared_shares + row * stride;
        if (k < topk) {
            int at = g.experts > 0 ? place[k] : -1;
            if (at < 0)
                continue;
            from = shares + (size_t)at * stride;
        } else if (!shared_shares) {
            break;
        }
        float share[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (whole) {
            float4 v = *(const float4 *)(from + column);
            share[0] = v.x, share[1] = v.y, share[2] = v.z, share[3] = v.w;
        } else {
            for (int i = 0; i < many; i++)
                share[i] = from[column + i];
        }
        for (int i = 0; i < 4; i++)
            sum[i] = k == 0 ? share[i] : sum[i] + share[i];
    }
    if (whole) {
        float4 v = {sum[0], sum[1], sum[2], sum[3]};
        store_number4(out, row * hidden + column, out_type, v);
        return;
    }
    for (int i = 0; i < many; i++)
        store_number(out, row * hidden + column + i, out_type, sum[i]);
}

static __global__ void add_exact_kernel(cuda_groups g, int topk, const float *shares,
                                        const float *shared_shares, int hidden, double *sums,
                                        int first, void *out, int out_type)
{
    size_t row = blockIdx.x, stride = FFN_STRIDE(hidden);
    int column = (int)(blockIdx.y * ADD_THREADS + threadIdx.x);
    if (column >= hidden)
        return;
    double sum = first ? 0.0 : sums[row * hidden + column];
    for (int k = 0; k < topk && shares; k++) {
        int from = g.place[row * topk + k];
        if (from >= 0)
            sum += exact_share(g.weight[row * topk + k], shares[(size_t)from * stride + column]);
    }
    if (shared_shares)
        sum += exact_share(1.0f, shared_shares[row * stride + column]);
    if (out)
        store_exact(out, row * hidden + column, out_type, sum);
    else
        sums[row * hidden + column] = sum;
}

template <int TYPE, int FRAME>
static void start(cudaStream_t stream, const struct cuda_mlp *mlp, const struct cuda_groups *g,
                  const void *h, int h_stride, const void *h_shared, int h_shared_stride,
                  int hidden, int n, int slice, float *shares, float *shared_shares, int processors)
{
    typedef gemm_shape<TYPE, FRAME> shape;
    launch_early(down_kernel<TYPE, FRAME>, processors * shape::blocks, shape::threads,
                 shape::queue + grouped_bytes(g->experts), stream, mlp, *g, (const uint16_t *)h,
                 h_stride, (const uint16_t *)h_shared, h_shared_stride, hidden, n, slice, shares,
                 shared_shares);
}

extern "C" void cuda_ffn_down_tiled(cudaStream_t stream, const struct cuda_mlp *mlp,
                                    const struct cuda_groups *g, int type, const void *h,
                                    int h_stride, const void *h_shared, int h_shared_stride,
                                    int hidden, int n, int topk, int slice, float *shares,
                                    float *shared_shares, int processors)
{
    auto run = GROUPED_START(start, type, grouped_few(g->experts, n, topk));
    run(stream, mlp, g, h, h_stride, h_shared, h_shared_stride, hidden, n, slice, shares,
        shared_shares, processors);
}

extern "C" void cuda_ffn_add(cudaStream_t stream, const struct cuda_groups *g, int topk,
                             const float *shares, const float *shared_shares, int hidden, int n,
                             void *out, int out_type)
{
    dim3 grid(n, (hidden + ADD_THREADS * 4 - 1) / (ADD_THREADS * 4));
    launch_early(add_kernel, grid, ADD_THREADS, 0, stream, *g, topk, shares, shared_shares, hidden,
                 out, out_type);
}

extern "C" void cuda_ffn_add_exact(cudaStream_t stream, const struct cuda_groups *g, int topk,
                                   const float *shares, const float *shared_shares, int hidden,
                                   int n, double *sums, int first, void *out, int out_type)
{
    launch(add_exact_kernel, dim3(n, (hidden + ADD_THREADS - 1) / ADD_THREADS), ADD_THREADS, 0,
           stream, *g, topk, shares, shared_shares, hidden, sums, first, out, out_type);
}
