/* edges.c - the CUDA backend where its kernels have edges that the common cases (tests/kernels) do
 * not reach: contexts around blocks and chunks of the cache, prompts read in against decoding,
 * columns split over blocks, one expert with all rows, 64 heads of 256, cuBLAS. The reference is
 * the plain CPU backend; rows alone and in company must have the same bits. */
#include "kernels/cuda/device_cuda.h"
#include "tests/kernels/rig.h"

#include "base/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

extern const struct backend backend_cuda, backend_plain;

static const struct device_limits limits = {
    .rows = 4200,
    .hidden = 512,
    .q_width = 1024,
    .heads = 96,
    .head_dim = 576,
    .context = 8192,
    .vocab = 1000,
    .logit_rows = 300,
    .experts = 6,
    .topk = 3,
    .inter = 320,
};

static double *to_double(struct rig *r, const float *values, size_t n)
{
    double *wide = rig_host(r, n, sizeof *wide);
    for (size_t i = 0; i < n; i++)
        wide[i] = (double)values[i];
    return wide;
}

/* Gives device buffers back, having looked at their guards, and keeps the host's. */
static float *settle(struct rig *r, float *values)
{
    r->kept_host = r->n_host;
    rig_clear(r);
    return values;
}

/* Opens with cuBLAS, which rig_open() does not know of. */
static void use_blas(struct rig *r)
{
    struct device_config config = {
        .threads = 1, .act = r->act, .kv = r->kv, .blas = true, .limits = limits};
    struct err e;
    r->dev->stream_destroy(r->d, r->s);
    r->dev->close(r->d);
    assert_int_equal(r->dev->open(&config, &r->d, &e), 0);
    r->s = r->dev->stream_create(r->d);
}

/* ---- attention --------------------------------------------------------------------------------
 */

static const int contexts[] = {1, 63, 64, 65, 1024, 1025, 4097, 2048, 2049};
#define SEQUENCES ((int)(sizeof contexts / sizeof contexts[0]))
#define BLOCKS    65 /* of the longest */
#define QUERIES   97

struct attention {
    int heads, kv_heads, head_dim, value_dim; /* fewer than head_dim: values are part of keys */
    int window;
    const float *q;     /* [QUERIES]: token i of all has query i % QUERIES */
    const float *k, *v; /* of every token of every sequence, one after another */
    const float *angles;
    int32_t *table; /* [SEQUENCES][BLOCKS] */
    struct kv *kv;
};

static int first_token(int sequence)
{
    int sum = 0;
    for (int i = 0; i < sequence; i++)
        sum += contexts[i];
    return sum;
}

/* The last `count` tokens of each sequence in [from, to) as one batch. */
static struct attn_batch batch_of(struct rig *r, const struct attention *a, int from, int to,
                                  int count, int *tokens)
{
    struct attn_batch b = {.blocks_stride = BLOCKS};
    int32_t seg_row[SEQUENCES + 1], seg_pos[SEQUENCES], row_seg[8192], row_pos[8192];
    for (int s = from; s < to; s++) {
        int rows = count < contexts[s] ? count : contexts[s], seg = b.segments++;
        seg_row[seg] = b.rows;
        seg_pos[seg] = contexts[s] - rows;
        for (int i = 0; i < rows; i++) {
            row_seg[b.rows] = seg;
            row_pos[b.rows] = seg_pos[seg] + i;
            tokens[b.rows++] = first_token(s) + seg_pos[seg] + i;
        }
        b.max_rows = rows > b.max_rows ? rows : b.max_rows;
        b.max_context = contexts[s] > b.max_context ? contexts[s] : b.max_context;
    }
    seg_row[b.segments] = b.rows;
    b.seg_row = rig_put(r, seg_row, ((size_t)b.segments + 1) * 4);
    b.seg_pos = rig_put(r, seg_pos, (size_t)b.segments * 4);
    b.row_seg = rig_put(r, row_seg, (size_t)b.rows * 4);
    b.row_pos = rig_put(r, row_pos, (size_t)b.rows * 4);
    b.blocks = rig_put(r, a->table + (size_t)from * BLOCKS, (size_t)(to - from) * BLOCKS * 4);
    return b;
}

