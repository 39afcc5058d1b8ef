/* traffic.c - bytes and operations at Step-3's shapes as a table, and the bounds that the design
 * promises: attention and the experts within 1.15 of the least bytes, at any number of rows. Assumed of
 * the experts: one of two instances of 8 GPUs, 24 of 48 experts, each row choosing 3 of the 48 with equal chances; that
 * the L2 cache keeps nothing from one kernel to the next, but in ffn_down.cu its ring of shares.
 *
 * What traffic.h says is then held against the kernels themselves, which are compiled here so that every
 * access to memory is counted (counted.cpp): the bytes of sectors that a launch meets for the first time.
 * Those it meets again, which caches must serve, are listed apart. */
#include "tests/cuda/traffic.h"
#include "tests/kernels/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define BOUND 1.15

static double show(const char *name, struct traffic t)
{
    printf("  %-46s %10.3f %10.3f %7.3f %10.2f\n", name, t.least / 1e6, t.moved / 1e6,
           t.moved / t.least, t.flops / 1e9);
    return t.moved / t.least;
}

static void table(void **state)
{
    char name[64];
    (void)state;
    printf("  %-46s %10s %10s %7s %10s\n", "operation", "least MB", "moved MB", "ratio", "GFLOP");
    show("q_proj 2048x7168 fp8, 64 rows", traffic_linear(64, 2048, 7168, 1, 2));
    show("k_proj 256x7168 fp8, 64 rows", traffic_linear(64, 256, 7168, 1, 2));
    show("wq 16384x2048 fp8, 64 rows", traffic_linear(64, 16384, 2048, 1, 2));
    show("o_proj 7168x16384 fp8, 64 rows", traffic_linear(64, 7168, 16384, 1, 4));
    show("lm_head 128815x7168 bf16, 64 rows", traffic_linear(64, 128815, 7168, 2, 4));
    for (int context = 4096; context <= 65536; context *= 2)
        for (int type = 1; type <= 2; type++) {
            snprintf(name, sizeof name, "attend 64 rows, %d tokens, %s cache", context,
                     type == 1 ? "bf16" : "fp8");
            assert_true(show(name, traffic_attend(64, context, 64, 256, type)) <= BOUND);
        }
}

static void experts(void **state)
{
    static const struct traffic_experts x = {7168, 24, 48, 3, 640, 320};
    (void)state;
    for (int rows = 64; rows <= 2048; rows++) {
        char name[64];
        struct traffic t = traffic_ffn(rows, &x);
        snprintf(name, sizeof name, "experts 24 x 640 + 320, %d rows", rows);
        if ((rows & (rows - 1)) == 0)
            show(name, t);
        assert_true(t.moved / t.least <= BOUND);
    }
}

/* ---- counted ---------------------------------------------------------------------------------- */

extern const struct backend backend_cuda;
void emu_count_begin(void);
void emu_count_end(uint64_t *all, uint64_t *first);

static const struct device_limits limits = {.rows = 2048,
                                            .hidden = 2560,
                                            .q_width = 1024,
                                            .heads = 16,
                                            .head_dim = 64,
                                            .context = 4096,
                                            .vocab = 512,
                                            .logit_rows = 8,
                                            .experts = 4,
                                            .topk = 2,
                                            .inter = 128};

/* The bytes since emu_count_begin() against what traffic.h says of them. */
static void compare(struct rig *r, const char *name, struct traffic t)
{
    uint64_t all, first;
    r->dev->stream_sync(r->d, r->s);
    emu_count_end(&all, &first);
    printf("  %-46s %10.3f %10.3f %7.3f %10.3f\n", name, t.moved / 1e6, (double)first / 1e6,
           (double)first / t.moved, (double)(all - first) / 1e6);
    assert_true(first > 0);
    assert_true((double)first <= 1.02 * t.moved);
    assert_true((double)first >= 0.98 * t.moved);
}

/* bytes: of one weight. */
static void count_part(struct rig *r, int n, const struct weight_part *part, double bytes)
{
    char name[64];
    int out = (int)part->n, in = (int)part->k;
    struct weight *packed = r->ops->weight_create(r->d, part, WEIGHT_KEEP);
    void *x = rig_put_values(r, DTYPE_BF16, rig_values(r, DTYPE_BF16, (size_t)(n * in), 1),
                             (size_t)(n * in));
    void *y = rig_room(r, (size_t)(n * out) * 2);
    r->dev->stream_sync(r->d, r->s);
    emu_count_begin();
    r->ops->linear(r->d, r->s, packed, x, n, y, DTYPE_BF16);
    snprintf(name, sizeof name, "linear %dx%d %s, %d rows", out, in, part->codec->name, n);
    compare(r, name, traffic_linear(n, out, in, bytes, 2));
    r->ops->weight_destroy(r->d, packed);
    rig_clear(r);
}

static void count_linear(struct rig *r, int n, int out, int in, enum dtype type)
{
    struct rig_weight w = rig_weight(r, type, (size_t)out, (size_t)in, 0, 0);
    count_part(r, n, &w.part, type == DTYPE_BF16 ? 2 : 1);
}

/* Weights in groups: at most `bits` each, with the numbers of their groups. */
static void count_groups(struct rig *r, int n, int out, int in, const struct codec *c, double bits)
{
    size_t bytes = (size_t)(out * in) / c->block * c->block_bytes;
    struct weight_part part = {.codec = c, .stride = (size_t)in, .n = (size_t)out, .k = (size_t)in};
    part.data = rig_host(r, bytes, 1);
    assert_true((double)r->ops->weight_bytes(r->d, &part, WEIGHT_KEEP) * 8 <= bits * out * in);
    count_part(r, n, &part, bits / 8);
}

