/* attend.cu - attend (ops.h) on tensor cores: bf16 activations, head size 64, 128 or 256, a bf16 or
 * e4m3 cache in TILED order (kv.cuh).
 *
 * A warp works for one row and 16 of its query heads; the warps of a row share the keys and values
 * that pass through shared memory, 32 tokens at a time. Scores are q k^T, probabilities stay in
 * registers as the left operand of p v (rounded to bf16; their sum is f32). Softmax is online.
 *
 * A row's context is cut into chunks of ATTEND_CHUNK tokens from its beginning, one block each, and
 * chunks are put together in order by combine_kernel. Where the cuts lie, the order inside a chunk,
 * and so every bit of the result, is a function of the row's own context: not of the batch, and not
 * of the second row that shares a block with it when a prompt is read in.
 *
 * Tokens after the row's own are masked as scores, and as values too: what stands there may be
 * anything, and 0 x NaN is not 0. */
#include "kernels/cuda/kv.cuh"

#define WARPS_ROW 4 /* 64 heads */
#define LOG2_E    1.4426950408889634f

template <int D, int TYPE> struct attend_shape {
    static const int half_bytes = KV_HALF * D * (TYPE == NUMBER_BF16 ? 2 : 1);
    static const int stage_bytes = 2 * half_bytes;
    static const int wanted = 65536 / stage_bytes;
    static const int stages = wanted < 2 ? 2 : wanted > 6 ? 6 : wanted;
    static const int query_bytes = D / 16 * 512; /* of one warp */
};

struct attend_args {
    cuda_kv kv;
    cuda_batch batch;
    int row, rows, heads, tiles; /* tiles: warps of a row in this launch */
    int chunks;                  /* of max_context: stride of partial */
    int apart;   /* rows of segments with one row, and the others, have launches of their own */
    float scale; /* of the scores, over ln 2 */
    const float *sinks;
    const uint16_t *q;
    uint16_t *out;
    float *partial;
};

/* What a warp keeps of its 16 heads: lane 4g + t has heads g and g + 8. */
template <int D> struct attend_state {
    float o[D / 8][4]; /* dimensions 8i + 2t, + 1 of head g, then of head g + 8 */
    float most[2], total[2];
};

/* The warp's queries, in the order of mma's left operand; each lane keeps its own. */
template <int D>
static __device__ __forceinline__ void load_query(const attend_args &a, int row, int head, int left,
                                                  unsigned char *to)
{
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint32_t *q = (const uint32_t *)(a.q + ((size_t)row * a.heads + head) * D);
#pragma unroll 4
    for (int k = 0; k < D / 16; k++) {
        const uint32_t *low = q + g * (D / 2) + k * 8 + t, *high = low + 8 * (D / 2);
        bool has_low = g < left, has_high = g + 8 < left;
        *(uint4 *)(to + k * 512 + lane * 16) =
            make_uint4(has_low ? low[0] : 0, has_high ? high[0] : 0, has_low ? low[4] : 0,
                       has_high ? high[4] : 0);
    }
}

template <int D, int TYPE>
static __device__ __forceinline__ void stage_tokens(const attend_args &a, int seg, int kv_head,
                                                    int token, unsigned char *to)
{
    typedef attend_shape<D, TYPE> shape;
    int block = a.batch.blocks[(size_t)seg * a.batch.blocks_stride + token / KV_TOKENS];
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
                    e4m3x4_bf16(j == 0   ? b[n].x
                                : j == 1 ? b[n].y
                                : j == 2 ? b[n].z
                                         : b[n].w,
                                &b0, &b1);
                }
                mma_bf16(s[n], q, b0, b1);
            }
        }
    }
}

/* o += p v for 32 tokens, of which the first `left` count. */
template <int D, int TYPE>
static __device__ __forceinline__ void add_values(const unsigned char *values, const float p[4][4],
                                                  int left, float o[D / 8][4])
{
    int lane = (int)threadIdx.x % 32;
    uint32_t a[2][4], keep[4];
#pragma unroll
    for (int i = 0; i < 8; i++)
        a[i / 4][i % 4] = pack_bf16(p[i / 2][i % 2 * 2], p[i / 2][i % 2 * 2 + 1]);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int token = i * 8 + lane % 4 * 2;
        keep[i] = (token < left ? 0xffffu : 0u) | (token + 1 < left ? 0xffff0000u : 0u);
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
                e4m3x4_bf16(j ? v.z : v.x, &b[0], &b[1]);
                e4m3x4_bf16(j ? v.w : v.y, &b[2], &b[3]);
            }
            if (left < KV_HALF) {
#pragma unroll
                for (int c = 0; c < 4; c++)
                    b[c] &= keep[c];
            }
            mma_bf16(o[i + j], a[0], b[0], b[1]);
            mma_bf16(o[i + j], a[1], b[2], b[3]);
        }
    }
}

