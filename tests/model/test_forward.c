/* The whole model, every backend, against the references in float64 (reference.py for Step-3,
 * families.py for the others).
 *
 * Random checkpoints with odd sizes go through the product's own layer loop (roles/attention.h, roles/ffn.h) in
 * one process. Four sequences of different length are prefilled in chunks and decoded side by side;
 * the logits of every position are compared with reference.py, and, bit for bit, with those of the
 * same sequences one token at a time, alone, with another number of threads.
 *
 * Needs python3 with numpy and h5py (PYTHON names another interpreter); skipped without.
 */
#include "kernels/device.h"
#include "roles/attention.h"
#include "roles/ffn.h"

#include "tests/model/files.h"

#include <hdf5.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define SEQUENCES 4
#define TOKENS    113 /* of all sequences */
#define CONTEXT   80  /* two blocks of the KV cache */
#define STRIDE    2

/* The longest crosses a KV block. */
static const int length[SEQUENCES] = {70, 9, 1, 33};

static int first_row(int sequence)
{
    int row = 0;
    for (int s = 0; s < sequence; s++)
        row += length[s];
    return row;
}

static int32_t token_of(int sequence, int position, size_t vocab)
{
    return (int32_t)((size_t)(sequence * 31 + position * position * 7 + position) % vocab);
}

/* ---- the machine ---------------------------------------------------------------------------- */

struct precision {
    enum dtype act, kv, wire, combine;
    enum weight_keep keep;
};

struct rig {
    struct model model;
    struct checkpoint *checkpoint;
    const struct backend *backend;
    struct device *device;
    struct stream *stream;
    struct attention_weights attention_weights;
    struct ffn_weights ffn_weights;
    struct weights_plan plan;
    struct caches caches;
    struct exchange_shape shape;
    const struct exchange_ops *exchange_ops;
    struct exchange *exchange;
    struct place place;
    struct schedule_limits limits;
    struct attention *attention;
    struct ffn *ffn;
};

static void open_device(struct rig *r, const struct precision *p, int threads)
{
    struct err e;
    const struct model *m = &r->model;
    const struct model_most *most = &m->most;
    size_t inter = most->dense_inter;
    inter = most->inter > inter ? most->inter : inter;
    inter = most->shared_inter > inter ? most->shared_inter : inter;
    struct device_config config = {
        .threads = threads,
        .act = p->act,
        .kv = p->kv,
        .limits = {.rows = r->shape.rows,
                   .hidden = m->hidden,
                   .q_width = most->q_width,
                   .heads = most->heads,
                   .head_dim = most->head_dim,
                   .context = CONTEXT,
                   .vocab = m->vocab,
                   .logit_rows = r->shape.rows,
                   .experts = most->experts,
                   .topk = most->topk,
                   .inter = inter},
    };
    if (r->backend->device->open(&config, &r->device, &e) != 0)
        die("%s", e.text);
}

static void rig_open(struct rig *r, const struct backend *b, const char *directory,
                     const struct precision *p, int threads)
{
    static const struct layout layout = {1, 1, 1, true, 0};
    struct err e;
    *r = (struct rig){.backend = b};
    if (model_read(&r->model, directory, NULL, &e) != 0 ||
        checkpoint_open(&r->checkpoint, directory, &e) != 0 ||
        model_check(&r->model, r->checkpoint, &e) != 0)
        die("%s", e.text);
    r->limits = (struct schedule_limits){.slots = TOKENS,
                                         .micro_batches = 1,
                                         .prefill_chunk = TOKENS,
                                         .max_context = CONTEXT,
                                         .kv_blocks = SEQUENCES * STRIDE};
    r->place = place_of(&layout, 0);
    r->shape = (struct exchange_shape){.micro_batches = 1,
                                       .layers = r->model.layers,
                                       .routed = r->model.moe,
                                       .hidden = r->model.hidden,
                                       .topk = r->model.most.topk,
                                       .rows = (size_t)schedule_most_rows(&r->limits),
                                       .dispatch = p->wire,
                                       .combine = p->combine};
    open_device(r, p, threads);
    r->stream = b->device->stream_create(r->device);
    r->plan = (struct weights_plan){.backend = b,
                                    .device = r->device,
                                    .model = &r->model,
                                    .checkpoint = r->checkpoint,
                                    .keep = p->keep,
                                    .context = CONTEXT,
                                    .layout = &layout};
    attention_weights_load(&r->attention_weights, &r->plan, NULL, NULL);
    ffn_weights_load(&r->ffn_weights, &r->plan, NULL, NULL);
    caches_create(&r->caches, b, r->device, &r->model, SEQUENCES * STRIDE);
    struct endpoint end = {
        .place = r->place, .backend = b, .device = r->device, .compute = r->stream};
    r->exchange_ops = exchange_find("local");
    r->exchange = r->exchange_ops->open(&r->shape, &end);
    const struct side side = {.model = &r->model,
                              .backend = b,
                              .device = r->device,
                              .stream = r->stream,
                              .exchange_ops = r->exchange_ops,
                              .exchange = r->exchange,
                              .shape = &r->shape,
                              .place = &r->place,
                              .act = p->act};
    const struct attention_parts own = {&r->attention_weights, &r->caches, &r->limits};
    r->attention = attention_open(&side, &own);
    r->ffn = ffn_open(&side, &r->ffn_weights);
}

