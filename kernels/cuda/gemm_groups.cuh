/* gemm_groups.cuh - the product of one chunk with weights in groups (kernels.h: GROUP4, GROUP8); a part
 * of gemm.cuh.
 *
 * A unit is what shares the numbers of its group: 32 columns, or 16 where groups are that small. Of its two
 * tiles lane 16 m + r works out the numbers of row r of tile m, and the lanes that need them ask it. Where
 * there is an m, the sum of a unit's tokens comes from products with ones: in the same places as the sums
 * that it is added to. */
#ifndef TANDEM_CUDA_GEMM_GROUPS_CUH
#define TANDEM_CUDA_GEMM_GROUPS_CUH

/* The numbers of a row's group. zero: GROUP4 the bf16 of -(128 + zero), twice; GROUP8 the f32 of
 * I8_BIAS + zero. */
struct gemm_group {
    float scale, less;
    uint32_t zero;
};

/* Of the row `row` of a tile and columns 16 q .. of the chunk; at: behind the tile's codes. */
template <int TYPE>
static __device__ __forceinline__ gemm_group gemm_read_group(const unsigned char *at,
                                                             const cuda_form &f, int row, int q)
{
    int outer = (q * f.outers / 4) * 16 + row, inner = (q * f.groups / 4) * 16 + row;
    int wide = f.factor == NUMBER_F32 ? 4 : 2, factors = f.outers * 16;
    float d[2] = {0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const unsigned char *p = at + (i * factors + outer) * wide;
        if (i > f.less)
            break;
        d[i] = f.factor == NUMBER_F32    ? *(const float *)p
               : f.factor == NUMBER_BF16 ? bits_to_f32((uint32_t) * (const uint16_t *)p << 16)
                                         : f16_value(*(const uint16_t *)p);
    }
    const int8_t *small = (const int8_t *)at + factors * wide * (f.less ? 2 : 1) + inner;
    int scale = f.scales ? small[0] : 1, min = f.mins ? small[f.scales ? f.groups * 16 : 0] : 0;
    float zero = (float)(f.zero + (f.less ? 0 : min));
    gemm_group g;
    g.scale = d[0] * (float)scale;
    g.less = d[1] * (float)(f.mins ? min : 1);
    g.zero = TYPE == MATRIX_GROUP4 ? pack_bf16(-128.0f - zero, -128.0f - zero)
                                   : f32_to_bits(I8_BIAS + zero);
    return g;
}

/* The same for rows g and g + 8 of all tiles, in all lanes. */
template <int TYPE, typename SHAPE>
static __device__ __forceinline__ void gemm_groups(const unsigned char *ws, const cuda_form &f,
                                                   int q, gemm_group of[SHAPE::tiles][2])
{
    static_assert(SHAPE::tiles == 2 && SHAPE::across == 1, "a lane for every row");
    int lane = (int)threadIdx.x % 32;
    gemm_group own = gemm_read_group<TYPE>(
        ws + lane / 16 * SHAPE::tile + SHAPE::pieces * GEMM_PIECE, f, lane % 16, q);
#pragma unroll
    for (int i = 0; i < SHAPE::tiles * 2; i++) {
        int from = i * 8 + lane / 4;
        of[i / 2][i % 2].scale = warp_from(own.scale, from);
        of[i / 2][i % 2].zero = warp_from(own.zero, from);
        if (f.less)
            of[i / 2][i % 2].less = warp_from(own.less, from);
    }
}

/* The codes of 16 columns, less their zeros, as bf16. */
template <int TYPE, typename SHAPE>
static __device__ __forceinline__ void gemm_codes(const unsigned char *ws, const cuda_form &f,
                                                  int kk, const gemm_group of[SHAPE::tiles][2],
                                                  uint32_t a[SHAPE::tiles][4])
{
    int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < SHAPE::tiles; m++) {
        const unsigned char *tile = ws + m * SHAPE::tile;
        uint32_t zero[2] = {of[m][0].zero, of[m][1].zero};
        if (TYPE == MATRIX_GROUP8) {
            uint2 v = *(const uint2 *)(tile + kk / 2 * GEMM_PIECE + lane * 16 + kk % 2 * 8);
            float top = bits_to_f32(zero[0]), bottom = bits_to_f32(zero[1]);
            i8x4_bf16(v.x, top, bottom, &a[m][0], &a[m][1]);
            i8x4_bf16(v.y, top, bottom, &a[m][2], &a[m][3]);
            continue;
        }
        uint32_t v = *(const uint32_t *)(tile + kk / 2 * 256 + lane * 8 + kk % 2 * 4);
        if (f.codes == CODES_LINEAR) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[m][i] = u4x2_bf16(v >> 4 * i, zero[i % 2]);
        } else if (f.codes == CODES_E2M1) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[m][i] = e2m1x2_bf16(v >> 4 * i);
        } else {
            uint32_t lo = 0, hi = 0;
            curve_i8x8(v, &lo, &hi);
            i8x4_bf16(byte_perm(lo, hi, 0x5140), I8_BIAS, I8_BIAS, &a[m][0], &a[m][1]);
            i8x4_bf16(byte_perm(lo, hi, 0x7362), I8_BIAS, I8_BIAS, &a[m][2], &a[m][3]);
        }
    }
}

