/* The whole model, every backend, against the references in float64 (reference.py for Step-3,
 * families.py for the others).
 *
 * Random checkpoints with odd sizes go through the product's own layer loop (machine.h). Four
 * sequences of 1 to 300 tokens are prefilled in chunks and decoded side by side; the logits of every
 * position are compared with the reference, and, bit for bit, with those of the same sequences
 * alone, in other chunks, with another number of threads.
 *
 * Needs python3 with numpy and h5py (PYTHON names another interpreter); skipped without. REFERENCE
 * names another script to compare f32 with: huggingface.py (make test-hf).
 */
#include "tests/model/files.h"
#include "tests/model/machine.h"

#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

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

/* Runs a script of this folder and its arguments in a Python that stays (serve.py); 0: it went well. */
static int run_script(const char *command)
{
    static FILE *to, *from;
    int in[2], out[2];
    char said[16] = "";
    if (!to) {
        if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
            die("no pipes");
        pid_t pid = fork();
        if (pid == 0) {
            dup2(in[0], STDIN_FILENO);
            dup2(out[1], STDOUT_FILENO);
            execlp(python(), python(), "tests/model/serve.py", (char *)NULL);
            _exit(127);
        }
        close(in[0]);
        close(out[1]);
        to = fdopen(in[1], "w");
        from = fdopen(out[0], "r");
    }
    fprintf(to, "%s\n", command);
    fflush(to);
    return fgets(said, sizeof said, from) && strcmp(said, "ok\n") == 0 ? 0 : -1;
}

/* Numbers of logits.h5. */
static void read_numbers(const char *directory, const char *name, double *to, size_t n)
{
    char path[FILES_PATH];
    fixture_join(path, directory, "logits.h5");
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t data = H5Dopen2(file, name, H5P_DEFAULT), space = H5Dget_space(data);
    if (H5Sget_simple_extent_npoints(space) != (hssize_t)n ||
        H5Dread(data, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, to) < 0)
        die("%s: not %zu numbers in %s", path, n, name);
    H5Sclose(space);
    H5Dclose(data);
    H5Fclose(file);
}

static bool is_step3(const struct model *m)
{
    return strcmp(m->family, "step3") == 0;
}

/* What the reference says of all TOKENS. choices: the experts to go by, instead of its own, as
 * struct answers has them, or NULL; *slack: how much less their scores are than those it would have
 * chosen itself. NULL: it does not know the family. */