static void rig_close(struct rig *r)
{
    const struct backend *b = r->backend;
    attention_close(r->attention);
    ffn_close(r->ffn);
    r->exchange_ops->close(r->exchange);
    caches_destroy(&r->caches, b, r->device);
    attention_weights_free(&r->attention_weights, &r->plan);
    ffn_weights_free(&r->ffn_weights, &r->plan);
    b->device->stream_destroy(r->device, r->stream);
    b->device->close(r->device);
    checkpoint_close(r->checkpoint);
}

/* ---- steps ---------------------------------------------------------------------------------- */

/* `count` tokens of a sequence from position `from` on. */
struct segment {
    int sequence, from, count;
};

/* A micro-batch in which the logits of every row are wanted. */
struct batch {
    int32_t token[TOKENS], seg_row[TOKENS + 1], seg_pos[TOKENS], row_seg[TOKENS], row_pos[TOKENS];
    int32_t blocks[TOKENS * STRIDE], sampled_row[TOKENS];
    struct micro_batch b;
};

static void batch_make(struct batch *x, const struct segment *segments, int n, size_t vocab)
{
    x->b = (struct micro_batch){.segments = n,
                                .token = x->token,
                                .seg_row = x->seg_row,
                                .seg_pos = x->seg_pos,
                                .row_seg = x->row_seg,
                                .row_pos = x->row_pos,
                                .blocks = x->blocks,
                                .sampled_row = x->sampled_row};
    struct micro_batch *b = &x->b;
    for (int i = 0; i < n; i++) {
        const struct segment *s = &segments[i];
        x->seg_row[i] = b->rows;
        x->seg_pos[i] = s->from;
        x->blocks[i * STRIDE] = s->sequence; /* the blocks of a sequence are not neighbors */
        x->blocks[i * STRIDE + 1] = 2 * SEQUENCES - 1 - s->sequence;
        for (int j = 0; j < s->count; j++, b->rows++) {
            x->token[b->rows] = token_of(s->sequence, s->from + j, vocab);
            x->row_seg[b->rows] = i;
            x->row_pos[b->rows] = s->from + j;
            x->sampled_row[b->rows] = b->rows;
        }
        b->max_rows = s->count > b->max_rows ? s->count : b->max_rows;
        b->max_context = s->from + s->count > b->max_context ? s->from + s->count : b->max_context;
    }
    x->seg_row[n] = b->rows;
    b->n_sampled = b->rows;
}

