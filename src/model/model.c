#include "model/model.h"

#include "data/checkpoint.h"
#include "data/gguf_view.h"
#include "kernels/weights/codec.h"
#include "model/config.h"
#include "model/family.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_MAX_BYTES 4096
#define PROBLEMS_SHOWN 5
#define SHAPE_TEXT     128

/* ---- config.json ---------------------------------------------------------------------------- */

static const struct family *family_for(const json_t *root, const char *file, struct err *e)
{
    const char *type = json_string_value(json_object_get(root, "model_type"));
    char known[256] = "";
    for (size_t i = 0; family_all()[i]; i++) {
        const char *const *t = family_all()[i]->model_types;
        for (; *t; t++) {
            if (type && strcmp(*t, type) == 0)
                return family_all()[i];
            size_t used = strlen(known);
            snprintf(known + used, sizeof known - used, "%s\"%s\"", used ? ", " : "", *t);
        }
    }
    if (type)
        err_set(e, "%s: model_type is \"%.80s\", which is not supported: only %s", file, type,
                known);
    else
        err_set(e, "%s: model_type is missing: one of %s", file, known);
    return NULL;
}

static int read_root(struct model *m, const json_t *root, const char *file, struct err *e)
{
    if (!json_is_object(root))
        return err_set(e, "%s: must be a JSON object", file);
    const struct family *f = family_for(root, file, e);
    if (!f)
        return -1;
    memset(m, 0, sizeof *m);
    snprintf(m->family, sizeof m->family, "%s", f->name);

    struct config c;
    e->text[0] = '\0';
    config_open(&c, file, "", root, e);
    f->read(m, &c);
    bool failed = config_failed(&c);
    config_close(&c);
    return failed ? -1 : 0;
}

static int read_gguf(struct model *m, const char *path, struct err *e)
{
    struct gguf_view *v;
    if (gguf_view_open(&v, path, e) != 0)
        return -1;
    int status = read_root(m, v->config, path, e);
    gguf_view_close(v);
    return status;
}

int model_read(struct model *m, const char *directory, struct err *e)
{
    if (gguf_is_path(directory))
        return read_gguf(m, directory, e);
    char file[PATH_MAX_BYTES];
    int n = snprintf(file, sizeof file, "%s/config.json", directory);
    if (n < 0 || n >= (int)sizeof file)
        return err_set(e, "the path of the model is longer than %d bytes", PATH_MAX_BYTES - 16);

    FILE *stream = fopen(file, "rb");
    if (!stream)
        return err_set(e,
                       "%s: cannot be read (%m); a model is a directory with config.json and "
                       "safetensors files",
                       file);
    json_error_t where;
    json_t *root = json_loadf(stream, JSON_REJECT_DUPLICATES, &where);
    fclose(stream);
    if (!root)
        return err_set(e, "%s:%d:%d: not valid JSON: %s", file, where.line, where.column,
                       where.text);
    int status = read_root(m, root, file, e);
    json_decref(root);
    return status;
}

/* ---- the checkpoint against it -------------------------------------------------------------- */

/* What is wrong, one line each; only the first few are kept. */
struct problems {
    size_t count;
    struct err lines;
};

