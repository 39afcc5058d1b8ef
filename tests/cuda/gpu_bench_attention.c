/* gpu_bench_attention.c - attention alone, and a whole layer of it as a captured graph. */
#include "tests/cuda/gpu_bench.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- attention ------------------------------------------------------------------------------- */

const struct attn_spec bench_mfa = {.heads = HEADS,
                                    .kv_heads = 1,
                                    .key_dim = DIM,
                                    .value_dim = DIM,
                                    .rope_dim = DIM,
                                    .scale = 1.0f / 16};
const struct attn_spec bench_gqa = {.heads = 64,
                                    .kv_heads = 4,
                                    .key_dim = 128,
                                    .value_dim = 128,
                                    .rope_dim = 128,
                                    .scale = 1.0f / 11};

/* DeepSeek-V3's, queries in the space of the latents. */
const struct attn_spec bench_mla = {.heads = MOST_HEADS,
                                    .kv_heads = 1,
                                    .key_dim = MOST_DIM,
                                    .value_dim = 512,
                                    .value_in_key = true,
                                    .rope_at = 512,
                                    .rope_dim = 64,
                                    .scale = 1.0f / 14};

static void *put(struct bench *b, const int32_t *from, size_t n)
{
    void *p = b->dev->alloc(b->d, n * 4);
    b->dev->upload(b->d, b->s, p, from, n * 4);
    b->dev->stream_sync(b->d, b->s);
    return p;
}

/* `decode` sequences of `context` tokens whose last token is decoded, and `prompt` last rows of one
 * more. */
static struct attn_batch batch(struct bench *b, int decode, int prompt, int context)
{
    int segments = decode + (prompt > 0), rows = decode + prompt, blocks = context / KV_BLOCK;
    int32_t *at = mem_new((size_t)segments + 1, 4), *pos = mem_new((size_t)segments, 4);
    int32_t *seg = mem_new((size_t)rows, 4), *row_pos = mem_new((size_t)rows, 4);
    int32_t *table = mem_new((size_t)(segments * blocks), 4);
    for (int i = 0; i < segments * blocks; i++)
        table[i] = (int32_t)((int64_t)i * 37 % (segments * blocks));
    for (int i = 0; i < segments; i++) {
        at[i] = i;
        pos[i] = i < decode ? context - 1 : context - prompt;
    }
    at[segments] = rows;
    for (int i = 0; i < rows; i++) {
        seg[i] = i < decode ? i : decode;
        row_pos[i] = i < decode ? context - 1 : context - prompt + i - decode;
    }
    struct attn_batch made = {.rows = rows,
                              .segments = segments,
                              .max_rows = prompt > 1 ? prompt : 1,
                              .max_context = context,
                              .seg_row = put(b, at, (size_t)segments + 1),
                              .seg_pos = put(b, pos, (size_t)segments),
                              .row_seg = put(b, seg, (size_t)rows),
                              .row_pos = put(b, row_pos, (size_t)rows),
                              .blocks = put(b, table, (size_t)(segments * blocks)),
                              .blocks_stride = blocks};
    free(at);
    free(pos);
    free(seg);
    free(row_pos);
    free(table);
    return made;
}

static void release_batch(struct bench *b, const struct attn_batch *m)
{
    const int32_t *all[5] = {m->seg_row, m->seg_pos, m->row_seg, m->row_pos, m->blocks};
    for (int i = 0; i < 5; i++)
        b->dev->release(b->d, (void *)(uintptr_t)all[i]);
}

struct looking {
    const struct attn_spec *spec;
    struct kv *kv;
    struct attn_batch batch;
};

static void do_attend(struct bench *b, const void *what)
{
    const struct looking *l = what;
    b->ops->attend(b->d, b->s, l->spec, l->kv, 0, &l->batch, b->x, b->y);
}

static void do_rope(struct bench *b, const void *what)
{
    const struct looking *l = what;
    b->ops->rope_append(b->d, b->s, l->spec, l->kv, 0, &l->batch, b->angles, b->x, b->y,
                        l->spec->value_in_key ? NULL : b->z);
}

