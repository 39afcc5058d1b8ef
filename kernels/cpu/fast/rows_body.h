/* rows_body.h - norms, rotation, router, wire formats and sampling of single rows, in terms of
 * vec_*.h. Included by avx512.c, avx2.c and neon.c after tile_body.h.
 *
 * Sums of squares and router scores are added like plain_dot() does (sixteen running sums, products
 * rounded before they are added), so that they equal the reference bit for bit: a routing decision
 * must not hang on the backend.
 */

/* Names instead of arrays: compilers keep arrays of vectors in memory. */
#define EIGHT_TIMES(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)

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

/* Up to DOTS_TOGETHER experts: their chains of additions hide each other's latency. */

static void dots(const float *gate, size_t experts, const float *x, size_t n, float *p)
{
    size_t whole = n / 16 * 16, end = n - whole;
#define DOT_BEGIN(j)                                                                               \
    const float *g##j = gate + (j < experts ? j : 0) * n;                                          \
    v16 s##j = v_set(0);
#define DOT_STEP(j) s##j = v_add(s##j, v_mul(v_load(g##j + i), v));
#define DOT_END(j)                                                                                 \
    if (end)                                                                                       \
        s##j = v_add(s##j, v_mul(v_load_n(g##j + whole, end), v_load_n(x + whole, end)));          \
    sums[j] = v_sum(s##j);
    float sums[DOTS_TOGETHER];
    EIGHT_TIMES(DOT_BEGIN)
    for (size_t i = 0; i < whole; i += 16) {
        v16 v = v_load(x + i);
        EIGHT_TIMES(DOT_STEP)
    }
    EIGHT_TIMES(DOT_END)
    memcpy(p, sums, experts * sizeof *p);
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

static float most_of(const float *x, size_t n, float *least, bool *has_nan)
{
    v16 most = v_set(-INFINITY), below = v_set(INFINITY);
    unsigned nan = 0;
    for (size_t i = 0; i < n; i += 16) {
        size_t m = up_to_16(n - i);
        v16 v = logits_at(x + i, m);
        nan |= v_nan(v);
        most = v_max(v, most);
        below = v_min(m == 16 ? v : v_keep(v, m, INFINITY), below);
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

static void spread(const float *x, size_t n, const struct spread *s, struct sample_bin *bins)
{
    const v16 most = v_set(s->most), factor = v_set(s->factor), last = v_set(SAMPLE_BINS - 1);
    for (size_t i = 0; i < n; i += 16) {
        size_t m = up_to_16(n - i);
        v16 below = v_sub(logits_at(x + i, m), most), place = places_of(s, below);
        if (s->last_is_empty && v_at_least(place, last) == 0xffff)
            continue;
        float places[16], masses[16];
        v_store(places, place);
        v_store(masses, v_mul(v_exp(v_mul(below, factor)), v_set(MASS_STEPS)));
        int at[16];
        for (size_t j = 0; j < 16; j++)
            at[j] = (int)places[j];
        for (size_t j = 0; j < m; j++) {
            /* two turns: neighbours in a row are often neighbours in value, and an addition to what has
             * just been added to waits for it */
            struct sample_bin *bin = bins + 2 * (size_t)at[j] + j % 2;
            bin->mass += (uint64_t)(int64_t)masses[j];
            bin->count++;
        }
    }
}

static size_t collect(const float *x, size_t n, const struct spread *s, size_t bin,
                      struct sample_candidate *list)
{
    const v16 most = v_set(s->most), factor = v_set(s->factor);
    const v16 from = v_set((float)bin), to = v_set((float)(bin + 1));
    size_t count = 0;
    for (size_t i = 0; i < n; i += 16) {
        size_t m = up_to_16(n - i);
        v16 v = logits_at(x + i, m), below = v_sub(v, most), place = places_of(s, below);
        unsigned in = v_at_least(place, from) & ~v_at_least(place, to) & ((1u << m) - 1u);
        if (!in)
            continue;
        float masses[16];
        v_store(masses, v_mul(v_exp(v_mul(below, factor)), v_set(MASS_STEPS)));
        for (; in; in &= in - 1) {
            size_t j = (size_t)__builtin_ctz(in);
            list[count++] = (struct sample_candidate){sample_key(x[i + j], (int32_t)(i + j)),
                                                      (uint64_t)(int64_t)masses[j]};
        }
    }
    return count;
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
