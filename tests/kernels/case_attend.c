/* case_attend.c - rotary embedding, the KV cache, and attention over it.
 *
 * A scene is a set of sequences with q, k and v for every token. It is played in batches, in one
 * way or another (whole prompts, token by token, chunks), and every row must come out right, and
 * with the same bits in whichever way. The cache is filled with NaN before: a token that a row must
 * not see, or that was not stored yet, shows. */
#include "tests/kernels/cases.h"
#include "tests/kernels/rig.h"
#include "tests/kernels/shapes.h"

#include <math.h>
#include <string.h>

#define SEQUENCES  6
#define MAX_BLOCKS 3 /* of one sequence */
#define ALL_ROWS   (SEQUENCES * MAX_BLOCKS * KV_BLOCK)
#define LAYERS     2
#define LAYER      1 /* the one that is tested */

static const int lengths[SEQUENCES] = {1, 63, 64, 65, 130, 7};

struct shape {
    int heads, kv_heads, dim;
};

struct scene {
    struct shape shape;
    const float *q[SEQUENCES], *k[SEQUENCES], *v[SEQUENCES]; /* [length][heads][D] */
    const float *angles;
    int32_t blocks[SEQUENCES][MAX_BLOCKS];
};

/* What came out of every token. */
struct played {
    float *q[SEQUENCES], *k[SEQUENCES], *out[SEQUENCES];
    const float *angles; /* device */
};

/* A way to cut the scene into batches. */
struct way {
    const char *name;
    int chunk;      /* tokens of a segment; sequence s: chunk + s x grow */
    int grow;       /* */
    bool backwards; /* sequences in a batch */
    bool alone;     /* one sequence after the other */
};

struct segment {
    int seq, pos, count;
};

static struct device_limits limits_of(const struct shape *s, size_t rows)
{
    size_t width = (size_t)s->heads * (size_t)s->dim;
    return (struct device_limits){.rows = rows,
                                  .hidden = 1,
                                  .q_width = width,
                                  .heads = (size_t)s->heads,
                                  .head_dim = (size_t)s->dim,
                                  .context = MAX_BLOCKS * KV_BLOCK};
}

static struct scene new_scene(struct rig *r, struct shape shape, double scale)
{
    struct scene scene = {.shape = shape};
    size_t dim = (size_t)shape.dim, positions = MAX_BLOCKS * KV_BLOCK;
    for (int s = 0; s < SEQUENCES; s++) {
        size_t n = (size_t)lengths[s] * dim;
        scene.q[s] = rig_values(r, r->act, n * (size_t)shape.heads, scale);
        scene.k[s] = rig_values(r, r->act, n * (size_t)shape.kv_heads, 1.5);
        scene.v[s] = rig_values(r, r->act, n * (size_t)shape.kv_heads, 2);
        for (int b = 0; b < MAX_BLOCKS; b++) /* 7 and 18 have no common factor: all different */
            scene.blocks[s][b] = (s * MAX_BLOCKS + b) * 7 % (SEQUENCES * MAX_BLOCKS);
    }
    float *angles = rig_host(r, positions * dim, sizeof *angles);
    for (size_t p = 0; p < positions; p++)
        for (size_t j = 0; j < dim / 2; j++) {
            double angle = (double)p * pow(500000.0, -2.0 * (double)j / (double)dim);
            angles[p * dim + 2 * j] = (float)cos(angle);
            angles[p * dim + 2 * j + 1] = (float)sin(angle);
        }
    scene.angles = angles;
    return scene;
}

static struct played new_played(struct rig *r, const struct scene *scene)
{
    struct played p;
    for (int s = 0; s < SEQUENCES; s++) {
        size_t n = (size_t)lengths[s] * (size_t)scene->shape.dim;
        p.q[s] = rig_host(r, n * (size_t)scene->shape.heads, sizeof(float));
        p.k[s] = rig_host(r, n * (size_t)scene->shape.kv_heads, sizeof(float));
        p.out[s] = rig_host(r, n * (size_t)scene->shape.heads, sizeof(float));
    }
    size_t angles = MAX_BLOCKS * KV_BLOCK * (size_t)scene->shape.dim;
    p.angles = rig_put_values(r, DTYPE_F32, scene->angles, angles);
    rig_keep(r);
    return p;
}

