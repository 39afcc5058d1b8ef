/* attend.cu - attend (ops.h) on tensor cores: bf16 activations, head size 64, 128 or 256, a bf16 or
 * e4m3 cache in TILED order (kv.cuh).
 *
 * A warp works for one row and 16 of its query heads; the warps of a row share the keys and values
 * that pass through shared memory, 32 tokens at a time. Scores are q k^T, probabilities stay in
 * registers as the left operand of p v (rounded to 16 bits; their sum is f32). Softmax is online.
 *
 * A row's context is cut into chunks of ATTEND_CHUNK tokens from its beginning, one block each, and
 * chunks are put together in order by combine_kernel. A window leaves out the tiles and chunks before
 * it. Where the cuts lie, the order inside a chunk, and so every bit of the result, is a function of the
 * row's own context: not of the batch, and not of the second row that shares a block with it when a
 * prompt is read in.
 *
 * Tokens after the row's own, and before its window, are masked as scores, and as values too: what
 * stands there may be anything, and 0 x NaN is not 0. */
#include "kernels/cuda/attend.cuh"

#define WARPS_ROW 4 /* 64 heads */

template <int D, int TYPE> struct attend_shape {
    static const int half_bytes = KV_HALF * D * (TYPE == NUMBER_BF16 ? 2 : 1);
    static const int stage_bytes = 2 * half_bytes;
    static const int wanted = 65536 / stage_bytes;
    static const int stages = wanted < 2 ? 2 : wanted > 6 ? 6 : wanted;
    static const int query_bytes = D / 16 * 512; /* of one warp */
};

template <int D, int TYPE>
static __device__ __forceinline__ void stage_tokens(const attend_args &a, int seg, int kv_head,
                                                    int token, unsigned char *to)
{
    typedef attend_shape<D, TYPE> shape;
    int block = kv_block(a.batch, seg, token);
    const unsigned char *keys =
        (const unsigned char *)a.kv.data +
        kv_base(a.kv, block, kv_head, false) * (TYPE == NUMBER_BF16 ? 2 : 1) +
        token % KV_TOKENS / KV_HALF * shape::half_bytes;
#pragma unroll 2
    for (int i = (int)threadIdx.x * 16; i < shape::half_bytes; i += (int)blockDim.x * 16) {
        cp_async16(to + i, keys + i, 16);
        cp_async16(to + shape::half_bytes + i, keys + 2 * shape::half_bytes + i, 16);
    }
}

/* s += q k^T for 32 tokens. */
template <int D, int TYPE>
static __device__ __forceinline__ void scores(const unsigned char *query, const unsigned char *keys,
                                              float s[4][4])
{
    const int steps = TYPE == NUMBER_BF16 ? 2 : 4; /* of 16 dimensions, in 16 bytes of a lane */
    int lane = (int)threadIdx.x % 32;
#pragma unroll 2
    for (int k = 0; k < D / 16; k += steps) {
        uint4 b[4];
#pragma unroll
        for (int n = 0; n < 4; n++)
            b[n] = *(const uint4 *)(keys + ((n * (D / 16) + k) / steps) * 512 + lane * 16);
#pragma unroll
        for (int j = 0; j < steps; j++) {
            uint4 v = *(const uint4 *)(query + (k + j) * 512 + lane * 16);
            uint32_t q[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int n = 0; n < 4; n++) {
                uint32_t b0, b1;
                if (TYPE == NUMBER_BF16) {
                    b0 = j == 0 ? b[n].x : b[n].z;
                    b1 = j == 0 ? b[n].y : b[n].w;
                } else {
                    e4m3x4_f16(j == 0   ? b[n].x
                               : j == 1 ? b[n].y
                               : j == 2 ? b[n].z
                                        : b[n].w,
                               &b0, &b1);
                }
                mma<TYPE>(s[n], q, b0, b1);
            }
        }
    }
}

/* o += p v for 32 tokens; MASKED: of which begin .. left - 1 count. */
template <int D, int TYPE, bool MASKED>
static __device__ __forceinline__ void add_values(const unsigned char *values, const float p[4][4],
                                                  int begin, int left, float o[D / 8][4])
{
    int lane = (int)threadIdx.x % 32;
    uint32_t a[2][4], keep[4];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float *pair = &p[i / 2][i % 2 * 2];
        a[i / 4][i % 4] =
            TYPE == NUMBER_BF16 ? pack_bf16(pair[0], pair[1]) : pack_f16(pair[0], pair[1]);
    }
