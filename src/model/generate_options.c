/* generate_options.c - the settings of generate.h: defaults, and one by name. */
#include "model/generate.h"

#include "data/gguf.h"
#include "job/suggest.h"
#include "model/family.h"
#include "model/generate_blocks.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Its place in the lists below. */
#define SETTING_MOE_LAYERS 22

static void default_moe(struct generate_options *o)
{
    struct family_sizes *s = &o->model;
    if (o->chosen[SETTING_MOE_LAYERS])
        return;
    for (size_t l = 0; l < MODEL_MAX_LAYERS; l++)
        s->moe[l] = l < s->layers && family_find(s->family)->moe(s, l);
}

void generate_defaults(struct generate_options *o)
{
    *o = (struct generate_options){
        .model = {.family = "step3",
                  .hidden = 2048,
                  .layers = 6,
                  .vocab = 4096,
                  .context = 4096,
                  .heads = 64,
                  .kv_heads = 1,
                  .head_dim = 256,
                  .q_rank = 512,
                  .dense_inter = 4096,
                  .expert_inter = 1024,
                  .shared_inter = 1024,
                  .router = {.experts = 48, .topk = 3, .factor = 1, .groups = 1, .topk_groups = 1},
                  .norm_eps = 1e-5f,
                  .rope_theta = 500000,
                  .rope_factor = 1,
                  .bos = 0,
                  .eos = {1},
                  .n_eos = 1},
        .dtype = DTYPE_BF16,
        .seed = 1,
        .file_bytes = (size_t)1 << 30,
    };
    default_moe(o);
}

enum value {
    V_FAMILY,
    V_SIZE,
    V_INT,
    V_BOOL,
    V_NUMBER,
    V_DTYPE,
    V_LAYERS,
    V_EOS,
    V_SEED,
    V_MEGABYTES,
    V_THREADS,
    V_UNUSED
};

/* In the order of generate_names(). */
static const struct {
    enum value is;
    size_t offset; /* into struct generate_options */
} settings[] = {
#define IN_MODEL(field) offsetof(struct generate_options, model.field)
    {V_FAMILY, IN_MODEL(family)},
    {V_SIZE, IN_MODEL(hidden)},
    {V_SIZE, IN_MODEL(layers)},
    {V_SIZE, IN_MODEL(vocab)},
    {V_SIZE, IN_MODEL(context)},
    {V_SIZE, IN_MODEL(heads)},
    {V_SIZE, IN_MODEL(kv_heads)},
    {V_SIZE, IN_MODEL(head_dim)},
    {V_SIZE, IN_MODEL(q_rank)},
    {V_SIZE, IN_MODEL(kv_rank)},
    {V_SIZE, IN_MODEL(nope_dim)},
    {V_SIZE, IN_MODEL(rope_dim)},
    {V_SIZE, IN_MODEL(value_dim)},
    {V_SIZE, IN_MODEL(window)},
    {V_SIZE, IN_MODEL(mtp)},
    {V_SIZE, IN_MODEL(dense_inter)},
    {V_INT, IN_MODEL(router.experts)},
    {V_INT, IN_MODEL(router.topk)},
    {V_SIZE, IN_MODEL(expert_inter)},
    {V_SIZE, IN_MODEL(shared_inter)},
    {V_INT, IN_MODEL(router.groups)},
    {V_INT, IN_MODEL(router.topk_groups)},
    [SETTING_MOE_LAYERS] = {V_LAYERS, IN_MODEL(moe)},
    {V_BOOL, IN_MODEL(router.renormalize)},
    {V_BOOL, IN_MODEL(tied)},
    {V_NUMBER, IN_MODEL(limit)},
    {V_NUMBER, IN_MODEL(rope_theta)},
    {V_NUMBER, IN_MODEL(rope_factor)},
    {V_EOS, IN_MODEL(eos)},
    {V_DTYPE, offsetof(struct generate_options, dtype)},
    {V_SEED, offsetof(struct generate_options, seed)},
    {V_MEGABYTES, offsetof(struct generate_options, file_bytes)},
    {V_THREADS, offsetof(struct generate_options, threads)},
    {V_UNUSED, offsetof(struct generate_options, ignore_unused)},
};