/* The batch of these segments, on the device. Blocks beyond a sequence's tokens are -1. */
static struct attn_batch make_batch(struct rig *r, const struct scene *scene,
                                    const struct segment *segments, int n)
{
    struct attn_batch batch = {.segments = n, .blocks_stride = MAX_BLOCKS + 1};
    size_t count = (size_t)n;
    int32_t *seg_row = rig_host(r, count + 1, 4), *seg_pos = rig_host(r, count, 4);
    int32_t *blocks = rig_host(r, count * (MAX_BLOCKS + 1), 4);
    int32_t *row_seg = rig_host(r, ALL_ROWS, 4);
    int32_t *row_pos = rig_host(r, ALL_ROWS, 4);
    for (int i = 0; i < n; i++) {
        const struct segment *s = &segments[i];
        int context = s->pos + s->count;
        seg_row[i] = batch.rows;
        seg_pos[i] = s->pos;
        for (int j = 0; j < s->count; j++) {
            row_seg[batch.rows] = i;
            row_pos[batch.rows++] = s->pos + j;
        }
        for (int b = 0; b <= MAX_BLOCKS; b++)
            blocks[i * (MAX_BLOCKS + 1) + b] =
                b * KV_BLOCK < context ? scene->blocks[s->seq][b] : -1;
        batch.max_rows = s->count > batch.max_rows ? s->count : batch.max_rows;
        batch.max_context = context > batch.max_context ? context : batch.max_context;
    }
    seg_row[n] = batch.rows;
    size_t rows = (size_t)batch.rows;
    batch.seg_row = rig_put(r, seg_row, (count + 1) * 4);
    batch.seg_pos = rig_put(r, seg_pos, count * 4);
    batch.row_seg = rig_put(r, row_seg, rows * 4);
    batch.row_pos = rig_put(r, row_pos, rows * 4);
    batch.blocks = rig_put(r, blocks, count * (MAX_BLOCKS + 1) * 4);
    return batch;
}

/* Rows of the segments out of, or back into, per-sequence arrays [length][width]. */
static float *rows_from(struct rig *r, const float *const *from, const struct segment *segments,
                        int n, size_t rows, size_t width)
{
    float *all = rig_host(r, rows * width, sizeof *all), *to = all;
    for (int i = 0; i < n; i++) {
        size_t count = (size_t)segments[i].count * width;
        memcpy(to, from[segments[i].seq] + (size_t)segments[i].pos * width, count * sizeof *to);
        to += count;
    }
    return all;
}

static void rows_to(float *const *to, const struct segment *segments, int n, const float *from,
                    size_t width)
{
    for (int i = 0; i < n; i++) {
        size_t count = (size_t)segments[i].count * width;
        memcpy(to[segments[i].seq] + (size_t)segments[i].pos * width, from, count * sizeof *from);
        from += count;
    }
}

/* n numbers of NaN on the device. */
static void *nans(struct rig *r, size_t n)
{
    float *values = rig_host(r, n, sizeof *values);
    for (size_t i = 0; i < n; i++)
        values[i] = NAN;
    return rig_put_values(r, r->act, values, n);
}

