#include "job/job.h"

#include "base/mem.h"
#include "job/document.h"
#include "job/keys.h"
#include "job/slurm.h"
#include "job/suggest.h"
#include "job/value.h"
#include "text/template.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define KEYS_MAX 128

/* Where the value of a key comes from. */
struct given {
    const struct node *node; /* NULL: nowhere, the default is taken */
    const char *override;    /* the --set it stands in, or NULL: the file */
};

struct reader {
    const char *path;
    const char *text; /* NULL: that of the file */
    struct node file;
    struct node *sets; /* one tree for each override */
    size_t n_sets;
    struct given given[KEYS_MAX];
    struct err *e;
};

/* "jobs/a.yaml:3:7" or "--set schedule.slots=x" before the message that is there; returns -1. */
static int put_place(struct reader *r, const struct node *at, const char *override)
{
    if (override)
        return err_prefix(r->e, "--set %s", override);
    if (!at)
        return err_prefix(r->e, "%s", r->path);
    return err_prefix(r->e, "%s:%d:%d", r->path, at->line, at->column);
}

/* --- which keys are there ------------------------------------------------------------------ */

static void __attribute__((format(printf, 2, 3))) add(struct err *e, const char *format, ...)
{
    size_t used = strlen(e->text);
    va_list args;
    va_start(args, format);
    vsnprintf(e->text + used, sizeof e->text - used, format, args);
    va_end(args);
}

/* Adds what was probably meant: the same name in another section, a near name, or all names. */
static void add_hint(struct err *e, const char *section, const char *name)
{
    char store[KEYS_NAMES_MAX][32], path[64];
    const char *names[KEYS_NAMES_MAX];
    bool elsewhere = false;
    for (size_t i = 0; i < keys_count; i++) {
        const char *home = *keys[i].section ? keys[i].section : "the top level";
        const char *in = *keys[i].section ? "in" : "at";
        if (strcmp(keys[i].name, name) != 0 &&
            strcmp(keys_path(&keys[i], path, sizeof path), name) != 0)
            continue;
        if (elsewhere)
            add(e, " and %s %s", in, home);
        else
            add(e, "; there is '%s' %s %s", keys[i].name, in, home);
        elsewhere = true;
    }
    if (elsewhere)
        return;
    size_t n = keys_names(section, store);
    for (size_t i = 0; i < n; i++)
        names[i] = store[i];
    const char *ours = suggest_same(name);
    if (ours) {
        add(e, "; that is '%s' here", ours);
        return;
    }
    const char *near = suggest_nearest(name, names, n);
    if (near)
        add(e, "; did you mean '%s'?", near);
    for (size_t i = 0; !near && i < n; i++)
        add(e, "%s%s", i == 0 ? "; known are " : ", ", names[i]);
}

static int fail_unknown(struct reader *r, const char *section, const char *name,
                        const struct node *at, const char *override)
{
    if (*section)
        err_set(r->e, "unknown key '%.100s' in %s", name, section);
    else
        err_set(r->e, "unknown key '%.100s'", name);
    add_hint(r->e, section, name);
    return put_place(r, at, override);
}

static int fail_section(struct reader *r, const char *section, const struct node *value)
{
    char found[96], store[KEYS_NAMES_MAX][32], first[128];
    size_t n = keys_names(section, store);
    snprintf(first, sizeof first, "%s%s%s", store[0], n > 1 ? ", " : "", n > 1 ? store[1] : "");
    err_set(r->e, "%s wants keys below it (%s%s), found %s", section, first, n > 2 ? ", ..." : "",
            document_describe(value, found, sizeof found));
    return put_place(r, value, NULL);
}

/* Notes the value of every key of a mapping of the file, and of the sections inside it. A section
 * with nothing below it is fine: its lines may be commented out. */
static int collect(struct reader *r, const struct node *map, const char *section)
{
    for (size_t i = 0; i + 1 < map->count; i += 2) {
        const struct node *name = &map->children[i], *value = name + 1;
        char path[128];
        int n = snprintf(path, sizeof path, "%s%s%s", section, *section ? "." : "", name->text);
        int k = n < (int)sizeof path && !strchr(name->text, '.') ? keys_find(path) : -1;
        if (k >= 0) {
            r->given[k].node = value;
        } else if (n < (int)sizeof path && !strchr(name->text, '.') && keys_is_section(path)) {
            if (document_is_null(value))
                continue;
            if (value->kind != NODE_MAPPING)
                return fail_section(r, path, value);
            if (collect(r, value, path) != 0)
                return -1;
        } else {
            return fail_unknown(r, section, name->text, name, NULL);
        }
    }
    return 0;
}

