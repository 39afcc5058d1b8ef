/* neon.c - the backend of 64-bit ARM: panel functions, kernels for rows and tiles, tables.
 *
 * f32 arithmetic on weights that are widened in registers, as in panel_avx2.c: a panel is gone through
 * half by half, and a tile is up to 6 rows x 16 outputs, 24 of the 32 registers. Of each pair of inputs
 * the second is added first, as panel.h says. BFDOT and BFMMLA are not used: where the extension EBF16 is
 * absent they round products and sums to odd, and no order of additions gives the bits of the other
 * backends.
 */
#ifdef __aarch64__
#include "kernels/cpu/fast/fast.h"
#include "kernels/cpu/fast/integer_neon.h"
#include "kernels/cpu/fast/table.h"
#include "kernels/cpu/fast/target.h"
#include "kernels/cpu/fast/tile.h"
#include "kernels/cpu/integer.h"
#include "kernels/cpu/lane.h"
#include "kernels/exact.h"

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/fast/vec_neon.h"
#include "kernels/cpu/fast/tile_body.h"
#include "kernels/cpu/fast/rows_body.h"

/* ---- weights of sixteen outputs, of one input of a pair, to f32 ------------------------------ */

INLINE v16 wide_bf16(const uint8_t *w, int half, int input)
{
    v16 v;
    for (int j = 0; j < 4; j++) {
        uint32x4_t pairs = vreinterpretq_u32_u8(vld1q_u8(w + 64 * half + 16 * j));
        v.val[j] = vreinterpretq_f32_u32(input ? vandq_u32(pairs, vdupq_n_u32(0xffff0000))
                                               : vshlq_n_u32(pairs, 16));
    }
    return v;
}

/* Four codes of one byte: where code_place() has them. */
INLINE uint32x4_t codes_of(const uint8_t *w, int half, int input, int j)
{
    uint32x4_t pairs = vmovl_u16(vreinterpret_u16_u8(vld1_u8(w + 16 * j + 8 * half)));
    return input ? vshrq_n_u32(pairs, 8) : vandq_u32(pairs, vdupq_n_u32(0xff));
}

INLINE v16 wide_f8(const uint8_t *w, int half, int input)
{
    v16 v;
    for (int j = 0; j < 4; j++)
        v.val[j] = v_f8_four(codes_of(w, half, input, j));
    return v;
}

INLINE v16 wide(enum w_format f, const uint8_t *w, int half, int input)
{
    if (f == W_F32)
        return v_load((const float *)(const void *)(w + 128 * input + 64 * half));
    if (f == W_BF16)
        return wide_bf16(w, half, input);
    return wide_f8(w, half, input);
}

/* ---- tiles: m rows, sixteen outputs ---------------------------------------------------------- */

#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define DECLARE(r)   v16 a##r = v_set(0);
#define TAKE_UP(r)                                                                                 \
    if (m > r)                                                                                     \
        a##r = v_load(sums + r * PANEL);
