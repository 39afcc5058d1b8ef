/* experts.c - the experts of the CUDA backend: who is on which list, and how what they add comes
 * together (kernels/cuda/group.cu, ffn_down.cu). Many rows at once must have the bits that the same rows
 * have in small batches, and agree with the plain CPU backend. */
#include "kernels/cuda/device_cuda.h"
#include "tests/kernels/rig.h"

#include "base/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

extern const struct backend backend_cuda, backend_plain;

#define HIDDEN   264
#define SLABS    2632 /* 21 pieces of 128 columns: the ring of shares has 12, and a slab one only */
#define INTER    72
#define FIRST    7 /* expert held */
#define HELD     5
#define MANY     677 /* rows of the large batch: with 4 choices, also up has tiles of 128 */
#define MOST     700
#define MOST_TOP 4

static const struct device_limits limits = {
    .rows = MOST,
    .hidden = SLABS,
    .experts = HELD,
    .topk = MOST_TOP,
    .inter = 320,
};

/* How rows choose. */
enum choice {
    RANDOM,  /* of 10 experts */
    ALL_ONE, /* the same expert, and others that are elsewhere */
    NOWHERE, /* experts that are all elsewhere */
    ALL_HERE /* experts that are all here */
};

struct layer {
    const char *name;
    enum choice choice;
    int topk, held, shared; /* held 0: a dense layer */
    enum dtype dtype;
    enum weight_keep keep;
    enum dtype out;
    int hidden;
};

struct inputs {
    const struct layer *layer;
    struct mlp_part experts[HELD];
    struct ffn_part part;
    const float *x, *weights;
    int32_t *ids;
};

static struct mlp_part make_mlp(struct rig *r, const struct layer *l, size_t inter)
{
    size_t hidden = (size_t)l->hidden;
    return (struct mlp_part){.gate = rig_weight(r, l->dtype, inter, hidden, 72, 0).part,
                             .up = rig_weight(r, l->dtype, inter, hidden, 72, 0).part,
                             .down = rig_weight(r, l->dtype, hidden, inter, 0, 72).part};
}

/* topk different experts: a part of a shuffled list. */
static void choose(struct rig *r, const struct layer *l, int32_t *ids)
{
    int32_t all[10], count = l->choice == ALL_HERE ? HELD : 10;
    for (int i = 0; i < count; i++)
        all[i] = l->choice == ALL_HERE ? FIRST + i : l->choice == RANDOM ? FIRST - 2 + i : 30 + i;
    for (int k = 0; k < l->topk; k++) {
        int other = k + (int)(rig_uniform(r) * (count - k));
        ids[k] = all[other];
        all[other] = all[k];
    }
    if (l->choice == ALL_ONE)
        ids[l->topk - 1] = FIRST + 2;
}

static void make_inputs(struct rig *r, struct inputs *in, const struct layer *l)
{
    size_t chosen = (size_t)MOST * (size_t)(l->topk > 0 ? l->topk : 1);
    *in = (struct inputs){.layer = l};
    for (int e = 0; e < l->held; e++)
        in->experts[e] = make_mlp(r, l, INTER);
    in->part = (struct ffn_part){.first_expert = FIRST,
                                 .n_experts = l->held,
                                 .experts = in->experts,
                                 .shared = make_mlp(r, l, (size_t)l->shared)};
    in->x = rig_values(r, DTYPE_BF16, (size_t)MOST * (size_t)l->hidden, 1);
    in->weights = rig_values(r, DTYPE_F32, chosen, 1);
    in->ids = rig_host(r, chosen, sizeof *in->ids);
    for (int i = 0; i < MOST; i++)
        choose(r, l, in->ids + (size_t)i * (size_t)l->topk);
    rig_keep(r);
}

/* Rows [first, first + n). */
static float *run(struct rig *r, const struct inputs *in, const struct ffn *f, int first, int n)
{
    const struct layer *l = in->layer;
    size_t rows = (size_t)n, chosen = rows * (size_t)l->topk, at = (size_t)(first * l->topk);
    size_t hidden = (size_t)l->hidden;
    void *x = rig_put_values(r, DTYPE_BF16, in->x + (size_t)first * hidden, rows * hidden);
    int32_t *ids = l->topk ? rig_put(r, in->ids + at, chosen * sizeof *ids) : NULL;
    float *weights = l->topk ? rig_put(r, in->weights + at, chosen * sizeof *weights) : NULL;
    void *out = rig_room(r, rows * hidden * dtype_size(l->out));
    r->ops->ffn(r->d, r->s, f, x, ids, weights, l->topk, n, out, l->out);
    float *got = rig_get_values(r, l->out, out, rows * hidden);
    r->kept_host = r->n_host; /* what was read stays, buffers go */
    rig_clear(r);
    return got;
}