/* A whole path nobody knows: the nearest of all paths, when one is near. */
static int fail_unknown_path(struct reader *r, const char *path, const char *override)
{
    char store[KEYS_MAX][64];
    const char *paths[KEYS_MAX];
    for (size_t i = 0; i < keys_count; i++)
        paths[i] = keys_path(&keys[i], store[i], sizeof store[i]);
    const char *near = suggest_nearest(path, paths, keys_count);
    const char *dot = strrchr(path, '.');
    char above[64] = "";
    if (dot && dot - path < (int)sizeof above)
        memcpy(above, path, (size_t)(dot - path));
    int whole = keys_find(above);
    if (!near && whole >= 0) {
        err_set(r->e, "unknown key '%.100s': %s is one value", path, above);
        size_t used = strlen(r->e->text);
        if (keys[whole].kind == KEY_JSON)
            snprintf(r->e->text + used, sizeof r->e->text - used, ", as %s='{%s: ...}'", above,
                     dot + 1);
        return put_place(r, NULL, override);
    }
    if (!near)
        return fail_unknown(r, "", path, NULL, override);
    err_set(r->e, "unknown key '%.100s'; did you mean '%s'?", path, near);
    return put_place(r, NULL, override);
}

/* "layout.ffn=none": nothing that the file says of the section counts. */
static int clear_section(struct reader *r, const char *section, const char *value, const char *text)
{
    if (*value && strcmp(value, "none") != 0 && strcmp(value, "null") != 0) {
        err_set(r->e, "'%s' is a section; name one of its keys, or say %s=none to leave it out",
                section, section);
        return put_place(r, NULL, text);
    }
    for (size_t i = 0; i < keys_count; i++)
        if (keys_in_section(&keys[i], section))
            r->given[i] = (struct given){NULL, NULL};
    return 0;
}

/* One "key.path=value" of the command line, after the file. "key=" takes the file's value away. */
static int collect_override(struct reader *r, const char *text)
{
    const char *equals = strchr(text, '=');
    size_t n = equals ? (size_t)(equals - text) : strlen(text);
    char path[128], name[160];
    snprintf(path, sizeof path, "%.*s", (int)(n < 127 ? n : 127), text);
    snprintf(name, sizeof name, "--set %s", path);
    if (!equals)
        return err_set(r->e, "%s: wants key=value, such as --set schedule.slots=8", name);
    int k = keys_find(path);
    if (k < 0 && keys_is_section(path))
        return clear_section(r, path, equals + 1, text);
    if (k < 0) {
        char *dot = strrchr(path, '.');
        if (dot) {
            *dot = 0;
            if (keys_is_section(path))
                return fail_unknown(r, path, dot + 1, NULL, text);
            *dot = '.';
        }
        return fail_unknown_path(r, path, text);
    }
    struct node *value = &r->sets[r->n_sets];
    if (document_read_text(value, name, equals + 1, strlen(equals + 1), r->e) != 0)
        return -1;
    r->n_sets++;
    r->given[k] =
        document_is_null(value) ? (struct given){NULL, NULL} : (struct given){value, text};
    return 0;
}

/* --- what they say ------------------------------------------------------------------------- */

static int fail_missing(struct reader *r, const struct key *k)
{
    char path[64];
    keys_path(k, path, sizeof path);
    return err_set(r->e, "%s: '%s' is missing: %s (jobs/example.yaml names every key)", r->path,
                   path, k->about);
}

static int read_value(struct reader *r, size_t index, struct job *job)
{
    const struct key *k = &keys[index];
    const struct given *given = &r->given[index];
    char path[64], copy[32];
    struct node preset = {.kind = NODE_SCALAR, .plain = true, .text = copy};
    if (!given->node && !k->preset)
        return fail_missing(r, k);
    if (!given->node)
        snprintf(copy, sizeof copy, "%s", k->preset);
    if (keys_read(k, given->node ? given->node : &preset, job, r->e) == 0)
        return 0;
    err_prefix(r->e, "%s", keys_path(k, path, sizeof path));
    return put_place(r, given->node, given->override);
}

/* The message in r->e is about this key: puts the place of its value before it. */
static int fail_key(struct reader *r, const char *path)
{
    const struct given *given = &r->given[keys_find(path)];
    return put_place(r, given->node, given->override);
}

static bool is_given(const struct reader *r, const char *path)
{
    return r->given[keys_find(path)].node != NULL;
}