/* Runs one step; the logits go to their rows of logits[TOKENS][V]. */
static void step(struct rig *r, const struct segment *segments, int n, float *logits)
{
    static struct batch x;
    static const struct sample_params greedy[TOKENS];
    static int32_t tokens[TOKENS];
    static float logprobs[TOKENS];
    size_t vocab = r->model.vocab;
    batch_make(&x, segments, n, vocab);
    float *here = malloc((size_t)x.b.rows * vocab * sizeof *here);
    r->exchange_ops->begin(r->exchange, &x.b.rows);
    attention_plan(r->attention, 0, &x.b, greedy);
    attention_begin(r->attention, 0);
    for (int l = 0; l < (int)r->model.layers; l++) {
        attention_collect(r->attention, 0, l);
        attention_layer(r->attention, 0, l);
        attention_dispatch(r->attention, 0, l);
        if (ffn_receive(r->ffn, 0, l)) {
            ffn_layer(r->ffn, 0, l);
            ffn_reply(r->ffn, 0, l);
        }
    }
    attention_collect(r->attention, 0, (int)r->model.layers);
    attention_sample(r->attention, 0, here);
    r->backend->device->stream_sync(r->device, r->stream);
    memcpy(tokens, attention_tokens(r->attention, 0), (size_t)x.b.n_sampled * sizeof *tokens);
    memcpy(logprobs, attention_logprobs(r->attention, 0), (size_t)x.b.n_sampled * sizeof *logprobs);
    r->exchange_ops->end(r->exchange);
    for (int i = 0, row = 0; i < n; row += segments[i++].count) {
        size_t to = (size_t)(first_row(segments[i].sequence) + segments[i].from);
        memcpy(logits + to * vocab, here + (size_t)row * vocab,
               (size_t)segments[i].count * vocab * sizeof *logits);
    }
    free(here);
}

/* Everything in four steps: chunks of prompts of several sequences, single tokens beside them. */
static void run_together(struct rig *r, float *logits)
{
    static const struct segment steps[][3] = {
        {{0, 0, 40}, {1, 0, 9}, {2, 0, 1}},
        {{3, 0, 32}, {0, 40, 27}},
        {{0, 67, 1}, {3, 32, 1}},
        {{0, 68, 2}},
    };
    static const int count[] = {3, 2, 2, 1};
    for (int i = 0; i < 4; i++)
        step(r, steps[i], count[i], logits);
}

static void run_alone(struct rig *r, float *logits)
{
    for (int s = 0; s < SEQUENCES; s++)
        for (int p = 0; p < length[s]; p++)
            step(r, &(struct segment){s, p, 1}, 1, logits);
}

/* ---- the reference -------------------------------------------------------------------------- */

static const char *python(void)
{
    const char *named = getenv("PYTHON");
    return named ? named : access("/usr/bin/python3", X_OK) == 0 ? "/usr/bin/python3" : "python3";
}

static bool python_works(void)
{
    char command[512];
    snprintf(command, sizeof command, "%s -c 'import numpy, h5py' 2>/dev/null", python());
    return system(command) == 0;
}

static double *reference_logits(const char *directory, const char *family, size_t vocab)
{
    char command[8192];
    const char *script = strcmp(family, "step3") == 0 ? "reference.py logits" : "families.py";
    size_t used =
        (size_t)snprintf(command, sizeof command, "%s tests/model/%s %s --out %s/logits.h5",
                         python(), script, directory, directory);
    for (int s = 0; s < SEQUENCES; s++)
        for (int p = 0; p < length[s]; p++)
            used += (size_t)snprintf(command + used, sizeof command - used, "%s%d",
                                     p ? "," : " --tokens ", token_of(s, p, vocab));
    if (used >= sizeof command || system(command) != 0)
        die("the reference failed: %.200s...", command);

    char path[FILES_PATH];
    fixture_join(path, directory, "logits.h5");
    double *logits = calloc(TOKENS * vocab, sizeof *logits);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t data = H5Dopen2(file, "logits", H5P_DEFAULT), space = H5Dget_space(data);
    if (H5Sget_simple_extent_npoints(space) != (hssize_t)(TOKENS * vocab) ||
        H5Dread(data, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, logits) < 0)
        die("%s: not the logits of %d tokens", path, TOKENS);
    H5Sclose(space);
    H5Dclose(data);
    H5Fclose(file);
    return logits;
}

/* ---- comparisons ---------------------------------------------------------------------------- */

struct errors {
    double largest; /* max |found - wanted| / max |wanted| */
    double typical; /* the same with root mean squares */
};

static struct errors compare(const float *found, const double *wanted, size_t n)
{
    double largest = 0, most = 0, squares = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs(found[i] - wanted[i]);
        largest = d > largest || isnan(d) ? d : largest;
        most = fmax(most, fabs(wanted[i]));
        squares += d * d;
        all += wanted[i] * wanted[i];
        if (isnan(largest))
            break;
    }
    return (struct errors){largest / most, sqrt(squares / all)};
}

