/* ffn_up.cu - h = silu(gate x) * up x of all experts in one launch (ops.h: ffn). Rows of x are
 * fetched where they are; nothing is copied together first. */
#include "kernels/cuda/grouped.cuh"

#define COLUMNS (GEMM_WARPS * MATRIX_TILE) /* of I, one item */

template <int TYPE, int TOKENS> struct up_work {
    grouped<TOKENS> all;
    const uint16_t *x;
    int hidden, h_stride, h_shared_stride;
    uint16_t *h, *h_shared;

    __device__ bool first(gemm_tile<2, TOKENS> &t) { return describe(t); }

    __device__ bool next(gemm_tile<2, TOKENS> &t)
    {
        all.item += (int)gridDim.x;
        return describe(t);
    }

    __device__ __forceinline__ bool describe(gemm_tile<2, TOKENS> &t)
    {
        int piece;
        t.begin = t.end = 0;
        if (!all.find(&piece, &t.b))
            return false;
        int expert = all.expert, rows = all.rows_of(expert), g8 = (int)threadIdx.x % 32 / 4;
        const cuda_mlp &m = all.mlp[expert];
        t.a = piece * COLUMNS + (int)threadIdx.x / 32 * MATRIX_TILE;
        t.c = expert;
        t.tokens = rows - t.b < TOKENS ? rows - t.b : TOKENS;
        t.form = m.up.form;
        t.w_step = tile_bytes<TYPE>(m.up);
        t.w_tiles = t.a < m.up.n ? 2 : 0;
        t.w = (const uint8_t *)m.up.data +
              (t.w_tiles ? (size_t)(t.a / MATRIX_TILE) * 2 * t.w_step : 0);
        t.k = hidden;
        t.lead = m.up.lead;
        t.end = m.up.chunks;
#pragma unroll
        for (int i = 0; i < TOKENS / 16; i++) {
            int token = t.b + (int)threadIdx.x / 8 + 16 * i, row = token;
            if (token < rows && expert < all.g.experts)
                row = all.g.entry[(size_t)expert * all.g.capacity + token].row;
            t.x[i] = token < rows ? x + (size_t)row * hidden : NULL;
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            t.scale[i / 2][i % 2] = scale_row<TYPE>(i < 2 ? m.gate : m.up, t.a + i % 2 * 8 + g8);
        return true;
    }

    __device__ __forceinline__ void store(const gemm_tile<2, TOKENS> &t,
                                          const float (*sums)[TOKENS / 8][4])
    {
        int lane = (int)threadIdx.x % 32, inter = all.mlp[t.c].up.n;
        bool routed = t.c < all.g.experts;
        uint16_t *to = routed ? h + (size_t)all.start_of(t.c) * h_stride : h_shared;
        int stride = routed ? h_stride : h_shared_stride;
#pragma unroll
        for (int i = 0; i < TOKENS / 2; i++) {
            int token = i / 4 * 8 + lane % 4 * 2 + i % 2, column = t.a + i / 2 % 2 * 8 + lane / 4;
            float gate = sums[0][i / 4][i % 4], up = sums[1][i / 4][i % 4];
            if (token < t.tokens && column < inter)
                to[(size_t)(t.b + token) * stride + column] =
                    bf16_round(swiglu(all.mlp[t.c], column, gate, up));
        }
    }
};

template <int TYPE, int TOKENS, bool ALIGNED>
static __global__ void __launch_bounds__(GEMM_THREADS, gemm_shape<TYPE, 2, TOKENS>::blocks)
    up_kernel(const cuda_mlp *mlp, cuda_groups g, const uint16_t *x, int hidden, int n, uint16_t *h,
              int h_stride, uint16_t *h_shared, int h_shared_stride)
{
    int *items = (int *)(shared_memory() + gemm_shape<TYPE, 2, TOKENS>::queue);
    grouped<TOKENS> all = {mlp, g, n, items, 0, 0};
    all.count([=](int e) { return (mlp[e].up.n + COLUMNS - 1) / COLUMNS; });
    up_work<TYPE, TOKENS> work = {all, x, hidden, h_stride, h_shared_stride, h, h_shared},
                          load = work;
    gemm_run<TYPE, 2, TOKENS, ALIGNED>(load, work);
}

template <int TYPE, int TOKENS> static size_t shared_bytes(int experts)
{
    return gemm_shape<TYPE, 2, TOKENS>::queue + grouped_bytes(experts);
}

extern "C" size_t cuda_ffn_shared(int experts)
{
    size_t wide = shared_bytes<NUMBER_BF16, GEMM_TOKENS>(experts),
           narrow = shared_bytes<NUMBER_I8, GEMM_TOKENS>(experts);
    static_assert(gemm_shape<MATRIX_GROUP4, 2, GEMM_TOKENS>::queue <=
                          gemm_shape<NUMBER_I8, 2, GEMM_TOKENS>::queue &&
                      gemm_shape<MATRIX_GROUP8, 2, GEMM_TOKENS>::queue <=
                          gemm_shape<NUMBER_I8, 2, GEMM_TOKENS>::queue,
                  "no type needs more than these two");
    return wide > narrow ? wide : narrow;
}

template <int TYPE, int TOKENS>
static void start(cudaStream_t stream, const struct cuda_mlp *mlp, const struct cuda_groups *g,
                  const void *x, int hidden, int n, void *h, int h_stride, void *h_shared,
                  int h_shared_stride, int processors)
{
    bool aligned = hidden % 8 == 0 && ((uintptr_t)x & 15) == 0;
    launch(aligned ? up_kernel<TYPE, TOKENS, true> : up_kernel<TYPE, TOKENS, false>,
           processors * gemm_shape<TYPE, 2, TOKENS>::blocks, GEMM_THREADS,
           shared_bytes<TYPE, TOKENS>(g->experts), stream, mlp, *g, (const uint16_t *)x, hidden, n,
           (uint16_t *)h, h_stride, (uint16_t *)h_shared, h_shared_stride);
}

extern "C" void cuda_ffn_up_tiled(cudaStream_t stream, const struct cuda_mlp *mlp,
                                  const struct cuda_groups *g, int type, const void *x, int hidden,
                                  int n, int topk, void *h, int h_stride, void *h_shared,
                                  int h_shared_stride, int processors)
{
    bool few = grouped_narrow(g->experts, n * topk);
    auto run = GROUPED_START(start, type, few);
    run(stream, mlp, g, x, hidden, n, h, h_stride, h_shared, h_shared_stride, processors);
}
