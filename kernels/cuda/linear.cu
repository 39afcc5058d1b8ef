/* linear.cu - y = x W^T for TILED matrices (ops.h: linear).
 *
 * A small matrix has too few rows to keep a GPU busy, so its columns are split; into how many parts
 * is a function of the shape alone, and the parts are added in order by a second kernel. */
#include "kernels/cuda/gemm.cuh"

#define ROWS           128 /* of W a narrow block makes */
#define REDUCE_THREADS 256

template <int TYPE, typename SHAPE> struct linear_work {
    cuda_matrix w;
    const uint16_t *x;
    int n, splits;
    void *y; /* [n][w.n], or partial sums [splits][n][w.n] */
    int y_type;

    __device__ bool first(gemm_tile<SHAPE> &t)
    {
        const gemm_place<SHAPE> at(threadIdx.x);
        int row = (int)blockIdx.y * SHAPE::rows + at.row(), split = (int)blockIdx.z;
        int tiles = (w.n + MATRIX_TILE - 1) / MATRIX_TILE - row / MATRIX_TILE;
        t.w_tiles = tiles < 0 ? 0 : tiles > SHAPE::tiles ? SHAPE::tiles : tiles;
        t.form = w.form;
        t.w_step = tile_bytes<SHAPE>(w);
        t.w = (const uint8_t *)w.data + (t.w_tiles > 0 ? row / MATRIX_TILE * t.w_step : 0);
        t.k = w.k;
        t.lead = w.lead;
        t.begin = (int)((long long)w.chunks * split / splits);
        t.end = (int)((long long)w.chunks * (split + 1) / splits);
        t.a = row;
        t.b = (int)blockIdx.x * SHAPE::tokens;
        t.tokens = n - t.b < SHAPE::tokens ? n - t.b : SHAPE::tokens;
        t.x = x + (size_t)t.b * w.k;
#pragma unroll
        for (int i = 0; i < SHAPE::passes; i++) {
            int token = (int)threadIdx.x / 8 + SHAPE::threads / 8 * i;
            t.x_at[i] = token < t.tokens ? (uint32_t)token * (uint32_t)w.k * 2 : 0;
        }
        t.scale = w.scale;
        t.ratios = w.scale_stride;
#pragma unroll
        for (int i = 0; i < SHAPE::tiles * 2; i++)
            t.scale_at[i / 2][i % 2] = scale_row<TYPE>(w, row + i * 8 + at.lane / 4);
        return true;
    }

    __device__ bool next(gemm_tile<SHAPE> &)
    {
        return false;
    }

    __device__ void store(const gemm_tile<SHAPE> &t, const float (*sums)[SHAPE::groups][4])
    {
        const gemm_place<SHAPE> at((unsigned)opaque((int)threadIdx.x));
        size_t base = ((size_t)blockIdx.z * n + t.b) * w.n;
#pragma unroll
        for (int i = 0; i < SHAPE::tiles * SHAPE::groups * 4; i++) {
            int group = i / 4 % SHAPE::groups, m = i / 4 / SHAPE::groups;
            int token = at.token(group) + at.lane % 4 * 2 + i % 2;
            int row = t.a + m * MATRIX_TILE + i / 2 % 2 * 8 + at.lane / 4;
            if (token < t.tokens && row < w.n)
                store_number(y, base + (size_t)token * w.n + row, y_type, sums[m][group][i % 4]);
        }
    }
};

template <int TYPE, int FRAME, bool ALIGNED>
static __global__ void __launch_bounds__((gemm_shape<TYPE, FRAME>::threads),
                                         (gemm_shape<TYPE, FRAME>::blocks))
    linear_kernel(cuda_matrix w, const uint16_t *x, int n, int splits, void *y, int y_type)
{
    typedef gemm_shape<TYPE, FRAME> shape;
    linear_work<TYPE, shape> work = {w, x, n, splits, y, y_type};
    gemm_run<TYPE, shape, ALIGNED>(work, work);
}

