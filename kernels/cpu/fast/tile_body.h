/* tile_body.h - packing of rows, the 32 results of each row, and attention's softmax, in terms of
 * vec_*.h. Included by avx512.c, avx2.c and neon.c.
 */

/* ---- number formats ------------------------------------------------------------------------- */

/* n (1..16) numbers from element `at`. */
INLINE v16 get(enum dtype t, const void *p, size_t at, size_t n)
{
    if (t == DTYPE_F32)
        return v_load_n((const float *)p + at, n);
    if (t == DTYPE_BF16)
        return v_load_bf16((const bf16_t *)p + at, n);
    return v_load_f8((const f8e4m3_t *)p + at, n);
}

INLINE void put(enum dtype t, void *p, size_t at, size_t n, v16 v)
{
    if (t == DTYPE_F32)
        v_store_n((float *)p + at, n, v);
    else if (t == DTYPE_BF16)
        v_store_bf16((bf16_t *)p + at, n, v);
    else
        v_store_f8((f8e4m3_t *)p + at, n, v);
}

INLINE size_t up_to_16(size_t n)
{
    return n < 16 ? n : 16;
}

/* 2^x for x up to 100: relative error 2e-7; exactly 1 for 0, and 0 from -160 down (so -inf gives
 * 0); NaN stays. */
INLINE v16 v_exp2(v16 x)
{
    x = v_max(v_set(-160.0f), x);
    v16 r = v_fraction(x);
    v16 p = v_fma(r, v_set(0x1.e974fcp-10f), v_set(0x1.277854p-7f));
    p = v_fma(r, p, v_set(0x1.c91ce6p-5f));
    p = v_fma(r, p, v_set(0x1.ebdb56p-3f));
    p = v_fma(r, p, v_set(0x1.62e4bap-1f));
    p = v_fma(r, p, v_set(1.0f));
    return v_scale2_flushed(p, x);
}

/* e^x: relative error 1e-7 also for large |x|, because ln 2 is taken off in two pieces. */
INLINE v16 v_exp(v16 x)
{
    x = v_min(v_set(90.0f), v_max(v_set(-110.0f), x));
    v16 n = v_round(v_mul(x, v_set(0x1.715476p+0f)));
    v16 r = v_fma(n, v_set(-0x1.62e4p-1f), x);
    r = v_fma(n, v_set(-0x1.7f7d1cp-20f), r);
    v16 p = v_fma(r, v_set(0x1.6ae722p-10f), v_set(0x1.12678ep-7f));
    p = v_fma(r, p, v_set(0x1.555822p-5f));
    p = v_fma(r, p, v_set(0x1.55541ap-3f));
    p = v_fma(r, p, v_set(0x1.fffffcp-2f));
    p = v_fma(r, p, v_set(1.0f));
    p = v_fma(r, p, v_set(1.0f));
    return v_scale2(p, n);
}

static void convert(enum dtype from, const void *x, size_t n, enum dtype to, void *y)
{
    for (size_t i = 0; i < n; i += 16)
        put(to, y, i, up_to_16(n - i), get(from, x, i, up_to_16(n - i)));
}

/* ---- rows ----------------------------------------------------------------------------------- */

/* Element `at` of a packed row. */
INLINE uint8_t *x_at(uint8_t *row, size_t chunk, enum x_format f, size_t at)
{
    size_t byte = at * x_size(f);
    return row + byte / X_CHUNK * chunk + byte % X_CHUNK;
}

/* The same numbers in the same format. */
static void copy_row(const uint8_t *from, size_t bytes, size_t padded, uint8_t *to, size_t chunk)
{
    size_t at = 0;
    for (; at + X_CHUNK <= bytes; at += X_CHUNK, to += chunk)
        memcpy(to, from + at, X_CHUNK);
    memcpy(to, from + at, bytes - at);
    for (; bytes < padded; bytes++) {
        if (bytes - at == X_CHUNK) {
            at = bytes;
            to += chunk;
        }
        to[bytes - at] = 0;
    }
}

static void pack_integers(enum dtype act, const void *from, size_t k, size_t k_padded, uint8_t *to,
                          size_t chunk)
{
    for (size_t at = 0; at < k_padded; at += INTEGER_GROUP) {
        float some[INTEGER_GROUP];
        for (size_t j = 0; j < INTEGER_GROUP; j += 16) {
            size_t i = at + j;
            v_store(some + j, i < k ? get(act, from, i, up_to_16(k - i)) : v_set(0));
        }
        integer_group(some, (void *)x_at(to, chunk, X_INTEGERS, at));
    }
}

/* In the same place: a group takes half of what it had, and comes after nothing that is still wanted. */
static void to_integers(uint8_t *row, size_t chunk, size_t k, size_t k_padded)
{
    for (size_t at = 0; at < k_padded; at += INTEGER_GROUP) {
        float some[INTEGER_GROUP] = {0};
        size_t n = at < k ? k - at : 0;
        memcpy(some, x_at(row, chunk, X_F32, at),
               (n < INTEGER_GROUP ? n : INTEGER_GROUP) * sizeof *some);
        integer_group(some, (void *)x_at(row, chunk, X_INTEGERS, at));
    }
}