/* total += scale acc, and less the sums of tokens over steps [from, to] of 16 columns; acc = 0 if `clear`. */
template <typename SHAPE, int PAIRS>
static __device__ __forceinline__ void
gemm_add_group(const unsigned char *xs, const cuda_form &f, int from, int to,
               const gemm_group of[SHAPE::tiles][2], float acc[SHAPE::tiles][PAIRS * 2][4],
               float total[SHAPE::tiles][SHAPE::groups][4], bool clear)
{
    int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < SHAPE::tiles * PAIRS * 8; i++) {
        int m = i / (PAIRS * 8), group = i / 4 % (PAIRS * 2), c = i % 4;
        total[m][group][c] = fmaf(of[m][c / 2].scale, acc[m][group][c], total[m][group][c]);
        if (clear)
            acc[m][group][c] = 0.0f;
    }
    if (!f.less)
        return;
    const uint32_t ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
#pragma unroll
    for (int pair = 0; pair < PAIRS; pair++) {
        float sum[2][4] = {{0.0f, 0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.0f, 0.0f}};
        for (int kk = from; kk <= to; kk++) {
            uint32_t b[4];
            int part = (kk * 2 + lane / 8 % 2) ^ (lane & 7);
            ldmatrix_x4(b, xs + pair * 16 * (MATRIX_CHUNK * 2) + part * 16);
            mma_bf16(sum[0], ones, b[0], b[1]);
            mma_bf16(sum[1], ones, b[2], b[3]);
        }
#pragma unroll
        for (int i = 0; i < SHAPE::tiles * 8; i++) {
            int m = i / 8, c = i % 4;
            float *t = &total[m][pair * 2 + i / 4 % 2][c];
            *t = fmaf(-of[m][c / 2].less, sum[i / 4 % 2][c], *t);
        }
    }
}

/* total += W x of one chunk, for the first PAIRS x 16 tokens; a half of the chunk at a time, so that the
 * code stays short. */
template <int TYPE, typename SHAPE, int PAIRS>
static __device__ __forceinline__ void
gemm_multiply_groups(const unsigned char *stage, const cuda_form &f,
                     float total[SHAPE::tiles][SHAPE::groups][4])
{
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const unsigned char *ws = stage + SHAPE::x_bytes + warp * SHAPE::tiles * SHAPE::tile;
    const unsigned char *xs = stage + (lane / 16 * 8 + lane % 8) * (MATRIX_CHUNK * 2);
    bool fine = f.groups == 4;
#pragma unroll 1
    for (int half = 0; half < 2; half++) {
        float acc[SHAPE::tiles][PAIRS * 2][4];
        gemm_group of[SHAPE::tiles][2];
#pragma unroll
        for (int step = 0; step < 2; step++) {
            int kk = half * 2 + step, part = (kk * 2 + lane / 8 % 2) ^ (lane & 7);
            uint32_t a[SHAPE::tiles][4], b[PAIRS][4];
#pragma unroll
            for (int pair = 0; pair < PAIRS; pair++)
                ldmatrix_x4(b[pair], xs + pair * 16 * (MATRIX_CHUNK * 2) + part * 16);
            if (step == 0 || fine)
                gemm_groups<TYPE, SHAPE>(ws, f, kk, of);
            gemm_codes<TYPE, SHAPE>(ws, f, kk, of, a);
#pragma unroll
            for (int i = 0; i < PAIRS * 2 * SHAPE::tiles; i++) {
                int m = i % SHAPE::tiles, group = i / SHAPE::tiles;
                uint32_t *x = &b[group / 2][group % 2 * 2];
                if (step == 0)
                    mma_bf16_first(acc[m][group], a[m], x[0], x[1]);
                else
                    mma_bf16(acc[m][group], a[m], x[0], x[1]);
            }
            if (step == 1 || fine)
                gemm_add_group<SHAPE, PAIRS>(xs, f, fine ? kk : kk - 1, kk, of, acc, total,
                                             step == 0);
        }
    }
}

#endif