/* The batch goes into the layer under test, then NaN at the same places of another layer. */
static void play_batch(struct rig *r, const struct scene *scene, struct kv *kv,
                       const struct segment *segments, int n, struct played *p)
{
    const struct shape *shape = &scene->shape;
    struct attn_batch batch = make_batch(r, scene, segments, n);
    size_t rows = (size_t)batch.rows, dim = (size_t)shape->dim;
    size_t wide = dim * (size_t)shape->heads, narrow = dim * (size_t)shape->kv_heads;
    void *q =
        rig_put_values(r, r->act, rows_from(r, scene->q, segments, n, rows, wide), rows * wide);
    void *k =
        rig_put_values(r, r->act, rows_from(r, scene->k, segments, n, rows, narrow), rows * narrow);
    void *v =
        rig_put_values(r, r->act, rows_from(r, scene->v, segments, n, rows, narrow), rows * narrow);
    void *out = rig_room(r, rows * wide * dtype_size(r->act));
    struct attn_spec spec = rig_attention(shape->heads, shape->kv_heads, shape->dim);
    r->ops->rope_append(r->d, r->s, &spec, kv, LAYER, &batch, p->angles, q, k, v);
    r->ops->rope_append(r->d, r->s, &spec, kv, 1 - LAYER, &batch, p->angles, nans(r, rows * wide),
                        nans(r, rows * narrow), nans(r, rows * narrow));
    r->ops->attend(r->d, r->s, &spec, kv, LAYER, &batch, q, out);
    rows_to(p->q, segments, n, rig_get_values(r, r->act, q, rows * wide), wide);
    rows_to(p->k, segments, n, rig_get_values(r, r->act, k, rows * narrow), narrow);
    rows_to(p->out, segments, n, rig_get_values(r, r->act, out, rows * wide), wide);
    rig_clear(r);
}

/* A cache with a NaN in every place of every layer. */
static struct kv *poisoned_kv(struct rig *r, const struct scene *scene, const float *angles)
{
    const struct shape *shape = &scene->shape;
    struct attn_spec spec = rig_attention(shape->heads, shape->kv_heads, shape->dim);
    struct kv_shape kv_shape = rig_cache(&spec, LAYERS, SEQUENCES * MAX_BLOCKS);
    struct kv *kv = r->ops->kv_create(r->d, &kv_shape);
    int rows = r->limits.rows < KV_BLOCK ? (int)r->limits.rows : KV_BLOCK;
    size_t numbers = (size_t)rows * (size_t)shape->dim;
    for (int i = 0; i < ALL_ROWS; i += rows) {
        int length = MAX_BLOCKS * KV_BLOCK;
        struct segment part = {i / length, i % length, rows};
        struct attn_batch batch = make_batch(r, scene, &part, 1);
        void *q = nans(r, numbers * (size_t)shape->heads);
        void *k = nans(r, numbers * (size_t)shape->kv_heads);
        void *v = nans(r, numbers * (size_t)shape->kv_heads);
        for (int layer = 0; layer < LAYERS; layer++)
            r->ops->rope_append(r->d, r->s, &spec, kv, layer, &batch, angles, q, k, v);
        rig_clear(r);
    }
    return kv;
}

static int chunk_of(const struct way *way, int seq)
{
    return way->chunk + seq * way->grow;
}

/* Plays the sequences first..end-1 together until all are done. */
static void play_some(struct rig *r, const struct scene *scene, struct kv *kv,
                      const struct way *way, int first, int end, struct played *p)
{
    int done[SEQUENCES] = {0};
    for (;;) {
        struct segment segments[SEQUENCES];
        int n = 0;
        for (int i = first; i < end; i++) {
            int s = way->backwards ? end - 1 - (i - first) : i, left = lengths[s] - done[s];
            int count = left < chunk_of(way, s) ? left : chunk_of(way, s);
            if (count)
                segments[n++] = (struct segment){s, done[s], count};
            done[s] += count;
        }
        if (n == 0)
            break;
        play_batch(r, scene, kv, segments, n, p);
    }
}

static void play(struct rig *r, const struct scene *scene, const struct way *way, struct played *p)
{
    struct kv *kv = poisoned_kv(r, scene, p->angles);
    if (way->alone)
        for (int s = SEQUENCES - 1; s >= 0; s--)
            play_some(r, scene, kv, way, s, s + 1, p);
    else
        play_some(r, scene, kv, way, 0, SEQUENCES, p);
    play_batch(r, scene, kv, NULL, 0, p); /* a batch of nothing does nothing */
    r->ops->kv_destroy(r->d, kv);
}

/* ---- references ------------------------------------------------------------------------------ */