/* 32 tokens of which the first `left` count. scale: of the scores, over ln 2. */
template <int D, int TYPE>
static __device__ __forceinline__ void step(const unsigned char *query, const unsigned char *stage,
                                            int left, float scale, attend_state<D> &w)
{
    float s[4][4] = {{0.0f}}, most[2] = {w.most[0], w.most[1]}, keep[2];
    int lane = (int)threadIdx.x % 32;
    scores<D, TYPE>(query, stage, s);
#pragma unroll
    for (int i = 0; i < 16; i++) {
        if (i / 4 * 8 + lane % 4 * 2 + i % 2 >= left)
            s[i / 4][i % 4] = -INFINITY;
        most[i / 2 % 2] = fmaxf(most[i / 2 % 2], s[i / 4][i % 4]);
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        most[h] = fmaxf(most[h], warp_xor(most[h], 1));
        most[h] = fmaxf(most[h], warp_xor(most[h], 2));
        keep[h] = exp2f((w.most[h] - most[h]) * scale);
        w.most[h] = most[h];
        w.total[h] = w.total[h] * keep[h];
    }
#pragma unroll
    for (int i = 0; i < 16; i++) {
        float p = exp2f((s[i / 4][i % 4] - most[i / 2 % 2]) * scale);
        s[i / 4][i % 4] = p;
        w.total[i / 2 % 2] += p;
    }
    /* Times 1 changes nothing and may be left out. */
    if (warp_ballot(keep[0] != 1.0f || keep[1] != 1.0f) != 0) {
#pragma unroll
        for (int i = 0; i < D / 2; i++)
            w.o[i / 4][i % 4] *= keep[i / 2 % 2];
    }
    add_values<D, TYPE>(stage + attend_shape<D, TYPE>::half_bytes, s, left, w.o);
}

/* The row's result, when one chunk was all, or the chunk's part of it. */
template <int D>
static __device__ __forceinline__ void finish(const attend_args &a, int row, int head, int left,
                                              bool whole, float scale, attend_state<D> &w)
{
    int lane = (int)threadIdx.x % 32;
    size_t parts = (size_t)a.rows * a.chunks * a.heads;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        w.total[h] += warp_xor(w.total[h], 1);
        w.total[h] += warp_xor(w.total[h], 2);
        int mine = lane / 4 + 8 * h;
        if (mine >= left)
            continue;
        if (whole) {
            if (a.sinks)
                w.total[h] += exp2f(a.sinks[head + mine] * LOG2_E - w.most[h] * scale);
            float inverse = 1.0f / w.total[h];
            uint32_t *out = (uint32_t *)(a.out + ((size_t)row * a.heads + head + mine) * D);
#pragma unroll
            for (int i = 0; i < D / 8; i++)
                out[i * 4 + lane % 4] =
                    pack_bf16(w.o[i][2 * h] * inverse, w.o[i][2 * h + 1] * inverse);
            continue;
        }
        size_t part = ((size_t)(row - a.row) * a.chunks + blockIdx.y) * a.heads + head + mine;
#pragma unroll
        for (int i = 0; i < D / 8; i++)
            *(float2 *)(a.partial + part * D + i * 8 + lane % 4 * 2) =
                make_float2(w.o[i][2 * h], w.o[i][2 * h + 1]);
        if (lane % 4 == 0)
            *(float2 *)(a.partial + parts * D + part * 2) =
                make_float2(w.most[h] * scale, w.total[h]);
    }
}

