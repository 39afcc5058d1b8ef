#include "tests/kernels/rig.h"

#include "base/mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD    256  /* bytes; keeps the alignment that alloc() promises */
#define SENTINEL 0xff /* a NaN in every format, -1 as an integer */

const struct device_limits rig_limits = {
    .rows = 200,
    .hidden = 400,
    .q_width = 2048,
    .heads = 16,
    .head_dim = 256,
    .context = 512,
    .vocab = 1100,
    .logit_rows = 200,
    .experts = 70,
    .topk = 8,
    .inter = 400,
};

static void open_device(struct rig *r, const struct backend *b, enum dtype act, enum dtype kv,
                        int threads, const struct device_limits *limits, bool int8_products)
{
    struct device_config config = {.timed = true,
                                   .int8_products = int8_products,
                                   .threads = threads,
                                   .always_all_threads = true,
                                   .act = act,
                                   .kv = kv,
                                   .limits = *limits};
    struct err e = {""};
    memset(r, 0, sizeof *r);
    r->backend = b;
    r->ops = b->ops;
    r->dev = b->device;
    r->act = act;
    r->kv = kv;
    r->limits = *limits;
    r->int8_products = int8_products;
    r->random = 1;
    if (b->device->open(&config, &r->d, &e) != 0)
        die("%s cannot be opened: %s", b->name, e.text);
    r->s = b->device->stream_create(r->d);
}

void rig_open(struct rig *r, const struct backend *b, enum dtype act, enum dtype kv, int threads,
              const struct device_limits *limits)
{
    open_device(r, b, act, kv, threads, limits, false);
}

void rig_open_integers(struct rig *r, const struct backend *b, enum dtype act, int threads,
                       const struct device_limits *limits)
{
    open_device(r, b, act, DTYPE_BF16, threads, limits, true);
}

int rig_close(struct rig *r)
{
    r->kept_host = r->kept_buffers = 0;
    rig_clear(r);
    r->dev->stream_destroy(r->d, r->s);
    r->dev->close(r->d);
    return r->failures;
}

bool rig_slow(const struct backend *b)
{
    return strcmp(b->device->name, "cuda") == 0 && getenv("QUICK");
}

bool rig_emulated(const struct backend *b)
{
    struct device_config config = {.threads = 1, .act = DTYPE_F32};
    struct device *d;
    struct err e;
    char text[128] = "";
    if (b->device->open(&config, &d, &e) != 0)
        return false;
    b->device->describe(d, text, sizeof text);
    b->device->close(d);
    return strncmp(text, "emulation", 9) == 0;
}

bool rig_skips(size_t i)
{
    const char *often = getenv("LONG");
    return i % (often && *often ? 4 : 12) != 0 && getenv("EMULATED");
}

/* ---- the same bits --------------------------------------------------------------------------- */

/* A hash of every download of every case, in order, on the first processor. */
static struct trace {
    const char *name;
    uint64_t *hashes;
    size_t n, room, at;
} traces[64], *trace;
static bool tracing, comparing;

void rig_trace_begin(const struct backend *b, const char *name)
{
    bool first = b == backend_all()[0];
    trace = traces;
    while (trace->name && strcmp(trace->name, name) != 0)
        trace++;
    if (trace == traces + sizeof traces / sizeof *traces - 1)
        die("there are more cases than traces");
    tracing = first && !trace->name;
    comparing = !first && trace->name && strcmp(b->device->name, "cpu") == 0;
    trace->at = 0;
    if (tracing)
        trace->name = name;
}

bool rig_settled(const struct rig *r)
{
    return r->followed && r->failures == 0;
}

