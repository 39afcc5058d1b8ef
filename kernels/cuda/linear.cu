/* linear.cu - y = x W^T for TILED matrices (ops.h: linear, linears).
 *
 * A small matrix has too few rows to keep a GPU busy, so its columns are split; into how many parts
 * is a function of the shape alone, and the parts are added in order by a second kernel. Matrices with the
 * same x stand side by side in one launch: small ones alone would leave most processors idle. */
#include "kernels/cuda/gemm.cuh"

#define ROWS           128 /* of W a narrow block makes */
#define REDUCE_THREADS 256

/* The product with one of the matrices: where they differ. The type of y is one for all, and an argument of
 * the kernel: as a member of this it would cost the main loop 40 registers. */
struct linear_side {
    const void *data;
    const float *scale;
    void *y; /* [n][outputs], or the parts: f32 [splits][n][outputs] */
    int outputs, row_lead, splits;
    int first; /* of the grid's y: its blocks, part after part */
};

struct linear_sides {
    linear_side of[LINEAR_BESIDE];
    bool early; /* the kernel before may still run */
};

template <int TYPE, typename SHAPE> struct linear_work {
    cuda_matrix w;
    const uint16_t *x;
    int n, splits;
    void *y;
    int y_type, split, block;

    __device__ bool first(gemm_tile<SHAPE> &t)
    {
        const gemm_place<SHAPE> at(threadIdx.x);
        int row = block * SHAPE::rows + at.row();
        int tiles = (w.n + MATRIX_TILE - 1) / MATRIX_TILE - row / MATRIX_TILE;
        t.w_tiles = tiles < 0 ? 0 : tiles > SHAPE::tiles ? SHAPE::tiles : tiles;
        t.form = w.form;
        t.w_step = tile_bytes<SHAPE>(w);
        t.w =
            (const uint8_t *)w.data + (t.w_tiles > 0 ? (size_t)(row / MATRIX_TILE) * t.w_step : 0);
        t.k = w.k;
        t.lead = w.lead;
        t.begin = (int)((long long)w.chunks * split / splits);
        t.end = (int)((long long)w.chunks * (split + 1) / splits);
        t.a = row;
        t.b = (int)blockIdx.x * SHAPE::tokens;
        t.tokens = n - t.b < SHAPE::tokens ? n - t.b : SHAPE::tokens;
        t.x = x + (size_t)t.b * w.k;
#pragma unroll
        for (int i = 0; i < SHAPE::passes && t.loads; i++) {
            int token = (int)threadIdx.x / 8 + SHAPE::threads / 8 * i;
            t.x_at.put(i, token < t.tokens ? (uint32_t)token * (uint32_t)w.k * 2 : 0);
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
        size_t base = ((size_t)opaque(split) * n + t.b) * w.n;
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
    linear_kernel(cuda_matrix w, const uint16_t *x, int n, int y_type, linear_sides all)
{
    typedef gemm_shape<TYPE, FRAME> shape;
    static_assert(shape::rows == ROWS, "of all frames");
    linear_side s = all.of[0];
#pragma unroll
    for (int i = 1; i < LINEAR_BESIDE; i++)
        if ((int)blockIdx.y >= all.of[i].first)
            s = all.of[i];
    w.data = s.data;
    w.scale = s.scale;
    w.n = s.outputs;
    w.row_lead = s.row_lead;
    int at = (int)blockIdx.y - s.first, blocks = (s.outputs + ROWS - 1) / ROWS;
    linear_work<TYPE, shape> work = {w, x, n, s.splits, s.y, y_type, at / blocks, at % blocks};
    if (can_begin_early() && all.early)
        gemm_prefetch<shape>(work);
    grid_begin();
    gemm_run<TYPE, shape, ALIGNED>(work, work);
}

/* Adds up the parts: y [n][outputs]. */
struct linear_sums {
    const float *parts[LINEAR_BESIDE];
    void *y[LINEAR_BESIDE];
    size_t size[LINEAR_BESIDE];
    int splits[LINEAR_BESIDE];
};

static __global__ void reduce_kernel(linear_sums l, int y_type)
{
    grid_begin();
    const int m = (int)blockIdx.y; /* chosen one by one: an index would put l into local memory */
    size_t i = (size_t)blockIdx.x * REDUCE_THREADS + threadIdx.x;
    size_t size = m == 0 ? l.size[0] : m == 1 ? l.size[1] : l.size[2];
    const float *parts = m == 0 ? l.parts[0] : m == 1 ? l.parts[1] : l.parts[2];
    void *y = m == 0 ? l.y[0] : m == 1 ? l.y[1] : l.y[2];
    int splits = m == 0 ? l.splits[0] : m == 1 ? l.splits[1] : l.splits[2];
    static_assert(LINEAR_BESIDE == 3, "of three");
    if (i >= size)
        return;
    float sum = parts[i];
#pragma unroll 8 /* so many loads are on their way together */
    for (int s = 1; s < splits; s++)
        sum += parts[(size_t)s * size + i];
    store_number(y, i, y_type, sum);
}

/* Of `blocks`, on `target` places. */
static int splits_for(int blocks, int target)
{
    return blocks > 0 && blocks < target ? target / blocks : 1;
}

extern "C" int cuda_linear_splits(int n, int k)
{
    int blocks = (n + ROWS - 1) / ROWS, chunks = (k + MATRIX_CHUNK - 1) / MATRIX_CHUNK;
    int splits = splits_for(blocks, LINEAR_TARGET), more = splits_for(blocks, LINEAR_MOST);
    /* Three blocks on each processor, where two would leave many of them idle. */
    if (100 * blocks * more / LINEAR_MOST >= 100 * blocks * splits / LINEAR_TARGET + 10)
        splits = more;
    if (splits > chunks / 4) /* a part shall have 256 columns */
        splits = chunks / 4;
    /* With a block for most processors already, short parts cost more for their sums than they
     * bring. */
    if (blocks >= LINEAR_TARGET / 3 && chunks < 32 * splits)
        splits = 1;
    return splits < 1 ? 1 : splits;
}

template <int TYPE, int FRAME, bool ALIGNED>
static void start_frame(cudaStream_t stream, const struct cuda_linear *l, int y_type,
                        linear_sides all, int blocks)
{
    typedef gemm_shape<TYPE, FRAME> shape;
    all.early = overlaps((const void *)linear_kernel<TYPE, FRAME, ALIGNED>);
    launch_early(linear_kernel<TYPE, FRAME, ALIGNED>,
                 dim3((l->n + shape::tokens - 1) / shape::tokens, blocks), shape::threads,
                 shape::shared, stream, l->w[0], (const uint16_t *)l->x, l->n, y_type, all);
}

/* Whether the wide frame is faster: when its blocks fill the processors nearly always. e4m3 in narrow ones
 * has more warps on a processor, so it takes more to be so. Measured on an H200. */
static bool is_wide(int type, int n, int blocks)
{
    blocks *= (n + 127) / 128;
    int waves = (blocks + LINEAR_TARGET - 1) / LINEAR_TARGET, least = type == NUMBER_BF16 ? 80 : 90;
    return n > 64 && blocks * 100 >= waves * LINEAR_TARGET * least;
}

template <int TYPE>
static void start(cudaStream_t stream, const struct cuda_linear *l, int y_type,
                  const linear_sides &all, int blocks)
{
    const bool may = TYPE <= NUMBER_I8; /* weights in groups have no wide frame */
    const int wide = may ? 128 : 64;
    bool aligned = l->w[0].k % 8 == 0 && l->w[0].lead % 8 == 0 && ((uintptr_t)l->x & 15) == 0;
    if (!aligned)
        start_frame<TYPE, 64, false>(stream, l, y_type, all, blocks);
    else if (may && is_wide(TYPE, l->n, blocks))
        start_frame<TYPE, wide, true>(stream, l, y_type, all, blocks);
    else
        start_frame<TYPE, 64, true>(stream, l, y_type, all, blocks);
}

extern "C" void cuda_linear_tiled(cudaStream_t stream, const struct cuda_linear *l, int y_type)
{
    linear_sides all = {};
    linear_sums sums = {};
    size_t most = 0;
    int blocks = 0;
    const bool split = cuda_linear_splits(l->w[0].n, l->w[0].k) > 1;
    for (int i = 0; i < LINEAR_BESIDE; i++) {
        const cuda_matrix &w = l->w[i];
        all.of[i].first = INT32_MAX;
        if (i >= l->count)
            continue;
        int splits = cuda_linear_splits(w.n, w.k);
        void *to = split ? (void *)l->partial[i] : l->y[i];
        all.of[i] = {w.data, w.scale, to, w.n, w.row_lead, splits, blocks};
        sums.parts[i] = l->partial[i];
        sums.y[i] = l->y[i];
        sums.size[i] = (size_t)l->n * w.n;
        sums.splits[i] = splits;
        most = sums.size[i] > most ? sums.size[i] : most;
        blocks += (w.n + ROWS - 1) / ROWS * splits;
    }
    int type = l->w[0].type;
    auto run = type == NUMBER_BF16     ? start<NUMBER_BF16>
               : type == NUMBER_F8E4M3 ? start<NUMBER_F8E4M3>
               : type == NUMBER_I8     ? start<NUMBER_I8>
               : type == MATRIX_GROUP4 ? start<MATRIX_GROUP4>
                                       : start<MATRIX_GROUP8>;
    run(stream, l, split ? (int)NUMBER_F32 : y_type, all, blocks);
    if (split)
        launch_early(reduce_kernel,
                     dim3((unsigned)((most + REDUCE_THREADS - 1) / REDUCE_THREADS), l->count),
                     REDUCE_THREADS, 0, stream, sums, y_type);
}
