/* Loading: every rank gets its share and nothing else, in the format it asked for. */
#include "base/philox.h"
#include "kernels/device.h"
#include "model/rope.h"
#include "model/block_qkv.h"
#include "model/tensors.h"
#include "model/weights.h"

#include "tests/model/files.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define ROWS    5
#define CONTEXT 77

static char directory[FILES_PATH];
static struct model model;
static struct checkpoint *checkpoint;
static const struct backend *backend;
static struct device *device;
static struct fingerprint *fingerprint;
static const struct layout whole = {1, 1, 1, true, 0};

static void set_up(enum dtype dtype)
{
    struct generate_options o;
    struct err e;
    fixture_make(directory);
    files_odd_model(&o, directory);
    o.dtype = dtype;
    o.model.hidden = 133;
    o.model.dense_inter = 1031; /* slices of 128, of 32 and of 1, depending on how many */
    o.model.expert_inter = 301;
    o.model.shared_inter = 290;
    if (generate_checkpoint(&o, &e) != 0 || model_read(&model, directory, NULL, &e) != 0 ||
        checkpoint_open(&checkpoint, directory, &e) != 0 ||
        model_check(&model, checkpoint, &e) != 0)
        die("%s", e.text);
    struct device_config config = {
        .threads = 1,
        .act = DTYPE_F32,
        .kv = DTYPE_F32,
        .limits = {.rows = ROWS,
                   .hidden = 133,
                   .q_width = 30,
                   .heads = 5,
                   .head_dim = 6,
                   .context = CONTEXT,
                   .vocab = 61,
                   .logit_rows = ROWS,
                   .experts = 7,
                   .topk = 3,
                   .inter = 1031},
    };
    backend = backend_find("cpu", "plain", &e);
    if (!backend || backend->device->open(&config, &device, &e) != 0)
        die("%s", e.text);
}

static void tear_down(void)
{
    backend->device->close(device);
    checkpoint_close(checkpoint);
    fixture_remove(directory);
}

/* ---- shares of the FFN ---------------------------------------------------------------------- */

static float x[ROWS * 133], router_weight[ROWS * 3];
static int32_t chosen[ROWS * 3];

static void make_rows(void)
{
    for (size_t i = 0; i < sizeof x / sizeof *x; i++)
        x[i] = 2 * philox_uniform(3, i, 0, 0) - 1;
    for (int i = 0; i < ROWS * 3; i++) {
        chosen[i] = (i / 3 * 2 + i % 3 * 3) % 7;
        router_weight[i] = 0.1f + philox_uniform(4, (uint64_t)i, 0, 0);
    }
}

static struct weights_plan plan_of(const struct backend *b, const struct layout *l, int rank,
                                   enum weight_keep keep)
{
    return (struct weights_plan){.backend = b,
                                 .device = device,
                                 .model = &model,
                                 .checkpoint = checkpoint,
                                 .keep = keep,
                                 .context = CONTEXT,
                                 .layout = l,
                                 .ffn_rank = rank,
                                 .fingerprint = fingerprint};
}

/* out[layer][ROWS][133] += this rank's partial sums */
static void add_share(const struct layout *l, int rank, enum weight_keep keep, double *out)
{
    struct ffn_weights w;
    float *part = calloc(ROWS * model.hidden, sizeof *part);
    struct weights_plan p = plan_of(backend, l, rank, keep);
    ffn_weights_load(&w, &p, NULL, NULL);
    for (size_t i = 0; i < model.layers; i++) {
        bool moe = model.moe[i];
        backend->ops->ffn(device, NULL, w.layers[i], x, moe ? chosen : NULL,
                          moe ? router_weight : NULL, 3, ROWS, part, DTYPE_F32);
        for (size_t j = 0; j < ROWS * model.hidden; j++)
            out[i * ROWS * model.hidden + j] += part[j];
    }
    ffn_weights_free(&w, &p);
    free(part);
}

static double *sum_of_shares(const struct layout *l, enum weight_keep keep)
{
    double *out = calloc(model.layers * ROWS * model.hidden, sizeof *out);
    for (int r = 0; r < layout_ffn_ranks(l); r++)
        add_share(l, r, keep, out);
    return out;
}

static void compare(const double *found, const double *wanted, const char *what)
{
    for (size_t l = 0; l < model.layers; l++) {
        double largest = 0, most = 0;
        for (size_t i = l * ROWS * model.hidden; i < (l + 1) * ROWS * model.hidden; i++) {
            double d = fabs(found[i] - wanted[i]);
            largest = d > largest || isnan(d) ? d : largest;
            most = fmax(most, fabs(wanted[i]));
        }
        if (!(most > 0.1) || !(largest <= 2e-6 * most))
            fail_msg("%s, layer %zu: differs by %g of %g", what, l, largest, most);
    }
}