#pragma unroll
    for (int i = 0; MASKED && i < 4; i++) {
        int token = i * 8 + lane % 4 * 2;
        keep[i] = (token >= begin && token < left ? 0xffffu : 0u) |
                  (token + 1 >= begin && token + 1 < left ? 0xffff0000u : 0u);
    }
    const int dims = TYPE == NUMBER_BF16 ? 1 : 2; /* groups of 8 in 16 bytes of a lane */
#pragma unroll
    for (int i = 0; i < D / 8; i += dims) {
        if (i % 16 == 0) /* not too many loads ahead: the registers are needed for o */
            __syncwarp();
        uint4 v = *(const uint4 *)(values + i / dims * 512 + lane * 16);
#pragma unroll
        for (int j = 0; j < dims; j++) {
            uint32_t b[4] = {v.x, v.y, v.z, v.w};
            if (TYPE == NUMBER_F8E4M3) {
                e4m3x4_f16(j ? v.z : v.x, &b[0], &b[1]);
                e4m3x4_f16(j ? v.w : v.y, &b[2], &b[3]);
            }
#pragma unroll
            for (int c = 0; MASKED && c < 4; c++)
                b[c] &= keep[c];
            mma<TYPE>(o[i + j], a[0], b[0], b[1]);
            mma<TYPE>(o[i + j], a[1], b[2], b[3]);
        }
    }
}

/* 32 tokens of which begin .. left - 1 count, at least one. */
template <int D, int TYPE>
static __device__ __forceinline__ void step(const unsigned char *query, const unsigned char *stage,
                                            int begin, int left, attend_state<D> &w)
{
    const unsigned char *values = stage + attend_shape<D, TYPE>::half_bytes;
    float s[4][4] = {{0.0f}}, most[2];
    int lane = (int)threadIdx.x % 32;
    bool masked = begin > 0 || left < KV_HALF;
    scores<D, TYPE>(query, stage, s);
    if (masked) {
#pragma unroll
        for (int i = 0; i < 16; i++) {
            int token = i / 4 * 8 + lane % 4 * 2 + i % 2;
            if (token < begin || token >= left)
                s[i / 4][i % 4] = -INFINITY;
        }
    }
    largest<4>(s, most);
    softmax<4, D>(s, most, w);
    if (masked)
        add_values<D, TYPE, true>(values, s, begin, left, w.o);
    else
        add_values<D, TYPE, false>(values, s, 0, KV_HALF, w.o);
}

/* One chunk of `shared` rows of one segment, beginning with `row`. */
template <int D, int TYPE>
static __device__ __forceinline__ void run_chunk(const attend_args &a, int row, int shared,
                                                 int warp, int local, int kv_head, int head,
                                                 int left)
{
    typedef attend_shape<D, TYPE> shape;
    const int chunk = ATTEND_CHUNK(TYPE);
    unsigned char *stages = shared_memory();
    unsigned char *query = stages + shape::stages * shape::stage_bytes + warp * shape::query_bytes;
    int first = first_token(a, row), seg = a.batch.row_seg[row]; /* of the first row: the lowest */
    int start = (first / chunk + (int)blockIdx.y) * chunk;
    int end = a.batch.row_pos[row + shared - 1] + 1; /* of the last row: the longest */
    if (start >= end)
        return;
    bool mine = local >= 0 && local < shared && left > 0;
    int context = mine ? a.batch.row_pos[row + local] + 1 : 0;
    int seen =
        mine ? first_token(a, row + local) : 0; /* the first token that this warp's row sees */
    bool here = start < context && seen < start + chunk;
    int begin = first > start ? first / KV_HALF * KV_HALF : start;
    int tiles = ((end < start + chunk ? end : start + chunk) - begin + KV_HALF - 1) / KV_HALF;
    attend_state<D> w;
    begin_state<D>(w);
    if (here)
        load_query<D, TYPE>(a, row + local, head, left, query, w.scale);

    for (int i = -(shape::stages - 1); i < tiles; i++) {
        if (i >= 0) {
            cp_async_wait<shape::stages - 2>();
            __syncthreads();
        }
        int next = i + shape::stages - 1;
        if (next < tiles)
            stage_tokens<D, TYPE>(a, seg, kv_head, begin + next * KV_HALF,
                                  stages + next % shape::stages * shape::stage_bytes);
        cp_async_commit();
        int token = begin + i * KV_HALF, count = context - token;
        if (i < 0 || count <= 0 || seen >= token + KV_HALF)
            continue;
        const unsigned char *stage = stages + i % shape::stages * shape::stage_bytes;
        step<D, TYPE>(query, stage, seen - token, count < KV_HALF ? count : KV_HALF, w);
    }
    add_totals(w.total);
    if (here)
        finish<D, D>(a, row + local, head, left, 0, seen / chunk == (context - 1) / chunk,
                     start / chunk - seen / chunk, w);
    __syncthreads();
}

