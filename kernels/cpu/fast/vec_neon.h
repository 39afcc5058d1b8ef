/* vec_neon.h - sixteen floats at once: NEON, as four vectors of four. See vec_avx512.h, whose functions
 * these are.
 */
#ifndef TANDEM_KERNELS_CPU_FAST_VEC_NEON_H
#define TANDEM_KERNELS_CPU_FAST_VEC_NEON_H

typedef float32x4x4_t v16;

/* DO(j) for each of the four vectors. */
#define V_EACH(type, DO)                                                                           \
    (type)                                                                                         \
    {                                                                                              \
        {                                                                                          \
            DO(0), DO(1), DO(2), DO(3)                                                             \
        }                                                                                          \
    }

#define DOTS 2 /* rows and experts of the router at a time: their sums stay in registers */

INLINE v16 v_set(float x)
{
    float32x4_t v = vdupq_n_f32(x);
    return (v16){{v, v, v, v}};
}

INLINE v16 v_load(const float *p)
{
#define V_DO(j) vld1q_f32(p + 4 * j)
    return V_EACH(v16, V_DO);
#undef V_DO
}

INLINE void v_store(float *p, v16 x)
{
    for (size_t j = 0; j < 4; j++)
        vst1q_f32(p + 4 * j, x.val[j]);
}

#define V_TWO(name, instruction)                                                                   \
    INLINE v16 name(v16 x, v16 y)                                                                  \
    {                                                                                              \
        return (v16){{instruction(x.val[0], y.val[0]), instruction(x.val[1], y.val[1]),            \
                      instruction(x.val[2], y.val[2]), instruction(x.val[3], y.val[3])}};          \
    }

/* The second operand when either is NaN, as those of x86 and unlike FMAX. */
INLINE float32x4_t v_larger(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcgtq_f32(x, y), x, y);
}

INLINE float32x4_t v_smaller(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcltq_f32(x, y), x, y);
}

V_TWO(v_add, vaddq_f32)
V_TWO(v_sub, vsubq_f32)
V_TWO(v_mul, vmulq_f32)
V_TWO(v_div, vdivq_f32)
V_TWO(v_max, v_larger)
V_TWO(v_min, v_smaller)

INLINE v16 v_fma(v16 x, v16 y, v16 z)
{
#define V_DO(j) vfmaq_f32(z.val[j], x.val[j], y.val[j])
    return V_EACH(v16, V_DO);
#undef V_DO
}

INLINE v16 v_abs(v16 x)
{
#define V_DO(j) vabsq_f32(x.val[j])
    return V_EACH(v16, V_DO);
#undef V_DO
}

INLINE v16 v_round(v16 x)
{
#define V_DO(j) vrndnq_f32(x.val[j])
    return V_EACH(v16, V_DO);
#undef V_DO
}

INLINE v16 v_fraction(v16 x)
{
#define V_DO(j) vsubq_f32(x.val[j], vrndmq_f32(x.val[j]))
    return V_EACH(v16, V_DO);
#undef V_DO
}

INLINE float32x4_t v_power2(int32x4_t n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}

/* In two steps, because 2^n alone may be too large or too small for a float. */
INLINE float32x4_t v_scale2_four(float32x4_t x, float32x4_t n)
{
    int32x4_t whole = vcvtmq_s32_f32(n), half = vshrq_n_s32(whole, 1);
    return vmulq_f32(vmulq_f32(x, v_power2(half)), v_power2(vsubq_s32(whole, half)));
}
V_TWO(v_scale2, v_scale2_four)

/* The same; where x is from 1 to 2 and subnormal results are 0, others have a shorter way. */
INLINE v16 v_scale2_flushed(v16 x, v16 n)
{
    return v_scale2(x, n);
}

/* All ones in the elements of vector j that are among the first n of 16. */
INLINE uint32x4_t v_first(size_t n, uint32_t j)
{
    static const uint32_t place[4] = {0, 1, 2, 3};
    return vcltq_u32(vaddq_u32(vld1q_u32(place), vdupq_n_u32(4 * j)), vdupq_n_u32((uint32_t)n));
}

INLINE v16 v_keep(v16 x, size_t n, float other)
{
    float32x4_t o = vdupq_n_f32(other);
#define V_DO(j) vbslq_f32(v_first(n, j), x.val[j], o)
    return V_EACH(v16, V_DO);
#undef V_DO
}

/* The elements' bits of a mask, of vector j. */
INLINE unsigned v_bits(uint32x4_t mask, unsigned j)
{
    static const uint32_t bit[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(mask, vld1q_u32(bit))) << (4 * j);
}

