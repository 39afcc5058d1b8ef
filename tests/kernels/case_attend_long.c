/* case_attend_long.c - attention over contexts of several tiles and stretches of every backend.
 *
 * The largest score of a row wanders from tile to tile and so do the values, so that a sum that is
 * not rescaled, a stretch that is merged with the wrong weight or not at all, and a block taken
 * from elsewhere all move the result by much more than rounding does. Only the last rows of each
 * sequence are looked at; the tokens before them enter the cache alone. */
#include "tests/kernels/cases.h"
#include "tests/kernels/rig.h"
#include "tests/kernels/shapes.h"

#include <math.h>
#include <string.h>

#define STRIDE 256 /* tokens over which scores and values keep their size */
#define LAST   3   /* rows of each sequence that are looked at */

static const int contexts[] = {4200, 1, 700, 257, 2048, 2049};
#define SEQUENCES ((int)COUNT(contexts))
#define LONGEST   4200
#define BLOCKS    ((LONGEST + KV_BLOCK - 1) / KV_BLOCK)
#define ALL       160 /* blocks of the cache */

struct shape {
    int heads, kv_heads, dim;
    enum dtype act, kv;
    int window;
    int within; /* numbers of a value that is part of its key; 0: it is not */
};

/* One sequence's numbers, [tokens][heads][D]; q of its last rows alone. */
struct sequence {
    int tokens, rows;
    float *q, *k, *v;
    int32_t blocks[BLOCKS];
};

struct scene {
    struct shape shape;
    struct sequence seq[SEQUENCES];
    struct kv *kv;
    void *angles; /* device */
};

static float *wandering(struct rig *r, int tokens, size_t width, float each, float shift)
{
    float *x = rig_values(r, DTYPE_F32, (size_t)tokens * width, 1);
    for (size_t i = 0; i < (size_t)tokens * width; i++) {
        int tile = (int)(i / width) / STRIDE;
        x[i] = x[i] * (0.6f + each * (float)(tile * 7 % 5)) + shift * (float)(tile % 3 - 1);
    }
    return rig_decode(r, r->act, rig_encode(r, r->act, x, (size_t)tokens * width),
                      (size_t)tokens * width);
}

static void make_scene(struct rig *r, struct scene *scene)
{
    size_t dim = (size_t)scene->shape.dim, narrow = dim * (size_t)scene->shape.kv_heads;
    for (int s = 0, next = 0; s < SEQUENCES; s++) {
        struct sequence *q = &scene->seq[s];
        q->tokens = contexts[s];
        q->rows = q->tokens < LAST ? q->tokens : LAST;
        q->q = rig_values(r, r->act, (size_t)(q->rows * scene->shape.heads) * dim, 4);
        q->k = wandering(r, q->tokens, narrow, 0.5f, 0);
        q->v = wandering(r, q->tokens, narrow, 0, 0.5f);
        for (int b = 0; b < BLOCKS; b++) /* anywhere, all different */
            q->blocks[b] = b * KV_BLOCK < q->tokens ? next++ * 77 % ALL : -1;
    }
    float *angles = rig_host(r, LONGEST * dim, sizeof *angles);
    for (size_t i = 0; i < LONGEST * dim / 2; i++) {
        double angle =
            (double)(i / (dim / 2)) * pow(500000.0, -2.0 * (double)(i % (dim / 2)) / (double)dim);
        angles[2 * i] = (float)cos(angle);
        angles[2 * i + 1] = (float)sin(angle);
    }
    scene->angles = rig_put_values(r, DTYPE_F32, angles, LONGEST * dim);
}

