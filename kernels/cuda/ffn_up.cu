/* ffn_up.cu - h = silu(gate x) * up x of all experts in one launch (ops.h: ffn). Rows of x are
 * fetched where they are; nothing is copied together first. */
#include "kernels/cuda/grouped.cuh"

template <int TYPE, typename SHAPE> struct up_work {
    grouped<SHAPE> all;
    const uint16_t *x;
    int hidden, h_stride, h_shared_stride;
    uint16_t *h, *h_shared;

    __device__ grouped_item find(int turn) const
    {
        return all.find((int)(blockIdx.x + (unsigned)turn * gridDim.x));
    }

    __device__ bool first(gemm_tile<SHAPE> &t) { return next(t); }

    __device__ __forceinline__ bool next(gemm_tile<SHAPE> &t)
    {
        const gemm_place<SHAPE> at(threadIdx.x);
        const grouped_item item = all.take(*this, t.loads);
        t.begin = t.end = 0;
        if (item.many == 0)
            return false;
        int expert = item.expert;
        const cuda_mlp &m = all.mlp[expert];
        t.a = (item.piece * SHAPE::rows + at.row()) / 2;
        t.b = item.row;
        t.tokens = item.many;
        t.c = expert;
        int left = 2 * ((m.up.n + MATRIX_TILE - 1) / MATRIX_TILE - t.a / MATRIX_TILE);
        t.form = m.up.form;
        t.w_step = tile_bytes<SHAPE>(m.up);
        t.w_tiles = left < 0 ? 0 : left > SHAPE::tiles ? SHAPE::tiles : left;
        t.w = (const uint8_t *)m.up.data +
              (t.w_tiles ? (size_t)(t.a / MATRIX_TILE) * 2 * t.w_step : 0);
        t.k = hidden;
        t.lead = m.up.lead;
        t.end = m.up.chunks;
        t.x = x;
#pragma unroll
        for (int i = 0; i < SHAPE::passes && t.loads; i++) {
            int token = (int)threadIdx.x / 8 + SHAPE::threads / 8 * i, row = t.b + token;
            if (token < t.tokens && expert < all.g.experts)
                row = all.g.entry[(size_t)expert * all.g.capacity + row].row;
            t.x_at.put(i, token < t.tokens ? (uint32_t)row * (uint32_t)hidden * 2 : 0);
        }
        t.scale = m.up.scale;
        t.ratios = m.up.scale_stride;
        int gate = TYPE == NUMBER_BF16 ? 0 : (int)(m.gate.scale - m.up.scale);
#pragma unroll
        for (int i = 0; i < SHAPE::tiles * 2; i++) {
            int column = t.a + i / 4 * MATRIX_TILE + i % 2 * 8 + at.lane / 4;
            t.scale_at[i / 2][i % 2] =
                i / 2 % 2 ? scale_row<TYPE>(m.up, column) : gate + scale_row<TYPE>(m.gate, column);
        }
        return true;
    }

    __device__ __forceinline__ void store(const gemm_tile<SHAPE> &t,
                                          const float (*sums)[SHAPE::groups][4])
    {
        const gemm_place<SHAPE> at((unsigned)opaque((int)threadIdx.x));
        const cuda_mlp &m = all.mlp[t.c];
        const float alpha = m.alpha, limit = m.limit;
        int inter = m.up.n;
        bool routed = t.c < all.g.experts;
        uint16_t *to = routed ? h + (size_t)all.start_of(t.c) * h_stride : h_shared;
        int stride = routed ? h_stride : h_shared_stride;
        const int column = t.a + at.lane / 4, pair = at.lane / 4 % 2;
        float gate[SHAPE::tiles], up[SHAPE::tiles]; /* biases of the lane's columns */
#pragma unroll
        for (int i = 0; i < SHAPE::tiles; i++) {
            int c = column + i * 8;
            gate[i] = c < inter ? bias_at(m.gate_bias, c) : 0.0f;
            up[i] = c < inter ? bias_at(m.up_bias, c) : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < SHAPE::tiles * SHAPE::groups; i++) {
            int group = i / SHAPE::tiles, own = i % SHAPE::tiles, half = own % 2 * 2;
            int c = column + own * 8;
            const float *g = &sums[own / 2 * 2][group][half],
                        *u = &sums[own / 2 * 2 + 1][group][half];
            uint32_t both =
                gemm_turn(at.lane, swiglu(alpha, limit, g[0] + gate[own], u[0] + up[own]),
                          swiglu(alpha, limit, g[1] + gate[own], u[1] + up[own]));
            int token = at.token(group) + at.lane % 4 * 2 + pair;
            /* Rows of h are a multiple of 8 long. */
            if (token < t.tokens && c - pair < inter)
                *(uint32_t *)(to + (size_t)(t.b + token) * stride + c - pair) = both;
        }
    }
};