static void check_rotation(struct rig *r, const struct scene *scene, const char *name, int heads,
                           const float *from, const float *got, int length)
{
    size_t dim = (size_t)scene->shape.dim, half = dim / 2, all = (size_t)length * (size_t)heads;
    double *want = rig_host(r, all * dim, sizeof *want);
    for (size_t i = 0; i < all; i++)
        for (size_t j = 0; j < half; j++) {
            const float *angle = scene->angles + i / (size_t)heads * dim + 2 * j;
            double c = (double)angle[0], s = (double)angle[1];
            double a = (double)from[i * dim + j], b = (double)from[i * dim + j + half];
            want[i * dim + j] = a * c - b * s;
            want[i * dim + j + half] = b * c + a * s;
        }
    rig_compare(r, name, got, want, all, dim, NULL, rig_tolerance(r->act));
}

/* What the cache holds of these numbers. */
static double *cached(struct rig *r, const float *values, size_t n)
{
    const float *kept = rig_decode(r, r->kv, rig_encode(r, r->kv, values, n), n);
    double *exact = rig_host(r, n, sizeof *exact);
    for (size_t i = 0; i < n; i++)
        exact[i] = (double)kept[i];
    return exact;
}

/* One head over `tokens` tokens; k and v are its first key and value, `step` numbers apart. Returns
 * the size that the numbers have if nothing cancels. */
static double reference_head(const float *q, const double *k, const double *v, size_t tokens,
                             size_t step, size_t dim, double *want)
{
    double scores[MAX_BLOCKS * KV_BLOCK], most = -INFINITY, total = 0, size = 0;
    for (size_t t = 0; t < tokens; t++) {
        scores[t] = 0;
        for (size_t j = 0; j < dim; j++)
            scores[t] += (double)q[j] * k[t * step + j];
        scores[t] /= sqrt((double)dim);
        most = fmax(most, scores[t]);
    }
    for (size_t t = 0; t < tokens; t++)
        total += scores[t] = exp(scores[t] - most);
    for (size_t j = 0; j < dim; j++) {
        double sum = 0, squares = 0;
        for (size_t t = 0; t < tokens; t++) {
            double term = scores[t] / total * v[t * step + j];
            sum += term;
            squares += term * term;
        }
        want[j] = sum;
        size = fmax(size, fmax(fabs(sum), sqrt(squares)));
    }
    return size;
}

/* From what rope_append left in q and k. */
static void check_attention(struct rig *r, const struct scene *scene, const struct played *p,
                            double tolerance)
{
    size_t dim = (size_t)scene->shape.dim, heads = (size_t)scene->shape.heads;
    size_t kv_heads = (size_t)scene->shape.kv_heads, step = kv_heads * dim;
    for (int s = 0; s < SEQUENCES; s++) {
        size_t all = (size_t)lengths[s] * heads;
        double *k = cached(r, p->k[s], (size_t)lengths[s] * step);
        double *v = cached(r, scene->v[s], (size_t)lengths[s] * step);
        double *want = rig_host(r, all * dim, sizeof *want), *size = rig_host(r, all, sizeof *size);
        for (size_t i = 0; i < all; i++) {
            size_t first = i % heads / (heads / kv_heads) * dim;
            size[i] = reference_head(p->q[s] + i * dim, k + first, v + first, i / heads + 1, step,
                                     dim, want + i * dim);
        }
        check_rotation(r, scene, "q", (int)heads, scene->q[s], p->q[s], lengths[s]);
        check_rotation(r, scene, "k", scene->shape.kv_heads, scene->k[s], p->k[s], lengths[s]);
        rig_compare(r, "out", p->out[s], want, all, dim, size, tolerance);
        rig_clear(r);
    }
}

static const struct shape shapes[] = {{1, 1, 2}, {3, 1, 64}, {5, 1, 6}, {4, 2, 34}, {3, 1, 256}};
static const enum dtype kvs[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F8E4M3};