/* `count` tokens from `pos` on of sequences first..end-1; every sequence has as many. */
static struct attn_batch batch_of(struct rig *r, const struct scene *scene, int first, int end,
                                  const int *pos, const int *count)
{
    struct attn_batch b = {.segments = end - first, .blocks_stride = BLOCKS};
    size_t segments = (size_t)b.segments;
    int32_t *seg_row = rig_host(r, segments + 1, 4), *seg_pos = rig_host(r, segments, 4);
    int32_t *row_seg = rig_host(r, LONGEST, 4), *row_pos = rig_host(r, LONGEST, 4);
    int32_t *blocks = rig_host(r, segments * BLOCKS, 4);
    for (int s = first; s < end; s++) {
        int seg = s - first, context = pos[s] + count[s];
        seg_row[seg] = b.rows;
        seg_pos[seg] = pos[s];
        for (int i = 0; i < count[s]; i++) {
            row_seg[b.rows] = seg;
            row_pos[b.rows++] = pos[s] + i;
        }
        for (int i = 0; i < BLOCKS; i++)
            blocks[seg * BLOCKS + i] = scene->seq[s].blocks[i];
        b.max_rows = count[s] > b.max_rows ? count[s] : b.max_rows;
        b.max_context = context > b.max_context ? context : b.max_context;
    }
    seg_row[segments] = b.rows;
    b.seg_row = rig_put(r, seg_row, (segments + 1) * 4);
    b.seg_pos = rig_put(r, seg_pos, segments * 4);
    b.row_seg = rig_put(r, row_seg, (size_t)b.rows * 4);
    b.row_pos = rig_put(r, row_pos, (size_t)b.rows * 4);
    b.blocks = rig_put(r, blocks, segments * BLOCKS * 4);
    return b;
}

static size_t values_of(const struct shape *shape)
{
    return (size_t)(shape->within ? shape->within : shape->dim);
}

static struct attn_spec spec_of(const struct shape *shape, int heads)
{
    struct attn_spec spec = rig_attention(heads, shape->kv_heads, shape->dim);
    spec.window = shape->window;
    spec.value_dim = (int)values_of(shape);
    spec.value_in_key = shape->within > 0;
    return spec;
}

/* All tokens of a sequence enter the cache; k becomes what was rotated. */
static void fill(struct rig *r, struct scene *scene, int s)
{
    struct sequence *q = &scene->seq[s];
    size_t numbers = (size_t)q->tokens * (size_t)scene->shape.kv_heads * (size_t)scene->shape.dim;
    static const int zero[SEQUENCES];
    struct attn_batch b = batch_of(r, scene, s, s + 1, zero, contexts);
    void *k = rig_put_values(r, r->act, q->k, numbers), *none = rig_room(r, 4);
    void *v = scene->shape.within ? NULL : rig_put_values(r, r->act, q->v, numbers);
    struct attn_spec spec = spec_of(&scene->shape, 0);
    r->ops->rope_append(r->d, r->s, &spec, scene->kv, 0, &b, scene->angles, none, k, v);
    q->k = rig_get_values(r, r->act, k, numbers);
}

/* One head of one row over the tokens it sees, from what the cache holds. */
static double reference(const struct shape *shape, const float *q, const float *k, const float *v,
                        size_t tokens, double *want)
{
    size_t dim = (size_t)shape->dim, step = dim * (size_t)shape->kv_heads;
    size_t window = (size_t)shape->window, first = window && tokens > window ? tokens - window : 0;
    static double p[LONGEST];
    double most = -INFINITY, total = 0, size = 0;
    for (size_t t = first; t < tokens; t++) {
        p[t] = 0;
        for (size_t j = 0; j < dim; j++)
            p[t] += (double)q[j] * (double)k[t * step + j];
        p[t] /= sqrt((double)dim);
        most = fmax(most, p[t]);
    }
    for (size_t t = first; t < tokens; t++)
        total += p[t] = exp(p[t] - most);
    size_t values = values_of(shape);
    memset(want, 0, values * sizeof *want);
    for (size_t t = first; t < tokens; t++)
        for (size_t j = 0; j < values; j++)
            want[j] += p[t] / total * (double)v[t * step + j];
    for (size_t j = 0; j < values; j++)
        size = fmax(size, fabs(want[j]));
    return fmax(size, 0.1);
}

