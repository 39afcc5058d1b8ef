/* case_mechanisms.c - what not every model has: windows over a ring of blocks, sinks, values within
 * keys, rotation of a part of a head or of neighbors, a matrix for every head, gates, biases, norms
 * of parts of rows. One sequence, whole and in chunks: right, and the same bits. */
#include "tests/kernels/cases.h"
#include "tests/kernels/rig.h"
#include "tests/kernels/shapes.h"

#include <math.h>
#include <string.h>

#define TOKENS 200
#define BLOCKS 6

struct scene {
    const char *name;
    struct attn_spec spec;
    bool sinks;
    int ring, chunk;
};

#define HEADS(h, g, k, v) .heads = (h), .kv_heads = (g), .key_dim = (k), .value_dim = (v)
static const struct scene scenes[] = {
    {"window", {HEADS(6, 2, 20, 20), .rope_dim = 20, .window = 13, .scale = 0.3f}, false, 0, 200},
    {"window in a ring", {HEADS(4, 4, 64, 64), .window = 70, .scale = 0.1f}, false, 4, 50},
    {"one token", {HEADS(3, 1, 16, 16), .rope_dim = 8, .window = 1, .scale = 1}, false, 2, 7},
    {"half a head, sinks", {HEADS(6, 2, 64, 64), .rope_dim = 32, .scale = 0.2f}, true, 0, 64},
    {"sinks and window", {HEADS(5, 1, 12, 12), .window = 65, .scale = 0.5f}, true, 0, 33},
    {"neighbors",
     {HEADS(2, 1, 24, 24), .rope_at = 4, .rope_dim = 18, .pairs = ROPE_NEIGHBORS, .scale = 0.2f},
     false,
     0,
     77},
    {"latent",
     {HEADS(7, 1, 49, 43), .value_in_key = true, .rope_at = 43, .rope_dim = 6,
      .pairs = ROPE_NEIGHBORS, .scale = 0.2f},
     false,
     0,
     100},
    {"other values", {HEADS(4, 2, 24, 17), .rope_dim = 24, .scale = 0.2f}, false, 0, 200},
};

struct inputs {
    const float *q, *k, *v, *angles, *sinks;
};

static struct attn_batch batch_of(struct rig *r, const struct scene *s, int first, int n)
{
    int32_t seg_row[2] = {0, n}, pos[TOKENS], seg[TOKENS] = {0},
            blocks[BLOCKS] = {3, 0, 5, 1, 4, 2};
    for (int i = 0; i < n; i++)
        pos[i] = first + i;
    size_t rows = (size_t)n * 4;
    return (struct attn_batch){.rows = n,
                               .segments = 1,
                               .max_rows = n,
                               .max_context = first + n,
                               .seg_row = rig_put(r, seg_row, sizeof seg_row),
                               .seg_pos = rig_put(r, pos, 4),
                               .row_seg = rig_put(r, seg, rows),
                               .row_pos = rig_put(r, pos, rows),
                               .blocks = rig_put(r, blocks, sizeof blocks),
                               .blocks_stride = BLOCKS,
                               .ring = s->ring};
}

/* out [TOKENS][heads][value_dim]; q and k become what was rotated. */
static void play(struct rig *r, const struct scene *s, const struct inputs *in, int chunk, float *q,
                 float *k, float *out)
{
    struct attn_spec spec = s->spec;
    size_t wide = (size_t)(spec.heads * spec.key_dim),
           keys = (size_t)(spec.kv_heads * spec.key_dim);
    size_t values = (size_t)(spec.kv_heads * spec.value_dim);
    size_t outs = (size_t)(spec.heads * spec.value_dim);
    struct kv_shape shape = rig_cache(&spec, 2, BLOCKS);
    struct kv *kv = r->ops->kv_create(r->d, &shape);
    for (int at = 0; at < TOKENS; at += chunk) {
        int n = TOKENS - at < chunk ? TOKENS - at : chunk;
        size_t rows = (size_t)n, from = (size_t)at;
        struct attn_batch b = batch_of(r, s, at, n);
        float *angles = rig_put_values(r, DTYPE_F32, in->angles, (size_t)(TOKENS * spec.rope_dim));
        spec.sinks = s->sinks ? rig_put_values(r, DTYPE_F32, in->sinks, (size_t)spec.heads) : NULL;
        void *dq = rig_put_values(r, r->act, in->q + from * wide, rows * wide);
        void *dk = rig_put_values(r, r->act, in->k + from * keys, rows * keys);
        void *dv = spec.value_in_key
                       ? NULL
                       : rig_put_values(r, r->act, in->v + from * values, rows * values);
        void *to = rig_room(r, rows * outs * dtype_size(r->act));
        r->ops->rope_append(r->d, r->s, &spec, kv, 1, &b, angles, dq, dk, dv);
        r->ops->attend(r->d, r->s, &spec, kv, 1, &b, dq, to);
        memcpy(q + from * wide, rig_get_values(r, r->act, dq, rows * wide), rows * wide * 4);
        memcpy(k + from * keys, rig_get_values(r, r->act, dk, rows * keys), rows * keys * 4);
        memcpy(out + from * outs, rig_get_values(r, r->act, to, rows * outs), rows * outs * 4);
        rig_clear(r);
    }
    r->ops->kv_destroy(r->d, kv);
}