/* Values that depend on others. */
static void resolve(struct job *job)
{
    size_t n = strlen(job->model);
    if (job->score) {
        job->sampling.max_new_tokens = 0;
        job->sampling.samples = 1;
        job->sampling.best_of = 0;
        if (job->sampling.prompt_logprobs < 0)
            job->sampling.prompt_logprobs = 0;
    }
    if (job->precision.combine == DTYPE_COUNT)
        job->precision.combine =
            strcmp(job->device, "cuda") == 0 ? job->precision.activations : DTYPE_F32;
    job->tokenizer_named = job->tokenizer != NULL;
    if (job->tokenizer_named)
        return;
    if (n > 5 && strcmp(job->model + n - 5, ".gguf") == 0) {
        job->tokenizer = mem_string(job->model); /* a GGUF file has its own */
    } else {
        bool slash = n > 0 && job->model[n - 1] == '/';
        const char *name = slash ? "tokenizer.json" : "/tokenizer.json";
        size_t bytes = n + strlen(name) + 1;
        job->tokenizer = mem_new(bytes, 1);
        snprintf(job->tokenizer, bytes, "%s%s", job->model, name);
    }
}

/* The part of the rows, and paths: what depends on Slurm. */
static int ask_slurm(struct reader *r, struct job *job)
{
    static const char *const keys_of[] = {"prompts.file", "output.file", "output.summary", "trace"};
    char **paths[] = {&job->prompts.file, &job->output.file, &job->output.summary, &job->trace};
    if (slurm_part(job->prompts.part_text, &job->prompts.part, &job->prompts.parts, r->e) != 0)
        return fail_key(r, "prompts.part");
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (*paths[i] && slurm_path(paths[i], r->e) != 0)
            return fail_key(r, keys_of[i]);
    return 0;
}

static int check_layout(struct reader *r, const struct job *job)
{
    static const char *const ffn[] = {"layout.ffn.expert", "layout.ffn.tensor"};
    const struct layout *l = &job->layout;
    for (int i = 0; i < 2 && l->colocated; i++)
        if (is_given(r, ffn[i])) {
            err_set(r->e,
                    "%s contradicts layout.colocated: true, where every rank holds a whole "
                    "FFN; leave one of them out",
                    ffn[i]);
            return fail_key(r, ffn[i]);
        }
    if (l->colocated && job->exchange != EXCHANGE_AUTO && job->exchange != EXCHANGE_LOCAL) {
        err_set(r->e, "layout.exchange: a colocated layout has nothing to send; leave it at auto");
        return fail_key(r, "layout.exchange");
    }
    if (!l->colocated && job->exchange == EXCHANGE_LOCAL) {
        err_set(r->e, "layout.exchange: local works inside one process, but attention and FFN are "
                      "separate ranks here; take shared, mpi or nccl, or layout.colocated: true");
        return fail_key(r, "layout.exchange");
    }
    long ranks = l->colocated ? l->attention : l->attention + (long)l->expert * l->tensor;
    if (ranks > 1000000) {
        err_set(r->e, "layout: %ld ranks are more than the 1000000 that can be", ranks);
        return fail_key(r, "layout.attention");
    }
    return 0;
}

static int check_device(struct reader *r, const struct job *job)
{
    bool cuda = strcmp(job->device, "cuda") == 0;
    if (job->exchange == EXCHANGE_NCCL && !cuda) {
        err_set(r->e, "layout.exchange: nccl moves device memory and needs device: cuda");
        return fail_key(r, "layout.exchange");
    }
    if (cuda && strcmp(job->kernels, "auto") != 0) {
        err_set(r->e, "kernels: %s is for device: cpu; with device: cuda leave it at auto",
                job->kernels);
        return fail_key(r, "kernels");
    }
    if (cuda && job->precision.products == JOB_PRODUCTS_INT8) {
        err_set(r->e,
                "precision.products: int8 is for device: cpu; with device: cuda leave it at exact");
        return fail_key(r, "precision.products");
    }
    return 0;
}

static int check_sampling(struct reader *r, const struct job *job)
{
    if (job->sampling.best_of && job->sampling.best_of < job->sampling.samples) {
        err_set(r->e, "sampling.best_of: the best %d of %d completions cannot be kept",
                job->sampling.samples, job->sampling.best_of);
        return fail_key(r, "sampling.best_of");
    }
    if (job->output.reasoning_begin && !job->output.reasoning_end) {
        err_set(r->e, "output.reasoning.end is missing: what ends the reasoning that begins there");
        return fail_key(r, "output.reasoning.begin");
    }
    return 0;
}

/* "100-200", or one step. */
static int read_trace_steps(struct reader *r, struct job *job)
{
    char text[64];
    job->trace_last = INT64_MAX;
    if (!job->trace_steps)
        return 0;
    snprintf(text, sizeof text, "%s", job->trace_steps);
    char *dash = strchr(text, '-');
    if (dash)
        *dash = '\0';
    if (!value_int(text, &job->trace_first) || job->trace_first < 0 ||
        !value_int(dash ? dash + 1 : text, &job->trace_last) ||
        job->trace_last < job->trace_first) {
        err_set(r->e,
                "trace_steps wants the first and the last step, as 100-200, or all; found '%s'",
                job->trace_steps);
        return fail_key(r, "trace_steps");
    }
    return 0;
}

