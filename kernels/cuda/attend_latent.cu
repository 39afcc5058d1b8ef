/* attend_latent.cu - attend (ops.h) on tensor cores where values are part of the keys (MLA): one KV head
 * with keys of 576, of which the first 512 are the values; bf16 activations, a bf16 or e4m3 cache that
 * is not TILED.
 *
 * A block has one chunk of a row's context and up to 32 query heads. Keys come through shared memory T
 * tokens at a time, 64 where there is room and else 32; 16-byte pieces are swizzled for ldmatrix, which
 * gives them as keys, and transposed as values. Four warps have 16 heads together: each makes the scores
 * of a quarter of the tokens, and sums a quarter of the dimensions; in between they tell each other maxima
 * and probabilities. Chunks, and what is multiplied as f16, are as in attend.cu; so is what a row's bits
 * hang on. Tokens that the row does not see are copied as zeros. */
#include "kernels/cuda/attend.cuh"

#define KEY     576
#define VALUE   512
#define SHARERS 4                 /* warps of 16 heads */
#define PART    (VALUE / SHARERS) /* dimensions of a warp */
#define PIECES  (KEY / 8)         /* 16 bytes of a token, in 16 bits a number */
#define ROUNDS  9 /* in which so many threads as divide them deal out a token's pieces */
#define QUERY   (KEY / 16 * 512) /* bytes, of 16 heads */
#define LARGEST 2                /* times 16 heads of a block at most */
#define HELD    8                /* of KEY / 16: that many have room in registers */

template <int TYPE, int T> struct latent_shape {
    static const int tile = T * KEY * 2;
    static const int stage = TYPE == NUMBER_BF16 ? tile : T * KEY;
    static const int stages =
        2 * stage + (TYPE == NUMBER_BF16 ? 0 : tile); /* and what is made of one */
};

/* What the warps of 16 heads tell each other: maxima or totals, and probabilities of 8 tokens as a half of
 * mma's left operand. */
template <int T> struct told {
    float most[SHARERS][16];
    uint2 p[T / 8][32];
};

/* Where piece `piece` of a token is in a tile. */
static __device__ __forceinline__ int place_of(int token, unsigned piece)
{
    return token * (PIECES * 16) + piece / 8 * 128 + ((piece % 8) ^ (token & 7)) * 16;
}

/* Tokens from `token` on, of which `left` are seen: bf16 as they are multiplied, e4m3 as they are. */
template <int TYPE, int T>
static __device__ __forceinline__ void stage_tokens(const attend_args &a, int seg, int token,
                                                    int left, unsigned char *to)
{
    const int bytes = TYPE == NUMBER_BF16 ? KEY * 2 : KEY, threads = bytes / 16 / ROUNDS;
    int block = a.batch.blocks[(size_t)seg * a.batch.blocks_stride + token / KV_TOKENS];
    const unsigned char *keys =
        (const unsigned char *)a.kv.data + ((size_t)block * KV_TOKENS + token % KV_TOKENS) * bytes;
    /* Of bf16 a token has 8 threads, whose pieces all have one place among 8. */
    int own = (int)threadIdx.x % threads;
#pragma unroll 1
    for (int row = opaque((int)threadIdx.x) / threads; row < T; row += (int)blockDim.x / threads) {
        unsigned char *at =
            to + (TYPE == NUMBER_BF16 ? place_of(row, own) : row * bytes + own * 16);
        const unsigned char *from = keys + row * bytes + own * 16;
        int some = row < left ? 16 : 0;
#pragma unroll
        for (int i = 0; i < ROUNDS; i++)
            cp_async16(at + i * threads * 16, from + i * threads * 16, some);
    }
}

/* A tile of e4m3 to f16. */
template <int T>
static __device__ __forceinline__ void convert_tile(const unsigned char *raw, unsigned char *tile)
{
    const int threads = KEY / 16 / ROUNDS;
    int own = (int)threadIdx.x % threads;
#pragma unroll 1
    for (int row = opaque((int)threadIdx.x) / threads; row < T; row += (int)blockDim.x / threads) {
        unsigned char *left = tile + place_of(row, own * 2),
                      *right = tile + place_of(row, own * 2 + 1);
        const unsigned char *from = raw + row * KEY + own * 16;
#pragma unroll
        for (int i = 0; i < ROUNDS; i++) {
            uint4 v = *(const uint4 *)(from + i * threads * 16), low, high;
            e4m3x4_f16(v.x, &low.x, &low.y);
            e4m3x4_f16(v.y, &low.z, &low.w);
            e4m3x4_f16(v.z, &high.x, &high.y);
            e4m3x4_f16(v.w, &high.z, &high.w);
            *(uint4 *)(left + i * 128) = low;
            *(uint4 *)(right + i * 128) = high;
        }
    }
}

/* s = q k^T for the NT x 8 tokens from `first` on. Products of even and odd 16 dimensions are added up
 * apart, so that two are under way; HELD: 16 dimensions of the query that are in registers. */