static void *put_rows(struct rig *r, const float *from, size_t width, const int *rows, int n)
{
    return rig_put_values(r, r->act, rig_pick(r, from, width, rows, n), (size_t)n * width);
}

static struct attn_spec spec_of(const struct attention *a)
{
    return (struct attn_spec){.heads = a->heads,
                              .kv_heads = a->kv_heads,
                              .key_dim = a->head_dim,
                              .value_dim = a->value_dim,
                              .value_in_key = a->value_dim < a->head_dim,
                              .window = a->window,
                              .rope_dim = a->head_dim,
                              .scale = 1.0f / sqrtf((float)a->head_dim)};
}

/* Fills the cache, each sequence at once. */
static void fill(struct rig *r, struct attention *a)
{
    struct kv_shape shape = {.layers = 2,
                             .blocks = 256,
                             .kv_heads = a->kv_heads,
                             .key_dim = a->head_dim,
                             .value_dim = a->value_dim,
                             .value_in_key = a->value_dim < a->head_dim,
                             .window = a->window};
    struct attn_spec spec = spec_of(a);
    spec.heads = 0;
    size_t kv = (size_t)a->kv_heads * (size_t)a->head_dim;
    a->kv = r->ops->kv_create(r->d, &shape);
    void *angles = rig_put_values(r, DTYPE_F32, a->angles, 4200 * (size_t)a->head_dim);
    for (int s = 0; s < SEQUENCES; s++) {
        int *tokens = rig_host(r, 8192, sizeof *tokens);
        struct attn_batch b = batch_of(r, a, s, s + 1, contexts[s], tokens);
        void *q = rig_room(r, (size_t)b.rows * 4);
        void *k = put_rows(r, a->k, kv, tokens, b.rows), *v = put_rows(r, a->v, kv, tokens, b.rows);
        r->ops->rope_append(r->d, r->s, &spec, a->kv, 1, &b, angles, q, k,
                            spec.value_in_key ? NULL : v);
        r->dev->stream_sync(r->d, r->s);
        rig_clear(r);
        angles = rig_put_values(r, DTYPE_F32, a->angles, 4200 * (size_t)a->head_dim);
    }
}

static float *attend(struct rig *r, const struct attention *a, int from, int to, int count, int *n)
{
    size_t width = (size_t)a->heads * (size_t)a->head_dim;
    size_t out_width = (size_t)a->heads * (size_t)a->value_dim;
    int *tokens = rig_host(r, 8192, sizeof *tokens);
    struct attn_batch b = batch_of(r, a, from, to, count, tokens);
    for (int i = 0; i < b.rows; i++)
        tokens[i] %= QUERIES;
    void *q = put_rows(r, a->q, width, tokens, b.rows);
    void *out = rig_room(r, (size_t)b.rows * out_width * dtype_size(r->act));
    struct attn_spec spec = spec_of(a);
    r->ops->attend(r->d, r->s, &spec, a->kv, 1, &b, q, out);
    *n = b.rows;
    return settle(r, rig_get_values(r, r->act, out, (size_t)b.rows * out_width));
}