static __global__ void reduce_kernel(const float *partial, int splits, size_t size, void *y,
                                     int y_type)
{
    size_t i = (size_t)blockIdx.x * REDUCE_THREADS + threadIdx.x;
    if (i >= size)
        return;
    float sum = partial[i];
#pragma unroll 8 /* so many loads are on their way together */
    for (int s = 1; s < splits; s++)
        sum += partial[(size_t)s * size + i];
    store_number(y, i, y_type, sum);
}

extern "C" int cuda_linear_splits(int n, int k)
{
    int blocks = (n + ROWS - 1) / ROWS, chunks = (k + MATRIX_CHUNK - 1) / MATRIX_CHUNK;
    int splits = blocks > 0 ? LINEAR_TARGET / blocks : 1;
    if (splits > chunks / 4) /* a part shall have 256 columns */
        splits = chunks / 4;
    /* With a block for most processors already, short parts cost more for their sums than they
     * bring. */
    if (blocks >= LINEAR_TARGET / 3 && chunks < 32 * splits)
        splits = 1;
    return splits < 1 ? 1 : splits;
}

template <int TYPE, int FRAME, bool ALIGNED>
static void start_frame(cudaStream_t stream, const struct cuda_matrix *w, const void *x, int n,
                        int splits, void *y, int y_type)
{
    typedef gemm_shape<TYPE, FRAME> shape;
    dim3 grid((n + shape::tokens - 1) / shape::tokens, (w->n + shape::rows - 1) / shape::rows,
              splits);
    launch(linear_kernel<TYPE, FRAME, ALIGNED>, grid, shape::threads, shape::queue, stream, *w,
           (const uint16_t *)x, n, splits, y, y_type);
}

/* Whether the wide frame is faster: when its blocks fill the processors nearly always. e4m3 in narrow ones
 * has more warps on a processor, so it takes more to be so. Measured on an H200. */
static bool is_wide(int type, int n, int rows, int splits)
{
    int blocks = (n + 127) / 128 * ((rows + 127) / 128) * splits;
    int waves = (blocks + LINEAR_TARGET - 1) / LINEAR_TARGET, least = type == NUMBER_BF16 ? 80 : 90;
    return n > 64 && blocks * 100 >= waves * LINEAR_TARGET * least;
}

template <int TYPE>
static void start(cudaStream_t stream, const struct cuda_matrix *w, const void *x, int n,
                  int splits, void *y, int y_type)
{
    /* Integers have no wide frame. */
    const bool may = TYPE == NUMBER_BF16 || TYPE == NUMBER_F8E4M3;
    bool aligned = w->k % 8 == 0 && w->lead % 8 == 0 && ((uintptr_t)x & 15) == 0;
    auto run = !aligned ? start_frame<TYPE, 64, false>
                        : may && is_wide(w->type, n, w->n, splits) ? start_frame < TYPE,
         may ? 128 : 64, true > : start_frame<TYPE, 64, true>;
    run(stream, w, x, n, splits, y, y_type);
}

extern "C" void cuda_linear_tiled(cudaStream_t stream, const struct cuda_matrix *w, const void *x,
                                  int n, float *partial, void *y, int y_type)
{
    int splits = cuda_linear_splits(w->n, w->k);
    void *to = splits > 1 ? (void *)partial : y;
    int type = splits > 1 ? (int)NUMBER_F32 : y_type;
    if (w->type == NUMBER_BF16)
        start<NUMBER_BF16>(stream, w, x, n, splits, to, type);
    else if (w->type == NUMBER_F8E4M3)
        start<NUMBER_F8E4M3>(stream, w, x, n, splits, to, type);
    else if (w->type == NUMBER_I8)
        start<NUMBER_I8>(stream, w, x, n, splits, to, type);
    else if (w->type == MATRIX_GROUP4)
        start<MATRIX_GROUP4>(stream, w, x, n, splits, to, type);
    else
        start<MATRIX_GROUP8>(stream, w, x, n, splits, to, type);
    if (splits == 1)
        return;
    size_t size = (size_t)n * w->n;
    launch(reduce_kernel, (unsigned)((size + REDUCE_THREADS - 1) / REDUCE_THREADS), REDUCE_THREADS,
           0, stream, (const float *)partial, splits, size, y, y_type);
}