static void check(struct rig *r, const struct scene *scene, const float *got)
{
    size_t dim = (size_t)scene->shape.dim, heads = (size_t)scene->shape.heads;
    size_t values = values_of(&scene->shape), kv_heads = (size_t)scene->shape.kv_heads,
           step = kv_heads * dim;
    if (rig_settled(r))
        return;
    for (int s = 0; s < SEQUENCES; s++) {
        const struct sequence *q = &scene->seq[s];
        size_t n = (size_t)q->rows * heads, numbers = (size_t)q->tokens * step;
        const float *k = rig_decode(r, r->kv, rig_encode(r, r->kv, q->k, numbers), numbers);
        const float *v = k;
        if (!scene->shape.within)
            v = rig_decode(r, r->kv, rig_encode(r, r->kv, q->v, numbers), numbers);
        double *want = rig_host(r, n * values, sizeof *want), *size = rig_host(r, n, sizeof *size);
        for (size_t i = 0; i < n; i++) {
            size_t tokens = (size_t)(q->tokens - q->rows) + i / heads + 1;
            size_t at = i % heads / (heads / kv_heads) * dim;
            size[i] =
                reference(&scene->shape, q->q + i * dim, k + at, v + at, tokens, want + i * values);
        }
        rig_at(r, "attend: %d heads on %d of %d, window %d, kv %s, the last %d of %d tokens",
               scene->shape.heads, scene->shape.kv_heads, scene->shape.dim, scene->shape.window,
               dtype_name(r->kv), q->rows, q->tokens);
        rig_compare(r, "out", got, want, n, values, size, rig_tolerance(r->act));
        got += n * values;
    }
}

static int run(const struct backend *b, const struct shape *shape)
{
    struct rig r;
    struct scene scene = {.shape = *shape};
    size_t dim = (size_t)shape->dim, width = (size_t)shape->heads * dim, rows = 0;
    struct device_limits limits = {.rows = LONGEST,
                                   .hidden = 1,
                                   .q_width = width,
                                   .heads = (size_t)shape->heads,
                                   .head_dim = dim,
                                   .context = LONGEST};
    int pos[SEQUENCES], count[SEQUENCES];
    rig_open(&r, b, shape->act, shape->kv, 2, &limits);
    struct attn_spec spec = spec_of(shape, shape->heads);
    struct kv_shape kv_shape = rig_cache(&spec, 1, ALL);
    scene.kv = r.ops->kv_create(r.d, &kv_shape);
    make_scene(&r, &scene);
    for (int s = 0; s < SEQUENCES; s++) {
        fill(&r, &scene, s);
        count[s] = scene.seq[s].rows;
        pos[s] = contexts[s] - count[s];
        rows += (size_t)count[s];
    }
    struct attn_batch batch = batch_of(&r, &scene, 0, SEQUENCES, pos, count);
    float *q = rig_host(&r, rows * width, sizeof *q), *to = q;
    for (int s = 0; s < SEQUENCES; s++)
        for (size_t i = 0; i < (size_t)count[s] * width; i++)
            *to++ = scene.seq[s].q[i];
    void *in = rig_put_values(&r, r.act, q, rows * width);
    size_t outs = rows * (size_t)shape->heads * values_of(shape);
    void *out = rig_room(&r, outs * dtype_size(r.act));
    r.ops->attend(r.d, r.s, &spec, scene.kv, 0, &batch, in, out);
    check(&r, &scene, rig_get_values(&r, r.act, out, outs));
    r.ops->kv_destroy(r.d, scene.kv);
    return rig_close(&r);
}

int case_attend_long(const struct backend *b)
{
    static const struct shape shapes[] = {
        {3, 1, 64, DTYPE_F32, DTYPE_F32, .window = 0},
        {4, 2, 40, DTYPE_BF16, DTYPE_BF16, .window = 0},
        {3, 1, 64, DTYPE_BF16, DTYPE_F8E4M3, .window = 0},
        {4, 2, 40, DTYPE_BF16, DTYPE_BF16, .window = 128},
        {3, 1, 64, DTYPE_F32, DTYPE_F32, .window = 2100},
        {2, 1, 576, DTYPE_BF16, DTYPE_BF16, .within = 512},
        {2, 1, 72, DTYPE_BF16, DTYPE_F8E4M3, .window = 300, .within = 50},
    };
    int failures = 0;
    for (size_t i = 0; i < COUNT(shapes); i++)
        failures += run(b, &shapes[i]);
    return failures;
}