static int check_files(struct reader *r, const struct job *job)
{
    if (strcmp(job->output.file, job->prompts.file) == 0) {
        err_set(r->e, "output.file is prompts.file: the prompts would be overwritten");
        return fail_key(r, "output.file");
    }
    const char *others[] = {job->trace, job->output.summary};
    static const char *const keys_of[] = {"trace", "output.summary"};
    for (size_t i = 0; i < 2; i++)
        if (others[i] && (strcmp(others[i], job->output.file) == 0 ||
                          strcmp(others[i], job->prompts.file) == 0)) {
            err_set(r->e, "%s is the same file as output.file or prompts.file", keys_of[i]);
            return fail_key(r, keys_of[i]);
        }
    struct template *template;
    if (template_parse(job->prompts.template_text, &template, r->e) != 0) {
        err_prefix(r->e, "prompts.template");
        return fail_key(r, "prompts.template");
    }
    template_free(template);
    return 0;
}

static int read_all(struct reader *r, struct job *job, const char *const *overrides, size_t n)
{
    char found[96];
    int status = r->text ? document_read_text(&r->file, r->path, r->text, strlen(r->text), r->e)
                         : document_read_file(&r->file, r->path, r->e);
    if (status != 0)
        return -1;
    if (document_is_null(&r->file))
        return err_set(r->e, "%s: is empty; jobs/example.yaml names every key", r->path);
    if (r->file.kind != NODE_MAPPING)
        return err_set(r->e, "%s:%d:%d: a job file has lines like \"model: directory\", found %s",
                       r->path, r->file.line, r->file.column,
                       document_describe(&r->file, found, sizeof found));
    if (collect(r, &r->file, "") != 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (collect_override(r, overrides[i]) != 0)
            return -1;
    for (size_t i = 0; i < keys_count; i++)
        if (read_value(r, i, job) != 0)
            return -1;
    resolve(job);
    if (check_layout(r, job) != 0 || check_device(r, job) != 0 || check_sampling(r, job) != 0 ||
        ask_slurm(r, job) != 0 || read_trace_steps(r, job) != 0)
        return -1;
    return check_files(r, job);
}

int job_read_text(struct job *job, const char *name, const char *text, const char *const *overrides,
                  size_t n, struct err *e)
{
    struct reader r = {.path = name, .text = text, .e = e, .sets = mem_zeroed(n, sizeof *r.sets)};
    if (keys_count > KEYS_MAX)
        die("job: %zu keys, but room for %d", keys_count, KEYS_MAX);
    *job = (struct job){.path = mem_string(name)};
    int status = read_all(&r, job, overrides, n);
    document_free(&r.file);
    for (size_t i = 0; i < r.n_sets; i++)
        document_free(&r.sets[i]);
    free(r.sets);
    if (status != 0)
        job_free(job);
    return status == 0 ? 0 : err_clean(e);
}

int job_read(struct job *job, const char *path, const char *const *overrides, size_t n,
             struct err *e)
{
    return job_read_text(job, path, NULL, overrides, n, e);
}

void job_free(struct job *job)
{
    for (size_t i = 0; i < keys_count; i++)
        keys_free(&keys[i], job);
    free(job->path);
    job->path = NULL;
}

uint64_t job_decoded(const struct job *job)
{
    return (uint64_t)(job->sampling.best_of ? job->sampling.best_of : job->sampling.samples);
}

int job_rows(const struct job *job, uint64_t rows, uint64_t *first, uint64_t *n, struct err *e)
{
    bool cut = job->prompts.parts > 0; /* a job that was not read from a file has no parts */
    uint64_t part = cut ? (uint64_t)job->prompts.part : 1,
             parts = cut ? (uint64_t)job->prompts.parts : 1;
    if (job->prompts.first > rows)
        return err_set(e, "%s: prompts.first is %llu, but %s has %llu rows", job->path,
                       (unsigned long long)job->prompts.first, job->prompts.file,
                       (unsigned long long)rows);
    *n = rows - job->prompts.first;
    if (job->prompts.count >= 0 && (uint64_t)job->prompts.count < *n)
        *n = (uint64_t)job->prompts.count;
    /* Rows [n (part - 1) / parts, n part / parts), written so that nothing overflows. */
    uint64_t whole = *n / parts, rest = *n % parts;
    uint64_t from = whole * (part - 1) + rest * (part - 1) / parts,
             to = whole * part + rest * part / parts;
    *first = job->prompts.first + from;
    *n = to - from;
    return 0;
}