static void follow(struct rig *r, const void *bytes, size_t n)
{
    uint64_t hash = 0xcbf29ce484222325u;
    const unsigned char *b = bytes;
    size_t i = 0;
    for (uint64_t word; i + sizeof word <= n; i += sizeof word) {
        memcpy(&word, b + i, sizeof word);
        hash ^= word;
        hash = (hash << 29 | hash >> 35) *
               0x100000001b3u; /* what differs in the highest bit spreads, too */
    }
    for (; i < n; i++)
        hash = (hash ^ b[i]) * 0x100000001b3u;
    if (tracing) {
        if (trace->n == trace->room) {
            trace->room = trace->room ? 2 * trace->room : 256;
            trace->hashes = mem_resize(trace->hashes, trace->room, sizeof hash);
        }
        trace->hashes[trace->n++] = hash;
    } else if (comparing) {
        size_t at = trace->at++;
        r->followed = true;
        if (at >= trace->n || trace->hashes[at] != hash)
            rig_fail(r, "download %zu of %zu bytes differs from %s", at, n, backend_all()[0]->name);
    }
}

static void check_guard(struct rig *r, const unsigned char *guard, const char *side, size_t bytes)
{
    for (size_t i = 0; i < GUARD; i++)
        if (guard[i] != SENTINEL) {
            rig_fail(r, "byte %zu of the guard %s a buffer of %zu bytes was written", i, side,
                     bytes);
            return;
        }
}

void rig_clear(struct rig *r)
{
    for (int i = r->kept_buffers; i < r->n_buffers; i++) {
        struct rig_buffer *b = &r->buffers[i];
        unsigned char guards[2 * GUARD];
        r->dev->download(r->d, r->s, guards, b->base, GUARD);
        r->dev->download(r->d, r->s, guards + GUARD, b->base + GUARD + b->bytes, GUARD);
        r->dev->stream_sync(r->d, r->s);
        check_guard(r, guards, "before", b->bytes);
        check_guard(r, guards + GUARD, "behind", b->bytes);
        r->dev->release(r->d, b->base);
    }
    for (int i = r->kept_host; i < r->n_host; i++)
        free(r->host[i]);
    r->n_buffers = r->kept_buffers;
    r->n_host = r->kept_host;
}

void rig_keep(struct rig *r)
{
    r->kept_host = r->n_host;
    r->kept_buffers = r->n_buffers;
}

void rig_at(struct rig *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(r->what, sizeof r->what, format, args);
    va_end(args);
}