/* expert x tensor; more parts than experts, than blocks, than nearly everything */
static const int splits[][2] = {{1, 1}, {2, 1}, {1, 2}, {3, 2}, {2, 3},
                                {1, 7}, {7, 1}, {9, 1}, {4, 5}, {1, 23}};
#define SPLITS (sizeof splits / sizeof *splits)

static void check_splits(enum dtype dtype)
{
    set_up(dtype);
    make_rows();
    double *wanted = sum_of_shares(&whole, WEIGHT_KEEP);
    for (size_t i = 0; i < SPLITS; i++) {
        char what[64];
        struct layout l = {1, splits[i][0], splits[i][1], false, 0};
        double *found = sum_of_shares(&l, WEIGHT_KEEP);
        snprintf(what, sizeof what, "%s, %d instances of %d", dtype_name(dtype), l.expert,
                 l.tensor);
        compare(found, wanted, what);
        free(found);
    }
    free(wanted);
    tear_down();
}

static void test_shares_add_up_f32(void **state)
{
    (void)state;
    check_splits(DTYPE_F32);
}

static void test_shares_add_up_bf16(void **state)
{
    (void)state;
    check_splits(DTYPE_BF16);
}

static void test_shares_add_up_fp8(void **state)
{
    (void)state;
    check_splits(DTYPE_F8E4M3);
}

/* Against the tensors themselves: one expert's part of a dense layer's formula, in double. */
static double weight_at(enum model_tensor kind, size_t layer, size_t matrix, size_t row, size_t col)
{
    char name[FAMILY_NAME_MAX];
    struct found f;
    assert_int_equal(tensors_find(&model, checkpoint, kind, layer, 0, &f, name), 0);
    const struct tensor *s = f.scale, *t = f.tensor;
    size_t n = t->shape[t->dims - 2], k = t->shape[t->dims - 1];
    size_t i = (matrix * n + row) * k + col;
    if (t->dtype != DTYPE_F8E4M3)
        return t->dtype == DTYPE_F32 ? (double)((const float *)t->data)[i]
                                     : (double)f32_from_bf16(((const bf16_t *)t->data)[i]);
    size_t rows = (n + 127) / 128, columns = (k + 127) / 128;
    return (double)f32_from_f8e4m3(((const f8e4m3_t *)t->data)[i]) *
           (double)((const float *)s->data)[(matrix * rows + row / 128) * columns + col / 128];
}

static void add_mlp(double *out, const float *in, double factor, enum model_tensor gate,
                    enum model_tensor up, enum model_tensor down, size_t layer, size_t matrix,
                    size_t inter)
{
    for (size_t i = 0; i < inter; i++) {
        double g = 0, u = 0;
        for (size_t h = 0; h < model.hidden; h++) {
            g += weight_at(gate, layer, matrix, i, h) * (double)in[h];
            u += weight_at(up, layer, matrix, i, h) * (double)in[h];
        }
        double a = factor * u * g / (1 + exp(-g));
        for (size_t h = 0; h < model.hidden; h++)
            out[h] += weight_at(down, layer, matrix, h, i) * a;
    }
}

static void test_whole_is_the_checkpoint(void **state)
{
    (void)state;
    set_up(DTYPE_F8E4M3);
    make_rows();
    double *found = sum_of_shares(&whole, WEIGHT_KEEP);
    double *wanted = calloc(model.layers * ROWS * model.hidden, sizeof *wanted);
    for (size_t l = 0; l < model.layers; l++)
        for (size_t r = 0; r < ROWS; r++) {
            double *out = wanted + (l * ROWS + r) * model.hidden;
            const float *in = x + r * model.hidden;
            for (size_t k = 0; model.moe[l] && k < 3; k++)
                add_mlp(out, in, router_weight[r * 3 + k], TENSOR_EXPERT_GATE, TENSOR_EXPERT_UP,
                        TENSOR_EXPERT_DOWN, l, (size_t)chosen[r * 3 + k], model.most.inter);
            if (model.moe[l])
                add_mlp(out, in, 1, TENSOR_SHARED_GATE, TENSOR_SHARED_UP, TENSOR_SHARED_DOWN, l, 0,
                        model.most.shared_inter);
            else
                add_mlp(out, in, 1, TENSOR_DENSE_GATE, TENSOR_DENSE_UP, TENSOR_DENSE_DOWN, l, 0,
                        model.most.dense_inter);
        }
    compare(found, wanted, "whole");
    free(found);
    free(wanted);
    tear_down();
}

/* ---- bytes ---------------------------------------------------------------------------------- */

/* What the backend was asked to make, counted behind its back. */
static struct {
    size_t bytes, reports, last, total;
} counted;