#define PUT_BACK(r)                                                                                \
    if (m > r)                                                                                     \
        v_store(sums + r * PANEL, a##r);
#define MULTIPLY(r)                                                                                \
    if (m > r)                                                                                     \
        a##r = v_fma(wide_now, v_set(input_of(x, r, now)), a##r);

INLINE float input_of(const uint8_t *x, size_t row, int input)
{
    float v;
    memcpy(&v, x + row * X_ROW + 4 * (size_t)input, sizeof v);
    return v;
}

/* One pair of inputs, the second first. */
#define PAIR(WIDE)                                                                                 \
    for (int now = 1; now >= 0; now--) {                                                           \
        v16 wide_now = WIDE;                                                                       \
        EACH_ROW(MULTIPLY)                                                                         \
    }

/* The first time through a panel the memory behind it is fetched. */
#define FETCH(lines)                                                                               \
    if (half == 0) {                                                                               \
        __builtin_prefetch(fetch);                                                                 \
        if ((lines) == 2)                                                                          \
            __builtin_prefetch(fetch + 64);                                                        \
        fetch += t->prefetch_step;                                                                 \
    }

INLINE void tile(const struct tile *t, const int m, const int half, const enum w_format f)
{
    const uint8_t *w = t->w, *x = t->x, *fetch = t->prefetch, *const *more = t->more;
    size_t left = t->k;
    float *sums = t->c + 16 * half;
    EACH_ROW(DECLARE)
    if (!t->first) {
        EACH_ROW(TAKE_UP)
    }
    EACH_STEP(2, FETCH(f == W_F32 || f == W_BF16 ? 2 : 1) PAIR(wide(f, w, half, now)) w +=
                 2 * w_input(f);
              x += 8;);
    EACH_ROW(PUT_BACK)
}

/* Fresh sums for each block of 128 inputs, then c += scale x sum. */
INLINE void tile_f8_scaled(const struct tile *t, const int m, const int half)
{
    const uint8_t *w = t->w, *x = t->x, *fetch = t->prefetch;
    const float *scale = t->scale;
    float *sums = t->c + 16 * half;
    bool first = t->first;
    size_t passed = t->passed; /* of a block, where a slice begins within it */
    for (size_t left = t->k, run; left; left -= run, scale += 2, passed = 0) {
        run = left < F8_BLOCK - passed ? left : F8_BLOCK - passed;
        EACH_ROW(DECLARE)
        for (size_t i = 0; i < run; i += 2) {
            FETCH(1)
            PAIR(wide_f8(w, half, now))
            w += 64;
            x += 8;
        }
        v16 s = v_set(scale[half]);
#define SCALE(r)                                                                                   \
    if (m > r)                                                                                     \
        a##r = v_fma(s, a##r, first ? v_set(0) : v_load(sums + r * PANEL));
        EACH_ROW(SCALE)
        EACH_ROW(PUT_BACK)
        first = false;
    }
}

/* ---- grouped forms: a chain from 0 for each run, then c += scale x it, less min x the run's sum -- */

INLINE v16 wide_g8(const uint8_t *w, int half, int input)
{
    v16 v;
    for (int j = 0; j < 4; j++) {
        int32x4_t code = vreinterpretq_s32_u32(codes_of(w, half, input, j));
        v.val[j] = vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(code, 24), 24));
    }
    return v;
}

/* Codes of g4, of input 0..3 of a line. */
INLINE v16 wide_g4(const uint8_t *w, int half, int input, int8x16_t values)
{
    uint8x16x4_t line = vld4q_u8(w); /* four_place() */
    uint8x16_t byte = line.val[input % 2 * 2 + input / 2];
    uint8x16_t code = half ? vshrq_n_u8(byte, 4) : vandq_u8(byte, vdupq_n_u8(15));
    int8x16_t value = vqtbl1q_s8(values, code);
    int16x8_t a = vmovl_s8(vget_low_s8(value)), b = vmovl_s8(vget_high_s8(value));
    return (v16){
        {vcvtq_f32_s32(vmovl_s16(vget_low_s16(a))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(a))),
         vcvtq_f32_s32(vmovl_s16(vget_low_s16(b))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(b)))}};
}

/* The sum of a run's inputs. */
INLINE float sum_of(const uint8_t *sums, size_t n)
{
    float sum = input_of(sums, 0, 0);
    for (size_t i = 1; i < n; i++)
        sum += input_of(sums, 0, (int)i);
    return sum;
}

