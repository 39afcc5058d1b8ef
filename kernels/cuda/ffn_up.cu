/* ffn_up.cu - h = silu(gate x) * up x of all experts in one launch (ops.h: ffn).
 *
 * How many rows an expert has only the device knows. So a fixed number of blocks share out all
 * pieces of work, which they find from the counts: expert after expert, 64 columns of I after
 * another, and for each of these 64 rows after another, so that blocks that run side by side read
 * the same weights. Rows of x are fetched where they are; nothing is copied together first. */
#include "kernels/cuda/gemm.cuh"

#define COLUMNS (GEMM_WARPS * MATRIX_TILE) /* of I, one item */

/* Places in shared memory behind the queue: for each expert the items and rows before it. */
struct up_index {
    int *items, *rows; /* [experts + 2], [experts + 1] */
};

template <int TYPE> struct up_work {
    const cuda_mlp *mlp;
    cuda_groups g;
    const uint16_t *x;
    int hidden, n, h_stride, h_shared_stride;
    uint16_t *h, *h_shared;
    up_index index;
    int item, expert;

    __device__ int rows_of(int e) const { return e < g.experts ? g.count[e] : n; }

    __device__ bool first(gemm_tile<2> &t)
    {
        item = (int)blockIdx.x;
        expert = 0;
        return describe(t);
    }

    __device__ bool next(gemm_tile<2> &t)
    {
        item += (int)gridDim.x;
        return describe(t);
    }

    __device__ __forceinline__ bool describe(gemm_tile<2> &t)
    {
        t.begin = t.end = 0;
        if (item >= index.items[g.experts + 1])
            return false;
        while (item >= index.items[expert + 1])
            expert++;
        const cuda_mlp &m = mlp[expert];
        int rows = rows_of(expert), row_tiles = (rows + GEMM_TOKENS - 1) / GEMM_TOKENS;
        int column_tile = (item - index.items[expert]) / row_tiles;
        int g8 = (int)threadIdx.x % 32 / 4;
        t.b = (item - index.items[expert]) % row_tiles * GEMM_TOKENS;
        t.a = column_tile * COLUMNS + (int)threadIdx.x / 32 * MATRIX_TILE;
        t.c = expert;
        t.tokens = rows - t.b < GEMM_TOKENS ? rows - t.b : GEMM_TOKENS;
        t.w_step = tile_bytes<TYPE>(m.up);
        t.w_tiles = t.a < m.up.n ? 2 : 0;
        t.w = (const uint8_t *)m.up.data +
              (t.w_tiles ? (size_t)(t.a / MATRIX_TILE) * 2 * t.w_step : 0);
        t.k = hidden;
        t.lead = m.up.lead;
        t.end = m.up.chunks;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int token = t.b + (int)threadIdx.x / 8 + 16 * i, row = token;
            if (token < rows && expert < g.experts)
                row = g.entry[(size_t)expert * g.capacity + token].row;
            t.x[i] = token < rows ? x + (size_t)row * hidden : NULL;
            t.scale[i / 2][i % 2] = scale_row<TYPE>(i < 2 ? m.gate : m.up, t.a + i % 2 * 8 + g8);
        }
        return true;
    }

    __device__ __forceinline__ void store(const gemm_tile<2> &t, const float (*sums)[8][4])
    {
        int lane = (int)threadIdx.x % 32, inter = mlp[t.c].up.n;
        bool routed = t.c < g.experts;
        uint16_t *to = routed ? h + (size_t)index.rows[t.c] * h_stride : h_shared;
        int stride = routed ? h_stride : h_shared_stride;
#pragma unroll
        for (int i = 0; i < 32; i++) {
            int token = i / 4 * 8 + lane % 4 * 2 + i % 2, column = t.a + i / 2 % 2 * 8 + lane / 4;
            float gate = sums[0][i / 4][i % 4], up = sums[1][i / 4][i % 4];
            if (token < t.tokens && column < inter)
                to[(size_t)(t.b + token) * stride + column] =
                    bf16_round(swiglu(mlp[t.c], column, gate, up));
        }
    }
};

template <int TYPE, bool ALIGNED>
static __global__ void __launch_bounds__(GEMM_THREADS, 2)
    up_kernel(const cuda_mlp *mlp, cuda_groups g, const uint16_t *x, int hidden, int n, uint16_t *h,
              int h_stride, uint16_t *h_shared, int h_shared_stride)
{
    up_index index;
    index.items = (int *)(shared_memory() + gemm_shape<TYPE, 2>::queue(GEMM_WARPS));
    index.rows = index.items + g.experts + 2;
    up_work<TYPE> work = {mlp, g,        x,     hidden, n, h_stride, h_shared_stride,
                          h,   h_shared, index, 0,      0};
    if (threadIdx.x == 0) {
        int items = 0, rows = 0;
        for (int e = 0; e <= g.experts; e++) {
            index.items[e] = items;
            index.rows[e] = rows;
            items += (mlp[e].up.n + COLUMNS - 1) / COLUMNS *
                     ((work.rows_of(e) + GEMM_TOKENS - 1) / GEMM_TOKENS);
            rows += work.rows_of(e);
        }
        index.items[g.experts + 1] = items;
    }
    __syncthreads();
    up_work<TYPE> load = work;
    gemm_run<TYPE, 2, ALIGNED, GEMM_WARPS>(load, work);
}

template <int TYPE> static size_t shared_bytes(int experts)
{
    return gemm_shape<TYPE, 2>::queue(GEMM_WARPS) + (2 * (size_t)experts + 3) * sizeof(int);
}

extern "C" size_t cuda_ffn_up_shared(int experts)
{
    size_t wide = shared_bytes<NUMBER_BF16>(experts), narrow = shared_bytes<NUMBER_I8>(experts);
    return wide > narrow ? wide : narrow;
}

template <int TYPE>
static void start(cudaStream_t stream, const struct cuda_mlp *mlp, const struct cuda_groups *g,
                  const void *x, int hidden, int n, void *h, int h_stride, void *h_shared,
                  int h_shared_stride, int grid)
{
    size_t shared = shared_bytes<TYPE>(g->experts);
    bool aligned = hidden % 8 == 0 && ((uintptr_t)x & 15) == 0;
    launch(aligned ? up_kernel<TYPE, true> : up_kernel<TYPE, false>, grid, GEMM_THREADS, shared,
           stream, mlp, *g, (const uint16_t *)x, hidden, n, (uint16_t *)h, h_stride,
           (uint16_t *)h_shared, h_shared_stride);
}

extern "C" void cuda_ffn_up_tiled(cudaStream_t stream, const struct cuda_mlp *mlp,
                                  const struct cuda_groups *g, int type, const void *x, int hidden,
                                  int n, void *h, int h_stride, void *h_shared, int h_shared_stride,
                                  int grid)
{
    if (type == NUMBER_BF16)
        start<NUMBER_BF16>(stream, mlp, g, x, hidden, n, h, h_stride, h_shared, h_shared_stride,
                           grid);
    else if (type == NUMBER_F8E4M3)
        start<NUMBER_F8E4M3>(stream, mlp, g, x, hidden, n, h, h_stride, h_shared, h_shared_stride,
                             grid);
    else
        start<NUMBER_I8>(stream, mlp, g, x, hidden, n, h, h_stride, h_shared, h_shared_stride,
                         grid);
}