INLINE unsigned v_at_least(v16 x, v16 y)
{
    unsigned bits = 0;
    for (unsigned j = 0; j < 4; j++)
        bits |= v_bits(vcgeq_f32(x.val[j], y.val[j]), j);
    return bits;
}

INLINE unsigned v_nan(v16 x)
{
    unsigned bits = 0;
    for (unsigned j = 0; j < 4; j++)
        bits |= v_bits(vmvnq_u32(vceqq_f32(x.val[j], x.val[j])), j);
    return bits;
}

INLINE float v_sum(v16 x)
{
    float32x4_t b = vaddq_f32(vaddq_f32(x.val[0], x.val[2]), vaddq_f32(x.val[1], x.val[3]));
    float32x2_t c = vadd_f32(vget_low_f32(b), vget_high_f32(b));
    return vget_lane_f32(c, 0) + vget_lane_f32(c, 1);
}

INLINE float v_most(v16 x)
{
    float32x4_t b = v_larger(v_larger(x.val[0], x.val[2]), v_larger(x.val[1], x.val[3]));
    float32x4_t c = v_larger(b, vextq_f32(b, b, 2));
    return vgetq_lane_f32(v_larger(c, vextq_f32(c, c, 1)), 0);
}

#define TURN_ROW ((size_t)4 * PANEL) /* bytes of a pair of inputs in a panel of bf16 */

/* Of two tokens two dimensions each: those in the middle change places. */
INLINE uint64x2_t v_turn_pairs(const uint8_t *from)
{
    const uint8x16_t order = {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15};
    return vreinterpretq_u64_u8(vqtbl1q_u8(vld1q_u8(from), order));
}

/* Four pairs of dimensions of four pairs of tokens. */
INLINE void v_turn(const uint8_t *from, uint8_t *to)
{
    for (size_t pair = 0; pair < 4; pair += 2)
        for (size_t token = 0; token < 4; token += 2) {
            const uint8_t *x = from + pair * TURN_ROW + token * 8;
            uint8_t *y = to + token * TURN_ROW + pair * 8;
            uint64x2_t a = v_turn_pairs(x), b = v_turn_pairs(x + TURN_ROW);
            vst1q_u8(y, vreinterpretq_u8_u64(vzip1q_u64(a, b)));
            vst1q_u8(y + TURN_ROW, vreinterpretq_u8_u64(vzip2q_u64(a, b)));
        }
}

/* sum[0..15] += floor(a[0..15]) */
INLINE void v_add_floors(double *sum, v16 a)
{
    for (size_t j = 0; j < 4; j++, sum += 4) {
        float32x4_t whole = vrndmq_f32(a.val[j]);
        vst1q_f64(sum, vaddq_f64(vld1q_f64(sum), vcvt_f64_f32(vget_low_f32(whole))));
        vst1q_f64(sum + 2, vaddq_f64(vld1q_f64(sum + 2), vcvt_high_f64_f32(whole)));
    }
}

/* sum[j] += exact_term(weight, product[j]) for eight j. */
INLINE void v_add_terms(double *sum, const float *product, double weight)
{
    float64x2_t w = vdupq_n_f64(weight), shift = vdupq_n_f64(EXACT_SHIFT);
    for (size_t j = 0; j < 8; j += 2) {
        float64x2_t term = vfmaq_f64(shift, vcvt_f64_f32(vld1_f32(product + j)), w);
        vst1q_f64(sum + j, vaddq_f64(vld1q_f64(sum + j), vsubq_f64(term, shift)));
    }
}

/* ---- other formats: the end of a row goes through a buffer ----------------------------------- */

INLINE v16 v_load_n(const float *p, size_t n)
{
    float end[16] = {0};
    return v_load(n < 16 ? memcpy(end, p, n * sizeof *p) : p);
}

INLINE void v_store_n(float *p, size_t n, v16 x)
{
    float end[16];
    v_store(n < 16 ? end : p, x);
    if (n < 16)
        memcpy(p, end, n * sizeof *p);
}

INLINE v16 v_load_bf16(const bf16_t *p, size_t n)
{
    bf16_t end[16] = {0};
    if (n < 16)
        p = memcpy(end, p, n * sizeof *p);
#define V_DO(j) vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * j), 16))
    return V_EACH(v16, V_DO);
#undef V_DO
}

/* The bf16 in the lower half of each. */
INLINE uint32x4_t v_bf16_four(float32x4_t x)
{
    uint32x4_t u = vreinterpretq_u32_f32(x), half = vshrq_n_u32(u, 16);
    uint32x4_t odd = vandq_u32(half, vdupq_n_u32(1));
    uint32x4_t round = vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    return vbslq_u32(vceqq_f32(x, x), vshrq_n_u32(round, 16), vorrq_u32(half, vdupq_n_u32(0x40)));
}