/* One chunk of `shared` rows of one segment, beginning with `row`. */
template <int D, int TYPE>
static __device__ __forceinline__ void run_chunk(const attend_args &a, int row, int shared,
                                                 int local, int kv_head, int head, int left)
{
    typedef attend_shape<D, TYPE> shape;
    const int chunk = ATTEND_CHUNK(TYPE);
    unsigned char *stages = shared_memory();
    unsigned char *query =
        stages + shape::stages * shape::stage_bytes + (int)threadIdx.x / 32 * shape::query_bytes;
    int start = (int)blockIdx.y * chunk, seg = a.batch.row_seg[row];
    int end = a.batch.row_pos[row + shared - 1] + 1; /* of the last row: the longest */
    bool mine = local >= 0 && local < shared && left > 0;
    int context = mine ? a.batch.row_pos[row + local] + 1 : 0;
    bool whole = context <= chunk;
    if (start >= end)
        return;
    int tiles = ((end < start + chunk ? end : start + chunk) - start + KV_HALF - 1) / KV_HALF;
    float scale = a.scale;
    attend_state<D> w;
#pragma unroll
    for (int i = 0; i < D / 2; i++)
        w.o[i / 4][i % 4] = 0.0f;
    w.most[0] = w.most[1] = -INFINITY;
    w.total[0] = w.total[1] = 0.0f;
    if (start < context)
        load_query<D>(a, row + local, head, left, query);

    for (int i = -(shape::stages - 1); i < tiles; i++) {
        if (i >= 0) {
            cp_async_wait<shape::stages - 2>();
            __syncthreads();
        }
        int next = i + shape::stages - 1;
        if (next < tiles)
            stage_tokens<D, TYPE>(a, seg, kv_head, start + next * KV_HALF,
                                  stages + next % shape::stages * shape::stage_bytes);
        cp_async_commit();
        int count = context - start - i * KV_HALF;
        if (i < 0 || count <= 0)
            continue;
        const unsigned char *stage = stages + i % shape::stages * shape::stage_bytes;
        step<D, TYPE>(query, stage, count < KV_HALF ? count : KV_HALF, scale, w);
    }
    if (start < context)
        finish<D>(a, row + local, head, left, whole, scale, w);
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
    int warp = (int)threadIdx.x / 32, group = a.heads / a.kv.kv_heads;
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
            run_chunk<D, TYPE>(a, row, shared, warp / a.tiles - (row - first), kv_head,
                               kv_head * group + in_group, group - in_group);
        row += shared;
    }
}

/* Chunks of rows that have more than one, in order. */
template <int D> static __global__ void combine_kernel(attend_args a, int chunk)
{
    int row = a.row + (int)blockIdx.x, head = (int)blockIdx.y, d = (int)threadIdx.x;
    int chunks = a.batch.row_pos[row] / chunk + 1;
    if (chunks == 1)
        return;
    size_t first = (size_t)blockIdx.x * a.chunks * a.heads + head;
    const float *sums = a.partial + (size_t)a.rows * a.chunks * a.heads * D;
    float most = -INFINITY, total = 0.0f, o = 0.0f;
    for (int c = 0; c < chunks; c++)
        most = fmaxf(most, sums[(first + (size_t)c * a.heads) * 2]);
    for (int c = 0; c < chunks; c++) {
        size_t part = first + (size_t)c * a.heads;
        float factor = exp2f(sums[part * 2] - most);
        total = fmaf(sums[part * 2 + 1], factor, total);
        o = fmaf(a.partial[part * D + d], factor, o);
    }
    if (a.sinks)
        total += exp2f(a.sinks[head] * LOG2_E - most);
    a.out[((size_t)row * a.heads + head) * D + d] = bf16_round(o / total);
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
    launch(attend_kernel<D, TYPE, ROWS>, grid, ROWS * a.tiles * 32,
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
        launch(combine_kernel<D>, dim3(a.rows, a.heads), D, 0, stream, a, ATTEND_CHUNK(TYPE));
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
    int group = spec->heads / kv->kv_heads, chunk = ATTEND_CHUNK(kv->type);
    int tiles = (group + 15) / 16 < WARPS_ROW ? (group + 15) / 16 : WARPS_ROW;
    attend_args a = {*kv,
                     *batch,
                     row,
                     rows,
                     spec->heads,
                     tiles,
                     (batch->max_context + chunk - 1) / chunk,
                     0,
                     LOG2_E * spec->scale,
                     spec->sinks,
                     (const uint16_t *)q,
                     (uint16_t *)out,
                     partial};
    if (kv->key_dim == 64)
        start_type<64>(stream, a, memory);
    else if (kv->key_dim == 128)
        start_type<128>(stream, a, memory);
    else
        start_type<256>(stream, a, memory);
}