static const char *const names[] = {
    "family",
    "hidden",
    "layers",
    "vocab",
    "context",
    "heads",
    "kv_heads",
    "head_dim",
    "q_rank",
    "kv_rank",
    "nope_dim",
    "rope_dim",
    "value_dim",
    "window",
    "mtp",
    "dense",
    "experts",
    "topk",
    "expert",
    "shared",
    "groups",
    "topk_groups",
    [SETTING_MOE_LAYERS] = "moe_layers",
    "renormalize",
    "tied",
    "limit",
    "rope_theta",
    "rope_factor",
    "eos",
    "dtype",
    "seed",
    "file_mb",
    "threads",
    "unused",
    NULL,
};

#define N_SETTINGS (sizeof settings / sizeof *settings)
_Static_assert(sizeof names / sizeof *names == N_SETTINGS + 1, "every setting has a name");
_Static_assert(N_SETTINGS <= GENERATE_SETTINGS, "all of them can be chosen");

const char *const *generate_names(void)
{
    return names;
}

/* A whole decimal number of at most `most`; the rest of the text must be `end`. */
static int parse_number(const char **text, unsigned long long most, unsigned long long *number)
{
    char *rest;
    if (**text < '0' || **text > '9')
        return -1;
    errno = 0;
    *number = strtoull(*text, &rest, 10);
    *text = rest;
    return errno || *number > most ? -1 : 0;
}

/* "1-4,7", or "none". */
static int parse_layers(struct generate_options *o, const char *text)
{
    bool moe[MODEL_MAX_LAYERS] = {false};
    bool none = strcmp(text, "none") == 0;
    while (!none) {
        unsigned long long first, last;
        if (parse_number(&text, MODEL_MAX_LAYERS - 1, &first) != 0)
            return -1;
        last = first;
        if (*text == '-') {
            text++;
            if (parse_number(&text, MODEL_MAX_LAYERS - 1, &last) != 0)
                return -1;
        }
        for (; first <= last; first++)
            moe[first] = true;
        if (*text == '\0')
            break;
        if (*text++ != ',')
            return -1;
    }
    memcpy(o->model.moe, moe, sizeof moe);
    return 0;
}

static int parse_word(const char *value, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(value, words[i]) == 0)
            return i;
    return -1;
}

static int set_number(struct generate_options *o, enum value is, void *field, const char *value)
{
    unsigned long long n, most = is == V_SEED        ? UINT64_MAX
                                 : is == V_MEGABYTES ? 1 << 30
                                                     : INT32_MAX;
    if (parse_number(&value, most, &n) != 0 || *value)
        return -1;
    if (is == V_THREADS && n > 1024)
        return -1;
    if (is == V_INT || is == V_EOS || is == V_THREADS)
        *(int *)field = (int)n;
    else if (is == V_SEED)
        *(uint64_t *)field = n;
    else
        *(size_t *)field = is == V_MEGABYTES ? (size_t)n << 20 : (size_t)n;
    if (is == V_EOS)
        o->model.n_eos = 1;
    return 0;
}

/* Bytes of a setting that families have defaults for; 0: they have none. */
static size_t width_of(enum value is)
{
    return is == V_SIZE     ? sizeof(size_t)
           : is == V_INT    ? sizeof(int)
           : is == V_BOOL   ? sizeof(bool)
           : is == V_NUMBER ? sizeof(double)
                            : 0;
}