static const struct {
    const char *name;
    struct precision p;
    double largest, typical; /* bounds */
} precisions[] = {
    {"f32", {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32, WEIGHT_KEEP}, 1e-5, 5e-6},
    /* Reduced formats change some routings: bounds of two to three times what is found. */
    {"bf16", {DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, DTYPE_F32, WEIGHT_KEEP}, 1e-1, 2e-2},
    {"8 bits", {DTYPE_BF16, DTYPE_F8E4M3, DTYPE_F8E4M3, DTYPE_BF16, WEIGHT_INT8}, 4e-1, 1.2e-1},
};

static char directory[FILES_PATH];

/* kinds: of the precisions, the first ones. loose: bf16 rounding may change who is chosen, and with
 * it a row; how much is a matter of chance, and only a different function is seen. */
static void check_backend(const struct backend *b, const char *model, const double *wanted,
                          size_t kinds, bool loose)
{
    for (size_t i = 0; i < kinds; i++) {
        double allow = loose && i > 0 ? 12 : 1;
        static struct rig r;
        rig_open(&r, b, directory, &precisions[i].p, i == 0 ? 2 : 1);
        size_t n = TOKENS * r.model.vocab;
        float *together = calloc(n, sizeof *together), *alone = calloc(n, sizeof *alone);
        run_together(&r, together);
        rig_close(&r);
        rig_open(&r, b, directory, &precisions[i].p, 1);
        run_alone(&r, alone);
        rig_close(&r);
        struct errors e = compare(together, wanted, n);
        printf("    %-10s %-8s %-8s largest %.2e typical %.2e\n", model, b->name,
               precisions[i].name, e.largest, e.typical);
        if (!(e.largest <= allow * precisions[i].largest) ||
            !(e.typical <= allow * precisions[i].typical))
            fail_msg("%s, %s, %s: logits differ by %g (typically %g), at most %g (%g) is allowed",
                     model, b->name, precisions[i].name, e.largest, e.typical,
                     allow * precisions[i].largest, allow * precisions[i].typical);
        if (memcmp(together, alone, n * sizeof *alone) != 0)
            fail_msg("%s, %s, %s: logits depend on batch or threads", model, b->name,
                     precisions[i].name);
        free(together);
        free(alone);
    }
}

static bool has_experts(const struct family_sizes *s)
{
    bool some = false;
    for (size_t l = 0; l < s->layers; l++)
        some |= s->moe[l];
    return some;
}

static void check_model(const char *name, struct generate_options *o)
{
    struct err e;
    fixture_remove(directory);
    o->directory = directory;
    if (generate_checkpoint(o, &e) != 0)
        die("%s", e.text);
    bool step3 = strcmp(o->model.family, "step3") == 0;
    double *wanted = reference_logits(directory, o->model.family, o->model.vocab);
    for (size_t i = 0; backend_all()[i]; i++) {
        const struct backend *b = backend_all()[i];
        if (b->usable(&e) == 0)
            check_backend(b, name, wanted, step3 ? 3 : 2, !step3 && has_experts(&o->model));
        else
            printf("    %-10s %s: not usable here: %s\n", name, b->name, e.text);
    }
    free(wanted);
}

static void test_f32(void **state)
{
    (void)state;
    struct generate_options o;
    files_odd_model(&o, NULL);
    o.dtype = DTYPE_F32;
    check_model("f32", &o);
}

/* Several files, one tied table, weights of experts renormalized, no shared expert. */
static void test_bf16(void **state)
{
    (void)state;
    struct generate_options o;
    files_odd_model(&o, NULL);
    o.file_bytes = 30000;
    o.model.tied = true;
    o.model.shared_inter = 0;
    o.model.router.renormalize = true;
    o.model.moe[0] = o.model.moe[3] = true;
    o.model.moe[1] = false;
    check_model("bf16", &o);
}

/* More than one block of scales in every direction. */
static void test_fp8(void **state)
{
    (void)state;
    struct generate_options o;
    files_odd_model(&o, NULL);
    o.dtype = DTYPE_F8E4M3;
    o.model.hidden = 261;
    o.model.heads = 3;
    o.model.head_dim = 46;
    o.model.q_rank = 131;
    o.model.dense_inter = 259;
    o.model.expert_inter = 133;
    o.model.shared_inter = 141;
    check_model("fp8", &o);
}