static void sum_row(uint8_t *row, size_t chunk, size_t k_padded, enum x_format format, size_t unit)
{
    enum dtype t = format == X_F32 ? DTYPE_F32 : DTYPE_BF16;
    for (size_t at = 0; at < k_padded; at += unit) {
        float sum = v_sum(get(t, x_at(row, chunk, format, at), 0, 16));
        if (unit > 16 && at + 16 < k_padded)
            sum += v_sum(get(t, x_at(row, chunk, format, at + 16), 0, 16));
        memcpy(row + x_sum(format, chunk, k_padded, at / unit), &sum, sizeof sum);
    }
}

static void pack_row(enum dtype act, const void *from, size_t k, size_t before, size_t k_padded,
                     enum x_format format, uint8_t *to, size_t chunk)
{
    if (format == X_INTEGERS) {
        pack_integers(act, from, k, k_padded, to, chunk);
        return;
    }
    if (act == DTYPE_BF16 && format == X_BF16 && before == 0) {
        copy_row(from, 2 * k, 2 * k_padded, to, chunk);
        return;
    }
    for (size_t at = 0; at < k_padded; at += 16) {
        size_t i = at - before; /* huge where at < before: there are the zeros */
        v16 v = at >= before && i < k ? get(act, from, i, up_to_16(k - i)) : v_set(0);
        uint8_t *place = x_at(to, chunk, format, at);
        if (format == X_BF16)
            v_store_bf16((bf16_t *)(void *)place, 16, v);
        else
            v_store((float *)(void *)place, v);
    }
}

/* ---- results -------------------------------------------------------------------------------- */

/* gate, up -> what they make together. */
static v16 glu(v16 gate, v16 up, float limit, float alpha)
{
    const v16 one = v_set(1.0f);
    if (alpha > 0 && limit > 0)
        gate = v_min(v_set(limit), gate); /* a NaN as the second one stays */
    v16 slope = alpha > 0 ? v_mul(v_set(alpha), gate) : gate;
    v16 open = v_div(gate, v_add(one, v_exp(v_sub(v_set(0), slope))));
    if (limit > 0) {
        open = alpha > 0 ? open : v_min(v_set(limit), open);
        up = v_max(v_set(-limit), v_min(v_set(limit), up));
    }
    return v_mul(open, alpha > 0 ? v_add(up, one) : up);
}

static void swiglu(const float *c, size_t rows, float limit, float alpha, enum dtype act,
                   enum x_format format, size_t at, uint8_t *to, size_t chunk)
{
    uint8_t *place = x_at(to, chunk, format, at);
    for (size_t i = 0; i < rows; i++, c += PANEL, place += X_ROW) {
        v16 mid = glu(v_load(c), v_load(c + 16), limit, alpha);
        bf16_t rounded[16];
        if (act == DTYPE_BF16) {
            v_store_bf16(rounded, 16, mid);
            mid = v_load_bf16(rounded, 16);
        }
        if (format == X_BF16)
            memcpy(place, rounded, sizeof rounded);
        else
            v_store((float *)(void *)place, mid);
    }
}

static void add(const float *c, size_t rows, const int32_t *row, const float *weight, double *sum)
{
    for (size_t i = 0; i < rows; i++, c += PANEL) {
        double *to = sum + (row ? (size_t)row[i] : i) * PANEL;
        double w = weight ? (double)weight[i] : 1;
        for (size_t j = 0; j < PANEL; j += 8)
            v_add_terms(to + j, c + j, w);
    }
}

static void store(const float *c, size_t rows, size_t n, enum dtype dtype, void *to, size_t stride)
{
    for (size_t i = 0; i < rows; i++, c += PANEL) {
        put(dtype, to, i * stride, up_to_16(n), v_load(c));
        if (n > 16)
            put(dtype, to, i * stride + 16, n - 16, v_load(c + 16));
    }
}

/* ---- attention ------------------------------------------------------------------------------ */

/* Scores 16 v .. 16 v + 15 of a row, which are there; -inf where the row does not see. whole: it sees all. */
INLINE v16 scores_of(const struct softmax *s, const float *at, size_t row, size_t v,
                     const bool whole)
{
    v16 x = v_load(at);
    if (whole)
        return x;
    size_t from = s->from[row], seen = s->seen[row];
    if (16 * (v + 1) > seen)
        x = v_keep(x, seen > 16 * v ? seen - 16 * v : 0, -INFINITY);
    if (16 * v < from) {
        float behind[16];
        v_store(behind, x);
        for (size_t i = 0; i < 16 && 16 * v + i < from; i++)
            behind[i] = -INFINITY;
        x = v_load(behind);
    }
    return x;
}

