/* kv.c - the KV cache: memory, and how a token enters it. */
#include "kernels/cpu/fast/kv.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static void plan(const struct device *d, const struct kv_shape *shape, struct kv *kv)
{
    *kv = (struct kv){.shape = *shape, .dtype = d->config.kv};
    kv->kv_heads = (size_t)shape->kv_heads;
    kv->key_dim = (size_t)shape->key_dim;
    kv->value_dim = (size_t)shape->value_dim;
    kv->format = kv->dtype == DTYPE_F32 ? W_F32 : kv->dtype == DTYPE_BF16 ? W_BF16 : W_F8;
    kv->key_width = round_up(kv->key_dim, K_ALIGN);
    kv->value_panels = (kv->value_dim + PANEL - 1) / PANEL;
    kv->key_bytes = KV_BLOCK * kv->key_width * w_size(kv->format);
    kv->turned_bytes = KV_BLOCK * kv->value_panels * PANEL * w_size(kv->format);
    kv->value_bytes = shape->value_in_key ? 0 : kv->turned_bytes;
}

static size_t bytes(const struct kv *kv)
{
    size_t places = mem_mul(mem_mul(kv->shape.layers, kv->shape.blocks), kv->kv_heads);
    return mem_mul(places, kv->key_bytes + kv->value_bytes) + MEM_ALIGN;
}

size_t fast_kv_bytes(const struct device *d, const struct kv_shape *shape)
{
    struct kv kv;
    plan(d, shape, &kv);
    return bytes(&kv);
}

struct kv *fast_kv_create(struct device *d, const struct kv_shape *shape)
{
    struct kv *kv = mem_new(1, sizeof *kv);
    plan(d, shape, kv);
    kv->memory = mem_zeroed_huge(bytes(kv), 1);
    kv->data = (uint8_t *)round_up((uintptr_t)kv->memory, MEM_ALIGN);
    return kv;
}

void fast_kv_destroy(struct device *d, struct kv *kv)
{
    if (!kv)
        return;
    (void)d;
    free(kv->memory);
    free(kv);
}

/* Copies D numbers of `size` bytes to where `format` wants them: as output `token` of a panel of
 * keys, or as input `token` of the panels of values. */
static inline void scatter_key(enum w_format format, size_t size, const uint8_t *from, size_t dim,
                               size_t token, uint8_t *panel)
{
    for (size_t i = 0; i < dim; i++)
        memcpy(panel + panel_place(format, token, i) * size, from + i * size, size);
}

static inline void scatter_value(enum w_format format, size_t size, const uint8_t *from, size_t dim,
                                 size_t token, uint8_t *values)
{
    for (size_t i = 0; i < dim; i++) {
        size_t place = i / PANEL * KV_BLOCK * PANEL + panel_place(format, i % PANEL, token);
        memcpy(values + place * size, from + i * size, size);
    }
}

/* Sixteen bytes of keys: some tokens, of each the dimensions 2 i and 2 i + 1. */
typedef uint64_t some_keys __attribute__((vector_size(16)));

/* Two tokens' pairs of dimensions become two dimensions' pairs of tokens: of every four codes, those in the middle
 * change places. */
static inline some_keys turn_pairs(const uint8_t *from)
{
    some_keys x, up = {0}, outer;
    memcpy(&x, from, sizeof x);
    up += 0x0000ff000000ff00u;
    outer = ~(up | up << 8);
    return (x & outer) | (x & up) << 8 | (x >> 8 & up);
}

/* Dimensions 2 i and 2 i + 1 of the 32 tokens of a panel of keys, from token `first` of the block on. Sixteen
 * codes are those of tokens t .. t + 3 and t + 16 .. t + 19. */
static inline void turn_f8(const uint8_t *panel, size_t i, size_t first, uint8_t *values)
{
    for (size_t t = 0; t < PANEL / 2; t += 4) {
        some_keys x = turn_pairs(panel + panel_place(W_F8, t, 2 * i));
        for (size_t pair = 0; pair < 4; pair++) {
            size_t token = first + t + pair / 2 * 16 + pair % 2 * 2;
            memcpy(values + panel_place(W_F8, 2 * i % PANEL, token), (uint8_t *)&x + 4 * pair, 4);
        }
    }
}

static inline void turn_f32(const uint8_t *panel, size_t i, size_t first, uint8_t *values)
{
    for (size_t j = 2 * i; j < 2 * i + 2; j++)
        for (size_t t = 0; t < PANEL; t++)
            memcpy(values + panel_place(W_F32, j % PANEL, first + t) * 4,
                   panel + panel_place(W_F32, t, j) * 4, 4);
}

void kv_turn(const struct isa *isa, const struct kv *kv, const uint8_t *keys, uint8_t *values)
{
    size_t panel_bytes = kv->turned_bytes / kv->value_panels, step = kv->format == W_BF16 ? 16 : 2;
    for (size_t i = 0; i < kv->value_dim; i += step)
        for (size_t half = 0; half < 2; half++) {
            const uint8_t *panel = keys + half * (kv->key_bytes / 2);
            uint8_t *to = values + i / PANEL * panel_bytes;
            if (kv->format == W_BF16)
                isa->turn(panel + panel_place(W_BF16, 0, i) * 2,
                          to + panel_place(W_BF16, i % PANEL, half * PANEL) * 2);
            else if (kv->format == W_F8)
                turn_f8(panel, i / 2, half * PANEL, to);
            else
                turn_f32(panel, i / 2, half * PANEL, to);
        }
}

