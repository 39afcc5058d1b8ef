/* gemm_groups.cuh - the product of one chunk with weights in groups (card/matrix.h: GROUP4, GROUP8); a part
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

/* total += scale acc, and less the sums of the tokens in b, of PAIRS x 16 tokens and STEPS x 16 columns. */
template <typename SHAPE, int PAIRS, int STEPS>
static __device__ __forceinline__ void
gemm_add_groups(bool less, const gemm_group of[SHAPE::tiles][2], const uint32_t b[PAIRS][STEPS][4],
                const float acc[SHAPE::tiles][PAIRS * 2][4], float (*total)[SHAPE::groups][4],
                int group)
{
    const uint32_t ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
#pragma unroll
    for (int i = 0; i < SHAPE::tiles * PAIRS * 8; i++) {
        int m = i / (PAIRS * 8), g = i / 4 % (PAIRS * 2), c = i % 4;
        float *to = &total[m][group + g][c];
        *to = fmaf(of[m][c / 2].scale, acc[m][g][c], *to);
    }
    if (!less)
        return;
    float sum[PAIRS * 2][4];
#pragma unroll
    for (int i = 0; i < STEPS * PAIRS * 2; i++) {
        int step = i / (PAIRS * 2), g = i % (PAIRS * 2);
        const uint32_t *x = &b[g / 2][step][g % 2 * 2];
        if (step == 0)
            mma_bf16_first(sum[g], ones, x[0], x[1]);
        else
            mma_bf16(sum[g], ones, x[0], x[1]);
    }
#pragma unroll
    for (int i = 0; i < SHAPE::tiles * PAIRS * 8; i++) {
        int m = i / (PAIRS * 8), g = i / 4 % (PAIRS * 2), c = i % 4;
        float *to = &total[m][group + g][c];
        *to = fmaf(-of[m][c / 2].less, sum[g][c], *to);
    }
}

/* total += W x of a unit, the STEPS x 16 columns from 16 kk of a chunk on, for PAIRS x 16 tokens from `first` x 16
 * on; a: its codes. */
template <typename SHAPE, int PAIRS, int STEPS>
static __device__ __forceinline__ void
gemm_multiply_unit(const unsigned char *xs, int kk, int first, bool less,
                   const gemm_group of[SHAPE::tiles][2], const uint32_t a[STEPS][SHAPE::tiles][4],
                   float total[SHAPE::tiles][SHAPE::groups][4])
{
    int lane = (int)threadIdx.x % 32;
    uint32_t b[PAIRS][STEPS][4];
    float acc[SHAPE::tiles][PAIRS * 2][4];
#pragma unroll
    for (int i = 0; i < PAIRS * STEPS; i++) {
        int part = ((kk + i % STEPS) * 2 + lane / 8 % 2) ^ (lane & 7);
        ldmatrix_x4(b[i / STEPS][i % STEPS],
                    xs + (first + i / STEPS) * 16 * (MATRIX_CHUNK * 2) + part * 16);
    }
#pragma unroll
    for (int i = 0; i < STEPS * PAIRS * 2 * SHAPE::tiles; i++) {
        int step = i / (PAIRS * 2 * SHAPE::tiles), m = i % SHAPE::tiles;
        int g = i / SHAPE::tiles % (PAIRS * 2);
        const uint32_t *x = &b[g / 2][step][g % 2 * 2];
        if (step == 0)
            mma_bf16_first(acc[m][g], a[step][m], x[0], x[1]);
        else
            mma_bf16(acc[m][g], a[step][m], x[0], x[1]);
    }
    gemm_add_groups<SHAPE, PAIRS, STEPS>(less, of, b, acc, total, first * 2);
}

/* The same for all of the first PAIRS x 16 tokens, of which two pairs are on their way together. */
template <int TYPE, typename SHAPE, int PAIRS, int STEPS>
static __device__ __forceinline__ void
gemm_multiply_codes(const unsigned char *ws, const unsigned char *xs, int kk, const cuda_form &f,
                    const gemm_group of[SHAPE::tiles][2],
                    float total[SHAPE::tiles][SHAPE::groups][4])
{
    uint32_t a[STEPS][SHAPE::tiles][4];
#pragma unroll
    for (int s = 0; s < STEPS; s++)
        gemm_codes<TYPE, SHAPE>(ws, f, kk + s, of, a[s]);
#pragma unroll
    for (int first = 0; first + 1 < PAIRS; first += 2)
        gemm_multiply_unit<SHAPE, 2, STEPS>(xs, kk, first, f.less, of, a, total);
    if (PAIRS % 2 == 1)
        gemm_multiply_unit<SHAPE, 1, STEPS>(xs, kk, PAIRS - 1, f.less, of, a, total);
}

/* total += W x of one chunk; a unit at a time, so that the code stays short. */
template <int TYPE, typename SHAPE, int PAIRS>
static __device__ __forceinline__ void
gemm_multiply_groups(const unsigned char *stage, const cuda_form &f,
                     float total[SHAPE::tiles][SHAPE::groups][4])
{
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const unsigned char *ws = stage + SHAPE::x_bytes + warp * SHAPE::tiles * SHAPE::tile;
    const unsigned char *xs = stage + (lane / 16 * 8 + lane % 8) * (MATRIX_CHUNK * 2);
    gemm_group of[SHAPE::tiles][2];
    if (f.groups == 4) {
#pragma unroll 1
        for (int kk = 0; kk < 4; kk++) {
            gemm_groups<TYPE, SHAPE>(ws, f, kk, of);
            gemm_multiply_codes<TYPE, SHAPE, PAIRS, 1>(ws, xs, kk, f, of, total);
        }
        return;
    }
#pragma unroll 1
    for (int kk = 0; kk < 4; kk += 2) {
        if (kk == 0 || f.groups + f.outers > 2) /* they change in a chunk */
            gemm_groups<TYPE, SHAPE>(ws, f, kk, of);
        gemm_multiply_codes<TYPE, SHAPE, PAIRS, 2>(ws, xs, kk, f, of, total);
    }
}

#endif