/* A larger maximum was found: what was summed up so far shrinks. */
static void rescale(const struct softmax *s, size_t row, float factor)
{
    v16 f = v_set(factor);
    s->total[row] *= factor;
    for (size_t p = 0; p < s->panels; p++) {
        float *sum = s->sum + (p * s->rows + row) * PANEL;
        v_store(sum, v_mul(f, v_load(sum)));
        v_store(sum + 16, v_mul(f, v_load(sum + 16)));
    }
}

INLINE float exp2_of(float x)
{
    float y[16];
    v_store(y, v_exp2(v_set(x)));
    return y[0];
}

/* Probabilities of two vectors to `to`. coarse: rounded to bf16, whatever their format. */
INLINE void put_probabilities(enum x_format format, bool coarse, uint8_t *to, v16 a, v16 b)
{
    if (format == X_BF16) {
        v_store_bf16_fast((bf16_t *)(void *)to, a, b);
    } else {
        v_store((float *)(void *)to, coarse ? v_to_bf16(a) : a);
        v_store((float *)(void *)to + 16, coarse ? v_to_bf16(b) : b);
    }
}

/* The last three are constants: this is a loop of few instructions, and each counts. */
INLINE void softmax_row(const struct softmax *s, size_t r, const bool whole,
                        const enum x_format format, const bool coarse)
{
    size_t vectors = s->tokens / 16, stride = s->rows * PANEL;
    const float *row = s->scores + r * PANEL, *at = row;
    uint8_t *to = s->to + r * X_ROW;
    v16 even = v_set(-INFINITY), odd = even, total = v_set(0), scale = v_set(s->scale);
    for (size_t v = 0; v < vectors; v += 2, at += stride) {
        even = v_max(even, scores_of(s, at, r, v, whole));
        odd = v_max(odd, scores_of(s, at + 16, r, v + 1, whole));
    }
    float most = v_most(v_max(even, odd)) * s->scale, old = s->most[r];
    if (most > old) {
        if (s->total[r] > 0)
            rescale(s, r, exp2_of(old - most));
        s->most[r] = most;
    }
    v16 shift = v_set(s->from[r] < s->seen[r] ? -s->most[r] : 0);
    at = row;
    for (size_t v = 0; v < vectors; v += 2, at += stride, to += 32 * x_size(format)) {
        v16 a = v_exp2(v_fma(scores_of(s, at, r, v, whole), scale, shift));
        v16 b = v_exp2(v_fma(scores_of(s, at + 16, r, v + 1, whole), scale, shift));
        total = v_add(v_add(total, a), b);
        put_probabilities(format, coarse, to, a, b);
    }
    s->total[r] += v_sum(total);
}

INLINE void softmax_rows(const struct softmax *s, const enum x_format format, const bool coarse)
{
    for (size_t r = 0; r < s->rows; r++)
        if (s->from[r] == 0 && s->seen[r] >= s->tokens)
            softmax_row(s, r, true, format, coarse);
        else
            softmax_row(s, r, false, format, coarse);
}

static void softmax(const struct softmax *s)
{
    if (s->format == X_BF16)
        softmax_rows(s, X_BF16, true);
    else if (s->coarse)
        softmax_rows(s, X_F32, true);
    else
        softmax_rows(s, X_F32, false);
}

static void merge(const struct partial *to, const struct partial *from, size_t rows, size_t first,
                  size_t end, size_t panels)
{
    for (size_t r = first; r < end; r++) {
        if (!(from->total[r] > 0) && from->total[r] == from->total[r])
            continue; /* this row sees nothing there (NaN goes on) */
        float most = to->most[r] > from->most[r] ? to->most[r] : from->most[r];
        float old = exp2_of(to->most[r] - most), new = exp2_of(from->most[r] - most);
        /* Nothing is there yet, as when the row is alone: -0 + x is x, its sign too. */
        if (to->total[r] == 0)
            old = -0.0f;
        to->most[r] = most;
        to->total[r] = to->total[r] * old + from->total[r] * new;
        v16 a = v_set(old), b = v_set(new);
        for (size_t p = 0; p < panels; p++)
            for (size_t half = 0; half < PANEL; half += 16) {
                size_t at = (p * rows + r) * PANEL + half;
                v16 x = v_mul(a, v_load(to->sum + at));
                v_store(to->sum + at, v_fma(b, v_load(from->sum + at), x));
            }
    }
}

static void finish(const struct partial *from, size_t row, size_t rows, size_t dim,
                   enum dtype dtype, void *to)
{
    v16 by = v_set(1 / from->total[row]);
    for (size_t i = 0; i < dim; i += 16) {
        const float *sum = from->sum + (i / PANEL * rows + row) * PANEL + i % PANEL;
        put(dtype, to, i, up_to_16(dim - i), v_mul(v_load(sum), by));
    }
}
