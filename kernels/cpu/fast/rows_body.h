/* rows_body.h - norms, rotation, router, wire formats and sampling of single rows, in terms of
 * vec_*.h. Included by avx512.c, avx2.c and neon.c after tile_body.h.
 *
 * Sums of squares and router scores are added like plain_dot() does (sixteen running sums, products
 * rounded before they are added), so that they equal the reference bit for bit: a routing decision
 * must not hang on the backend.
 */

static void rotate(enum dtype act, void *head, const float *angles, size_t dim)
{
    size_t half = dim / 2;
    for (size_t j = 0; j < half; j += 16) {
        size_t n = up_to_16(half - j);
        float c[16], s[16];
        for (size_t i = 0; i < n; i++) {
            c[i] = angles[2 * (j + i)];
            s[i] = angles[2 * (j + i) + 1];
        }
        v16 vc = v_load_n(c, n), vs = v_load_n(s, n);
        v16 a = get(act, head, j, n), b = get(act, head, j + half, n);
        put(act, head, j, n, v_sub(v_mul(a, vc), v_mul(b, vs)));
        put(act, head, j + half, n, v_add(v_mul(b, vc), v_mul(a, vs)));
    }
}

static void turn(const uint8_t *keys, uint8_t *values)
{
    for (size_t pairs = 0; pairs < 8; pairs += 4)
        for (size_t tokens = 0; tokens < PANEL / 2; tokens += 4)
            v_turn(keys + pairs * TURN_ROW + tokens * 8, values + tokens * TURN_ROW + pairs * 8);
}

static void residual(float *x, enum dtype dtype, const void *part, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        size_t m = up_to_16(n - i);
        v_store_n(x + i, m, v_add(v_load_n(x + i, m), get(dtype, part, i, m)));
    }
}

static void norm(enum dtype from, const void *x, const float *gain, float eps, size_t n,
                 enum dtype to, void *y)
{
    v16 squares = v_set(0);
    for (size_t i = 0; i < n; i += 16) {
        v16 v = get(from, x, i, up_to_16(n - i));
        squares = v_add(squares, v_mul(v, v));
    }
    v16 factor = v_set(1.0f / sqrtf(v_sum(squares) / (float)n + eps));
    for (size_t i = 0; i < n; i += 16) {
        size_t m = up_to_16(n - i);
        v16 v = v_mul(get(from, x, i, m), factor);
        put(to, y, i, m, v_mul(v, v_load_n(gain + i, m)));
    }
}

/* Names instead of arrays: compilers keep arrays of vectors in memory. */
#if DOTS == 4
#define EACH_DOT(DO)  DO(0) DO(1) DO(2) DO(3)
#define OF_ROW(i, DO) DO(i, 0) DO(i, 1) DO(i, 2) DO(i, 3)
#define EACH_PAIR(DO) OF_ROW(0, DO) OF_ROW(1, DO) OF_ROW(2, DO) OF_ROW(3, DO)
#else
#define EACH_DOT(DO)  DO(0) DO(1)
#define EACH_PAIR(DO) DO(0, 0) DO(0, 1) DO(1, 0) DO(1, 1)
#endif

/* sums[i][e] of DOTS rows and experts, each number read once for all that it is multiplied with. Where there are
 * fewer, the first of them again. */
INLINE void dots_some(const float *gate, size_t experts, const float *x, size_t rows, size_t n,
                      float sums[DOTS][DOTS])
{
    size_t whole = n / 16 * 16, end = n - whole;
#define DOT_PLACE(j)                                                                               \
    const float *g##j = gate + (j < experts ? j : 0) * n, *x##j = x + (j < rows ? j : 0) * n;
#define DOT_BEGIN(i, e) v16 s##i##e = v_set(0);
#define DOT_READ(j)     v16 w##j = v_load(g##j + at), v##j = v_load(x##j + at);
#define DOT_READ_END(j) v16 w##j = v_load_n(g##j + at, end), v##j = v_load_n(x##j + at, end);
#define DOT_STEP(i, e)  s##i##e = v_add(s##i##e, v_mul(w##e, v##i));
#define DOT_END(i, e)   sums[i][e] = v_sum(s##i##e);
    EACH_DOT(DOT_PLACE)
    EACH_PAIR(DOT_BEGIN)
    size_t at = 0;
    for (; at < whole; at += 16) {
        EACH_DOT(DOT_READ)
        EACH_PAIR(DOT_STEP)
    }
    if (end) {
        EACH_DOT(DOT_READ_END)
        EACH_PAIR(DOT_STEP)
    }
    EACH_PAIR(DOT_END)
}