static struct kv *cache(struct bench *b, const struct attn_spec *s, size_t tokens)
{
    struct kv_shape shape = {.layers = 1,
                             .blocks = tokens / KV_BLOCK,
                             .kv_heads = s->kv_heads,
                             .key_dim = s->key_dim,
                             .value_dim = s->value_dim,
                             .value_in_key = s->value_in_key};
    struct kv *kv = b->ops->kv_create(b->d, &shape);
    bool bf16 = b->d->config.kv == DTYPE_BF16;
    peak_noise(b->s->cuda, kv->cuda.data, kv->layer_bytes / 4, bf16 ? 0x807f807fu : 0xb7b7b7b7u,
               bf16 ? 0x3f003f00u : 0);
    return kv;
}

void bench_attention(struct bench *b, const char *of, const struct attn_spec *spec)
{
    static const struct {
        int decode, prompt, context;
    } shapes[] = {{64, 0, 4096},  {64, 0, 8192},  {64, 128, 8192}, {0, 512, 8192},
                  {64, 0, 32768}, {8, 0, 131072}, {1, 0, 131072}};
    struct looking l = {.spec = spec, .kv = cache(b, spec, (size_t)64 * 32768)};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int n = shapes[i].decode, prompt = shapes[i].prompt, context = shapes[i].context;
        int width = spec->key_dim + (spec->value_in_key ? 0 : spec->value_dim);
        char name[80], with[32] = "";
        if ((n + prompt) * spec->heads * spec->key_dim > MOST * WIDTH)
            continue; /* there is no room for their queries */
        l.batch = batch(b, n, prompt, context);
        struct traffic t = traffic_attend(n + (prompt > 0), context, spec->heads * spec->kv_heads,
                                          spec->key_dim, (int)b->d->config.kv);
        t.least = (double)(n + (prompt > 0)) * context * spec->kv_heads * width *
                  (double)dtype_size(b->d->config.kv);
        t.flops = 2.0 * (n + prompt) * spec->heads * (spec->key_dim + spec->value_dim) * context;
        if (prompt > 0)
            snprintf(with, sizeof with, " + prompt of %d", prompt);
        snprintf(name, sizeof name, "attend %s %d x %d%s, %s", of, n, context, with,
                 dtype_name(b->d->config.kv));
        bench_show(b, name, do_attend, &l, t);
        if (i == 0)
            bench_show_bytes(b, "rope_append 64 rows", do_rope, &l,
                             64.0 * spec->heads * spec->rope_dim * 4);
        release_batch(b, &l.batch);
    }
    b->ops->kv_destroy(b->d, l.kv);
}

/* ---- a layer of attention -------------------------------------------------------------------- */

static void do_layer(struct bench *b, const void *what)
{
    const struct bench_layer *l = what;
    const void *parts[1] = {b->y}, *o = l->out;
    int n = l->batch.rows;
    struct pass p = {.backend = &backend_cuda,
                     .device = b->d,
                     .stream = b->s,
                     .act = DTYPE_BF16,
                     .model = &l->model,
                     .layer = &l->spec,
                     .weights = &l->weights,
                     .angles = b->angles,
                     .kv = l->kv,
                     .batch = &l->batch,
                     .h = l->h,
                     .out = l->out};
    memcpy(p.buffer, l->buffer, sizeof p.buffer);
    b->ops->residual_norm(b->d, b->s, l->stream, parts, 1, DTYPE_BF16, b->g, 1e-5f, n, HIDDEN,
                          l->h);
    block_qkv.run(&p);
    b->ops->residual_norm(b->d, b->s, l->stream, &o, 1, DTYPE_F32, b->g, 1e-5f, n, HIDDEN, l->h);
    struct router_spec router = {.experts = ALL, .topk = TOPK, .factor = 1};
    b->ops->route(b->d, b->s, &router, b->f, NULL, l->h, n, HIDDEN, b->ids, b->weights);
    const struct rows own = {DTYPE_BF16, l->h, NULL, HIDDEN};
    const struct rows wire = {DTYPE_F8E4M3, l->wire, l->scales, HIDDEN};
    b->ops->copy(b->d, b->s, &own, &wire, n, HIDDEN);
}