#define ADD_RUN(r)                                                                                 \
    if (m > r) {                                                                                   \
        float *c = sums + r * PANEL;                                                               \
        a##r = v_fma(v_load(scale), a##r, first ? v_set(0) : v_load(c));                           \
        if (mins)                                                                                  \
            a##r = v_fma(v_mul(v_set(-1), v_load(scale + PANEL)),                                  \
                         v_set(sum_of(all + r * X_ROW, units)), a##r);                             \
        v_store(c, a##r);                                                                          \
    }

INLINE void tile_grouped(const struct tile *t, const int m, const int half, const bool four)
{
    const uint8_t *w = t->w, *x = t->x, *fetch = t->prefetch, *all = t->sums;
    const bool mins = t->grouped->mins;
    const float *scale = t->scale + 16 * half;
    size_t inputs = t->grouped->inputs, unit = x_unit(t->grouped), run;
    int8x16_t values = four ? vld1q_s8(t->grouped->values) : vdupq_n_s8(0);
    float *sums = t->c + 16 * half;
    bool first = t->first;
    for (size_t left = t->k, passed = t->passed; left; left -= run, passed = 0) {
        run = left < inputs - passed ? left : inputs - passed;
        size_t units = (run + unit - 1) / unit;
        EACH_ROW(DECLARE)
        for (size_t i = 0; i < run; i += 2) {
            const int pair = four ? (int)(i % 4) : 0;
            FETCH(1)
            PAIR(four ? wide_g4(w, half, pair + now, values) : wide_g8(w, half, now))
            w += four && pair == 0 ? 0 : 64;
            x += 8;
        }
        EACH_ROW(ADD_RUN)
        first = false;
        scale += mins ? 2 * PANEL : PANEL;
        all += units * sizeof(float);
    }
}

/* ---- one function per number of rows --------------------------------------------------------- */

#define ROWS_OF(name, m, call, ...)                                                                \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        call(t, m, 0, ##__VA_ARGS__);                                                              \
        call(t, m, 1, ##__VA_ARGS__);                                                              \
    }
#define FAMILY(name, format, ...)                                                                  \
    ROWS_OF(name, 1, __VA_ARGS__)                                                                  \
    ROWS_OF(name, 2, __VA_ARGS__)                                                                  \
    ROWS_OF(name, 3, __VA_ARGS__)                                                                  \
    ROWS_OF(name, 4, __VA_ARGS__)                                                                  \
    ROWS_OF(name, 5, __VA_ARGS__)                                                                  \
    ROWS_OF(name, 6, __VA_ARGS__)                                                                  \
    static tile_fn *const name##_fn[] = {NULL,     name##_1, name##_2, name##_3,                   \
                                         name##_4, name##_5, name##_6};                            \
    static const struct tiles name##_set = {name##_fn, 6, format, X_F32};

FAMILY(f32, W_F32, tile, W_F32)
FAMILY(bf16, W_BF16, tile, W_BF16)
FAMILY(f8, W_F8, tile, W_F8)
FAMILY(f8_scaled, W_F8, tile_f8_scaled)
FAMILY(g8, W_G8, tile_grouped, false)
FAMILY(g4, W_G4, tile_grouped, true)

/* ---- what fast.h asks for -------------------------------------------------------------------- */

#define PANEL_OF(name, set)                                                                        \
    static void name(const struct panel *p)                                                        \
    {                                                                                              \
        tile_panel(p, set);                                                                        \
    }
#define PARTS_OF(name, set)                                                                        \
    static void name(const struct parts *p)                                                        \
    {                                                                                              \
        tile_parts(p, set);                                                                        \
    }

PANEL_OF(panel_f32, &f32_set)
PANEL_OF(panel_bf16, &bf16_set)
PANEL_OF(panel_f8, p->scale ? &f8_scaled_set : &f8_set)
PANEL_OF(panel_g8, &g8_set)
PANEL_OF(panel_g4, &g4_set)
PARTS_OF(parts_f32, &f32_set)
PARTS_OF(parts_bf16, &bf16_set)
PARTS_OF(parts_f8, &f8_set)

static const struct isa isa_neon = {
    .name = "neon",
    .x_bf16 = false,
    .panel = {[W_F32] = {[X_F32] = panel_f32},
              [W_BF16] = {[X_F32] = panel_bf16},
              [W_F8] = {[X_F32] = panel_f8},
              [W_G8] = {[X_F32] = panel_g8},
              [W_G4] = {[X_F32] = panel_g4},
              [W_Q8] = {[X_INTEGERS] = neon_panel_q8},
              [W_Q4] = {[X_INTEGERS] = neon_panel_q4}},
    .parts = {[W_F32] = {[X_F32] = parts_f32},
              [W_BF16] = {[X_F32] = parts_bf16},
              [W_F8] = {[X_F32] = parts_f8}},
    ISA_BODIES,
};

/* Every 64-bit ARM has it. */
static int usable(struct err *e)
{
    (void)e;
    return 0;
}

static int open_device(const struct device_config *config, struct device **out, struct err *e)
{
    return fast_open(&isa_neon, config, out, e);
}

static const struct device_ops device_ops = CPU_DEVICE_OPS(open_device);

extern const struct backend backend_neon;
const struct backend backend_neon = {
    .name = "neon",
    .device = &device_ops,
    .ops = &fast_ops,
    .usable = usable,
};
#endif