/* Settings of `tandem generate`, a family's name first. */
static void check_family(const char *const *settings)
{
    struct generate_options o;
    struct err e;
    const char *name = settings[1];
    generate_defaults(&o);
    for (; *settings; settings += 2)
        if (generate_set(&o, settings[0], settings[1], &e) != 0)
            die("%s", e.text);
    check_model(name, &o);
}

/* Sizes that are no multiple of 8, nor equal to another. */
#define ODD                                                                                        \
    "hidden", "76", "layers", "5", "vocab", "211", "context", "96", "heads", "6", "kv_heads", "2", \
        "head_dim", "20", "dense", "53", "experts", "12", "topk", "3", "expert", "39"
#define FAMILY(...) check_family((const char *const[]){__VA_ARGS__, NULL, NULL})

/* A window that binds and crosses a block, clamps that bind, llama3 on full layers only. */
static void test_step3p5(void **state)
{
    (void)state;
    FAMILY("family", "step3p5", ODD, "window", "13", "limit", "0.3", "shared", "29", "dtype",
           "f32");
    FAMILY("family", "step3p5", ODD, "window", "13", "limit", "0.3", "moe_layers", "none");
    FAMILY("family", "step3p5", ODD, "window", "64", "limit", "0", "shared", "29", "file_mb", "1");
    FAMILY("family", "step3p5", ODD, "window", "65", "limit", "0.2", "hidden", "261", "expert",
           "133", "shared", "141", "dtype", "fp8");
}

static void test_qwen3(void **state)
{
    (void)state;
    FAMILY("family", "qwen3_moe", ODD, "rope_factor", "3", "dtype", "f32", "moe_layers", "1-3");
    FAMILY("family", "qwen3_moe", ODD, "renormalize", "false", "tied", "true");
    FAMILY("family", "qwen3_moe", ODD, "hidden", "261", "expert", "133", "dtype", "fp8");
    FAMILY("family", "qwen3", ODD, "tied", "true", "dtype", "f32");
}

static void test_llama(void **state)
{
    (void)state;
    FAMILY("family", "llama", ODD, "rope_factor", "8", "dtype", "f32");
    FAMILY("family", "llama", ODD, "tied", "true", "kv_heads", "6");
}

#define LATENT "q_rank", "34", "kv_rank", "43", "nope_dim", "11", "rope_dim", "6", "value_dim", "13"

/* Groups that bind, yarn with its magnitude, with and without a low rank of the queries. */
static void test_deepseek3(void **state)
{
    (void)state;
    FAMILY("family", "deepseek_v3", ODD, LATENT, "groups", "4", "topk_groups", "2", "shared", "39",
           "rope_factor", "4", "dtype", "f32");
    FAMILY("family", "deepseek_v3", ODD, LATENT, "rope_factor", "4", "groups", "4", "topk_groups",
           "2", "moe_layers", "none");
    FAMILY("family", "deepseek_v3", ODD, LATENT, "groups", "1", "topk_groups", "1", "shared", "78",
           "q_rank", "0");
    FAMILY("family", "deepseek_v3", ODD, LATENT, "groups", "4", "topk_groups", "2", "shared", "133",
           "hidden", "261", "expert", "133", "kv_rank", "131", "dtype", "fp8");
}

static void test_others(void **state)
{
    (void)state;
    FAMILY("family", "glm4_moe", ODD, "shared", "39", "dtype", "f32");
    FAMILY("family", "glm4_moe", ODD, "groups", "4", "topk_groups", "2", "shared", "39");
    FAMILY("family", "minimax_m2", ODD, "dtype", "f32");
}

static int make(void **state)
{
    (void)state;
    fixture_make(directory);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    fixture_remove(directory);
    return 0;
}

int main(void)
{
    if (!python_works()) {
        printf("SKIPPED: test_forward needs %s with numpy and h5py (Debian: python3-h5py)\n",
               python());
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),       cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_fp8),       cmocka_unit_test(test_step3p5),
        cmocka_unit_test(test_qwen3),     cmocka_unit_test(test_llama),
        cmocka_unit_test(test_deepseek3), cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