static void dots(const float *gate, size_t experts, const float *x, size_t rows, size_t n, float *p,
                 size_t stride)
{
    for (size_t e = 0; e < experts; e += DOTS)
        for (size_t i = 0; i < rows; i += DOTS) {
            float sums[DOTS][DOTS];
            size_t count = experts - e < DOTS ? experts - e : DOTS;
            dots_some(gate + e * n, count, x + i * n, rows - i, n, sums);
            for (size_t j = 0; j < DOTS && i + j < rows; j++)
                memcpy(p + (i + j) * stride + e, sums[j], count * sizeof *p);
        }
}

static void encode(enum dtype from, const void *x, size_t n, void *codes, float *scales)
{
    for (size_t first = 0; first < n; first += ROWS_GROUP) {
        size_t end = first + ROWS_GROUP < n ? first + ROWS_GROUP : n;
        v16 most = v_set(0);
        for (size_t i = first; i < end; i += 16)
            most = v_max(v_abs(get(from, x, i, up_to_16(end - i))), most); /* passes over NaN */
        float scale = v_most(most) / 448.0f;
        if (scale == 0)
            scale = 1.0f;
        scales[first / ROWS_GROUP] = scale;
        v16 by = v_set(scale);
        for (size_t i = first; i < end; i += 16) {
            size_t m = up_to_16(end - i);
            put(DTYPE_F8E4M3, codes, i, m, v_div(get(from, x, i, m), by));
        }
    }
}

static void decode(const void *codes, const float *scales, size_t n, enum dtype to, void *x)
{
    for (size_t i = 0; i < n; i += 16) {
        size_t m = up_to_16(n - i);
        put(to, x, i, m, v_mul(get(DTYPE_F8E4M3, codes, i, m), v_set(scales[i / ROWS_GROUP])));
    }
}

/* ---- sampling ------------------------------------------------------------------------------- */

/* m logits, and -inf behind them. */
INLINE v16 logits_at(const float *x, size_t m)
{
    return m == 16 ? v_load(x) : v_keep(v_load_n(x, m), m, -INFINITY);
}

static float most_of(const float *x, size_t n, float *least, bool *has_nan, float *tops)
{
    v16 most = v_set(-INFINITY), below = v_set(INFINITY);
    unsigned nan = 0;
    for (size_t first = 0; first < n; first += SAMPLE_BLOCK) {
        size_t end = n - first < SAMPLE_BLOCK ? n : first + SAMPLE_BLOCK;
        v16 top = v_set(-INFINITY);
        for (size_t i = first; i < end; i += 16) {
            size_t m = up_to_16(end - i);
            v16 v = logits_at(x + i, m);
            nan |= v_nan(v);
            top = v_max(v, top);
            below = v_min(m == 16 ? v : v_keep(v, m, INFINITY), below);
        }
        most = v_max(top, most);
        if (tops)
            tops[first / SAMPLE_BLOCK] = v_most(top);
    }
    *has_nan = nan != 0;
    *least = -v_most(v_sub(v_set(0), below));
    return v_most(most);
}

static double mass(const float *x, size_t n, float most, float factor)
{
    double total = 0;
    v16 by = v_set(factor), shift = v_set(most);
    for (size_t first = 0; first < n; first += MASS_RUN) {
        size_t end = first + MASS_RUN < n ? first + MASS_RUN : n;
        v16 all = v_set(0);
        for (size_t i = first; i < end; i += 16) {
            v16 v = logits_at(x + i, up_to_16(end - i));
            all = v_add(all, v_exp(v_mul(v_sub(v, shift), by)));
        }
        total += (double)v_sum(all);
    }
    return total;
}

/* Which bins logits fall into, `below` the largest; the fraction is dropped later. */
INLINE v16 places_of(const struct spread *s, v16 below)
{
    return v_min(v_mul(below, v_set(-s->grain)), v_set(SAMPLE_BINS - 1));
}

/* Masses of logits, `below` the largest: whole numbers once their fractions are dropped. */
INLINE v16 masses_of(const struct spread *s, v16 below)
{
    return v_mul(v_exp(v_mul(below, v_set(s->factor))), v_set(MASS_STEPS));
}