static double *reference_logits(const char *directory, const struct model *m,
                                const struct answers *choices, double *slack)
{
    char command[8192];
    size_t n = (size_t)((1 + machine_drafts) * machine_tokens()) * m->vocab;
    const char *named = getenv("REFERENCE");
    const char *script = named ? named : is_step3(m) ? "reference.py logits" : "families.py";
    char start[512] = "";
    if (named)
        snprintf(start, sizeof start, "%s tests/model/", python());
    size_t used = (size_t)snprintf(command, sizeof command, "%s%s %s --out %s/logits.h5", start,
                                   script, directory, directory);
    if (machine_drafts > 0)
        used +=
            (size_t)snprintf(command + used, sizeof command - used, " --drafts %d", machine_drafts);
    if (choices) {
        fixture_write(directory, "choices", choices->choices,
                      choices->n_choices * sizeof *choices->choices);
        used += (size_t)snprintf(command + used, sizeof command - used, " --choices %s/choices",
                                 directory);
    }
    for (int s = 0; s < SEQUENCES; s++)
        for (int p = 0; p < machine_length[s] + machine_drafts; p++)
            used += (size_t)snprintf(command + used, sizeof command - used, "%s%d",
                                     p ? "," : " --tokens ", machine_token(s, p, m->vocab));
    int status = used >= sizeof command ? -1 : named ? system(command) : run_script(command);
    if (named && WIFEXITED(status) && WEXITSTATUS(status) == 77)
        return NULL;
    if (status != 0)
        die("the reference failed: %.200s...", command);
    double *logits = calloc(n, sizeof *logits);
    read_numbers(directory, "logits", logits, n);
    if (choices)
        read_numbers(directory, "slack", slack, 1);
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

/* Bounds of two to three times what is found. slack: a score is at most 1; rounding may change who
 * is chosen only among scores so near to each other. */
static const struct kind {
    const char *name;
    struct precision p;
    double largest, typical, slack;
} kinds[] = {
    {"f32", {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32, WEIGHT_KEEP}, 1e-5, 5e-6, 0},
    {"bf16", {DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, DTYPE_F32, WEIGHT_KEEP}, 3e-2, 1.5e-2, 0.025},
    {"8 bits", {DTYPE_BF16, DTYPE_F8E4M3, DTYPE_F8E4M3, DTYPE_BF16, WEIGHT_INT8}, 4e-1, 1.2e-1, 1},
};

static char directory[FILES_PATH];

/* One model in float64: by its own choices, and by those of the last reduced format. */
struct wanted {
    const char *name;
    double *own, *following;
    struct answers followed;
    double slack;
};

/* What to compare with. Reduced formats may choose other experts where scores are near: then the
 * reference follows them, and how near they were is compared as well. */
static const double *reference_for(struct wanted *w, const struct machine *r,
                                   const struct kind *kind, const struct answers *a)
{
    if (kind == &kinds[0] || r->model.most.topk == 0)
        return w->own;
    if (!w->following ||
        memcmp(w->followed.choices, a->choices, a->n_choices * sizeof *a->choices) != 0) {
        free(w->following);
        answers_free(&w->followed);
        w->followed = answers_new(&r->model);
        memcpy(w->followed.choices, a->choices, a->n_choices * sizeof *a->choices);
        w->following = reference_logits(directory, &r->model, a, &w->slack);
    }
    return w->following;
}

static void compare_all(struct wanted *w, const struct machine *r, const struct kind *kind,
                        const struct answers *a)
{
    w->slack = kind == &kinds[0] ? 0 : w->slack;
    const double *wanted = reference_for(w, r, kind, a);
    struct errors e = compare(a->logits, wanted, a->n_logits);
    printf("    %-11s %-8s %-8s largest %.2e typical %.2e slack %.2e\n", w->name, r->backend->name,
           kind->name, e.largest, e.typical, w->slack);
    if (!(e.largest <= kind->largest) || !(e.typical <= kind->typical))
        fail_msg("%s, %s, %s: logits differ by %g (typically %g), at most %g (%g) is allowed",
                 w->name, r->backend->name, kind->name, e.largest, e.typical, kind->largest,
                 kind->typical);
    if (!(w->slack <= kind->slack))
        fail_msg("%s, %s, %s: an expert was chosen whose score is %g below another's", w->name,
                 r->backend->name, kind->name, w->slack);
}

/* The plain kernels are compared with the reference, the others with them: all give the same bits,
 * side by side or alone. (The longest sequence alone takes the plain ones too long.) */
static void check_kind(struct wanted *w, const struct backend *b, const struct kind *kind,
                       struct answers *plain)
{
    static struct machine r;
    bool first = plain->logits == NULL;
    machine_open(&r, b, directory, &kind->p, kind == &kinds[0] ? 2 : 1);
    struct answers a = answers_new(&r.model);
    machine_together(&r, &a);
    if (first)
        compare_all(w, &r, kind, &a);
    else if (memcmp(a.logits, plain->logits, a.n_logits * sizeof *a.logits) != 0)
        fail_msg("%s, %s, %s: logits are not those of the plain kernels", w->name, b->name,
                 kind->name);
    machine_close(&r);
    if (first)
        *plain = answers_new(&r.model);
    memcpy(plain->logits, a.logits, a.n_logits * sizeof *a.logits);
    machine_open(&r, b, directory, &kind->p, 1);
    if (!first || machine_length[0] == SHORTER)
        machine_alone(&r, &a);
    machine_close(&r);
    if (memcmp(a.logits, plain->logits, a.n_logits * sizeof *a.logits) != 0)
        fail_msg("%s, %s, %s: logits depend on batch or threads", w->name, b->name, kind->name);
    answers_free(&a);
}

static void check_model(const char *name, struct generate_options *o)
{
    static struct model m;
    struct err e;
    fixture_remove(directory);
    o->directory = directory;
    if (generate_checkpoint(o, &e) != 0 || model_read(&m, directory, NULL, &e) != 0)
        die("%s", e.text);
    struct wanted w = {.name = name, .own = reference_logits(directory, &m, NULL, NULL)};
    bool given = getenv("REFERENCE") != NULL; /* knows no choices: f32 alone */
    size_t n = given || machine_drafts > 0 ? 1 : is_step3(&m) ? 3 : 2;
    for (size_t k = 0; w.own && k < n; k++) {
        struct answers plain = {0};
        for (size_t i = 0; backend_all()[i]; i++)
            if (backend_all()[i]->usable(&e) == 0)
                check_kind(&w, backend_all()[i], &kinds[k], &plain);
        answers_free(&plain);
    }
    free(w.own);
    free(w.following);
    answers_free(&w.followed);
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

/* Settings of `tandem generate`, a family's name first; "rest": what is not packed is in F32. */
static void check_family(int longest, const char *const *settings)
{
    struct generate_options o;
    struct err e;
    const char *name = settings[1];
    generate_defaults(&o);
    o.ignore_unused = true; /* one list for all families */
    for (; *settings; settings += 2)
        if (strcmp(settings[0], "rest") == 0)
            o.dtype = DTYPE_F32;
        else if (generate_set(&o, settings[0], settings[1], &e) != 0)
            die("%s", e.text);
    machine_length[0] = longest;
    check_model(name, &o);
    machine_length[0] = SHORTER;
}

/* Sizes that are no multiple of 8, nor equal to another. */
#define ODD                                                                                        \
    "hidden", "76", "layers", "5", "vocab", "211", "context", "320", "heads", "6", "kv_heads",     \
        "2", "head_dim", "20", "dense", "53", "experts", "12", "topk", "3", "expert", "39"
#define FAMILY(...)      check_family(SHORTER, (const char *const[]){__VA_ARGS__, NULL, NULL})
#define LONG_FAMILY(...) check_family(LONGEST, (const char *const[]){__VA_ARGS__, NULL, NULL})

/* A window that binds and crosses a block, clamps that bind, llama3 on full layers only. */
static void test_step3p5(void **state)
{
    (void)state;
    LONG_FAMILY("family", "step3p5", ODD, "window", "13", "limit", "0.3", "shared", "29", "dtype",
                "f32");
    FAMILY("family", "step3p5", ODD, "window", "13", "limit", "0.3", "moe_layers", "none");
    FAMILY("family", "step3p5", ODD, "window", "64", "limit", "0", "shared", "29", "file_mb", "1");
    FAMILY("family", "step3p5", ODD, "window", "65", "limit", "0.2", "hidden", "261", "expert",
           "133", "shared", "141", "dtype", "fp8");
}

static void test_qwen3(void **state)
{
    (void)state;
    LONG_FAMILY("family", "qwen3_moe", ODD, "rope_factor", "3", "dtype", "f32", "moe_layers",
                "1-3");
    FAMILY("family", "qwen3_moe", ODD, "renormalize", "false", "tied", "true");
    FAMILY("family", "qwen3_moe", ODD, "hidden", "261", "expert", "133", "dtype", "fp8");
    LONG_FAMILY("family", "qwen3", ODD, "tied", "true", "dtype", "f32");
}

static void test_llama(void **state)
{
    (void)state;
    LONG_FAMILY("family", "llama", ODD, "hidden", "78", "rope_factor", "8", "dtype", "f32");
    FAMILY("family", "llama", ODD, "hidden", "78", "tied", "true", "kv_heads", "6");
}

#define LATENT "q_rank", "34", "kv_rank", "43", "nope_dim", "11", "rope_dim", "6", "value_dim", "13"

/* Groups that bind, yarn with its magnitude, with and without a low rank of the queries. */
static void test_deepseek3(void **state)
{
    (void)state;
    LONG_FAMILY("family", "deepseek_v3", ODD, LATENT, "groups", "4", "topk_groups", "2", "shared",
                "39", "rope_factor", "4", "dtype", "f32");
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
    LONG_FAMILY("family", "glm4_moe", ODD, "shared", "39", "dtype", "f32");
    FAMILY("family", "glm4_moe", ODD, "groups", "4", "topk_groups", "2", "shared", "39");
    LONG_FAMILY("family", "minimax_m2", ODD, "dtype", "f32");
}

/* Windows of half the layers, sinks, biases everywhere, experts as MXFP4 and with inputs as rows, clamps
 * that bind, yarn that ends between two pairs. */
static void test_gpt_oss(void **state)
{
    (void)state;
    LONG_FAMILY("family", "gpt_oss", ODD, "hidden", "96", "expert", "64", "window", "13", "limit",
                "0.5", "rope_factor", "4");
    FAMILY("family", "gpt_oss", ODD, "hidden", "160", "expert", "32", "window", "65", "tied",
           "true");
    FAMILY("family", "gpt_oss", ODD, "hidden", "96", "expert", "64", "window", "13", "limit", "0.5",
           "rest", "");
    FAMILY("family", "gpt_oss", ODD, "window", "13", "limit", "0.5", "dtype", "f32");
    FAMILY("family", "gpt_oss", ODD, "hidden", "160", "expert", "29", "window", "7", "dtype",
           "bf16");
}

/* The logits of drafts: three layers in a chain, of which the last is used again, and one that is. */
static void test_mtp(void **state)
{
    (void)state;
    if (getenv("REFERENCE")) /* it has no MTP layers */
        return;
    machine_drafts = 4;
    FAMILY("family", "step3p5", ODD, "window", "13", "limit", "0.3", "shared", "29", "mtp", "3",
           "dtype", "f32");
    machine_drafts = 2;
    FAMILY("family", "deepseek_v3", ODD, LATENT, "groups", "4", "topk_groups", "2", "shared", "39",
           "rope_factor", "4", "mtp", "1", "dtype", "f32");
    machine_drafts = 0;
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
        cmocka_unit_test(test_mtp),     cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),    cmocka_unit_test(test_fp8),
        cmocka_unit_test(test_step3p5), cmocka_unit_test(test_qwen3),
        cmocka_unit_test(test_llama),   cmocka_unit_test(test_deepseek3),
        cmocka_unit_test(test_others),  cmocka_unit_test(test_gpt_oss),
    };
    if (getenv("CASE")) /* one of them: CASE=test_llama */
        cmocka_set_test_filter(getenv("CASE"));
    return cmocka_run_group_tests(tests, make, clean);
}
