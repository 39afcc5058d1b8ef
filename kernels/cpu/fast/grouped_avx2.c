/* grouped_avx2.c - panel functions for AVX2 with weights in groups (kernels/weights/form.h): f32 arithmetic
 * on values, and the scale once a run.
 *
 * Few rows make the values as they go, one or two for all 32 outputs at once. For more, the values of KEEP inputs are
 * left in the first cache as f32; then up to six rows at a time take them, half a panel after the other. Sums
 * over runs wait in the first cache.
 */
#ifdef __x86_64__
#include "kernels/cpu/fast/grouped_avx2.h"
#include "kernels/cpu/fast/target.h"
#include "kernels/cpu/fast/tile.h"

#include <immintrin.h>
#include <string.h>

TARGET_BEGIN(TARGET_AVX2)

#define FEW  5   /* rows that make values as they go; twice as many in two tiles */
#define MANY 6   /* rows of a tile of kept ones */
#define KEEP 128 /* inputs: whole runs */
_Static_assert(KEEP % FORM_RUN == 0, "kept values are whole runs");

INLINE float loadf(const uint8_t *p)
{
    float v;
    memcpy(&v, p, 4);
    return v;
}

INLINE __m256i load8(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

INLINE void prefetch(const uint8_t *p)
{
    _mm_prefetch((const char *)p, _MM_HINT_T0);
}

/* ---- values ---------------------------------------------------------------------------------- */

INLINE __m256i table_of(const bool four, const struct grouped *g)
{
    if (!four)
        return _mm256_setzero_si256();
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)g->values));
}

/* Inputs of a line. */
INLINE int inputs_of(const bool four)
{
    return four ? 4 : 2;
}

/* All inputs of a line for outputs 8 v .. 8 v + 7, one output in 32 bits: four: bytes of inputs 0, 2, 1, 3;
 * else each twice. */
INLINE __m256i octet(const bool four, const uint8_t *w, const int v, __m256i table)
{
    if (four) {
        __m256i code = load8(w + v % 2 * 32);
        if (v >= 2)
            code = _mm256_srli_epi16(code, 4);
        return _mm256_shuffle_epi8(table, _mm256_and_si256(code, _mm256_set1_epi8(15)));
    }
    __m256i code = load8(w + v % 2 * 32);
    return v >= 2 ? _mm256_unpackhi_epi8(code, code) : _mm256_unpacklo_epi8(code, code);
}

/* One input of it as f32. */
INLINE __m256 value_of(const bool four, __m256i octet, const int input)
{
    const int left = four ? (input == 0   ? 24
                             : input == 1 ? 8
                             : input == 2 ? 16
                                          : 0)
                          : (input == 0 ? 16 : 0);
    if (left)
        octet = _mm256_slli_epi32(octet, left);
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(octet, 24));
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* The sum of a run's inputs. */
INLINE float sum_of(const uint8_t *sums, const size_t n)
{
    float sum = loadf(sums);
    for (size_t i = 1; i < n; i++)
        sum += loadf(sums + 4 * i);
    return sum;
}

/* c += scale x sum, less min x `all`, of eight outputs. */
INLINE void add_run(__m256 sum, const float *scale, const bool mins, float all, float *c)
{
    __m256 y = _mm256_fmadd_ps(_mm256_loadu_ps(scale), sum, _mm256_loadu_ps(c));
    if (mins)
        y = _mm256_fnmadd_ps(_mm256_loadu_ps(scale + PANEL), _mm256_set1_ps(all), y);
    _mm256_storeu_ps(c, y);
}

/* What a tile goes through run by run. */
struct place {
    const float *scale;
    const uint8_t *sums;
};

/* The sums of a run of n inputs to m rows x 8 octets outputs from `at` on. */
INLINE void add_runs(const struct tile *t, const struct place *p, const int m, const int octets,
                     const size_t n, const int at, __m256 sum[][4])
{
    const size_t unit = x_unit(t->grouped), units = (n + unit - 1) / unit;
    const bool mins = t->grouped->mins;
#pragma GCC unroll 6
    for (int r = 0; r < m; r++) {
        float all = mins ? sum_of(p->sums + (size_t)r * X_ROW, units) : 0;
#pragma GCC unroll 4
        for (int v = 0; v < octets; v++)
            add_run(sum[r][v], p->scale + at + 8 * v, mins, all, t->c + r * PANEL + at + 8 * v);
    }
}