/* m candidates of these places and masses. */
INLINE void add_to_bins(const int *places, const float *masses, size_t m, struct sample_bins *bins,
                        bool counts)
{
#pragma GCC unroll 16
    for (size_t j = 0; j < m; j++) {
        bins->mass[places[j]][j % 2] += (uint64_t)(int64_t)masses[j];
        if (counts)
            bins->count[places[j]][j % 2]++;
    }
}

INLINE void spread_some(const float *x, size_t n, const struct spread *s, struct sample_bins *bins,
                        bool counts)
{
    const v16 most = v_set(s->most), last = v_set(SAMPLE_BINS - 1);
    for (size_t i = 0; i < n; i += 16) {
        size_t m = up_to_16(n - i);
        v16 below = v_sub(logits_at(x + i, m), most), place = places_of(s, below);
        if (s->last_is_empty && v_at_least(place, last) == 0xffff)
            continue;
        float places[16], masses[16];
        v_store(places, place);
        v_store(masses, masses_of(s, below));
        int at[16];
        for (size_t j = 0; j < 16; j++)
            at[j] = (int)places[j];
        if (m == 16)
            add_to_bins(at, masses, 16, bins, counts);
        else
            add_to_bins(at, masses, m, bins, counts);
    }
}

static void spread(const float *x, size_t n, const struct spread *s, struct sample_bins *bins,
                   bool counts)
{
    if (counts)
        spread_some(x, n, s, bins, true);
    else
        spread_some(x, n, s, bins, false);
}

/* The candidates x[i + j] for the bits j of `in` are put to the list; returns how many it has then. */
INLINE size_t list_those(const float *x, size_t i, unsigned in, v16 mass,
                         struct sample_candidate *list, size_t count)
{
    float masses[16];
    v_store(masses, mass);
    for (; in; in &= in - 1) {
        size_t j = (size_t)__builtin_ctz(in);
        list[count++] = (struct sample_candidate){sample_key(x[i + j], (int32_t)(i + j)),
                                                  (uint64_t)(int64_t)masses[j]};
    }
    return count;
}

static size_t collect(const float *x, size_t n, const struct spread *s, size_t bin,
                      struct sample_candidate *list)
{
    const v16 most = v_set(s->most), from = v_set((float)bin), to = v_set((float)(bin + 1));
    size_t count = 0;
    for (size_t i = 0; i < n; i += 16) {
        size_t m = up_to_16(n - i);
        v16 below = v_sub(logits_at(x + i, m), most), place = places_of(s, below);
        unsigned in = v_at_least(place, from) & ~v_at_least(place, to) & ((1u << m) - 1u);
        if (in)
            count = list_those(x, i, in, masses_of(s, below), list, count);
    }
    return count;
}

static size_t above(const float *x, size_t n, const struct spread *s, float from,
                    struct sample_candidate *list)
{
    const v16 least = v_set(from);
    size_t count = 0;
    for (size_t i = 0; i < n; i += 16) {
        size_t m = up_to_16(n - i);
        v16 v = logits_at(x + i, m);
        unsigned in = v_at_least(v, least) & ((1u << m) - 1u);
        if (in)
            count = list_those(x, i, in, masses_of(s, v_sub(v, v_set(s->most))), list, count);
    }
    return count;
}

/* Sums of whole numbers below 2^41, in double exact for so many vectors. */
#define MASSES_RUN (16 * 2048)

static uint64_t masses(const float *x, size_t n, const struct spread *s)
{
    uint64_t total = 0;
    for (size_t first = 0; first < n; first += MASSES_RUN) {
        size_t end = n - first < MASSES_RUN ? n : first + MASSES_RUN;
        double sums[16] = {0};
        for (size_t i = first; i < end; i += 16) {
            v16 below = v_sub(logits_at(x + i, up_to_16(end - i)), v_set(s->most));
            v_add_floors(sums, masses_of(s, below));
        }
        for (size_t j = 0; j < 16; j++)
            total += (uint64_t)sums[j];
    }
    return total;
}

static size_t near(const float *x, size_t n, float most, float within)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i += 16) {
        size_t m = up_to_16(n - i);
        v16 below = v_sub(logits_at(x + i, m), v_set(most));
        count += (size_t)__builtin_popcount(v_at_least(below, v_set(-within)) & ((1u << m) - 1u));
    }
    return count;
}

static size_t find(const float *x, size_t n, float value)
{
    for (size_t i = 0; i < n; i += 16) {
        unsigned in = v_at_least(logits_at(x + i, up_to_16(n - i)), v_set(value));
        if (in)
            return i + (size_t)__builtin_ctz(in);
    }
    return n;
}