static int set_family(struct generate_options *o, const char *name)
{
    const struct family *f = family_find(name);
    if (!f)
        return -1;
    const struct generate_options before = *o;
    bool dtype_chosen = false;
    snprintf(o->model.family, sizeof o->model.family, "%s", name);
    f->defaults(&o->model);
    for (size_t i = 0; i < N_SETTINGS; i++) {
        if (o->chosen[i])
            memcpy((char *)o + settings[i].offset, (const char *)&before + settings[i].offset,
                   width_of(settings[i].is));
        dtype_chosen |= o->chosen[i] && settings[i].is == V_DTYPE;
    }
    if (!dtype_chosen && (f->mxfp4 || o->packing == PACKING_MXFP4))
        o->packing = f->mxfp4 ? PACKING_MXFP4 : PACKING_NONE;
    return 0;
}

/* A word of safetensors, or a format of GGUF; MXFP4 is both. */
static int set_dtype(struct generate_options *o, const char *name)
{
    static const struct {
        const char *name;
        enum dtype dtype;
        enum packing packing;
    } known[] = {{"f32", DTYPE_F32, PACKING_NONE},    {"bf16", DTYPE_BF16, PACKING_NONE},
                 {"fp8", DTYPE_F8E4M3, PACKING_NONE}, {"awq", DTYPE_BF16, PACKING_AWQ},
                 {"int4", DTYPE_BF16, PACKING_INT4},  {"int8", DTYPE_BF16, PACKING_INT8},
                 {"mxfp4", DTYPE_BF16, PACKING_MXFP4}};
    const size_t n = sizeof known / sizeof *known;
    size_t i = 0;
    while (i < n && strcmp(known[i].name, name) != 0)
        i++;
    const struct codec *blocks = generate_blocks_named(name);
    if (i == n && !blocks)
        return -1;
    o->blocks = blocks;
    o->dtype = i < n ? known[i].dtype : DTYPE_BF16;
    o->packing = i < n ? known[i].packing : PACKING_NONE;
    return 0;
}

static int set_value(struct generate_options *o, enum value is, void *field, const char *value)
{
    static const char *const truth[] = {"false", "true", NULL};
    static const char *const unused[] = {"error", "ignore", NULL};
    int word = parse_word(value, is == V_UNUSED ? unused : truth);
    char *end;
    double number;
    switch (is) {
    case V_FAMILY:
        return set_family(o, value);
    case V_BOOL:
    case V_UNUSED:
        *(bool *)field = word == 1;
        return word < 0 ? -1 : 0;
    case V_DTYPE:
        return set_dtype(o, value);
    case V_NUMBER:
        number = strtod(value, &end);
        *(double *)field = number;
        return *end || end == value || !isfinite(number) ? -1 : 0;
    case V_LAYERS:
        return parse_layers(o, value);
    default:
        return set_number(o, is, field, value);
    }
}

int generate_set(struct generate_options *o, const char *name, const char *value, struct err *e)
{
    static const char *const wanted[] = {[V_SIZE] = "a whole number",
                                         [V_INT] = "a whole number",
                                         [V_BOOL] = "true or false",
                                         [V_NUMBER] = "a number",
                                         [V_DTYPE] = "f32, bf16, fp8, awq, int4, int8 or mxfp4, or "
                                                     "for GGUF f16 or one like q4_0 or q6_k",
                                         [V_LAYERS] = "layers like 1-4,7, or none",
                                         [V_EOS] = "a token",
                                         [V_SEED] = "a whole number below 2^64",
                                         [V_MEGABYTES] = "whole MiB, 0 for a single file",
                                         [V_THREADS] = "0 to 1024",
                                         [V_UNUSED] = "error or ignore"};
    int i = parse_word(name, names);
    if (i < 0) {
        size_t known = sizeof names / sizeof *names;
        const char *near = suggest_nearest(name, names, known);
        if (near)
            return err_set(e, "there is no setting \"%.60s\"; did you mean %s?", name, near);
        err_set(e, "there is no setting \"%.60s\"; there are:", name);
        for (size_t j = 0; names[j]; j++) {
            size_t used = strlen(e->text);
            snprintf(e->text + used, sizeof e->text - used, j ? ", %s" : " %s", names[j]);
        }
        return -1;
    }
    if (set_value(o, settings[i].is, (char *)o + settings[i].offset, value) != 0) {
        char families[FAMILY_NAMES_TEXT];
        const char *is = wanted[settings[i].is];
        family_names(families);
        return err_set(e, "%s must be %s, not \"%.60s\"", name, is ? is : families, value);
    }
    o->chosen[i] = true;
    default_moe(o);
    return 0;
}

