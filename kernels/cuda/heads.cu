/* heads.cu - linear_heads (ops.h) on tensor cores: bf16 rows, a TILED bf16 matrix for every head. A block
 * has a head, HEAD_TOKENS rows and HEAD_TILES x 16 outputs a warp; the rows wait in shared memory,
 * swizzled for ldmatrix, and each weight is read once for all of them. An element adds its columns from
 * the first to the last in one accumulator, whatever the number of rows. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define WARPS       4
#define THREADS     (WARPS * 32)
#define HEAD_TOKENS 64
#define HEAD_TILES  2 /* of a warp, one after the other */

/* Rows first .. of a head, chunks x 64 columns, 0 where there is nothing. */
static __device__ void load_rows(const cuda_rows &x, size_t at, int k, int chunks, int left,
                                 bool aligned, unsigned char *to)
{
    int pieces = chunks * (MATRIX_CHUNK / 8);
    for (int i = (int)threadIdx.x; i < HEAD_TOKENS * pieces; i += THREADS) {
        int token = i / pieces, piece = i % pieces, column = piece * 8;
        const uint16_t *from = (const uint16_t *)x.data + at + (size_t)token * x.stride + column;
        union {
            uint4 v;
            uint16_t n[8];
        } u;
        u.v = make_uint4(0, 0, 0, 0);
        if (token < left && column + 8 <= k && aligned)
            u.v = *(const uint4 *)from;
        else if (token < left)
            for (int j = 0; j < 8; j++)
                if (column + j < k)
                    u.n[j] = from[j];
        *(uint4 *)(to + (token * pieces + (piece ^ (token & 7))) * 16) = u.v;
    }
}

/* Sums of one tile of 16 outputs. */
static __device__ __forceinline__ void multiply(const unsigned char *w, const unsigned char *rows,
                                                int chunks, float sum[HEAD_TOKENS / 8][4])
{
    int lane = (int)threadIdx.x % 32, pieces = chunks * (MATRIX_CHUNK / 8);
    for (int c = 0; c < chunks; c++) {
        uint4 a[4];
#pragma unroll
        for (int p = 0; p < 4; p++)
            a[p] = load_constant((const uint4 *)(w + (c * 4 + p) * 512 + lane * 16));
#pragma unroll
        for (int p = 0; p < 4; p++) {
            uint32_t left[4] = {a[p].x, a[p].y, a[p].z, a[p].w};
#pragma unroll
            for (int t = 0; t < HEAD_TOKENS / 16; t++) {
                uint32_t b[4];
                int token = t * 16 + lane / 16 * 8 + lane % 8;
                int piece = (c * 4 + p) * 2 + lane / 8 % 2;
                ldmatrix_x4(b, rows + (token * pieces + (piece ^ (token & 7))) * 16);
                mma_bf16(sum[2 * t], left, b[0], b[1]);
                mma_bf16(sum[2 * t + 1], left, b[2], b[3]);
            }
        }
    }
}

static __global__ void __launch_bounds__(THREADS)
    heads_kernel(const cuda_matrix *all, cuda_rows x, int x_step, int n, cuda_rows y, int y_step,
                 bool aligned)
{
    unsigned char *rows = shared_memory();
    int head = (int)blockIdx.x, first = (int)blockIdx.y * HEAD_TOKENS, lane = (int)threadIdx.x % 32;
    const cuda_matrix w = all[head];
    load_rows(x, (size_t)first * x.stride + (size_t)head * x_step, w.k, w.chunks, n - first,
              aligned, rows);
    __syncthreads();
    for (int i = 0; i < HEAD_TILES; i++) {
        int tile = ((int)blockIdx.z * HEAD_TILES + i) * WARPS + (int)threadIdx.x / 32;
        if (tile * 16 >= w.n)
            return;
        float sum[HEAD_TOKENS / 8][4] = {{0.0f}};
        multiply((const unsigned char *)w.data + (size_t)tile * w.chunks * 2048, rows, w.chunks,
                 sum);
#pragma unroll
        for (int j = 0; j < HEAD_TOKENS / 2; j++) {
            int token = first + j / 4 * 8 + lane % 4 * 2 + j % 2;
            int output = tile * 16 + lane / 4 + j / 2 % 2 * 8;
            if (token < n && output < w.n)
                ((uint16_t *)y.data)[(size_t)token * y.stride + (size_t)head * y_step + output] =
                    bf16_round(sum[j / 4][j % 4]);
        }
    }
}

static size_t shared_bytes(int k)
{
    return (size_t)HEAD_TOKENS * 2 * ((k + MATRIX_CHUNK - 1) / MATRIX_CHUNK * MATRIX_CHUNK);
}

extern "C" int cuda_linear_heads_can(int k, size_t memory)
{
    return k > 0 && shared_bytes(k) <= memory;
}

extern "C" void cuda_linear_heads_tiled(cudaStream_t stream, const struct cuda_matrix *w, int heads,
                                        int outputs, int k, const struct cuda_rows *x, int x_step,
                                        int n, const struct cuda_rows *y, int y_step)
{
    const int each = HEAD_TILES * WARPS * 16;
    dim3 grid(heads, (n + HEAD_TOKENS - 1) / HEAD_TOKENS, (outputs + each - 1) / each);
    bool aligned = x->stride % 8 == 0 && x_step % 8 == 0 && ((uintptr_t)x->data & 15) == 0;
    launch(heads_kernel, grid, THREADS, shared_bytes(k), stream, w, *x, x_step, n, *y, y_step,
           aligned);
}