static void *count_alloc(struct device *d, size_t bytes)
{
    counted.bytes += bytes;
    return backend->device->alloc(d, bytes);
}

static struct weight *count_weight(struct device *d, const struct weight_part *w,
                                   enum weight_keep keep)
{
    counted.bytes += backend->ops->weight_bytes(d, w, keep);
    return backend->ops->weight_create(d, w, keep);
}

static struct weight *count_table(struct device *d, const struct weight_part *w)
{
    counted.bytes += backend->ops->weight_bytes(d, w, WEIGHT_KEEP);
    return backend->ops->table_create(d, w);
}

static struct ffn *count_ffn(struct device *d, const struct ffn_part *f, enum weight_keep keep)
{
    counted.bytes += backend->ops->ffn_bytes(d, f, keep);
    return backend->ops->ffn_create(d, f, keep);
}

static void progress(void *context, size_t done, size_t total)
{
    assert_ptr_equal(context, &counted);
    assert_int_equal(done, counted.bytes);
    assert_true(done >= counted.last && done <= total);
    counted.last = done;
    counted.total = total;
    counted.reports++;
}

static void check_bytes(enum dtype dtype, enum weight_keep keep)
{
    set_up(dtype);
    struct device_ops dev = *backend->device;
    struct ops op = *backend->ops;
    dev.alloc = count_alloc;
    op.weight_create = count_weight;
    op.table_create = count_table;
    op.ffn_create = count_ffn;
    const struct backend counting = {"counting", &dev, &op, backend->usable};

    struct attention_weights a;
    memset(&counted, 0, sizeof counted);
    struct weights_plan p = plan_of(&counting, &whole, 0, keep);
    size_t planned = attention_weights_bytes(&p);
    assert_int_equal(counted.bytes, 0);
    attention_weights_load(&a, &p, progress, &counted);
    assert_int_equal(counted.bytes, planned);
    assert_int_equal(counted.total, planned);
    assert_int_equal(counted.last, planned);
    assert_int_equal(counted.reports, 4 + 4 * 8 + 2);
    attention_weights_free(&a, &p);

    size_t all = 0;
    for (int rank = 0; rank < 6; rank++) {
        struct ffn_weights f;
        struct layout l = {2, 2, 3, false, 0};
        memset(&counted, 0, sizeof counted);
        p = plan_of(&counting, &l, rank, keep);
        planned = ffn_weights_bytes(&p);
        ffn_weights_load(&f, &p, progress, &counted);
        assert_int_equal(counted.bytes, planned);
        assert_int_equal(counted.last, planned);
        assert_int_equal(counted.total, planned);
        assert_int_equal(counted.reports, model.layers);
        ffn_weights_free(&f, &p);
        all += planned;
    }
    /* Together the ranks hold every weight once. */
    p = plan_of(backend, &whole, 0, keep);
    size_t once = ffn_weights_bytes(&p);
    if (dtype == DTYPE_BF16 && keep == WEIGHT_KEEP)
        assert_int_equal(all, once);
    tear_down();
}

static void test_bytes(void **state)
{
    (void)state;
    check_bytes(DTYPE_BF16, WEIGHT_KEEP);
    check_bytes(DTYPE_BF16, WEIGHT_INT8);
    check_bytes(DTYPE_F8E4M3, WEIGHT_KEEP);
}

/* ---- what is f32 on the device -------------------------------------------------------------- */

static void check_f32(const float *found, enum model_tensor kind, size_t layer, size_t n)
{
    char name[FAMILY_NAME_MAX];
    struct found f;
    assert_int_equal(tensors_find(&model, checkpoint, kind, layer, 0, &f, name), 0);
    const struct tensor *t = f.tensor;
    for (size_t i = 0; i < n; i++) {
        float wanted = t->dtype == DTYPE_F32 ? ((const float *)t->data)[i]
                                             : f32_from_bf16(((const bf16_t *)t->data)[i]);
        if (!(found[i] == wanted))
            fail_msg("%s[%zu] is %g, wanted %g", t->name, i, (double)found[i], (double)wanted);
    }
}

static void check_gains(enum dtype dtype)
{
    struct attention_weights w;
    set_up(dtype);
    struct weights_plan p = plan_of(backend, &whole, 0, WEIGHT_KEEP);
    attention_weights_load(&w, &p, NULL, NULL);
    check_f32(w.once.final_norm, TENSOR_FINAL_NORM, 0, 133);
    for (size_t l = 0; l < model.layers; l++) {
        const struct qkv_weights *qkv = w.layers[l].block;
        check_f32(w.layers[l].input_norm, TENSOR_INPUT_NORM, l, 133);
        check_f32(qkv->inter_norm, TENSOR_INTER_NORM, l, 19);
        check_f32(w.layers[l].post_norm, TENSOR_POST_NORM, l, 133);
        assert_int_equal(w.layers[l].router != NULL, model.moe[l]);
        if (model.moe[l])
            check_f32(w.layers[l].router, TENSOR_ROUTER, l, 7 * 133);
    }
    float angles[CONTEXT * 6];
    rope_angles(angles, CONTEXT, &model.ropes[0]);
    assert_memory_equal(w.angles[0], angles, sizeof angles);
    attention_weights_free(&w, &p);
    tear_down();
}