/* Whether the row before or after is of the same segment: a prompt that is read in. */
static __device__ __forceinline__ bool in_prompt(const cuda_batch &b, int row)
{
    int seg = b.row_seg[row];
    return (row > 0 && b.row_seg[row - 1] == seg) ||
           (row + 1 < b.rows && b.row_seg[row + 1] == seg);
}

template <int D, int TYPE, int ROWS>
static __global__ void __launch_bounds__(ROWS *WARPS_ROW * 32, ROWS == 1 ? 2 : 1)
    attend_kernel(attend_args a)
{
    grid_begin();
    /* From one lane: so the compiler sees that it, and what comes of it, is the same for all. Code for processors
     * before 9.0 spills with it. */
    const int own = (int)threadIdx.x / 32, warp = code_since(90) ? warp_from(own, 0) : own;
    int group = a.heads / a.kv.kv_heads;
    int head_blocks = (group + 16 * a.tiles - 1) / (16 * a.tiles);
    int kv_head = (int)blockIdx.z / head_blocks;
    int in_group = ((int)blockIdx.z % head_blocks * a.tiles + warp % a.tiles) * 16;
    int first = a.row + (int)blockIdx.x * ROWS, end = a.row + a.rows;
    if (end > first + ROWS)
        end = first + ROWS;
    for (int row = first; row < end;) {
        int shared = 1;
        while (row + shared < end && a.batch.row_seg[row + shared] == a.batch.row_seg[row])
            shared++;
        if (!a.apart || in_prompt(a.batch, row) == (ROWS > 1))
            run_chunk<D, TYPE>(a, row, shared, warp, warp / a.tiles - (row - first), kv_head,
                               kv_head * group + in_group, group - in_group);
        row += shared;
    }
}

template <int D, int TYPE> static size_t shared_bytes(int rows, int tiles)
{
    typedef attend_shape<D, TYPE> shape;
    return (size_t)shape::stages * shape::stage_bytes + (size_t)rows * tiles * shape::query_bytes;
}

template <int D, int TYPE, int ROWS>
static void start_rows(cudaStream_t stream, const attend_args &a)
{
    int group = a.heads / a.kv.kv_heads, head_blocks = (group + 16 * a.tiles - 1) / (16 * a.tiles);
    dim3 grid((a.rows + ROWS - 1) / ROWS, a.chunks, a.kv.kv_heads * head_blocks);
    launch_early(attend_kernel<D, TYPE, ROWS>, grid, ROWS * a.tiles * 32,
                 shared_bytes<D, TYPE>(ROWS, a.tiles), stream, a);
}

/* Two rows of a prompt share a block, where a block can have so much memory. Rows that decode beside
 * it would wait for each other there: they have a launch of their own. */
template <int D, int TYPE> static void start(cudaStream_t stream, attend_args a, size_t memory)
{
    bool pairs = a.batch.max_rows > 1 && shared_bytes<D, TYPE>(2, a.tiles) <= memory;
    a.apart = pairs && a.batch.segments > 1;
    if (pairs)
        start_rows<D, TYPE, 2>(stream, a);
    if (!pairs || a.apart)
        start_rows<D, TYPE, 1>(stream, a);
    if (a.chunks > 1)
        launch_early(combine_kernel<D>, dim3(a.rows, a.heads), D, 0, stream, a, ATTEND_CHUNK(TYPE));
}

template <int D> static void start_type(cudaStream_t stream, const attend_args &a, size_t memory)
{
    if (a.kv.type == NUMBER_BF16)
        start<D, NUMBER_BF16>(stream, a, memory);
    else
        start<D, NUMBER_F8E4M3>(stream, a, memory);
}

extern "C" void cuda_attend_tiled(cudaStream_t stream, const struct cuda_attn *spec,
                                  const struct cuda_kv *kv, const struct cuda_batch *batch, int row,
                                  int rows, size_t memory, const void *q, void *out, float *partial)
{
    int group = spec->heads / kv->kv_heads;
    attend_args a = attend_args_of(spec, kv, batch, row, rows, q, out, partial);
    a.tiles = (group + 15) / 16 < WARPS_ROW ? (group + 15) / 16 : WARPS_ROW;
    if (kv->key_dim == 64)
        start_type<64>(stream, a, memory);
    else if (kv->key_dim == 128)
        start_type<128>(stream, a, memory);
    else
        start_type<256>(stream, a, memory);
}