template <int TYPE, int NT>
static __device__ __forceinline__ void scores(const uint32_t held[HELD][4],
                                              const unsigned char *query, const unsigned char *tile,
                                              int first, float s[NT][4])
{
    /* Four 8x8 tiles at a time: of 16 dimensions and 16 tokens, or of 32 dimensions and 8. */
    const int steps = 2 / NT;
    int lane = (int)threadIdx.x % 32, token = first + (NT == 2 ? lane / 16 * 8 : 0) + lane % 8;
    int piece = NT == 2 ? lane / 8 % 2 : lane / 8;
    float odd[NT][4];
#pragma unroll
    for (int i = 0; i < NT * 4; i++)
        s[i / 4][i % 4] = odd[i / 4][i % 4] = 0.0f;
#pragma unroll
    for (int k = 0; k < KEY / 16; k += steps) {
        uint32_t b[4];
        ldmatrix_x4(b, tile + place_of(token, k * 2 + piece));
#pragma unroll
        for (int j = 0; j < steps; j++) {
            float(*to)[4] = (k + j) % 2 ? odd : s;
            uint32_t q[4];
            if (k + j < HELD) {
                memcpy(q, held[k + j], sizeof q);
            } else {
                uint4 v = *(const uint4 *)(query + (k + j) * 512 + lane * 16);
                q[0] = v.x, q[1] = v.y, q[2] = v.z, q[3] = v.w;
            }
            mma<TYPE>(to[0], q, b[2 * j], b[2 * j + 1]);
            if (NT == 2)
                mma<TYPE>(to[NT - 1], q, b[2], b[3]);
        }
    }
#pragma unroll
    for (int i = 0; i < NT * 4; i++)
        s[i / 4][i % 4] += odd[i / 4][i % 4];
}

/* o += p v for the warp's dimensions, which begin at `values`. */
template <int TYPE, int T>
static __device__ __forceinline__ void add_values(const unsigned char *values, const told<T> *t,
                                                  float o[PART / 8][4])
{
    int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int first = 0; first < T; first += 32) {
        uint32_t a[2][4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint2 p = t->p[first / 8 + i][lane];
            a[i / 2][i % 2 * 2] = p.x;
            a[i / 2][i % 2 * 2 + 1] = p.y;
        }
#pragma unroll
        for (int i = 0; i < PART / 8; i++) {
            uint32_t b[4];
            ldmatrix_x4_turned(b, values + place_of(first + lane, i));
            mma<TYPE>(o[i], a[0], b[0], b[1]);
            mma<TYPE>(o[i], a[1], b[2], b[3]);
        }
    }
}

template <int T>
static __device__ __forceinline__ void tell(told<T> *t, int sharer, const float most[2])
{
    int lane = (int)threadIdx.x % 32;
    if (lane % 4 == 0) {
        t->most[sharer][lane / 4] = most[0];
        t->most[sharer][lane / 4 + 8] = most[1];
    }
}

/* A tile of which the first `left` tokens are seen. All warps of the block. */
template <int TYPE, int T>
static __device__ __forceinline__ void step(const uint32_t held[HELD][4],
                                            const unsigned char *query, const unsigned char *tile,
                                            int sharer, int left, told<T> *t, attend_state<PART> &w)
{
    const int nt = T / SHARERS / 8;
    float s[nt][4], most[2];
    int lane = (int)threadIdx.x % 32, first = sharer * nt * 8;
    scores<TYPE, nt>(held, query, tile, first, s);
    if (left < T) {
#pragma unroll
        for (int i = 0; i < 4 * nt; i++)
            if (first + i / 4 * 8 + lane % 4 * 2 + i % 2 >= left)
                s[i / 4][i % 4] = -INFINITY;
    }
    largest<nt>(s, most);
    tell(t, sharer, most);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2 * SHARERS; i++)
        most[i % 2] = fmaxf(most[i % 2], t->most[i / 2][lane / 4 + i % 2 * 8]);
    softmax<nt, PART>(s, most, w);
#pragma unroll
    for (int i = 0; i < nt; i++) {
        uint2 p = {TYPE == NUMBER_BF16 ? pack_bf16(s[i][0], s[i][1]) : pack_f16(s[i][0], s[i][1]),
                   TYPE == NUMBER_BF16 ? pack_bf16(s[i][2], s[i][3]) : pack_f16(s[i][2], s[i][3])};
        t->p[sharer * nt + i][lane] = p;
    }
    __syncthreads();
    add_values<TYPE, T>(tile + sharer * PART * 2, t, w.o);
}

/* Sums of the probabilities of all the warps, in their order. */
template <int T>
static __device__ __forceinline__ void add_all(told<T> *t, int sharer, float total[2])
{
    int lane = (int)threadIdx.x % 32;
    add_totals(total);
    __syncthreads();
    tell(t, sharer, total);
    __syncthreads();
    total[0] = total[1] = 0.0f;
#pragma unroll
    for (int i = 0; i < 2 * SHARERS; i++)
        total[i % 2] += t->most[i / 2][lane / 4 + i % 2 * 8];
}