static void make_inputs(struct rig *r, struct attention *a)
{
    size_t tokens = (size_t)first_token(SEQUENCES), kv = (size_t)a->kv_heads * (size_t)a->head_dim;
    float *angles = rig_host(r, 4200 * (size_t)a->head_dim, sizeof *angles);
    for (int pos = 0; pos < 4200; pos++)
        for (int j = 0; j < a->head_dim / 2; j++) {
            double angle = pos * pow(500000, -2.0 * j / a->head_dim);
            angles[(pos * a->head_dim / 2 + j) * 2] = (float)cos(angle);
            angles[(pos * a->head_dim / 2 + j) * 2 + 1] = (float)sin(angle);
        }
    a->angles = angles;
    a->q = rig_values(r, r->act, QUERIES * (size_t)a->heads * (size_t)a->head_dim, 4);
    a->k = rig_values(r, r->act, tokens * kv, 1);
    a->v = rig_values(r, r->act, tokens * kv, 1);
    a->table = rig_host(r, SEQUENCES * BLOCKS, sizeof *a->table);
    for (int i = 0, next = 0; i < SEQUENCES; i++)
        for (int b = 0; b < (contexts[i] + KV_BLOCK - 1) / KV_BLOCK; b++)
            a->table[i * BLOCKS + b] = (next++ * 97 + 5) % 256; /* anywhere */
    rig_keep(r);
}

static void check_kind(const struct attention *kind, enum dtype act, enum dtype kv)
{
    struct rig r[2];
    struct attention a[2];
    size_t width = (size_t)kind->heads * (size_t)kind->value_dim;
    const struct backend *backends[] = {&backend_plain, &backend_cuda};
    float *got[2];
    int n = 0, alone, many;
    for (int i = 0; i < 2; i++) {
        rig_open(&r[i], backends[i], act, kv, 1, &limits);
        rig_at(&r[i], "%d heads on %d of %d and %d, window %d, cache %s", kind->heads,
               kind->kv_heads, kind->head_dim, kind->value_dim, kind->window, dtype_name(kv));
        a[i] = *kind;
        make_inputs(&r[i], &a[i]);
        fill(&r[i], &a[i]);
        got[i] = attend(&r[i], &a[i], 0, SEQUENCES, 1, &n);
    }
    rig_compare(&r[1], "out", got[1], to_double(&r[1], got[0], (size_t)n * width), (size_t)n, width,
                NULL, rig_tolerance(act));
    for (int s = 0; s < SEQUENCES; s++) {
        float *one = attend(&r[1], &a[1], s, s + 1, 1, &alone);
        rig_same_bytes(&r[1], "a row alone", one, got[1] + (size_t)s * width, width * 4);
    }
    float *prompt = attend(&r[1], &a[1], 0, SEQUENCES, 3, &many); /* 1, 3, 3, ... rows */
    for (int s = 0, row = -1; s < SEQUENCES; s++) {
        row += contexts[s] < 3 ? contexts[s] : 3;
        rig_same_bytes(&r[1], "the last row of a prompt chunk", prompt + (size_t)row * width,
                       got[1] + (size_t)s * width, width * 4);
    }
    for (int i = 0; i < 2; i++) {
        r[i].ops->kv_destroy(r[i].d, a[i].kv);
        assert_int_equal(rig_close(&r[i]), 0);
    }
}

static void check_attention(int heads, int kv_heads, int head_dim, enum dtype act, enum dtype kv)
{
    struct attention kind = {
        .heads = heads, .kv_heads = kv_heads, .head_dim = head_dim, .value_dim = head_dim};
    check_kind(&kind, act, kv);
}

static void attention_of_step3(void **state)
{
    (void)state;
    check_attention(64, 1, 256, DTYPE_BF16, DTYPE_BF16);
    check_attention(64, 1, 256, DTYPE_BF16, DTYPE_F8E4M3);
}

static void attention_of_other_shapes(void **state)
{
    (void)state;
    check_attention(5, 1, 64, DTYPE_BF16, DTYPE_BF16);
    check_attention(36, 2, 128, DTYPE_BF16, DTYPE_F8E4M3);
    check_attention(72, 1, 64, DTYPE_BF16, DTYPE_F8E4M3);
    check_attention(2, 2, 128, DTYPE_BF16, DTYPE_BF16);
    check_attention(3, 1, 10, DTYPE_F32, DTYPE_F32);
}