static void do_residual(struct bench *b, const void *what)
{
    const void *parts[1] = {b->y};
    b->ops->residual_norm(b->d, b->s, b->f, parts, 1, DTYPE_BF16, b->g, 1e-5f, *(const int *)what,
                          HIDDEN, b->z);
}

static void do_norm(struct bench *b, const void *what)
{
    const struct rows x = {DTYPE_BF16, b->x, NULL, RANK}, y = {DTYPE_BF16, b->y, NULL, RANK};
    b->ops->norm(b->d, b->s, &x, b->g, 1e-5f, *(const int *)what, RANK, &y);
}

static void do_route(struct bench *b, const void *what)
{
    struct router_spec spec = {.experts = ALL, .topk = TOPK, .factor = 1};
    b->ops->route(b->d, b->s, &spec, b->f, NULL, b->x, *(const int *)what, HIDDEN, b->ids,
                  b->weights);
}

static void do_encode(struct bench *b, const void *what)
{
    const struct rows x = {DTYPE_BF16, b->x, NULL, HIDDEN}, y = {DTYPE_F8E4M3, b->y, b->g, HIDDEN};
    b->ops->copy(b->d, b->s, &x, &y, *(const int *)what, HIDDEN);
}

void bench_small(struct bench *b)
{
    static const int n = ROWS;
    bench_show_bytes(b, "residual_norm 64 rows", do_residual, &n, n * HIDDEN * 12.0);
    bench_show_bytes(b, "norm 64 rows of 2048", do_norm, &n, n * RANK * 4.0);
    bench_show_bytes(b, "route 64 rows, 48 experts", do_route, &n,
                     ALL * HIDDEN * 4.0 + n * HIDDEN * 2.0);
    bench_show_bytes(b, "copy to fp8 64 rows", do_encode, &n, n * HIDDEN * 3.0);
}

void bench_layers(struct bench *b, struct bench_layer *l)
{
    double weights = HIDDEN * (RANK + 2.0 * DIM + WIDTH) + (double)RANK * WIDTH;
    double row = 2 * (HIDDEN * (RANK + 2.0 * DIM + WIDTH) + (double)RANK * WIDTH);
    l->kv = cache(b, &bench_mfa, (size_t)64 * 8192);
    for (int context = 4096; context <= 8192; context *= 2) {
        char name[80];
        struct traffic t = traffic_attend(ROWS, context, HEADS, DIM, (int)b->d->config.kv);
        t.least += weights + ALL * HIDDEN * 4.0 + ROWS * HIDDEN * 8.0;
        t.flops += ROWS * row;
        l->batch = batch(b, ROWS, 0, context);
        snprintf(name, sizeof name, "layer of attention, graph, 64 x %d, %s cache", context,
                 dtype_name(b->d->config.kv));
        bench_show_graph(b, name, do_layer, l, t);
        release_batch(b, &l->batch);
    }
    b->ops->kv_destroy(b->d, l->kv);
}

void bench_make_layer(struct bench *b, struct bench_layer *l)
{
    size_t rows = ROWS;
    *l = (struct bench_layer){.spec.attention = {.attn = bench_mfa, .q_rank = RANK}};
    l->model.norm_eps = 1e-5f;
    l->weights.q_down = bench_weight(b, RANK, HIDDEN, DTYPE_F8E4M3);
    l->weights.q_up = bench_weight(b, WIDTH, RANK, DTYPE_F8E4M3);
    l->weights.k = bench_weight(b, DIM, HIDDEN, DTYPE_F8E4M3);
    l->weights.v = bench_weight(b, DIM, HIDDEN, DTYPE_F8E4M3);
    l->weights.o = bench_weight(b, HIDDEN, WIDTH, DTYPE_F8E4M3);
    l->weights.inter_norm = b->g;
    for (int i = 0; i < BLOCK_BUFFERS; i++)
        l->buffer[i] = bench_numbers(b, rows * WIDTH * 2, true);
    l->stream = bench_numbers(b, rows * HIDDEN * 4, false);
    l->out = bench_numbers(b, rows * HIDDEN * 4, false);
    l->h = bench_numbers(b, rows * HIDDEN * 2, true);
    l->wire = b->dev->alloc(b->d, rows * HIDDEN);
    l->scales = b->dev->alloc(b->d, rows * HIDDEN);
}