static void problem(struct problems *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void problem(struct problems *p, const char *format, ...)
{
    if (p->count++ >= PROBLEMS_SHOWN)
        return;
    size_t used = strlen(p->lines.text);
    used += (size_t)snprintf(p->lines.text + used, sizeof p->lines.text - used, "\n  ");
    va_list args;
    va_start(args, format);
    vsnprintf(p->lines.text + used, sizeof p->lines.text - used, format, args);
    va_end(args);
}

static const char *shape_text(char text[SHAPE_TEXT], int dims, const size_t *shape)
{
    size_t used = (size_t)snprintf(text, SHAPE_TEXT, "[");
    for (int i = 0; i < dims && used < SHAPE_TEXT; i++)
        used += (size_t)snprintf(text + used, SHAPE_TEXT - used, i ? ",%zu" : "%zu", shape[i]);
    if (used < SHAPE_TEXT)
        snprintf(text + used, SHAPE_TEXT - used, "]");
    return text;
}

static void check_shape(struct problems *p, const struct tensor *t, int dims, const size_t *shape)
{
    bool same = t->dims == dims;
    for (int i = 0; same && i < dims; i++)
        same = t->shape[i] == shape[i];
    char found[SHAPE_TEXT], wanted[SHAPE_TEXT];
    if (!same)
        problem(p, "%s (%s) has shape %s; config.json makes it %s", t->name, t->file,
                shape_text(found, t->dims, t->shape), shape_text(wanted, dims, shape));
}

/* Blocks are counted in the last two dimensions. */
static void scale_shape(int dims, const size_t *shape, size_t *blocks)
{
    for (int i = 0; i < dims; i++)
        blocks[i] = i < dims - 2 ? shape[i] : (shape[i] + FAMILY_BLOCK - 1) / FAMILY_BLOCK;
}

static void check_scale(struct problems *p, const struct model *m, const struct checkpoint *c,
                        const struct tensor *t, int dims, const size_t *shape)
{
    char name[FAMILY_NAME_MAX + 32];
    size_t blocks[3];
    snprintf(name, sizeof name, "%s%s", t->name, family_of(m)->scale_suffix);
    const struct tensor *scale = checkpoint_find(c, name);
    bool fp8 = t->known && t->dtype == DTYPE_F8E4M3;
    if (!fp8) {
        if (scale)
            problem(p, "%s (%s) is there, but %s is %s and has no block scales", name, scale->file,
                    t->name, t->dtype_text);
        return;
    }
    if (!scale) {
        problem(p, "%s is missing: the block scales of %s (%s)", name, t->name, t->file);
        return;
    }
    if (!scale->known || scale->dtype != DTYPE_F32)
        problem(p, "%s (%s) is %s; block scales must be F32", name, scale->file, scale->dtype_text);
    scale_shape(dims, shape, blocks);
    check_shape(p, scale, dims, blocks);
}

static void check_dtype(struct problems *p, const struct model *m, enum tensor_use use,
                        const struct tensor *t)
{
    /* Gains and routers become f32 at load: dense formats only. */
    bool matrix = use == USE_LINEAR || use == USE_TABLE || use == USE_HEAD;
    bool beside = t->dtype == DTYPE_F8E4M3 || t->dtype == DTYPE_I8; /* has scales beside it */
    if (t->codec && !beside && (matrix || t->codec->numbers))
        return;
    if (t->dtype != DTYPE_F8E4M3)
        problem(p,
                "%s (%s) is %s; supported: F32, BF16, F16, for matrices the formats of GGUF and, "
                "for projections, F8_E4M3",
                t->name, t->file, t->dtype_text);
    else if (use != USE_LINEAR)
        problem(p, "%s (%s) is F8_E4M3; it must be F32 or BF16", t->name, t->file);
    else if (!m->fp8_blocks)
        problem(p, "%s (%s) is F8_E4M3, but config.json has no quantization_config", t->name,
                t->file);
}

static void check_wanted(struct problems *p, const struct model *m, const struct checkpoint *c,
                         enum model_tensor kind, size_t layer)
{
    char name[FAMILY_NAME_MAX], text[SHAPE_TEXT];
    size_t shape[3];
    family_name(m, kind, layer, name);
    int dims = family_shape(m, kind, shape);
    const struct tensor *t = checkpoint_find(c, name);
    if (!t) {
        problem(p, "%s %s is missing", name, shape_text(text, dims, shape));
        return;
    }
    check_shape(p, t, dims, shape);
    check_dtype(p, m, family_of(m)->tensors[kind].use, t);
    check_scale(p, m, c, t, dims, shape);
}

static bool begins(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* A tensor of the file must be one this model has, the scales of one, or not the decoder's. */
static void check_found(struct problems *p, const struct model *m, const struct tensor *t)
{
    const struct family *f = family_of(m);
    for (const char *const *s = f->skipped; *s; s++)
        if (begins(t->name, *s))
            return;

    char base[FAMILY_NAME_MAX];
    enum model_tensor kind;
    size_t layer, length = strlen(t->name), suffix = strlen(f->scale_suffix);
    snprintf(base, sizeof base, "%s", t->name);
    bool scale = length < sizeof base && length > suffix &&
                 strcmp(t->name + length - suffix, f->scale_suffix) == 0;
    if (scale)
        base[length - suffix] = '\0';
    if (length >= sizeof base || family_match(m, base, &kind, &layer) != 0)
        problem(p, "%s (%s) is not a tensor of this model: config.json has no place for it",
                t->name, t->file);
    /* scales of a tensor that has none are reported with the tensor, by check_scale() */
}

int model_check(const struct model *m, const struct checkpoint *c, struct err *e)
{
    struct problems p = {0};
    const struct family *f = family_of(m);
    for (int k = 0; k < TENSOR_KINDS; k++) {
        size_t layers = f->tensors[k].where == WHERE_MODEL ? 1 : m->layers;
        for (size_t l = 0; l < layers; l++)
            if (family_has(m, (enum model_tensor)k, l))
                check_wanted(&p, m, c, (enum model_tensor)k, l);
    }
    for (size_t i = 0; i < checkpoint_count(c); i++)
        check_found(&p, m, checkpoint_at(c, i));
    if (p.count == 0)
        return 0;

    char more[64] = "";
    if (p.count > PROBLEMS_SHOWN)
        snprintf(more, sizeof more, "\n  and %zu more", p.count - PROBLEMS_SHOWN);
    return err_set(e, "%s: the tensors do not fit config.json (family %s):%.*s%s",
                   checkpoint_directory(c), f->name, ERR_TEXT_MAX - 256, p.lines.text, more);
}

const struct tensor *model_tensor(const struct model *m, const struct checkpoint *c,
                                  enum model_tensor kind, size_t layer, const struct tensor **scale)
{
    char name[FAMILY_NAME_MAX + 32];
    if (kind == TENSOR_LM_HEAD && m->tied)
        kind = TENSOR_EMBED;
    family_name(m, kind, layer, name);
    const struct tensor *t = checkpoint_find(c, name);
    if (!t)
        die("%s: tensor %s is gone; it was there when the checkpoint was checked",
            checkpoint_directory(c), name);
    if (scale) {
        size_t used = strlen(name);
        snprintf(name + used, sizeof name - used, "%s", family_of(m)->scale_suffix);
        *scale = t->dtype == DTYPE_F8E4M3 ? checkpoint_find(c, name) : NULL;
    }
    return t;
}