/* Windows that end within a block, a chunk and a tile, and are longer than some contexts. */
static void attention_in_windows(void **state)
{
    static const int windows[] = {1, 33, 128, 1000, 1025};
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct attention kind = {
            .heads = 16, .kv_heads = 2, .head_dim = 64, .value_dim = 64, .window = windows[i]};
        check_kind(&kind, DTYPE_BF16, i % 2 ? DTYPE_F8E4M3 : DTYPE_BF16);
    }
}

/* Whether all is tried, as in CI (.ci/run). */
static bool often(void)
{
    const char *said = getenv("LONG");
    return (said && *said) || !rig_emulated(&backend_cuda);
}

/* One KV head of 576 whose first 512 numbers are the values. Emulated, 40 heads take longer than all else
 * here: other_cards() has them, too. */
static void attention_in_keys(void **state)
{
    static const int heads[] = {3, 16, 40};
    (void)state;
    for (int i = 0; i < (often() ? 3 : 2); i++) {
        struct attention kind = {
            .heads = heads[i], .kv_heads = 1, .head_dim = 576, .value_dim = 512};
        check_kind(&kind, DTYPE_BF16, i == 1 ? DTYPE_F8E4M3 : DTYPE_BF16);
    }
}

/* ---- matrices ---------------------------------------------------------------------------------
 */

static float *linear(struct rig *r, const struct rig_weight *w, enum weight_keep keep,
                     const float *x, int first, int n)
{
    size_t k = w->part.k, outputs = (size_t)n * w->part.n;
    struct weight *packed = r->ops->weight_create(r->d, &w->part, keep);
    void *in = rig_put_values(r, r->act, x + (size_t)first * k, (size_t)n * k);
    void *y = rig_room(r, outputs * 4);
    r->ops->linear(r->d, r->s, packed, in, n, y, DTYPE_F32);
    float *got = rig_get_values(r, DTYPE_F32, y, outputs);
    r->ops->weight_destroy(r->d, packed);
    return settle(r, got);
}

static void check_linear(enum dtype dtype, enum weight_keep keep, size_t n, size_t k, size_t row0,
                         size_t col0, bool blas)
{
    static const int counts[] = {1, 64, 65, 130, 257};
    struct rig r[2];
    float *got[2];
    for (int i = 0; i < 2; i++) {
        rig_open(&r[i], i ? &backend_cuda : &backend_plain, DTYPE_BF16, DTYPE_BF16, 1, &limits);
        if (i && blas)
            use_blas(&r[i]);
        rig_at(&r[i], "%zu x %zu at %zu, %zu, %s", n, k, row0, col0, dtype_name(dtype));
        struct rig_weight w = rig_weight(&r[i], dtype, n, k, row0, col0);
        float *x = rig_values(&r[i], DTYPE_BF16, 257 * k, 1);
        got[i] = linear(&r[i], &w, keep, x, 0, 257);
        for (int c = 0; i && c < 5; c++) {
            int first = 257 - counts[c];
            rig_same_bytes(&r[i], "some of the rows", linear(&r[i], &w, keep, x, first, counts[c]),
                           got[i] + (size_t)first * n, (size_t)counts[c] * n * 4);
        }
    }
    /* The reference rounds nothing but the order differs: f32 sums of the same products. */
    double *size = rig_host(&r[1], 257, sizeof *size);
    for (int i = 0; i < 257; i++)
        size[i] = sqrt((double)k);
    rig_compare(&r[1], "y", got[1], to_double(&r[1], got[0], 257 * n), 257, n, size, 1e-5);
    assert_int_equal(rig_close(&r[0]), 0);
    assert_int_equal(rig_close(&r[1]), 0);
}

