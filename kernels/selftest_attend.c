/* selftest_attend.c - the self-test of rope_append and attend: three sequences, of which one is longer
 * than what one block of a GPU goes through, and one has a chunk of a prompt read in. */
#include "kernels/selftest_pair.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

#define SEQUENCES 3
#define PROMPT    35 /* rows of the last sequence */
#define BLOCKS    ((SELFTEST_CONTEXT + KV_BLOCK - 1) / KV_BLOCK)

static const int lengths[SEQUENCES] = {SELFTEST_CONTEXT - 3, 130, 64 + PROMPT};

struct scene {
    struct attn_spec spec;
    const float *angles, *sinks;
    const void *q, *k[SEQUENCES], *v[SEQUENCES]; /* q: of the rows that attend */
};

/* Rows first .. first + n - 1 of every sequence s in `from` .. `to` - 1. */
struct stretch {
    int from, to, first[SEQUENCES], n[SEQUENCES];
};

static void put_batch(struct pair_side *s, const struct stretch *t, struct attn_batch *b)
{
    int32_t seg_row[SEQUENCES + 1] = {0}, seg_pos[SEQUENCES], blocks[SEQUENCES][BLOCKS];
    int32_t row_seg[SELFTEST_CONTEXT], row_pos[SELFTEST_CONTEXT];
    *b = (struct attn_batch){.blocks_stride = BLOCKS, .segments = t->to - t->from};
    for (int i = t->from; i < t->to; i++) {
        int seg = i - t->from;
        for (int r = 0; r < t->n[i]; r++) {
            row_seg[b->rows] = seg;
            row_pos[b->rows++] = t->first[i] + r;
        }
        for (int k = 0; k < BLOCKS; k++) /* spread over the cache, in no order */
            blocks[seg][k] = (i * BLOCKS + k) * 5 % (SEQUENCES * BLOCKS);
        seg_row[seg + 1] = b->rows;
        seg_pos[seg] = t->first[i];
        b->max_rows = t->n[i] > b->max_rows ? t->n[i] : b->max_rows;
        int context = t->first[i] + t->n[i];
        b->max_context = context > b->max_context ? context : b->max_context;
    }
    b->seg_row = pair_put(s, seg_row, sizeof seg_row);
    b->seg_pos = pair_put(s, seg_pos, sizeof seg_pos);
    b->row_seg = pair_put(s, row_seg, (size_t)b->rows * 4);
    b->row_pos = pair_put(s, row_pos, (size_t)b->rows * 4);
    b->blocks = pair_put(s, blocks, sizeof blocks);
    s->backend->device->stream_sync(s->device, s->stream); /* the host side is on this stack */
}

/* Every sequence enters the cache; fetches the keys of the last as they were rotated. */
static void fill(struct pair *p, struct pair_side *s, const struct scene *c, struct kv *kv)
{
    size_t size = dtype_size(p->act);
    struct attn_spec keys = c->spec;
    keys.heads = 0;
    const float *angles =
        pair_put(s, c->angles, mem_mul(SELFTEST_CONTEXT, (size_t)keys.rope_dim) * sizeof(float));
    for (int i = 0; i < SEQUENCES; i++) {
        struct attn_batch b;
        struct stretch all = {.from = i, .to = i + 1};
        all.n[i] = lengths[i];
        put_batch(s, &all, &b);
        size_t n = (size_t)lengths[i] * (size_t)keys.kv_heads;
        void *k = pair_put(s, c->k[i], n * (size_t)keys.key_dim * size), *v = NULL;
        if (!keys.value_in_key)
            v = pair_put(s, c->v[i], n * (size_t)keys.value_dim * size);
        s->ops->rope_append(s->device, s->stream, &keys, kv, 1, &b, keys.rope_dim ? angles : NULL,
                            NULL, k, v);
        pair_fetch(s, 1, k, p->act, n * (size_t)keys.key_dim);
    }
}