INLINE void v_store_bf16(bf16_t *p, size_t n, v16 x)
{
    bf16_t end[16], *to = n < 16 ? end : p;
    for (size_t j = 0; j < 4; j++)
        vst1_u16(to + 4 * j, vmovn_u32(v_bf16_four(x.val[j])));
    if (n < 16)
        memcpy(p, end, n * sizeof *p);
}

/* Nothing is faster here than the other form, and no row is multiplied in bf16. */
INLINE void v_store_bf16_fast(bf16_t *p, v16 x, v16 y)
{
    v_store_bf16(p, 16, x);
    v_store_bf16(p + 16, 16, y);
}

INLINE v16 v_to_bf16(v16 x)
{
#define V_DO(j) vreinterpretq_f32_u32(vshlq_n_u32(v_bf16_four(x.val[j]), 16))
    return V_EACH(v16, V_DO);
#undef V_DO
}

INLINE float32x4_t v_f8_four(uint32x4_t code)
{
    uint32x4_t sign = vshlq_n_u32(vshrq_n_u32(code, 7), 31);
    uint32x4_t low = vandq_u32(code, vdupq_n_u32(0x7f));
    uint32x4_t tiny = vcltq_u32(low, vdupq_n_u32(8)); /* steps of 2^-9 */
    uint32x4_t a = vaddq_u32(vshlq_n_u32(low, 20), vdupq_n_u32(120 << 23));
    float32x4_t steps = vmulq_f32(vcvtq_f32_u32(low), vdupq_n_f32(0x1p-9f));
    a = vorrq_u32(vbslq_u32(tiny, vreinterpretq_u32_f32(steps), a), sign);
    uint32x4_t nan = vceqq_u32(low, vdupq_n_u32(0x7f));
    return vreinterpretq_f32_u32(vbslq_u32(nan, vdupq_n_u32(0x7fc00000), a));
}

INLINE v16 v_load_f8(const f8e4m3_t *p, size_t n)
{
    f8e4m3_t end[16] = {0};
    uint8x16_t codes = vld1q_u8(n < 16 ? memcpy(end, p, n) : p);
    uint16x8_t a = vmovl_u8(vget_low_u8(codes)), b = vmovl_u8(vget_high_u8(codes));
    return (v16){{v_f8_four(vmovl_u16(vget_low_u16(a))), v_f8_four(vmovl_u16(vget_high_u16(a))),
                  v_f8_four(vmovl_u16(vget_low_u16(b))), v_f8_four(vmovl_u16(vget_high_u16(b)))}};
}

INLINE uint16x4_t v_to_f8_four(float32x4_t x)
{
    uint32x4_t sign = vshlq_n_u32(vshrq_n_u32(vreinterpretq_u32_f32(x), 31), 7);
    float32x4_t size = v_smaller(vabsq_f32(x), vdupq_n_f32(448.0f));
    uint32x4_t s = vreinterpretq_u32_f32(size);
    uint32x4_t odd = vandq_u32(vshrq_n_u32(s, 20), vdupq_n_u32(1));
    uint32x4_t normal = vaddq_u32(s, vaddq_u32(odd, vdupq_n_u32(0x7ffff)));
    normal = vsubq_u32(vshrq_n_u32(normal, 20), vdupq_n_u32(120 << 3));
    uint32x4_t small = vreinterpretq_u32_f32(vaddq_f32(size, vdupq_n_f32(0x1p14f)));
    small = vsubq_u32(small, vdupq_n_u32((127u + 14) << 23));
    uint32x4_t code = vbslq_u32(vcltq_f32(size, vdupq_n_f32(0x1p-6f)), small, normal);
    code = vbslq_u32(vceqq_f32(x, x), code, vdupq_n_u32(0x7f));
    return vmovn_u32(vorrq_u32(code, sign));
}

INLINE void v_store_f8(f8e4m3_t *p, size_t n, v16 x)
{
    f8e4m3_t end[16];
    uint16x8_t a = vcombine_u16(v_to_f8_four(x.val[0]), v_to_f8_four(x.val[1]));
    uint16x8_t b = vcombine_u16(v_to_f8_four(x.val[2]), v_to_f8_four(x.val[3]));
    vst1q_u8(n < 16 ? end : p, vcombine_u8(vmovn_u16(a), vmovn_u16(b)));
    if (n < 16)
        memcpy(p, end, n);
}

#undef V_TWO
#undef V_EACH
#endif