static void test_gains_and_routers(void **state)
{
    (void)state;
    check_gains(DTYPE_F32);
    check_gains(DTYPE_BF16);
}

/* ---- fingerprints --------------------------------------------------------------------------- */

#define BLOCK 1000

static struct fingerprint *new_fingerprint(void)
{
    size_t n;
    const struct tensor **used = tensors_used(&model, checkpoint, &n);
    return fingerprint_new(used, n, BLOCK, 1);
}

/* What the rank notes goes into all[n]; nothing may be there that is different. */
static void note_rank(const struct layout *l, int rank, bool attention, uint64_t *all)
{
    size_t n;
    fingerprint = new_fingerprint();
    struct weights_plan p = plan_of(backend, l, rank, WEIGHT_KEEP);
    struct attention_weights a;
    struct ffn_weights f;
    if (attention) {
        attention_weights_load(&a, &p, NULL, NULL);
        attention_weights_free(&a, &p);
    } else {
        ffn_weights_load(&f, &p, NULL, NULL);
        ffn_weights_free(&f, &p);
    }
    const uint64_t *mine = fingerprint_blocks(fingerprint, &n);
    for (size_t i = 0; i < n; i++) {
        assert_true(!mine[i] || !all[i] || mine[i] == all[i]);
        all[i] = mine[i] ? mine[i] : all[i];
    }
    fingerprint_free(fingerprint);
    fingerprint = NULL;
}

/* Together the ranks of every layout note every byte, and the same value. */
static void check_fingerprint(enum dtype dtype)
{
    static const struct layout layouts[] = {
        {1, 1, 1, true, 0}, {1, 1, 5, false, 0}, {1, 3, 2, false, 0}, {1, 9, 1, false, 0}};
    set_up(dtype);
    size_t n;
    struct fingerprint *wanted = new_fingerprint();
    fingerprint_rest(wanted);
    const uint64_t *right = fingerprint_blocks(wanted, &n);
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        uint64_t *all = calloc(n, sizeof *all);
        note_rank(&layouts[i], 0, true, all);
        for (int r = 0; r < layout_ffn_ranks(&layouts[i]); r++)
            note_rank(&layouts[i], r, false, all);
        for (size_t b = 0; b < n; b++) {
            size_t offset;
            if (all[b] != right[b])
                fail_msg("layout %zu: block %zu (%s) was %s", i, b,
                         fingerprint_at(wanted, b, &offset)->name, all[b] ? "wrong" : "not noted");
        }
        free(all);
    }
    fingerprint_free(wanted);
    tear_down();
}

static uint64_t sum_of_file(void)
{
    struct err e;
    checkpoint_close(checkpoint);
    if (checkpoint_open(&checkpoint, directory, &e) != 0)
        die("%s", e.text);
    struct fingerprint *f = new_fingerprint();
    fingerprint_rest(f);
    uint64_t sum = fingerprint_sum(f);
    fingerprint_free(f);
    return sum;
}

static void test_fingerprint(void **state)
{
    (void)state;
    check_fingerprint(DTYPE_BF16);
    check_fingerprint(DTYPE_F8E4M3);
    set_up(DTYPE_BF16);
    char path[FILES_PATH];
    fixture_join(path, directory, "model.safetensors");
    uint64_t before = sum_of_file();
    const struct tensor *t = checkpoint_at(checkpoint, checkpoint_count(checkpoint) / 2);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    long first = ftell(f) - 1, places[] = {first, first - (long)t->bytes, first / 2, first - 4097};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) { /* one bit, there and back */
        for (int twice = 0; twice < 2; twice++) {
            fseek(f, places[i], SEEK_SET);
            int byte = fgetc(f);
            fseek(f, places[i], SEEK_SET);
            fputc(byte ^ 16, f);
            fflush(f);
            assert_true((sum_of_file() == before) == (twice == 1));
        }
    }
    fclose(f);
    tear_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares_add_up_f32),
        cmocka_unit_test(test_shares_add_up_bf16),
        cmocka_unit_test(test_shares_add_up_fp8),
        cmocka_unit_test(test_whole_is_the_checkpoint),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_gains_and_routers),
        cmocka_unit_test(test_fingerprint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