INLINE void pass(const struct tile *t, struct place *p, const size_t n)
{
    const size_t unit = x_unit(t->grouped);
    p->scale += t->grouped->mins ? 2 * PANEL : PANEL;
    p->sums += (n + unit - 1) / unit * 4;
}

/* ---- few rows -------------------------------------------------------------------------------- */

/* m rows x 8 octets outputs, from output 8 first on. */
INLINE void few(const struct tile *t, const int m, const bool four, const int first,
                const int octets)
{
    const int inputs = inputs_of(four);
    const size_t step = t->prefetch_step * (size_t)inputs * (size_t)octets / 8;
    const __m256i table = table_of(four, t->grouped);
    const uint8_t *w = t->w, *x = t->x, *fetch = first ? t->prefetch_upper : t->prefetch;
    struct place p = {t->scale, t->sums};
    if (t->first && first == 0)
        memset(t->c, 0, (size_t)m * PANEL * sizeof *t->c);
    for (size_t left = t->k, passed = t->passed, n; left; left -= n, passed = 0) {
        __m256 sum[FEW][4];
        n = t->grouped->inputs - passed;
        n = left < n ? left : n;
#pragma GCC unroll 6
        for (int r = 0; r < m; r++)
#pragma GCC unroll 4
            for (int v = 0; v < octets; v++)
                sum[r][v] = _mm256_setzero_ps();
        for (size_t i = 0; i < n; i += (size_t)inputs) {
            __m256i eight[4];
            prefetch(fetch);
            fetch += step;
#pragma GCC unroll 4
            for (int v = 0; v < octets; v++)
                eight[v] = octet(four, w, first + v, table);
#pragma GCC unroll 4
            for (int j = 0; j < inputs; j++) {
                __m256 one[FEW];
#pragma GCC unroll 6
                for (int r = 0; r < m; r++)
                    one[r] = _mm256_set1_ps(loadf(x + 4 * (j ^ 1) + r * X_ROW));
#pragma GCC unroll 4
                for (int v = 0; v < octets; v++) {
                    __m256 value = value_of(four, eight[v], j ^ 1);
#pragma GCC unroll 6
                    for (int r = 0; r < m; r++)
                        sum[r][v] = _mm256_fmadd_ps(value, one[r], sum[r][v]);
                }
            }
            w += 64;
            x += 4 * inputs;
        }
        add_runs(t, &p, m, octets, n, 8 * first, sum);
        pass(t, &p, n);
    }
}

#define ALL(name, m, four)                                                                         \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        few(t, m, four, 0, 4);                                                                     \
    }
#define HALVES(name, m, four)                                                                      \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        few(t, m, four, 0, 2);                                                                     \
        few(t, m, four, 2, 2);                                                                     \
    }
#define FAMILY(name, four, format)                                                                 \
    ALL(name, 1, four)                                                                             \
    ALL(name, 2, four)                                                                             \
    HALVES(name, 3, four)                                                                          \
    HALVES(name, 4, four)                                                                          \
    HALVES(name, 5, four)                                                                          \
    static tile_fn *const name##_fn[] = {NULL, name##_1, name##_2, name##_3, name##_4, name##_5};  \
    static const struct tiles name##_set = {name##_fn, FEW, format, X_F32};

FAMILY(tile_g8, false, W_G8)
FAMILY(tile_g4, true, W_G4)

/* ---- many rows ------------------------------------------------------------------------------- */

/* The values of a tile's inputs, [input][32]. What comes after it is fetched. */
INLINE void keep(const struct tile *t, const bool four)
{
    const int inputs = inputs_of(four);
    const __m256i table = table_of(four, t->grouped);
    const uint8_t *w = t->w, *fetch = t->prefetch;
    float *kept = t->kept;
    for (size_t i = 0; i < t->k; i += (size_t)inputs, w += 64, fetch += 64) {
        prefetch(fetch);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            __m256i eight = octet(four, w, v, table);
#pragma GCC unroll 4
            for (int j = 0; j < inputs; j++, kept += PANEL)
                _mm256_store_ps(kept + 8 * v, value_of(four, eight, j));
            kept -= PANEL * inputs;
        }
        kept += PANEL * inputs;
    }
}