static void check_reference(struct rig *r, const struct inputs *in, const float *got, int n)
{
    struct rig plain;
    rig_open(&plain, &backend_plain, DTYPE_BF16, DTYPE_BF16, 2, &limits);
    struct ffn *f = plain.ops->ffn_create(plain.d, &in->part, in->layer->keep);
    const float *values = run(&plain, in, f, 0, n);
    size_t hidden = (size_t)in->layer->hidden;
    double *want = rig_host(r, (size_t)n * hidden, sizeof *want), largest = 0;
    double *size = rig_host(r, (size_t)n, sizeof *size);
    for (size_t i = 0; i < (size_t)n * hidden; i++) {
        want[i] = (double)values[i];
        largest = fmax(largest, fabs(want[i]));
    }
    assert_true(largest > 0 || (in->layer->choice == NOWHERE && in->layer->shared == 0));
    for (int i = 0; i < n; i++)
        size[i] = largest; /* some rows are 0 */
    rig_compare(r, "out", got, want, (size_t)n, hidden, size, rig_tolerance(DTYPE_BF16));
    plain.ops->ffn_destroy(plain.d, f);
    assert_int_equal(rig_close(&plain), 0);
}

static void check_layer(const struct layer *l)
{
    static const int pieces[] = {1, 65, 64, 3, 0, 130};
    struct rig r;
    struct inputs in;
    rig_open(&r, &backend_cuda, DTYPE_BF16, DTYPE_BF16, 1, &limits);
    make_inputs(&r, &in, l);
    int n = MANY, first = 0;
    rig_at(&r, "%s, weights %s%s, %d rows", l->name, dtype_name(l->dtype),
           l->keep == WEIGHT_INT8   ? " as int8"
           : l->keep == WEIGHT_INT4 ? " as int4"
                                    : "",
           n);
    struct ffn *f = r.ops->ffn_create(r.d, &in.part, l->keep);
    assert_int_equal(f->layout, MATRIX_TILED);
    const float *all = run(&r, &in, f, 0, n);
    check_reference(&r, &in, all, n);
    for (int i = 0; first < n; i++) {
        int count = pieces[i % 6] < n - first ? pieces[i % 6] : n - first;
        const float *some = run(&r, &in, f, first, count);
        rig_same_bytes(&r, "rows in a small batch", some, all + (size_t)first * (size_t)l->hidden,
                       (size_t)count * (size_t)l->hidden * sizeof *all);
        first += count;
    }
    r.ops->ffn_destroy(r.d, f);
    assert_int_equal(rig_close(&r), 0);
}

static void check_layers(const struct layer *layers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        check_layer(&layers[i]);
}

static void many_rows(void **state)
{
    static const struct layer layers[] = {
        {"some experts here", RANDOM, 4, 5, 40, DTYPE_BF16, WEIGHT_KEEP, DTYPE_F32, HIDDEN},
        {"some experts here", RANDOM, 4, 5, 40, DTYPE_F8E4M3, WEIGHT_KEEP, DTYPE_BF16, HIDDEN},
        {"all experts here", ALL_HERE, 3, 5, 70, DTYPE_BF16, WEIGHT_INT8, DTYPE_F32, HIDDEN},
        {"some experts here", RANDOM, 3, 5, 300, DTYPE_BF16, WEIGHT_KEEP, DTYPE_BF16, HIDDEN},
        {"all experts here", ALL_HERE, 3, 5, 320, DTYPE_F8E4M3, WEIGHT_KEEP, DTYPE_F32, HIDDEN},
        {"some experts here", RANDOM, 4, 5, 320, DTYPE_F8E4M3, WEIGHT_INT8, DTYPE_BF16, HIDDEN},
        {"some experts here", RANDOM, 4, 5, 40, DTYPE_BF16, WEIGHT_INT4, DTYPE_F32, HIDDEN},
        {"all experts here", ALL_HERE, 1, 5, 0, DTYPE_F32, WEIGHT_INT4, DTYPE_BF16, HIDDEN},
    };
    (void)state;
    check_layers(layers, sizeof layers / sizeof *layers);
}