void rig_fail(struct rig *r, const char *format, ...)
{
    if (r->failures++ >= 10)
        return; /* the first ones tell */
    va_list args;
    va_start(args, format);
    fprintf(stderr, "FAIL %s, act %s, %s: ", r->backend->name, dtype_name(r->act), r->what);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

void *rig_host(struct rig *r, size_t count, size_t size)
{
    if (r->n_host == (int)(sizeof r->host / sizeof *r->host))
        die("a case takes too many host buffers");
    return r->host[r->n_host++] = mem_zeroed(count, size);
}

/* splitmix64 */
double rig_uniform(struct rig *r)
{
    uint64_t z = r->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static float in_format(enum dtype t, float f)
{
    if (t == DTYPE_BF16)
        return f32_from_bf16(bf16_from_f32(f));
    if (t == DTYPE_F8E4M3)
        return f32_from_f8e4m3(f8e4m3_from_f32(f));
    return f;
}

float *rig_values(struct rig *r, enum dtype t, size_t n, double scale)
{
    float *values = rig_host(r, n, sizeof *values);
    for (size_t i = 0; i < n; i++)
        values[i] = in_format(t, (float)((2 * rig_uniform(r) - 1) * scale));
    return values;
}

void *rig_encode(struct rig *r, enum dtype t, const float *values, size_t n)
{
    unsigned char *bytes = rig_host(r, n, dtype_size(t));
    for (size_t i = 0; i < n; i++) {
        bf16_t b = bf16_from_f32(values[i]);
        if (t == DTYPE_F32)
            memcpy(bytes + 4 * i, &values[i], 4);
        else if (t == DTYPE_BF16)
            memcpy(bytes + 2 * i, &b, 2);
        else
            bytes[i] = f8e4m3_from_f32(values[i]);
    }
    return bytes;
}

float *rig_decode(struct rig *r, enum dtype t, const void *from, size_t n)
{
    const unsigned char *bytes = from; /* at any address */
    float *values = rig_host(r, n, sizeof *values);
    for (size_t i = 0; i < n; i++) {
        bf16_t b;
        if (t == DTYPE_F32) {
            memcpy(&values[i], bytes + 4 * i, 4);
        } else if (t == DTYPE_BF16) {
            memcpy(&b, bytes + 2 * i, 2);
            values[i] = f32_from_bf16(b);
        } else {
            values[i] = f32_from_f8e4m3(bytes[i]);
        }
    }
    return values;
}

void *rig_room(struct rig *r, size_t bytes)
{
    if (r->n_buffers == (int)(sizeof r->buffers / sizeof *r->buffers))
        die("a case takes too many device buffers");
    struct rig_buffer *b = &r->buffers[r->n_buffers++];
    b->bytes = bytes;
    b->base = r->dev->alloc(r->d, bytes + 2 * GUARD);
    unsigned char *fill = mem_new(bytes + 2 * GUARD, 1);
    memset(fill, SENTINEL, bytes + 2 * GUARD);
    r->dev->upload(r->d, r->s, b->base, fill, bytes + 2 * GUARD);
    r->dev->stream_sync(r->d, r->s);
    free(fill);
    return b->base + GUARD;
}

void *rig_put(struct rig *r, const void *host, size_t bytes)
{
    void *to = rig_room(r, bytes);
    if (bytes)
        r->dev->upload(r->d, r->s, to, host, bytes);
    r->dev->stream_sync(r->d, r->s);
    return to;
}

void *rig_put_values(struct rig *r, enum dtype t, const float *values, size_t n)
{
    return rig_put(r, rig_encode(r, t, values, n), mem_mul(n, dtype_size(t)));
}

static void *fetch(struct rig *r, const void *device, size_t bytes)
{
    void *host = rig_host(r, bytes, 1);
    if (bytes)
        r->dev->download(r->d, r->s, host, device, bytes);
    r->dev->stream_sync(r->d, r->s);
    return host;
}

void *rig_get(struct rig *r, const void *device, size_t bytes)
{
    void *host = fetch(r, device, bytes);
    follow(r, host, bytes);
    return host;
}

float *rig_get_values(struct rig *r, enum dtype t, const void *device, size_t n)
{
    float *values = rig_decode(r, t, fetch(r, device, mem_mul(n, dtype_size(t))), n);
    float *alike = rig_host(r, n, sizeof *alike);
    for (size_t i = 0; i < n; i++) /* NaN has many forms, which mean the same */
        alike[i] = isnan(values[i]) ? NAN : values[i];
    follow(r, alike, n * sizeof *alike);
    return values;
}

double rig_tolerance(enum dtype t)
{
    return t == DTYPE_F32 ? 1e-5 : 1e-2;
}

void rig_compare(struct rig *r, const char *name, const float *got, const double *want, size_t rows,
                 size_t width, const double *size, double tolerance)
{
    for (size_t i = 0; i < rows; i++) {
        double most = 0;
        for (size_t j = 0; j < width; j++)
            most = fmax(most, fabs(want[i * width + j]));
        if (size)
            most = size[i];
        for (size_t j = 0; j < width; j++) {
            double error = fabs((double)got[i * width + j] - want[i * width + j]);
            if (error <= tolerance * most)
                continue;
            rig_fail(r, "%s[%zu][%zu] is %.9g, wanted %.9g (error %.3g, allowed %.3g)", name, i, j,
                     (double)got[i * width + j], want[i * width + j], error, tolerance * most);
            return;
        }
    }
}

int rig_some_rows(int n, int *rows)
{
    int picked = 0;
    for (int i = 0; i < n && picked < RIG_PICKED; i++) {
        bool edge = (i + 2) % 512 < 3 || i == n - 1;
        if (n <= RIG_PICKED || i % 41 == 0 || edge)
            rows[picked++] = i;
    }
    return picked;
}

void rig_same_bytes(struct rig *r, const char *name, const void *got, const void *want,
                    size_t bytes)
{
    const unsigned char *a = got, *b = want;
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i]) {
            rig_fail(r, "byte %zu of %s is %02x, wanted %02x", i, name, a[i], b[i]);
            return;
        }
}