/* ---- are they used? ------------------------------------------------------------------------- */

static bool renormalizes(const struct model *m)
{
    size_t l = 0;
    while (l < m->layers && m->layer[l].ffn.router.experts == 0)
        l++;
    return l < m->layers && m->layer[l].ffn.router.renormalize;
}

/* Values that ask for nothing but what the family does anyway. */
static bool is_neutral(const struct generate_options *o, size_t setting, const struct model *m)
{
    const struct router_spec *router = &o->model.router;
    const void *field = (const char *)o + settings[setting].offset;
    bool may_be_one =
        field == &o->model.rope_factor || field == &router->groups || field == &router->topk_groups;
    switch (settings[setting].is) {
    case V_BOOL:
        return *(const bool *)field == (field == &router->renormalize && renormalizes(m));
    case V_INT:
        return *(const int *)field <= may_be_one;
    case V_SIZE:
        return *(const size_t *)field == 0;
    case V_NUMBER:
        return *(const double *)field == 0 || (may_be_one && *(const double *)field == 1);
    default:
        return true;
    }
}

static void change(enum value is, void *field)
{
    size_t *size = field;
    int *whole = field;
    if (is == V_BOOL)
        *(bool *)field = !*(bool *)field;
    else if (is == V_NUMBER)
        *(double *)field += 1;
    else if (is == V_INT)
        *whole = *whole > 1 ? *whole - 1 : 2;
    else
        *size = *size > 1 ? *size - 1 : 2;
}

/* A setting without which the family's config.json would be the same has no use. */
static bool is_used(const struct generate_options *o, size_t setting)
{
    const struct family *f = family_find(o->model.family);
    struct generate_options other = *o;
    change(settings[setting].is, (char *)&other + settings[setting].offset);
    json_t *as_is = f->write(&o->model, o->dtype), *changed = f->write(&other.model, o->dtype);
    bool used = !json_equal(as_is, changed);
    json_decref(as_is);
    json_decref(changed);
    return used;
}

int generate_used(const struct generate_options *o, const struct model *m, struct err *e)
{
    const char *family = o->model.family;
    if (o->ignore_unused)
        return 0;
    for (size_t l = 0; o->chosen[SETTING_MOE_LAYERS] && l < m->layers; l++)
        if ((m->layer[l].ffn.router.experts > 0) != o->model.moe[l])
            return err_set(
                e,
                "moe_layers: layer %zu is to have %s, which models of %s cannot say with the "
                "other layers as they are to be",
                l, o->model.moe[l] ? "experts" : "no experts", family);
    for (size_t i = 0; i < N_SETTINGS; i++) {
        if (o->chosen[i] && settings[i].is == V_MEGABYTES && o->file_bytes && o->directory &&
            gguf_is_path(o->directory))
            return err_set(e, "file_mb: %s is one file, a GGUF is not split here; leave it out",
                           o->directory);
        if (!o->chosen[i] || is_neutral(o, i, m) || is_used(o, i))
            continue;
        return err_set(e,
                       "%s: models of %s have no use for this value%s; leave it out, or say "
                       "unused=ignore where one list of settings serves several families",
                       names[i], family,
                       strcmp(names[i], "shared") == 0 ? " (some count in wholes of expert)" : "");
    }
    return 0;
}