static void check_turn(struct rig *r, const struct attn_spec *s, const float *angles,
                       const float *from, const float *got, int heads)
{
    size_t dim = (size_t)s->key_dim, all = (size_t)(TOKENS * heads), half = (size_t)s->rope_dim / 2;
    double *want = rig_host(r, all * dim, sizeof *want);
    for (size_t i = 0; i < all * dim; i++)
        want[i] = (double)from[i];
    for (size_t i = 0; i < all; i++)
        for (size_t j = 0; j < half; j++) {
            const float *a = angles + (i / (size_t)heads * half + j) * 2;
            bool halves = s->pairs == ROPE_HALVES;
            size_t x = i * dim + (size_t)s->rope_at + (halves ? j : 2 * j);
            size_t y = x + (halves ? half : 1);
            want[x] = (double)from[x] * (double)a[0] - (double)from[y] * (double)a[1];
            want[y] = (double)from[y] * (double)a[0] + (double)from[x] * (double)a[1];
        }
    rig_compare(r, "turned", got, want, all, dim, NULL, rig_tolerance(r->act));
}

static void reference(const struct scene *s, const struct inputs *in, const float *q,
                      const float *k, int token, int head, double *want)
{
    const struct attn_spec *a = &s->spec;
    int group = head / (a->heads / a->kv_heads);
    int first = a->window && token >= a->window ? token - a->window + 1 : 0;
    double p[TOKENS], most = s->sinks ? (double)in->sinks[head] : -INFINITY, total = 0;
    for (int t = first; t <= token; t++) {
        p[t] = 0;
        for (int j = 0; j < a->key_dim; j++)
            p[t] += (double)q[(token * a->heads + head) * a->key_dim + j] *
                    (double)k[(t * a->kv_heads + group) * a->key_dim + j] * (double)a->scale;
        most = fmax(most, p[t]);
    }
    if (s->sinks)
        total = exp((double)in->sinks[head] - most);
    for (int t = first; t <= token; t++)
        total += p[t] = exp(p[t] - most);
    for (int j = 0; j < a->value_dim; j++) {
        want[j] = 0;
        for (int t = first; t <= token; t++)
            want[j] +=
                p[t] / total *
                (double)(a->value_in_key ? k[t * a->key_dim + j]
                                         : in->v[(t * a->kv_heads + group) * a->value_dim + j]);
    }
}

static void run_scene(struct rig *r, const struct scene *s)
{
    const struct attn_spec *a = &s->spec;
    size_t wide = (size_t)(TOKENS * a->heads * a->key_dim);
    size_t keys = (size_t)(TOKENS * a->kv_heads * a->key_dim);
    size_t outs = (size_t)(TOKENS * a->heads * a->value_dim);
    float *angles = rig_host(r, (size_t)(TOKENS * a->rope_dim) + 1, sizeof *angles);
    for (int i = 0; i < TOKENS * a->rope_dim / 2; i++) {
        angles[2 * i] = (float)cos(0.37 * i);
        angles[2 * i + 1] = (float)sin(0.37 * i);
    }
    struct inputs in = {rig_values(r, r->act, wide, 1), rig_values(r, r->act, keys, 1.5),
                        rig_values(r, r->act, (size_t)(TOKENS * a->kv_heads * a->value_dim), 2),
                        angles, rig_values(r, DTYPE_F32, (size_t)a->heads, 2)};
    float *q[2], *k[2], *out[2];
    for (int i = 0; i < 2; i++) {
        q[i] = rig_host(r, wide, sizeof(float));
        k[i] = rig_host(r, keys, sizeof(float));
        out[i] = rig_host(r, outs, sizeof(float));
    }
    rig_keep(r);
    int whole = s->ring ? s->chunk : TOKENS;
    play(r, s, &in, whole, q[0], k[0], out[0]);
    play(r, s, &in, s->chunk / 2 + 20, q[1], k[1], out[1]);
    rig_same_bytes(r, "in chunks", out[1], out[0], outs * sizeof(float));
    if (rig_settled(r))
        return;
    check_turn(r, a, angles, in.q, q[0], a->heads);
    check_turn(r, a, angles, in.k, k[0], a->kv_heads);
    size_t dim = (size_t)a->value_dim;
    double *want = rig_host(r, outs, sizeof *want);
    for (int t = 0; t < TOKENS; t++)
        for (int h = 0; h < a->heads; h++)
            reference(s, &in, q[0], k[0], t, h, want + (size_t)(t * a->heads + h) * dim);
    rig_compare(r, "attended", out[0], want, outs / dim, dim, NULL, 3 * rig_tolerance(r->act));
}

int case_mechanisms(const struct backend *b)
{
    int failures = 0;
    struct device_limits limits = {
        .rows = TOKENS, .hidden = 1, .q_width = 512, .heads = 8, .head_dim = 64, .context = TOKENS};
    for (size_t a = 0; a < COUNT(shape_acts); a++)
        for (size_t i = 0; i < COUNT(scenes); i++) {
            struct rig r;
            rig_open(&r, b, shape_acts[a], a ? DTYPE_BF16 : DTYPE_F32, 2, &limits);
            rig_at(&r, "%s", scenes[i].name);
            run_scene(&r, &scenes[i]);
            failures += rig_close(&r);
        }
    return failures;
}