/* ---- weights --------------------------------------------------------------------------------- */

/* Scales of the blocks that the part touches are in [0.5, 2), all others NaN. */
static float *block_scales(struct rig *r, const struct weight_part *w, size_t rows, size_t cols)
{
    float *scales = rig_host(r, rows * cols, sizeof *scales);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) {
            bool touched = w->n && w->k && i >= w->row0 / 128 && i <= (w->row0 + w->n - 1) / 128 &&
                           j >= w->col0 / 128 && j <= (w->col0 + w->k - 1) / 128;
            scales[i * cols + j] = touched ? (float)(0.5 + 1.5 * rig_uniform(r)) : NAN;
        }
    return scales;
}

/* Sets weights to 0 that lie half way between two steps of int8, where either may be taken. */
static void clear_ties(const struct rig_weight *w, float *part)
{
    size_t k = w->part.k;
    for (size_t i = 0; i < w->part.n; i++) {
        double most = 0;
        for (size_t j = 0; j < k; j++) {
            double size = fabs(w->value[i * k + j]);
            most = size > most ? size : most;
        }
        for (size_t j = i * k; j < (i + 1) * k; j++) {
            double steps = w->value[j] / most * 127;
            if (most > 0 && fabs(fabs(steps - nearbyint(steps)) - 0.5) < 1e-4)
                w->value[j] = part[j] = 0;
        }
    }
}

struct rig_weight rig_weight(struct rig *r, enum dtype t, size_t n, size_t k, size_t row0,
                             size_t col0)
{
    size_t rows = row0 + n + 3, cols = col0 + k + 5;
    float *whole = rig_host(r, rows * cols, sizeof *whole), *part = rig_values(r, t, n * k, 1);
    struct rig_weight w = {.part = {.codec = codec_of(t), .n = n, .k = k, .stride = cols}};
    w.part.row0 = row0;
    w.part.col0 = col0;
    w.value = rig_host(r, n * k, sizeof *w.value);
    if (t == DTYPE_F8E4M3) {
        w.part.scale_rows = w.part.scale_columns = 128;
        w.part.scale_stride = (cols + 127) / 128;
        w.part.scale = block_scales(r, &w.part, (rows + 127) / 128, w.part.scale_stride);
    }
    for (size_t i = 0, at = 0; i < n; i++) {
        const float *scales = w.part.scale;
        scales += scales ? (row0 + i) / 128 * w.part.scale_stride : 0;
        for (size_t j = 0; j < k; j++, at++)
            w.value[at] = (double)part[at] * (scales ? (double)scales[(col0 + j) / 128] : 1.0);
    }
    clear_ties(&w, part);
    for (size_t i = 0; i < rows * cols; i++)
        whole[i] = NAN;
    for (size_t i = 0; i < n; i++)
        memcpy(&whole[(row0 + i) * cols + col0], &part[i * k], k * sizeof *whole);
    w.part.data = rig_encode(r, t, whole, rows * cols);
    return w;
}

void rig_round_row(const float *x, size_t k, float *rounded)
{
    for (size_t first = 0; first < k; first += 32) {
        size_t end = first + 32 < k ? first + 32 : k;
        float most = 0;
        for (size_t i = first; i < end; i++)
            most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
        for (size_t i = first; i < end; i++)
            rounded[i] = most > 0 ? nearbyintf(x[i] / (most / 127)) * (most / 127) : 0;
    }
}

const double *rig_kept(struct rig *r, const struct rig_weight *w, enum weight_keep keep)
{
    size_t k = w->part.k;
    if (keep != WEIGHT_INT8)
        return w->value;
    double *kept = rig_host(r, w->part.n * k, sizeof *kept);
    for (size_t i = 0; i < w->part.n; i++) {
        double most = 0;
        for (size_t j = 0; j < k; j++) {
            double size = fabs(w->value[i * k + j]);
            most = size > most ? size : most;
        }
        double step = most / 127;
        for (size_t j = 0; j < k; j++)
            kept[i * k + j] = step > 0 ? step * nearbyint(w->value[i * k + j] / step) : 0;
    }
    return kept;
}