/* Matrices in one launch have the bits that each has alone, also where there is scratch for few rows only. */
static void matrices_together(void **state)
{
    static const size_t outputs[5] = {140, 20, 33, 1, 129};
    static const enum dtype type[5] = {DTYPE_F8E4M3, DTYPE_BF16, DTYPE_F8E4M3, DTYPE_F8E4M3,
                                       DTYPE_F8E4M3};
    int n = 150;
    size_t k = 1032;
    struct rig r;
    (void)state;
    rig_open(&r, &backend_cuda, DTYPE_BF16, DTYPE_BF16, 1, &limits);
    float *x = rig_values(&r, DTYPE_BF16, (size_t)n * k, 1);
    struct rig_weight w[5];
    float *want[5];
    for (int i = 0; i < 5; i++) {
        w[i] = rig_weight(&r, type[i], outputs[i], k, (size_t)i * 8, 8);
        want[i] = linear(&r, &w[i], WEIGHT_KEEP, x, 0, n);
    }
    for (size_t scratch = r.s->bytes, few = 0; few < 2; few++) {
        struct linear_part parts[5];
        r.s->bytes = few ? 200000 : scratch;
        rig_at(&r, "five matrices, scratch for %s rows", few ? "few" : "all");
        for (int i = 0; i < 5; i++)
            parts[i] = (struct linear_part){r.ops->weight_create(r.d, &w[i].part, WEIGHT_KEEP),
                                            rig_room(&r, (size_t)n * outputs[i] * 4)};
        void *rows = rig_put_values(&r, DTYPE_BF16, x, (size_t)n * k);
        ops_linears(r.ops, r.d, r.s, parts, 5, rows, n, DTYPE_F32);
        for (int i = 0; i < 5; i++) {
            rig_same_bytes(&r, "y", rig_get(&r, parts[i].y, (size_t)n * outputs[i] * 4), want[i],
                           (size_t)n * outputs[i] * 4);
            r.ops->weight_destroy(r.d, (struct weight *)(uintptr_t)parts[i].w);
        }
        r.s->bytes = scratch;
    }
    assert_int_equal(rig_close(&r), 0);
}

/* Blocks whose scale is 0, negative, or much larger; and so much that sums in units of it are not f32. */
static void scales_of_all_sizes(void **state)
{
    static const float large[] = {1e6f, 1e30f};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct rig r[2];
        float *got[2];
        for (int b = 0; b < 2; b++) {
            rig_open(&r[b], b ? &backend_cuda : &backend_plain, DTYPE_BF16, DTYPE_BF16, 1, &limits);
            rig_at(&r[b], "scales up to %g", (double)large[i]);
            struct rig_weight w = rig_weight(&r[b], DTYPE_F8E4M3, 140, 1024, 64, 320);
            float *scale = (float *)(uintptr_t)w.part.scale;
            for (size_t j = 0; j < 2 * w.part.scale_stride; j++)
                scale[j] *= j % 5 == 0 ? large[i] : j % 5 < 3 ? 0.0f : j % 5 == 3 ? -1.0f : 1.0f;
            got[b] =
                linear(&r[b], &w, WEIGHT_KEEP, rig_values(&r[b], DTYPE_BF16, 70 * 1024, 1), 0, 70);
        }
        double size[70];
        for (int row = 0; row < 70; row++)
            size[row] = 32 * (double)large[i];
        rig_compare(&r[1], "y", got[1], to_double(&r[1], got[0], 70 * 140), 70, 140, size, 1e-6);
        assert_int_equal(rig_close(&r[0]), 0);
        assert_int_equal(rig_close(&r[1]), 0);
    }
}

static void matrices_with_split_columns(void **state)
{
    (void)state;
    assert_true(cuda_linear_splits(140, 1024) > 1);
    check_linear(DTYPE_BF16, WEIGHT_KEEP, 140, 1024, 0, 0, false);
    check_linear(DTYPE_F8E4M3, WEIGHT_KEEP, 140, 1024, 64, 320, false);
    check_linear(DTYPE_F8E4M3, WEIGHT_KEEP, 33, 1030, 5, 129, false);
    check_linear(DTYPE_BF16, WEIGHT_INT8, 20, 1500, 0, 0, false);
}