#define ATTENDING (2 + PROMPT) /* rows: the last of two sequences, and a prompt */

static void attend(struct pair *p, struct pair_side *s, const struct scene *c, struct kv *kv)
{
    struct attn_batch b;
    struct attn_spec spec = c->spec;
    size_t size = dtype_size(p->act), heads = ATTENDING * (size_t)spec.heads;
    const struct stretch last = {
        0, 3, {lengths[0] - 1, lengths[1] - 1, lengths[2] - PROMPT}, {1, 1, PROMPT}};
    put_batch(s, &last, &b);
    if (c->sinks)
        spec.sinks = pair_put(s, c->sinks, (size_t)spec.heads * sizeof(float));
    void *q = pair_put(s, c->q, heads * (size_t)spec.key_dim * size);
    void *out = pair_room(s, heads * (size_t)spec.value_dim * size);
    s->ops->attend(s->device, s->stream, &spec, kv, 1, &b, q, out);
    pair_fetch(s, 0, out, p->act, heads * (size_t)spec.value_dim);
}

static struct scene make_scene(struct pair *p, const struct attn_spec *spec)
{
    struct scene c = {.spec = *spec};
    size_t heads = (size_t)spec->kv_heads, pairs = (size_t)spec->rope_dim / 2;
    float *angles = pair_host(p, mem_mul(SELFTEST_CONTEXT, pairs ? pairs : 1), 2 * sizeof *angles);
    for (size_t i = 0; i < SELFTEST_CONTEXT * pairs; i++) {
        double angle = (double)(i / pairs) * pow(10000, -(double)(i % pairs) / (double)pairs);
        angles[2 * i] = (float)cos(angle);
        angles[2 * i + 1] = (float)sin(angle);
    }
    c.angles = angles;
    if (spec->sinks)
        c.sinks = pair_numbers(p, DTYPE_F32, (size_t)spec->heads, 2);
    /* Scores of a few, so that no token has all of the softmax and none is without weight. */
    double size = 4 / sqrt((double)spec->scale * sqrt((double)spec->key_dim) * 3);
    c.q = pair_numbers(p, p->act, ATTENDING * (size_t)spec->heads * (size_t)spec->key_dim, size);
    for (int i = 0; i < SEQUENCES; i++) {
        size_t n = (size_t)lengths[i] * heads;
        c.k[i] = pair_numbers(p, p->act, n * (size_t)spec->key_dim, 1);
        c.v[i] = pair_numbers(p, p->act, n * (size_t)spec->value_dim, 1);
    }
    return c;
}

void selftest_attention(struct pair *p, const struct attn_spec *spec)
{
    struct scene c = make_scene(p, spec);
    struct kv_shape shape = {.layers = 2,
                             .blocks = (size_t)SEQUENCES * BLOCKS,
                             .kv_heads = spec->kv_heads,
                             .key_dim = spec->key_dim,
                             .value_dim = spec->value_dim,
                             .value_in_key = spec->value_in_key,
                             .window = spec->window};
    for (int i = 0; i < 2; i++) {
        struct pair_side *s = &p->side[i];
        struct kv *kv = s->ops->kv_create(s->device, &shape);
        fill(p, s, &c, kv);
        attend(p, s, &c, kv);
        s->ops->kv_destroy(s->device, kv);
    }
    size_t keys = (size_t)(lengths[SEQUENCES - 1] * spec->kv_heads);
    pair_at(p, "%d heads of %d on %d, a cache in %s%s%s", spec->heads, spec->key_dim,
            spec->kv_heads, dtype_name(p->kv), spec->window ? ", a window" : "",
            spec->sinks ? ", sinks" : "");
    pair_compare_part(p, 1, "rope_append, keys", keys, (size_t)spec->key_dim,
                      pair_tolerance(p->act));
    pair_compare(p, "attend", ATTENDING * (size_t)spec->heads, (size_t)spec->value_dim,
                 2 * pair_tolerance(p->act));
}