/* ---- invariance ------------------------------------------------------------------------------ */

float *rig_pick(struct rig *r, const float *from, size_t width, const int *rows, int n)
{
    float *picked = rig_host(r, (size_t)n * width, sizeof *picked);
    for (int i = 0; i < n; i++)
        for (size_t j = 0; j < width; j++)
            picked[(size_t)i * width + j] = rows[i] < 0 ? NAN : from[(size_t)rows[i] * width + j];
    return picked;
}

/* Runs one choice of rows and compares each with what it was in the whole batch. */
static void check_choice(struct rig *r, const struct row_op *op, const char *choice,
                         const int *rows, int n, const unsigned char *whole)
{
    unsigned char *got = op->run(r, op->inputs, rows, n);
    for (int i = 0; i < n; i++) {
        const unsigned char *want = whole + (size_t)rows[i] * op->row_bytes;
        if (rows[i] >= 0 && memcmp(got + (size_t)i * op->row_bytes, want, op->row_bytes) != 0)
            rig_fail(r, "%s: row %d of the batch comes out differently as row %d of %d (%s)",
                     op->name, rows[i], i, n, choice);
    }
    rig_clear(r);
}

/* step: every how many'th choice is taken. */
static void check_choices(struct rig *r, const struct row_op *op, int total,
                          const unsigned char *whole, size_t step)
{
    static const int counts[] = {2, 3, 4, 5, 8, 15, 16, 17, 33, 64, 100};
    int rows[200] = {0};
    for (int i = 0; i < total; i++)
        rows[i] = i;
    check_choice(r, op, "all", rows, total, whole);
    for (int i = 0; i < total; i++)
        rows[i] = total - 1 - i;
    check_choice(r, op, "backwards", rows, total, whole);
    for (int i = 0; i < total; i += i < 3 ? (int)step : 43)
        check_choice(r, op, "alone", &(int){i}, 1, whole);
    for (size_t c = 0; c < sizeof counts / sizeof *counts && counts[c] <= total; c += step) {
        for (int i = 0; i < counts[c]; i++)
            rows[i] = (int)(rig_uniform(r) * total);
        check_choice(r, op, "by chance", rows, counts[c], whole);
        for (int i = 0; op->takes_nan && i < counts[c]; i += 2)
            rows[i] = -1;
        check_choice(r, op, "beside NaN", rows, counts[c], whole);
    }
}

void rig_invariance(struct rig *r, const struct row_op *op, int total)
{
    int rows[200];
    for (int i = 0; i < total; i++)
        rows[i] = i;
    unsigned char *whole = mem_new((size_t)total, op->row_bytes);
    memcpy(whole, op->run(r, op->inputs, rows, total), (size_t)total * op->row_bytes);
    rig_clear(r);
    check_choices(r, op, total, whole, 1);
    bool host = strcmp(r->backend->device->name, "cpu") == 0; /* others do not look at threads */
    for (int threads = 2; host && threads <= 3; threads++) {
        struct rig other;
        open_device(&other, r->backend, r->act, r->kv, threads, &rig_limits, r->int8_products);
        rig_at(&other, "%s, %d threads", r->what, threads);
        check_choices(&other, op, total, whole, 3);
        r->failures += rig_close(&other);
    }
    free(whole);
}

struct attn_spec rig_attention(int heads, int kv_heads, int dim)
{
    return (struct attn_spec){.heads = heads,
                              .kv_heads = kv_heads,
                              .key_dim = dim,
                              .value_dim = dim,
                              .rope_dim = dim,
                              .scale = 1.0f / sqrtf((float)dim)};
}

struct kv_shape rig_cache(const struct attn_spec *spec, size_t layers, size_t blocks)
{
    return (struct kv_shape){.layers = layers,
                             .blocks = blocks,
                             .kv_heads = spec->kv_heads,
                             .key_dim = spec->key_dim,
                             .value_dim = spec->value_dim,
                             .value_in_key = spec->value_in_key,
                             .window = spec->window};
}