/* Of many blocks, so that the frames are wide. */
static void matrices_in_wide_frames(void **state)
{
    (void)state;
    check_linear(DTYPE_F8E4M3, WEIGHT_KEEP, 10160, 200, 64, 0, false);
    check_linear(DTYPE_BF16, WEIGHT_INT8, 10160, 136, 0, 0, false);
    check_linear(DTYPE_BF16, WEIGHT_KEEP, 10160, 72, 0, 0, false);
}

static void matrices_through_cublas(void **state)
{
    (void)state;
    check_linear(DTYPE_BF16, WEIGHT_KEEP, 70, 96, 0, 0, true);
}

/* ---- experts ----------------------------------------------------------------------------------
 */

#define HIDDEN  264
#define INTER   200
#define EXPERTS 5

static struct mlp_part make_mlp(struct rig *r, enum dtype t, size_t inter)
{
    return (struct mlp_part){.gate = rig_weight(r, t, inter, HIDDEN, 72, 0).part,
                             .up = rig_weight(r, t, inter, HIDDEN, 72, 0).part,
                             .down = rig_weight(r, t, HIDDEN, inter, 0, 72).part};
}

static float *run_ffn(struct rig *r, const struct ffn *f, const float *x, const int32_t *ids,
                      const float *weights, int first, int n, enum dtype out_dtype)
{
    size_t rows = (size_t)n, at = (size_t)first;
    void *in = rig_put_values(r, r->act, x + at * HIDDEN, rows * HIDDEN);
    int32_t *i = rig_put(r, ids + at * 3, rows * 12);
    float *w = rig_put(r, weights + at * 3, rows * 12);
    void *out = rig_room(r, rows * HIDDEN * dtype_size(out_dtype));
    r->ops->ffn(r->d, r->s, f, in, i, w, 3, n, out, out_dtype);
    return settle(r, rig_get_values(r, out_dtype, out, rows * HIDDEN));
}

/* Every row has expert 2 of those held; the other choices are elsewhere or, for some, held. */
static void check_ffn(enum dtype t, enum weight_keep keep, enum dtype act, bool shared)
{
    static const int counts[] = {0, 1, 63, 64, 65, 150};
    struct rig r[2];
    float *got[2];
    for (int b = 0; b < 2; b++) {
        struct mlp_part experts[EXPERTS];
        int32_t ids[150 * 3];
        rig_open(&r[b], b ? &backend_cuda : &backend_plain, act, act, 1, &limits);
        rig_at(&r[b], "experts of %s, %s shared one", dtype_name(t), shared ? "a" : "no");
        for (int e = 0; e < EXPERTS; e++)
            experts[e] = make_mlp(&r[b], t, e == 4 ? 0 : INTER);
        struct ffn_part part = {.first_expert = 7, .n_experts = EXPERTS, .experts = experts};
        if (shared)
            part.shared = make_mlp(&r[b], t, 40);
        float *x = rig_values(&r[b], act, 150 * HIDDEN, 1);
        float *weights = rig_values(&r[b], DTYPE_F32, 150 * 3, 1);
        for (int i = 0; i < 150; i++) {
            ids[3 * i] = i % 10 == 0 ? 7 : 30;
            ids[3 * i + 1] = i % 50 == 49 ? 40 : 9; /* a few rows have no expert here */
            ids[3 * i + 2] = i % 7 == 0 ? 11 : 2;
        }
        struct ffn *f = r[b].ops->ffn_create(r[b].d, &part, keep);
        if (b) /* int8: the shared expert's down has one scale a row, those of the others have groups */
            assert_int_equal(f->layout, act == DTYPE_BF16 ? MATRIX_TILED : MATRIX_PLAIN);
        got[b] = run_ffn(&r[b], f, x, ids, weights, 0, 150, DTYPE_F32);
        for (int c = 0; b && c < 6; c++) {
            int first = 150 - counts[c];
            rig_same_bytes(&r[b], "some of the rows",
                           run_ffn(&r[b], f, x, ids, weights, first, counts[c], DTYPE_F32),
                           got[b] + (size_t)first * HIDDEN, (size_t)counts[c] * HIDDEN * 4);
        }
        r[b].ops->ffn_destroy(r[b].d, f);
    }
    double *want = to_double(&r[1], got[0], 150 * HIDDEN);
    double *size = rig_host(&r[1], 150, sizeof *size), largest = 0;
    for (int i = 0; i < 150 * HIDDEN; i++)
        largest = fmax(largest, fabs(want[i]));
    for (int i = 0; i < 150; i++)
        size[i] = largest; /* some rows are 0 */
    rig_compare(&r[1], "out", got[1], want, 150, HIDDEN, size, rig_tolerance(act));
    assert_int_equal(rig_close(&r[0]), 0);
    assert_int_equal(rig_close(&r[1]), 0);
}

