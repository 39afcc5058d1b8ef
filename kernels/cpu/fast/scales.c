/* scales.c - scales of grouped forms, kept and widened. AVX2 does for AVX-512 too: little depends on it. */
#include "kernels/cpu/fast/scales.h"

#include "kernels/cpu/fast/target.h"

#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

static bool own_min(const struct weight_form *f)
{
    return f->mins == MINS_OUTER || f->mins == MINS_INNER;
}

static bool small_min(const struct weight_form *f)
{
    return f->mins == MINS_INNER || f->mins == MINS_SHARED;
}

static bool alike(const struct weight_form *a, const struct weight_form *b)
{
    return a->factor == b->factor && a->outer == b->outer && a->inner == b->inner &&
           a->scales == b->scales && a->mins == b->mins;
}

struct scales scales_of(const struct weight_form *a, const struct weight_form *b)
{
    struct scales s = {.factor = DTYPE_F32, .groups = 1, .mins = a->mins != MINS_NONE};
    s.own_min = s.mins;
    if (!alike(a, b))
        return s;
    s.factor = a->factor;
    s.groups = a->outer / form_run(a);
    s.own_min = own_min(a);
    s.scale = a->scales;
    s.min = small_min(a);
    return s;
}

size_t scales_bytes(const struct scales *s, size_t groups)
{
    return (groups + s->groups - 1) / s->groups * scales_block(s);
}

static void put(enum dtype t, float value, void *to, size_t at)
{
    if (t == DTYPE_F16)
        ((f16_t *)to)[at] = f16_from_f32(value);
    else if (t == DTYPE_BF16)
        ((bf16_t *)to)[at] = bf16_from_f32(value);
    else
        ((float *)to)[at] = value;
}

void scales_put(const struct scales *s, void *panel, size_t output, size_t at,
                const struct form_group *g)
{
    uint8_t *block = (uint8_t *)panel + at / s->groups * scales_block(s);
    uint8_t *small = block + scales_factors(s) + at % s->groups * scales_small(s) + output;
    put(s->factor, s->scale ? g->d : g->d * (float)g->scale, block, output);
    if (s->own_min)
        put(s->factor, s->min ? g->m : g->m * (float)g->min, block, PANEL + output);
    if (s->scale)
        small[0] = (uint8_t)g->scale;
    if (s->min)
        small[s->scale ? PANEL : 0] = (uint8_t)g->min;
}

/* ---- widening: eight outputs ---------------------------------------------------------------- */

#ifdef __x86_64__
TARGET_BEGIN(TARGET_AVX2)
typedef __m256 v8;

INLINE v8 factors_at(enum dtype t, const uint8_t *p)
{
    if (t == DTYPE_F32)
        return _mm256_loadu_ps((const float *)(const void *)p);
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)p);
    if (t == DTYPE_F16)
        return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

INLINE v8 times_small(v8 factor, const uint8_t *p)
{
    __m256i small = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
    return _mm256_mul_ps(factor, _mm256_cvtepi32_ps(small));
}

INLINE void store8(v8 v, float *to)
{
    _mm256_storeu_ps(to, v);
}
#else
typedef struct {
    float v[8];
} v8;

INLINE v8 factors_at(enum dtype t, const uint8_t *p)
{
    v8 f;
    for (size_t i = 0; i < 8; i++)
        if (t == DTYPE_F32)
            f.v[i] = ((const float *)(const void *)p)[i];
        else if (t == DTYPE_BF16)
            f.v[i] = f32_from_bf16(((const bf16_t *)(const void *)p)[i]);
        else
#ifdef __aarch64__
            f.v[i] = (float)((const __fp16 *)(const void *)p)[i];
#else
            f.v[i] = f32_from_f16(((const f16_t *)(const void *)p)[i]);
#endif
    return f;
}

INLINE v8 times_small(v8 factor, const uint8_t *p)
{
    for (size_t i = 0; i < 8; i++)
        factor.v[i] *= (float)(int8_t)p[i];
    return factor;
}

INLINE void store8(v8 v, float *to)
{
    memcpy(to, v.v, sizeof v.v);
}
#endif

INLINE void wide(const struct scales *s, const enum dtype factor, const bool mins,
                 const uint8_t *panel, size_t first, size_t n, float *to)
{
    const size_t size = factor == DTYPE_F32 ? 4 : 2;
    struct scales_at at = scales_find(s, panel, first);
    for (size_t i = 0; i < n; i++, to += mins ? 2 * PANEL : PANEL, scales_next(s, &at))
        for (size_t o = 0; o < PANEL; o += 8) {
            v8 d = factors_at(factor, at.factors + o * size);
            store8(s->scale ? times_small(d, at.small + o) : d, to + o);
            if (!mins)
                continue;
            v8 m = s->own_min ? factors_at(factor, at.factors + (PANEL + o) * size) : d;
            const uint8_t *min = at.small + (s->scale ? PANEL : 0) + o;
            store8(s->min ? times_small(m, min) : m, to + PANEL + o);
        }
}

#define WIDE(factor, mins) wide(s, factor, mins, panel, first, n, to)
static void wide_any(const struct scales *s, const uint8_t *panel, size_t first, size_t n,
                     float *to)
{
    if (s->factor == DTYPE_F16)
        s->mins ? WIDE(DTYPE_F16, true) : WIDE(DTYPE_F16, false);
    else if (s->factor == DTYPE_BF16)
        s->mins ? WIDE(DTYPE_BF16, true) : WIDE(DTYPE_BF16, false);
    else
        s->mins ? WIDE(DTYPE_F32, true) : WIDE(DTYPE_F32, false);
}

#ifdef __x86_64__
TARGET_END
#endif

const float *scales_wide(const struct scales *s, const void *panel, size_t first, size_t n,
                         float room[SCALES_ROOM])
{
    const uint8_t *at = panel;
    size_t from = scales_bytes(s, first), bytes = scales_bytes(s, first + n) - from;
    for (size_t line = 0; line < bytes; line += 64)
        __builtin_prefetch(at + from + bytes + line);
    if (s->factor == DTYPE_F32 && !s->scale && !s->min && s->groups == 1)
        return (const float *)panel + first * (s->mins ? 2 * PANEL : PANEL);
    wide_any(s, at, first, n, room);
    return room;
}