template <int TYPE, int FRAME, bool ALIGNED>
static __global__ void __launch_bounds__((gemm_shape<TYPE, FRAME>::threads),
                                         (gemm_shape<TYPE, FRAME>::blocks))
    up_kernel(const cuda_mlp *mlp, cuda_groups g, const uint16_t *x, int hidden, int n, uint16_t *h,
              int h_stride, uint16_t *h_shared, int h_shared_stride)
{
    typedef gemm_shape<TYPE, FRAME> shape;
    grid_begin();
    grouped<shape> all = {mlp, g, n, 0};
    all.count([=](int e) { return (2 * mlp[e].up.n + shape::rows - 1) / shape::rows; });
    up_work<TYPE, shape> work = {all, x, hidden, h_stride, h_shared_stride, h, h_shared},
                         load = work;
    all.begin(work);
    gemm_run<TYPE, shape, ALIGNED>(load, work);
}

extern "C" size_t cuda_ffn_shared(int experts)
{
    int most = 0;
    for (int shared :
         {gemm_shape<NUMBER_BF16, 64>::shared, gemm_shape<NUMBER_F8E4M3, 64>::shared,
          gemm_shape<NUMBER_F8E4M3, 128>::shared, gemm_shape<MATRIX_GROUP4, 64>::shared,
          gemm_shape<MATRIX_GROUP8, 64>::shared})
        most = shared > most ? shared : most;
    return (size_t)most + grouped_bytes(experts);
}

/* Whether 16 bytes of a row can be copied at once; if not, all is done in frames of 64. */
static bool aligned(int hidden, const void *x)
{
    return hidden % 8 == 0 && ((uintptr_t)x & 15) == 0;
}

template <int TYPE, int FRAME>
static void start(cudaStream_t stream, const struct cuda_mlp *mlp, const struct cuda_groups *g,
                  const void *x, int hidden, int n, void *h, int h_stride, void *h_shared,
                  int h_shared_stride, int processors)
{
    typedef gemm_shape<TYPE, FRAME> shape;
    launch_early(aligned(hidden, x) ? up_kernel<TYPE, FRAME, true>
                                    : up_kernel<TYPE, FRAME, FRAME != 64>,
                 processors * shape::blocks, shape::threads,
                 shape::shared + grouped_bytes(g->experts), stream, mlp, *g, (const uint16_t *)x,
                 hidden, n, (uint16_t *)h, h_stride, (uint16_t *)h_shared, h_shared_stride);
}

extern "C" void cuda_ffn_up_tiled(cudaStream_t stream, const struct cuda_mlp *mlp,
                                  const struct cuda_groups *g, int type, const void *x, int hidden,
                                  int n, int topk, void *h, int h_stride, void *h_shared,
                                  int h_shared_stride, int processors)
{
    /* Items are long, so that the last ones, which leave processors idle, must be few among many. */
    bool can = aligned(hidden, x);
    auto run = GROUPED_START(start, type, can && grouped_few(g->experts, n, topk),
                             can && grouped_many(g->experts, n, topk, 4));
    run(stream, mlp, g, x, hidden, n, h, h_stride, h_shared, h_shared_stride, processors);
}