/* n sequences of `context` tokens, a row each. */
static void count_attend(struct rig *r, int n, int context)
{
    char name[64];
    int blocks = context / KV_BLOCK;
    int32_t *at = rig_host(r, (size_t)(n * blocks), 4), *row = rig_host(r, (size_t)n + 1, 4);
    int32_t *pos = rig_host(r, (size_t)n, 4);
    struct attn_spec spec = rig_attention(16, 1, 64);
    struct kv_shape shape = rig_cache(&spec, 1, (size_t)(n * blocks));
    struct kv *kv = r->ops->kv_create(r->d, &shape);
    for (int i = 0; i < n * blocks; i++)
        at[i] = i;
    for (int i = 0; i <= n; i++)
        row[i] = i;
    for (int i = 0; i < n; i++)
        pos[i] = context - 1;
    size_t q = (size_t)(n * 16 * 64), rows = (size_t)n * 4;
    struct attn_batch b = {.rows = n,
                           .segments = n,
                           .max_rows = 1,
                           .max_context = context,
                           .seg_row = rig_put(r, row, rows + 4),
                           .seg_pos = rig_put(r, pos, rows),
                           .row_seg = rig_put(r, row, rows),
                           .row_pos = rig_put(r, pos, rows),
                           .blocks = rig_put(r, at, (size_t)(n * blocks) * 4),
                           .blocks_stride = blocks};
    void *from = rig_put_values(r, DTYPE_BF16, rig_values(r, DTYPE_BF16, q, 1), q);
    void *out = rig_room(r, q * 2);
    r->dev->stream_sync(r->d, r->s);
    emu_count_begin();
    r->ops->attend(r->d, r->s, &spec, kv, 0, &b, from, out);
    snprintf(name, sizeof name, "attend %d rows, %d tokens, %s cache", n, context,
             dtype_name(r->kv));
    compare(r, name, traffic_attend(n, context, 16, 64, (int)r->kv));
    r->ops->kv_destroy(r->d, kv);
    rig_clear(r);
}

static void count_ffn(struct rig *r, int n, int hidden)
{
    char name[64];
    struct mlp_part experts[4];
    struct ffn_part part = {.n_experts = 4, .experts = experts};
    for (int e = 0; e <= 4; e++) {
        size_t inter = e < 4 ? 128 : 64;
        const struct mlp_part m = {
            .gate = rig_weight(r, DTYPE_F8E4M3, inter, (size_t)hidden, 0, 0).part,
            .up = rig_weight(r, DTYPE_F8E4M3, inter, (size_t)hidden, 0, 0).part,
            .down = rig_weight(r, DTYPE_F8E4M3, (size_t)hidden, inter, 0, 0).part};
        *(e < 4 ? &experts[e] : &part.shared) = m;
    }
    struct ffn *f = r->ops->ffn_create(r->d, &part, WEIGHT_KEEP);
    size_t numbers = (size_t)n * (size_t)hidden;
    int32_t *ids = rig_host(r, (size_t)n * 2, 4);
    for (int i = 0; i < n; i++) {
        ids[2 * i] = i % 4;
        ids[2 * i + 1] = (i + 1) % 4;
    }
    void *x = rig_put_values(r, DTYPE_BF16, rig_values(r, DTYPE_BF16, numbers, 1), numbers);
    void *w =
        rig_put_values(r, DTYPE_F32, rig_values(r, DTYPE_F32, (size_t)n * 2, 1), (size_t)n * 2);
    void *chosen = rig_put(r, ids, (size_t)n * 8), *out = rig_room(r, numbers * 2);
    r->dev->stream_sync(r->d, r->s);
    emu_count_begin();
    r->ops->ffn(r->d, r->s, f, x, chosen, w, 2, n, out, DTYPE_BF16);
    struct traffic_experts about = {hidden, 4, 4, 2, 128, 64};
    snprintf(name, sizeof name, "experts 4 x 128 + 64 x %d, %d rows", hidden, n);
    compare(r, name, traffic_ffn(n, &about));
    r->ops->ffn_destroy(r->d, f);
    rig_clear(r);
}

static void counted(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__ /* kernels are not compiled to be counted then */
    skip();
#endif
    for (enum dtype kv = DTYPE_BF16; kv <= DTYPE_F8E4M3; kv++) {
        struct rig r;
        rig_open(&r, &backend_cuda, DTYPE_BF16, kv, 1, &limits);
        printf("  %-46s %10s %10s %7s %10s\n", "counted", "said MB", "first MB", "ratio",
               "again MB");
        count_attend(&r, 64, 128);
        count_attend(&r, 3, 2176);
        for (int n = 64; kv == DTYPE_BF16 && n <= 2048; n = n == 64 ? 500 : n + 1548) {
            count_linear(&r, n, 256, 512, DTYPE_F8E4M3);
            count_ffn(&r, n, 512);
        }
        if (kv == DTYPE_BF16) {
            count_ffn(&r, 500, 2560); /* more columns than the ring of shares has */
            count_linear(&r, 64, 512, 1024, DTYPE_BF16);
            count_groups(&r, 64, 256, 1024, &codec_q4_k, 5);
            count_groups(&r, 64, 256, 1024, &codec_q4_1, 5);
            count_groups(&r, 64, 256, 1024, &codec_q4_0, 4.5);
            count_groups(&r, 64, 256, 1024, &codec_mxfp4, 4.5);
            count_groups(&r, 64, 256, 1024, &codec_q6_k, 8.75);
            count_groups(&r, 64, 256, 1024, &codec_q8_0, 8.5);
        }
        assert_int_equal(rig_close(&r), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(table), cmocka_unit_test(experts),
                                       cmocka_unit_test(counted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