/* key and value: numbers in the cache's dtype; no value: it is part of the key. */
static void enter(const struct kv *kv, uint8_t *place, size_t token, const uint8_t *key,
                  const uint8_t *value)
{
    size_t keys = kv->key_dim, dim = value ? kv->value_dim : 0, half = kv->key_bytes / 2;
    uint8_t *panel = place + token / PANEL * half, *values = place + kv->key_bytes;
    switch (kv->format) { /* a constant format in each case: the places become simple steps */
    case W_F32:
        scatter_key(W_F32, 4, key, keys, token % PANEL, panel);
        scatter_value(W_F32, 4, value, dim, token, values);
        break;
    case W_BF16:
        scatter_key(W_BF16, 2, key, keys, token % PANEL, panel);
        scatter_value(W_BF16, 2, value, dim, token, values);
        break;
    default:
        scatter_key(W_F8, 1, key, keys, token % PANEL, panel);
        scatter_value(W_F8, 1, value, dim, token, values);
    }
}

#define CONVERT_MOST 1024 /* widest head that is converted at a time */

static void append_head(const struct device *d, const struct kv *kv, uint8_t *place, size_t token,
                        const void *k, const void *v)
{
    uint8_t key[CONVERT_MOST * 4], value[CONVERT_MOST * 4];
    d->isa->convert(d->config.act, k, kv->key_dim, kv->dtype, key);
    if (kv->value_bytes)
        d->isa->convert(d->config.act, v, kv->value_dim, kv->dtype, value);
    enter(kv, place, token, key, kv->value_bytes ? value : NULL);
}

/* Zeros for the values of every block that gets its first token: what the sequence before left
 * there may be anything, and 0 x NaN is not 0. (Scores of tokens that are not there are masked.)
 * Keys that values are made of are cleared likewise. In decode steps of few sequences
 * mostly nothing begins. */
static void clear_begun(const struct device *d, const struct kv *kv, int layer,
                        const struct attn_batch *batch)
{
    int begun = 0;
    for (int i = 0; i < batch->rows; i++)
        begun += batch->row_pos[i] % KV_BLOCK == 0;
    if (!begun)
        return;
    struct team team = team_begin(d, TEAM_ROWS, (size_t)batch->rows * kv->key_dim);
#pragma omp parallel for num_threads(team.threads) schedule(static)
    for (size_t i = 0; i < (size_t)batch->rows; i++) {
        size_t pos = (size_t)batch->row_pos[i];
        if (pos % KV_BLOCK)
            continue;
        for (size_t h = 0; h < kv->kv_heads; h++) {
            size_t block = kv_block(batch, (size_t)batch->row_seg[i], pos);
            uint8_t *at = kv_at(kv, (size_t)layer, block, h);
            if (kv->value_bytes)
                memset(at + kv->key_bytes, 0, kv->value_bytes);
            else
                memset(at, 0, kv->key_bytes);
        }
    }
    team_end(&team);
}

/* Turns the numbers of one head that turn. */
static void rotate(const struct device *d, const struct attn_spec *spec, uint8_t *head,
                   const float *angles)
{
    enum dtype act = d->config.act;
    size_t turning = (size_t)spec->rope_dim;
    uint8_t *from = head + (size_t)spec->rope_at * dtype_size(act);
    if (spec->pairs == ROPE_HALVES) {
        d->isa->rotate(act, from, angles, turning);
        return;
    }
    float x[CONVERT_MOST];
    d->isa->convert(act, from, turning, DTYPE_F32, x);
    for (size_t j = 0; j < turning; j += 2) {
        float a = x[j], b = x[j + 1];
        x[j] = a * angles[j] - b * angles[j + 1];
        x[j + 1] = b * angles[j] + a * angles[j + 1];
    }
    d->isa->convert(DTYPE_F32, x, turning, act, from);
}

void fast_rope_append(struct device *d, struct stream *s, const struct attn_spec *spec,
                      struct kv *kv, int layer, const struct attn_batch *batch, const float *angles,
                      void *q, void *k, const void *v)
{
    (void)s;
    size_t dim = kv->key_dim, kv_heads = kv->kv_heads, number = dtype_size(d->config.act);
    size_t key_bytes = dim * number, q_heads = (size_t)spec->heads;
    if (dim > CONVERT_MOST || kv->value_dim > CONVERT_MOST)
        die("heads of more than %d dimensions", CONVERT_MOST);
    clear_begun(d, kv, layer, batch);
    struct team team = team_begin(d, TEAM_ROWS, (size_t)batch->rows * q_heads * dim);
#pragma omp parallel for num_threads(team.threads) schedule(static)
    for (size_t i = 0; i < (size_t)batch->rows; i++) {
        size_t pos = (size_t)batch->row_pos[i];
        const float *turn = angles + pos * (size_t)spec->rope_dim;
        size_t block = kv_block(batch, (size_t)batch->row_seg[i], pos);
        for (size_t h = i * q_heads; h < (i + 1) * q_heads && spec->rope_dim; h++)
            rotate(d, spec, (uint8_t *)q + h * key_bytes, turn);
        for (size_t h = 0; h < kv_heads; h++) {
            size_t head = i * kv_heads + h;
            uint8_t *key = (uint8_t *)k + head * key_bytes;
            const uint8_t *value = v ? (const uint8_t *)v + head * kv->value_dim * number : NULL;
            if (spec->rope_dim)
                rotate(d, spec, key, turn);
            append_head(d, kv, kv_at(kv, (size_t)layer, block, h), pos % KV_BLOCK, key, value);
        }
    }
    team_end(&team);
}