static void odd_choices(void **state)
{
    static const struct layer layers[] = {
        {"one choice a row", RANDOM, 1, 5, 40, DTYPE_F8E4M3, WEIGHT_KEEP, DTYPE_F32, HIDDEN},
        {"all rows on one expert", ALL_ONE, 2, 5, 40, DTYPE_BF16, WEIGHT_KEEP, DTYPE_BF16, HIDDEN},
        {"all rows on one expert", ALL_ONE, 1, 5, 320, DTYPE_F8E4M3, WEIGHT_KEEP, DTYPE_F32,
         HIDDEN},
        {"all experts elsewhere", NOWHERE, 3, 5, 40, DTYPE_F8E4M3, WEIGHT_KEEP, DTYPE_BF16, HIDDEN},
        {"all experts elsewhere", NOWHERE, 3, 5, 320, DTYPE_BF16, WEIGHT_INT8, DTYPE_F32, HIDDEN},
        {"no shared expert", RANDOM, 3, 5, 0, DTYPE_BF16, WEIGHT_KEEP, DTYPE_F32, HIDDEN},
        {"nothing for anyone", NOWHERE, 2, 5, 0, DTYPE_BF16, WEIGHT_KEEP, DTYPE_F32, HIDDEN},
        {"one expert held", RANDOM, 2, 1, 40, DTYPE_BF16, WEIGHT_INT8, DTYPE_BF16, HIDDEN},
        {"dense", RANDOM, 0, 0, 100, DTYPE_F8E4M3, WEIGHT_KEEP, DTYPE_BF16, HIDDEN},
        {"dense, with choices", RANDOM, 3, 0, 100, DTYPE_BF16, WEIGHT_KEEP, DTYPE_F32, HIDDEN},
    };
    (void)state;
    check_layers(layers, sizeof layers / sizeof *layers);
}

/* Blocks wait for one another: for shares, and for their places. Few rows have a kernel that adds. */
static void slabs(void **state)
{
    static const struct layer layers[] = {
        {"slabs", RANDOM, 4, 5, 40, DTYPE_F8E4M3, WEIGHT_KEEP, DTYPE_BF16, SLABS},
        {"slabs, nothing for them", NOWHERE, 2, 5, 40, DTYPE_BF16, WEIGHT_KEEP, DTYPE_BF16, SLABS},
        {"two slabs", ALL_HERE, 3, 5, 70, DTYPE_BF16, WEIGHT_INT8, DTYPE_BF16, 600},
    };
    (void)state;
    check_layers(layers, sizeof layers / sizeof *layers);
}

/* More rows than their shares have room for: the same bits, slice after slice. */
static void slices(void **state)
{
    static const struct layer layer = {"slices of rows", RANDOM,      4,          5,     40,
                                       DTYPE_F8E4M3,     WEIGHT_KEEP, DTYPE_BF16, HIDDEN};
    size_t usual = ffn_shares;
    struct rig r, small;
    struct inputs in;
    (void)state;
    rig_open(&r, &backend_cuda, DTYPE_BF16, DTYPE_BF16, 1, &limits);
    make_inputs(&r, &in, &layer);
    rig_at(&r, "%s", layer.name);
    assert_true(ffn_slice(&limits) >= MANY);
    ffn_shares = 0;
    assert_true(ffn_slice(&limits) < MANY / 2);
    rig_open(&small, &backend_cuda, DTYPE_BF16, DTYPE_BF16, 1, &limits);
    struct ffn *f = small.ops->ffn_create(small.d, &in.part, layer.keep);
    const float *got = run(&small, &in, f, 0, MANY);
    ffn_shares = usual;
    const float *want = run(&r, &in, f, 0, MANY);
    rig_same_bytes(&r, "in slices", got, want, (size_t)MANY * HIDDEN * sizeof *got);
    small.ops->ffn_destroy(small.d, f);
    assert_int_equal(rig_close(&small), 0);
    assert_int_equal(rig_close(&r), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_rows),
        cmocka_unit_test(odd_choices),
        cmocka_unit_test(slabs),
        cmocka_unit_test(slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