int case_attend(const struct backend *b)
{
    static const struct way whole = {"whole prompts", MAX_BLOCKS * KV_BLOCK, 0, false, false};
    static const double scales[] = {1, 80}; /* the second makes the softmax steep */
    int failures = 0;
    for (size_t a = 0; a < COUNT(shape_acts); a++)
        for (size_t k = 0; k < COUNT(kvs); k++)
            for (size_t i = 0; i < COUNT(shapes); i++)
                for (size_t c = 0; c < COUNT(scales) - i % 2; c++) {
                    if (rig_skips(a + k + i + c) || (rig_slow(b) && (a + k + i + c) % 2))
                        continue;
                    struct rig r;
                    struct device_limits limits = limits_of(&shapes[i], ALL_ROWS);
                    rig_open(&r, b, shape_acts[a], kvs[k], 2, &limits);
                    rig_at(&r, "attend: %d heads on %d of %d, kv %s, q up to %g", shapes[i].heads,
                           shapes[i].kv_heads, shapes[i].dim, dtype_name(kvs[k]), scales[c]);
                    struct scene scene = new_scene(&r, shapes[i], scales[c]);
                    struct played p = new_played(&r, &scene);
                    play(&r, &scene, &whole, &p);
                    /* An error in a score is multiplied by how steep the softmax is there. */
                    check_attention(&r, &scene, &p, rig_tolerance(r.act) * (c ? 30 : 1));
                    failures += rig_close(&r);
                }
    return failures;
}

/* ---- invariance ------------------------------------------------------------------------------ */

static const struct way ways[] = {
    {"whole prompts", MAX_BLOCKS *KV_BLOCK, 0, false, false},
    {"whole prompts backwards", MAX_BLOCKS *KV_BLOCK, 0, true, false},
    {"each prompt alone", MAX_BLOCKS *KV_BLOCK, 0, false, true},
    {"token by token", 1, 0, false, false},
    {"token by token, backwards", 1, 0, true, false},
    {"token by token, alone", 1, 0, false, true},
    {"chunks of 3", 3, 0, true, false},
    {"chunks of 64", 64, 0, false, false},
    {"chunks of 1, 14, 27, ...", 1, 13, false, false},
    {"chunks of 17, alone", 17, 0, false, true},
};

static void check_way(const struct backend *b, const struct rig *first, const struct scene *scene,
                      const struct played *want, const struct way *way, int threads, int *failures)
{
    struct rig r;
    bool one_row = way->alone && way->chunk == 1; /* and the device is told so */
    struct device_limits limits = limits_of(&scene->shape, one_row ? 1 : ALL_ROWS);
    rig_open(&r, b, first->act, first->kv, threads, &limits);
    rig_at(&r, "%s, %d threads: %s against whole prompts", first->what, threads, way->name);
    struct played p = new_played(&r, scene);
    play(&r, scene, way, &p);
    for (int s = 0; s < SEQUENCES; s++) {
        size_t n = (size_t)lengths[s] * (size_t)scene->shape.dim * sizeof(float);
        rig_same_bytes(&r, "q", p.q[s], want->q[s], n * (size_t)scene->shape.heads);
        rig_same_bytes(&r, "k", p.k[s], want->k[s], n * (size_t)scene->shape.kv_heads);
        rig_same_bytes(&r, "out", p.out[s], want->out[s], n * (size_t)scene->shape.heads);
    }
    *failures += rig_close(&r);
}

int case_attend_invariance(const struct backend *b)
{
    int failures = 0;
    for (size_t a = 0; a < COUNT(shape_acts); a++)
        for (size_t k = 0; k < COUNT(kvs); k++)
            for (size_t i = (a + k) % 2; i < COUNT(shapes); i += 2) {
                struct rig r;
                struct device_limits limits = limits_of(&shapes[i], ALL_ROWS);
                rig_open(&r, b, shape_acts[a], kvs[k], 1, &limits);
                rig_at(&r, "attend: %d heads on %d of %d, kv %s", shapes[i].heads,
                       shapes[i].kv_heads, shapes[i].dim, dtype_name(kvs[k]));
                struct scene scene = new_scene(&r, shapes[i], 2);
                struct played want = new_played(&r, &scene);
                play(&r, &scene, &ways[0], &want);
                for (size_t w = 0; w < COUNT(ways); w += rig_slow(b) ? 3 : 1)
                    check_way(b, &r, &scene, &want, &ways[w], 1 + (int)(w + i) % 3, &failures);
                failures += rig_close(&r);
            }
    return failures;
}