/* m rows times kept values of outputs 16 half .. 16 half + 15. */
INLINE void kept_half(const struct tile *t, const int m, const int half)
{
    const float *w = t->kept + 16 * half;
    const uint8_t *x = t->x, *x_next = t->x_next;
    struct place p = {t->scale, t->sums};
    for (size_t left = t->k, passed = t->passed, n; left; left -= n, passed = 0) {
        __m256 sum[MANY][4];
        n = t->grouped->inputs - passed;
        n = left < n ? left : n;
#pragma GCC unroll 6
        for (int r = 0; r < m; r++)
            sum[r][0] = sum[r][1] = _mm256_setzero_ps();
        for (size_t i = 0; i < n; i += 2, w += 2 * PANEL, x += 8) {
            if (half && i % 16 == 0) {
                for (int r = 0; r < m; r++)
                    prefetch(x_next + r * X_ROW);
                x_next += 64;
            }
#pragma GCC unroll 2
            for (int j = 1; j >= 0; j--) {
                __m256 w0 = _mm256_load_ps(w + PANEL * j), w1 = _mm256_load_ps(w + PANEL * j + 8);
#pragma GCC unroll 6
                for (int r = 0; r < m; r++) {
                    __m256 one = _mm256_set1_ps(loadf(x + 4 * j + r * X_ROW));
                    sum[r][0] = _mm256_fmadd_ps(w0, one, sum[r][0]);
                    sum[r][1] = _mm256_fmadd_ps(w1, one, sum[r][1]);
                }
            }
        }
        add_runs(t, &p, m, 2, n, 16 * half, sum);
        pass(t, &p, n);
    }
}

#define KEPT(m)                                                                                    \
    static void kept_##m(const struct tile *t)                                                     \
    {                                                                                              \
        kept_half(t, m, 0);                                                                        \
        kept_half(t, m, 1);                                                                        \
    }
KEPT(4)
KEPT(5)
KEPT(6)
static tile_fn *const kept_fn[] = {[4] = kept_4, kept_5, kept_6};

/* All rows, in even blocks, times the kept values of t. x_after: the rows that come next. */
static void all_rows(const struct tile *t, size_t rows, const uint8_t *x_after)
{
    struct tile b = *t;
    size_t blocks = (rows + MANY - 1) / MANY;
    for (size_t i = 0, m; i < blocks; i++) {
        m = rows / blocks + (i < rows % blocks);
        b.x_next = i + 1 < blocks ? b.x + m * X_ROW : x_after;
        kept_fn[m](&b);
        b.x += m * X_ROW;
        b.sums += m * X_ROW;
        b.c += m * PANEL;
    }
}

INLINE void panel(const struct panel *p, const struct tiles *set, const bool four)
{
    if (p->rows <= 2 * FEW) {
        tile_panel(p, set);
        return;
    }
    _Alignas(64) float kept[KEEP * PANEL];
    float scales[SCALES_ROOM];
    const size_t whole = X_CHUNK / sizeof(float);
    if (!p->more)
        memset(p->c, 0, p->rows * PANEL * sizeof *p->c);
    for (size_t k = p->from, end; k < p->k; k = end) {
        end = k / KEEP * KEEP + KEEP;
        end = end < p->k ? end : p->k;
        size_t after = end < p->k ? end : p->from;
        struct tile t = {
            .w = p->w + k * w_input(set->w),
            .x = p->x + k / whole * p->chunk + k % whole * sizeof(float),
            .k = end - k,
            .scale = tile_scales(p, k, end - k, scales),
            .grouped = p->grouped,
            .sums = tile_sums(p, X_F32, k),
            .passed = k % p->grouped->inputs,
            .c = p->c,
            .prefetch = end < p->k ? p->w + end * w_input(set->w) : p->next,
            .kept = kept,
        };
        keep(&t, four);
        all_rows(&t, p->rows, p->x + after / whole * p->chunk + after % whole * sizeof(float));
    }
}

void avx2_panel_g8(const struct panel *p)
{
    panel(p, &tile_g8_set, false);
}

void avx2_panel_g4(const struct panel *p)
{
    panel(p, &tile_g4_set, true);
}

TARGET_END
#endif