static void one_expert_gets_all(void **state)
{
    (void)state;
    check_ffn(DTYPE_BF16, WEIGHT_KEEP, DTYPE_BF16, true);
    check_ffn(DTYPE_F8E4M3, WEIGHT_KEEP, DTYPE_BF16, true);
    check_ffn(DTYPE_F8E4M3, WEIGHT_KEEP, DTYPE_BF16, false);
    check_ffn(DTYPE_BF16, WEIGHT_INT8, DTYPE_BF16, true);
    check_ffn(DTYPE_F32, WEIGHT_KEEP, DTYPE_F32, true);
}

/* ---- cards ------------------------------------------------------------------------------------
 */

/* 99 KB of shared memory for a block (8.6, 8.9, 12.0): two rows of 64 x 256 heads do not fit into one.
 * 227 KB (9.0): more stages. What all other tests have is 163 (8.0). */
static void other_cards(void **state)
{
    static const char *const cards[] = {"99", "227"};
    const struct attention latents = {
        .heads = 40, .kv_heads = 1, .head_dim = 576, .value_dim = 512};
    (void)state;
    if (!rig_emulated(&backend_cuda))
        skip();
    for (int i = 0; i < (often() ? 2 : 1); i++) {
        struct attention kind = latents;
        setenv("TANDEM_EMU_SHARED", cards[i], 1);
        check_attention(64, 1, 256, DTYPE_BF16, i == 0 ? DTYPE_BF16 : DTYPE_F8E4M3);
        check_kind(&kind, DTYPE_BF16, i == 0 ? DTYPE_F8E4M3 : DTYPE_BF16);
        check_ffn(DTYPE_BF16, i == 0 ? WEIGHT_KEEP : WEIGHT_INT4, DTYPE_BF16, true);
        check_ffn(DTYPE_F8E4M3, WEIGHT_KEEP, DTYPE_BF16, true);
        check_linear(DTYPE_BF16, i == 0 ? WEIGHT_INT4 : WEIGHT_KEEP, 20, 1536, 0, 0, false);
        check_linear(DTYPE_BF16, WEIGHT_KEEP, 20, 1500, 0, 0, false);
    }
    unsetenv("TANDEM_EMU_SHARED");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_of_step3),
        cmocka_unit_test(attention_of_other_shapes),
        cmocka_unit_test(attention_in_windows),
        cmocka_unit_test(attention_in_keys),
        cmocka_unit_test(scales_of_all_sizes),
        cmocka_unit_test(matrices_with_split_columns),
        cmocka_unit_test(matrices_together),
        cmocka_unit_test(matrices_in_wide_frames),
        cmocka_unit_test(matrices_through_cublas),
        cmocka_unit_test(one_expert_gets_all),
        cmocka_unit_test(other_cards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
