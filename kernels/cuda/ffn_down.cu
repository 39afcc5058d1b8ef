/* ffn_down.cu - out = sum of weight x down h over the experts in their order, then the shared
 * expert (ops.h: ffn).
 *
 * A block owns 64 columns of the output and works through all experts in order, adding each row's
 * share to what stands there. So the order of additions is that of the experts, without atomics,
 * and the contributions are never stored on their own. */
#include "kernels/cuda/gemm.cuh"

#define COLUMNS (GEMM_WARPS * MATRIX_TILE)

template <int TYPE> struct down_work {
    const cuda_mlp *mlp;
    cuda_groups g;
    const uint16_t *h, *h_shared;
    int h_stride, h_shared_stride, hidden, n;
    float *acc;
    void *out;
    int out_type;
    int expert, row, before; /* where the next item is; rows of the experts before it */

    __device__ int rows_of(int e) const { return e < g.experts ? g.count[e] : n; }

    __device__ bool first(gemm_tile<1> &t)
    {
        expert = row = before = 0;
        return describe(t);
    }

    __device__ bool next(gemm_tile<1> &t)
    {
        row += GEMM_TOKENS;
        return describe(t);
    }

    __device__ __forceinline__ bool describe(gemm_tile<1> &t)
    {
        t.begin = t.end = 0;
        while (expert <= g.experts && row >= rows_of(expert)) {
            before += rows_of(expert);
            expert++;
            row = 0;
        }
        if (expert > g.experts)
            return false;
        const cuda_matrix &w = mlp[expert].down;
        bool routed = expert < g.experts;
        const uint16_t *x = routed ? h + (size_t)before * h_stride : h_shared;
        int stride = routed ? h_stride : h_shared_stride, left = rows_of(expert) - row;
        t.a = (int)blockIdx.x * COLUMNS + (int)threadIdx.x / 32 * MATRIX_TILE;
        t.b = row;
        t.c = expert;
        t.tokens = left < GEMM_TOKENS ? left : GEMM_TOKENS;
        t.w_step = tile_bytes<TYPE>(w);
        t.w_tiles = t.a < w.n ? 1 : 0;
        t.w = (const uint8_t *)w.data + (t.w_tiles ? (size_t)(t.a / MATRIX_TILE) * t.w_step : 0);
        t.k = w.k;
        t.lead = w.lead;
        t.end = w.chunks;
        t.x_any = x;
        t.scale[0][0] = scale_row<TYPE>(w, t.a + (int)threadIdx.x % 32 / 4);
        t.scale[0][1] = scale_row<TYPE>(w, t.a + (int)threadIdx.x % 32 / 4 + 8);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int token = (int)threadIdx.x / 8 + 16 * i;
            t.x[i] = token < t.tokens ? x + (size_t)(row + token) * stride : NULL;
        }
        return true;
    }

    __device__ __forceinline__ void store_routed(const gemm_tile<1> &t, const float (*sums)[8][4],
                                                 int token, int group, int c)
    {
        size_t entry = (size_t)t.c * g.capacity + t.b + token;
        int row = g.row[entry];
        bool first = (row & GROUP_FIRST) != 0;
        float weight = g.weight[entry];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int column = t.a + half * 8 + (int)threadIdx.x % 32 / 4;
            float *sum = acc + (size_t)(row & ~GROUP_FIRST) * hidden + column;
            float share = weight * sums[0][group][half * 2 + c];
            if (column < hidden)
                *sum = first ? share : *sum + share;
        }
    }

    __device__ __forceinline__ void store_shared(const gemm_tile<1> &t, const float (*sums)[8][4],
                                                 int token, int group, int c)
    {
        int row = t.b + token;
        bool any = g.experts > 0 && g.any[row];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int column = t.a + half * 8 + (int)threadIdx.x % 32 / 4;
            size_t place = (size_t)row * hidden + column;
            if (column < hidden)
                store_number(out, place, out_type,
                             (any ? acc[place] : 0.0f) + sums[0][group][half * 2 + c]);
        }
    }

    __device__ __forceinline__ void store(const gemm_tile<1> &t, const float (*sums)[8][4])
    {
#pragma unroll
        for (int i = 0; i < 16; i++) {
            int token = i / 2 * 8 + (int)threadIdx.x % 4 * 2 + i % 2;
            if (token >= t.tokens)
                continue;
            if (t.c < g.experts)
                store_routed(t, sums, token, i / 2, i % 2);
            else
                store_shared(t, sums, token, i / 2, i % 2);
        }
    }
};

template <int TYPE, bool ALIGNED>
static __global__ void __launch_bounds__(GEMM_THREADS, 2)
    down_kernel(const cuda_mlp *mlp, cuda_groups g, const uint16_t *h, int h_stride,
                const uint16_t *h_shared, int h_shared_stride, int hidden, int n, float *acc,
                void *out, int out_type)
{
    down_work<TYPE> work = {mlp, g,        h, h_shared, h_stride, h_shared_stride, hidden, n, acc,
                            out, out_type, 0, 0,        0};
    down_work<TYPE> load = work;
    gemm_run<TYPE, 1, ALIGNED>(load, work);
}

extern "C" void cuda_ffn_down_tiled(cudaStream_t stream, const struct cuda_mlp *mlp,
                                    const struct cuda_groups *g, int type, const void *h,
                                    int h_stride, const void *h_shared, int h_shared_stride,
                                    int hidden, int n, float *acc, void *out, int out_type)
{
    dim3 grid((hidden + COLUMNS - 1) / COLUMNS);
    const uint16_t *rows = (const uint16_t *)h, *shared_rows = (const uint16_t *)h_shared;
    if (type == NUMBER_BF16)
        launch(down_kernel<NUMBER_BF16, true>, grid, GEMM_THREADS,
               gemm_shape<NUMBER_BF16, 1>::shared, stream, mlp, *g, rows, h_stride, shared_rows,
               h_shared_stride, hidden, n, acc, out, out_type);
    else if (type == NUMBER_F8E4M3)
        launch(down_kernel<NUMBER_F8E4M3, true>, grid, GEMM_THREADS,
               gemm_shape<NUMBER_F8E4M3, 1>::shared, stream, mlp, *g, rows, h_stride, shared_rows,
               h_shared_stride, hidden, n, acc, out, out_type);
    else
        launch(down_kernel<NUMBER_I8, true>, grid, GEMM_THREADS, gemm_shape<NUMBER_I8, 1>::shared,
               stream, mlp, *g, rows, h_stride, shared_rows, h_shared_stride, hidden, n, acc, out,
               out_type);
}