template <int TYPE, int T>
static __global__ void __launch_bounds__(LARGEST *SHARERS * 32, 1) latent_kernel(attend_args a)
{
    typedef latent_shape<TYPE, T> shape;
    const int chunk = ATTEND_CHUNK(TYPE);
    int warp = (int)threadIdx.x / 32, sharer = warp % SHARERS;
    unsigned char *stages = shared_memory();
    told<T> *t = (told<T> *)(stages + shape::stages) + warp / SHARERS;
    unsigned char *query =
        stages + shape::stages + LARGEST * sizeof(told<T>) + warp / SHARERS * QUERY;
    int row = a.row + (int)blockIdx.y, seg = a.batch.row_seg[row];
    int start = (int)blockIdx.z * chunk, end = a.batch.row_pos[row] + 1;
    int head = ((int)blockIdx.x * a.tiles + warp / SHARERS) * 16;
    if (start >= end)
        return;
    int last = end < start + chunk ? end : start + chunk;
    attend_state<PART> w;
    if (sharer == 0) {
        load_query<KEY, TYPE>(a, row, head, a.heads - head, query, w.scale);
        tell(t, 0, w.scale);
    }
    __syncthreads();
    w.scale[0] = t->most[0][(int)threadIdx.x % 32 / 4];
    w.scale[1] = t->most[0][(int)threadIdx.x % 32 / 4 + 8];
    begin_state<PART>(w);
    uint32_t held[HELD][4];
#pragma unroll
    for (int i = 0; i < HELD; i++)
        memcpy(held[i], query + i * 512 + (int)threadIdx.x % 32 * 16, 16);
    stage_tokens<TYPE, T>(a, seg, start, last - start, stages);
    cp_async_commit();
    for (int token = start, i = 0; token < last; token += T, i ^= 1) {
        unsigned char *now = stages + i * shape::stage;
        cp_async_wait<0>();
        __syncthreads();
        if (token + T < last)
            stage_tokens<TYPE, T>(a, seg, token + T, last - token - T,
                                  stages + (i ^ 1) * shape::stage);
        cp_async_commit();
        if (TYPE == NUMBER_F8E4M3) {
            convert_tile<T>(now, stages + 2 * shape::stage);
            __syncthreads();
            now = stages + 2 * shape::stage;
        }
        step<TYPE, T>(held, query, now, sharer, last - token, t, w);
    }
    add_all(t, sharer, w.total);
    finish<VALUE, PART>(a, row, head, a.heads - head, sharer * PART, end <= chunk, (int)blockIdx.z,
                        w);
}

template <int TYPE, int T> static size_t shared_bytes(int tiles)
{
    return latent_shape<TYPE, T>::stages + LARGEST * sizeof(told<T>) + (size_t)tiles * QUERY;
}

template <int TYPE, int T> static void start_tiles(cudaStream_t stream, const attend_args &a)
{
    dim3 grid((a.heads + 16 * a.tiles - 1) / (16 * a.tiles), a.rows, a.chunks);
    launch(latent_kernel<TYPE, T>, grid, a.tiles * SHARERS * 32, shared_bytes<TYPE, T>(a.tiles),
           stream, a);
}

template <int TYPE> static void start(cudaStream_t stream, attend_args a, size_t memory)
{
    a.tiles = LARGEST;
    while (a.tiles > 1 && (a.tiles / 2 * 16 >= a.heads || shared_bytes<TYPE, 32>(a.tiles) > memory))
        a.tiles /= 2;
    if (shared_bytes<TYPE, 64>(a.tiles) <= memory)
        start_tiles<TYPE, 64>(stream, a);
    else
        start_tiles<TYPE, 32>(stream, a);
    if (a.chunks > 1)
        launch_early(combine_kernel<VALUE>, dim3(a.rows, a.heads), VALUE, 0, stream, a,
                     ATTEND_CHUNK(TYPE));
}

extern "C" int cuda_attend_latent_can(int heads, int kv_heads, int key_dim, int value_dim,
                                      int window)
{
    return heads > 0 && kv_heads == 1 && key_dim == KEY && value_dim == VALUE && window == 0;
}

extern "C" void cuda_attend_latent(cudaStream_t stream, const struct cuda_attn *spec,
                                   const struct cuda_kv *kv, const struct cuda_batch *batch,
                                   int row, int rows, size_t memory, const void *q, void *out,
                                   float *partial)
{
    attend_args a = attend_args_of(spec, kv, batch, row, rows, q, out, partial);
    if (kv->type == NUMBER_BF16)
        start<NUMBER_BF16>(stream, a, memory);
    else
        start<NUMBER_F8E4M3>(stream, a, memory);
}
