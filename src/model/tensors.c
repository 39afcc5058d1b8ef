#include "model/tensors.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBLEMS_SHOWN 5
#define SHAPE_TEXT     128
#define SCALE_SUFFIX   "_scale_inv" /* behind the name of an FP8 tensor: that of its block scales */

/* ---- finding -------------------------------------------------------------------------------- */

static const struct tensor *scale_of(const struct checkpoint *c, const struct tensor *t,
                                     char name[FAMILY_NAME_MAX + 32])
{
    snprintf(name, FAMILY_NAME_MAX + 32, "%s" SCALE_SUFFIX, t->name);
    return checkpoint_find(c, name);
}

int tensors_find(const struct model *m, const struct checkpoint *c, enum model_tensor kind,
                 size_t layer, size_t expert, struct found *f, char name[FAMILY_NAME_MAX])
{
    char scale[FAMILY_NAME_MAX + 32];
    if (kind == TENSOR_LM_HEAD && m->tied)
        kind = TENSOR_EMBED;
    for (int way = 0; family_name(m, kind, layer, expert, way, name, &f->place) == 0; way++) {
        f->tensor = packed_find(c, name, &f->packed) ? f->packed.data : checkpoint_find(c, name);
        if (!f->tensor)
            continue;
        f->scale = f->packed.kind ? NULL : scale_of(c, f->tensor, scale);
        return 0;
    }
    if (family_name(m, kind, layer, expert, 0, name, &f->place) != 0)
        die("family %s has no name for tensor %d", m->family, (int)kind);
    return -1;
}

/* The rows that are meant. */
static struct weight_part rows_of(struct weight_part p, enum family_rows rows)
{
    if (rows == ROWS_ALL)
        return p;
    p.n /= 2;
    if (rows == ROWS_SECOND_HALF)
        p.row0 = p.n;
    if (rows == ROWS_EVEN || rows == ROWS_ODD) {
        p.step = 2;
        p.phase = rows == ROWS_ODD;
    }
    return p;
}

/* Rows are columns. */
static struct weight_part turned(struct weight_part p, enum dtype t)
{
    size_t inputs = p.n;
    p.codec = codec_turned(t);
    p.n = p.k;
    p.k = p.inputs = inputs;
    return p;
}

static bool is_expert_bias(enum model_tensor kind)
{
    return kind == TENSOR_EXPERT_GATE_BIAS || kind == TENSOR_EXPERT_UP_BIAS ||
           kind == TENSOR_EXPERT_DOWN_BIAS;
}

/* One expert's of [experts][..], as a matrix of one column. */
static struct weight_part bias_part(const struct tensor *t, enum family_rows rows, size_t expert)
{
    size_t each = t->shape[1];
    struct weight_part p = {.codec = t->codec, .data = t->data, .k = 1, .stride = 1};
    p.n = t->shape[0] * each;
    p = rows_of(p, rows);
    each = rows == ROWS_ALL ? each : each / 2;
    p.row0 = expert * each;
    p.n = each;
    return p;
}

/* What experts read, the only matrices that may stand in one tensor: packed integers do not say it. */
static size_t inputs_of(const struct model *m, enum model_tensor kind, size_t layer)
{
    return kind == TENSOR_EXPERT_DOWN ? m->layer[layer].ffn.inter : m->hidden;
}

struct weight_part tensors_part(const struct model *m, const struct checkpoint *c,
                                enum model_tensor kind, size_t layer, size_t expert)
{
    char name[FAMILY_NAME_MAX];
    struct found f;
    if (tensors_find(m, c, kind, layer, expert, &f, name) != 0)
        die("%s: tensor %s is gone; it was there when the checkpoint was checked",
            checkpoint_directory(c), name);
    const struct tensor *t = f.tensor;
    size_t matrix = t->dims > 2 ? expert : 0;
    if (f.packed.kind)
        return rows_of(packed_part(&f.packed, inputs_of(m, kind, layer), matrix), f.place.rows);
    if (is_expert_bias(kind))
        return bias_part(t, f.place.rows, expert);
    struct weight_part p = {.codec = t->codec, .k = t->shape[t->dims - 1]};
    p.n = t->dims > 1 ? t->shape[t->dims - 2] : 1;
    p.stride = p.k;
    p.data = (const char *)t->data + mem_mul(matrix, weight_data_bytes(&p, p.n));
    if (t->dtype == DTYPE_F8E4M3 && f.scale) {
        p.scale_dtype = f.scale->dtype;
        p.scale_rows = p.scale_columns = FAMILY_BLOCK;
        p.scale_stride = f.scale->shape[f.scale->dims - 1];
        size_t blocks = mem_mul(f.scale->shape[f.scale->dims - 2], p.scale_stride);
        p.scale = (const char *)f.scale->data + mem_mul(matrix, blocks * dtype_size(p.scale_dtype));
    }
    return rows_of(f.place.turned ? turned(p, t->dtype) : p, f.place.rows);
}

static size_t common_multiple(size_t a, size_t b)
{
    size_t x = a, y = b;
    while (y) {
        size_t rest = x % y;
        x = y;
        y = rest;
    }
    return mem_mul(a / x, b);
}

/* What tensors_forms() passes on. */
struct survey {
    const struct model *m;
    const struct checkpoint *c;
    enum weight_keep keep;
    struct tensors_forms found;
};

static void look(void *context, const struct member *member, size_t layer)
{
    struct survey *s = context;
    enum model_tensor kind = member->tensor;
    bool down =
        kind == TENSOR_DENSE_DOWN || kind == TENSOR_EXPERT_DOWN || kind == TENSOR_SHARED_DOWN;
    bool head = member->use == USE_HEAD || (kind == TENSOR_EMBED && s->m->tied);
    if ((member->use != USE_LINEAR && !head) || member->as == AS_HEADS)
        return; /* not rows times a matrix */
    struct weight_part p = tensors_part(s->m, s->c, kind, layer, 0);
    struct weight_form f = weight_form(&p, s->keep);
    s->found.integers = s->found.integers || form_is_grouped(f.kind);
    if (down && s->keep == WEIGHT_KEEP && p.codec->codes) /* FP8 may be cut anywhere */
        s->found.granule = common_multiple(s->found.granule, weight_granule(&p));
}

struct tensors_forms tensors_forms(const struct model *m, const struct checkpoint *c,
                                   enum weight_keep keep, size_t least)
{
    struct survey s = {m, c, keep, {common_multiple(keep == WEIGHT_INT4 ? 32 : 1, least), false}};
    members_visit(m, look, &s);
    if (m->drafts > 0)
        members_visit_mtp(m, look, &s);
    return s.found;
}

/* ---- checking ------------------------------------------------------------------------------- */

/* What is wrong, one line each; only the first few are kept. And the tensors that have a place. */
struct check {
    const struct model *m;
    const struct checkpoint *c;
    size_t problems;
    struct err lines;
    const struct tensor **used;
    size_t n_used, room;
};

static void problem(struct check *k, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void problem(struct check *k, const char *format, ...)
{
    if (k->problems++ >= PROBLEMS_SHOWN)
        return;
    size_t used = strlen(k->lines.text);
    used += (size_t)snprintf(k->lines.text + used, sizeof k->lines.text - used, "\n  ");
    va_list args;
    va_start(args, format);
    vsnprintf(k->lines.text + used, sizeof k->lines.text - used, format, args);
    va_end(args);
}

static void use(struct check *k, const struct tensor *t)
{
    if (k->n_used == k->room) {
        k->room = 2 * k->room + 64;
        k->used = mem_resize(k->used, k->room, sizeof *k->used);
    }
    k->used[k->n_used++] = t;
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

static bool check_shape(struct check *k, const struct tensor *t, int dims, const size_t *shape)
{
    bool same = t->dims == dims;
    for (int i = 0; same && i < dims; i++)
        same = t->shape[i] == shape[i];
    char found[SHAPE_TEXT], wanted[SHAPE_TEXT];
    if (!same)
        problem(k, "%s (%s) has shape %s; config.json makes it %s", t->name, t->file,
                shape_text(found, t->dims, t->shape), shape_text(wanted, dims, shape));
    return same;
}

static void check_scale(struct check *k, const struct found *f, int dims, const size_t *shape)
{
    const struct tensor *t = f->tensor, *scale = f->scale;
    size_t blocks[3];
    char name[FAMILY_NAME_MAX + 32];
    if (scale)
        use(k, scale);
    if (t->dtype != DTYPE_F8E4M3) {
        if (scale)
            problem(k, "%s (%s) is there, but %s is %s and has no block scales", scale->name,
                    scale->file, t->name, t->dtype_text);
        return;
    }
    if (!scale) {
        scale_of(k->c, t, name);
        problem(k, "%s is missing: the block scales of %s (%s)", name, t->name, t->file);
        return;
    }
    if (!scale->known || (scale->dtype != DTYPE_F32 && scale->dtype != DTYPE_BF16))
        problem(k, "%s (%s) is %s; block scales must be F32 or BF16", scale->name, scale->file,
                scale->dtype_text);
    for (int i = 0; i < dims; i++) /* blocks are counted in the last two dimensions */
        blocks[i] = i < dims - 2 ? shape[i] : (shape[i] + FAMILY_BLOCK - 1) / FAMILY_BLOCK;
    check_shape(k, scale, dims, blocks);
}

static void check_format(struct check *k, enum tensor_use purpose, const struct tensor *t)
{
    /* Gains, biases and routers become f32 at load: dense formats only. */
    bool matrix = purpose == USE_LINEAR || purpose == USE_TABLE || purpose == USE_HEAD;
    bool beside = t->dtype == DTYPE_F8E4M3 || t->dtype == DTYPE_I8; /* has scales beside it */
    if (t->codec && !beside && (matrix || t->codec->numbers))
        return;
    if (t->dtype != DTYPE_F8E4M3)
        problem(k,
                "%s (%s) is %s; supported: F32, BF16, F16, for matrices the formats of GGUF and, "
                "for projections, F8_E4M3",
                t->name, t->file, t->dtype_text);
    else if (purpose != USE_LINEAR)
        problem(k, "%s (%s) is F8_E4M3; it must be F32, BF16 or F16", t->name, t->file);
    else if (!k->m->fp8_blocks)
        problem(k, "%s (%s) is F8_E4M3, but config.json has no quantization_config", t->name,
                t->file);
}

/* Rows and columns are the last two of the shape wanted. */
static void check_packed(struct check *k, enum tensor_use purpose, const struct packed *p,
                         enum family_rows rows, int dims, const size_t *wanted)
{
    const struct tensor *parts[] = {p->data, p->scale, p->zero, p->shape};
    struct err e = {""};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i])
            use(k, parts[i]);
    if (purpose != USE_LINEAR && purpose != USE_HEAD)
        problem(k, "%s (%s) is packed; only projections can be", p->data->name, p->data->file);
    else if (packed_check(p, dims == 3 ? wanted[0] : 0, wanted[dims - 2], wanted[dims - 1], &e) !=
             0)
        problem(k, "%.400s", e.text);
    else if (rows != ROWS_ALL && !packed_halves(p))
        problem(k, "%s (%s): a block of scales covers rows of both its halves", p->data->name,
                p->data->file);
}

/* Matrices of all experts with inputs as rows. */
static void check_turned(struct check *k, const struct tensor *t, const size_t wanted[3])
{
    const size_t shape[3] = {wanted[0], wanted[2], wanted[1]};
    if (!t->known || !codec_turned(t->dtype))
        problem(
            k,
            "%s (%s) is %s; experts whose inputs are rows are read as F32, BF16 and F16, and as "
            "MXFP4 (%s_blocks, %s_scales)",
            t->name, t->file, t->dtype_text, t->name, t->name);
    check_shape(k, t, 3, shape);
}

static void check_tensor(struct check *k, const struct member *member, size_t layer, size_t expert,
                         bool *single)
{
    char name[FAMILY_NAME_MAX], text[SHAPE_TEXT];
    size_t shape[3], *wanted = shape;
    struct found f;
    int dims = member_shape(k->m, member, layer, shape);
    int status = tensors_find(k->m, k->c, member->tensor, layer, expert, &f, name);
    *single = f.place.single;
    if (f.place.single && dims == 3) {
        wanted++;
        dims--;
    }
    if (f.place.rows != ROWS_ALL)
        wanted[dims - (member->use == USE_BIAS ? 1 : 2)] *= 2;
    if (status != 0) {
        problem(k, "%s %s is missing", name, shape_text(text, dims, wanted));
        return;
    }
    if (f.packed.kind) {
        check_packed(k, member->use, &f.packed, f.place.rows, dims, wanted);
        return;
    }
    use(k, f.tensor);
    if (f.place.turned) {
        check_turned(k, f.tensor, wanted);
        return;
    }
    if (check_shape(k, f.tensor, dims, wanted) && f.place.rows != ROWS_ALL &&
        f.tensor->dtype == DTYPE_F8E4M3 && wanted[dims - 2] / 2 % FAMILY_BLOCK)
        problem(k, "%s (%s): a block of scales covers rows of both its halves", name,
                f.tensor->file);
    check_format(k, member->use, f.tensor);
    check_scale(k, &f, dims, wanted);
}

static void check_member(void *context, const struct member *member, size_t layer)
{
    struct check *k = context;
    size_t experts = (size_t)k->m->layer[layer].ffn.router.experts;
    bool single = true;
    for (size_t e = 0; e == 0 || (single && e < experts && member->dims == 3); e++)
        check_tensor(k, member, layer, e, &single);
}

static int by_address(const void *left, const void *right)
{
    const struct tensor *a = *(const struct tensor *const *)left;
    const struct tensor *b = *(const struct tensor *const *)right;
    return (a > b) - (a < b);
}

/* What follows "<layer_prefix>N." of an MTP layer; NULL: the tensor is another layer's. */
static const char *in_mtp_layer(const struct model *m, const char *name)
{
    const char *prefix = family_of(m)->layer_prefix;
    char *end;
    if (strncmp(name, prefix, strlen(prefix)) != 0)
        return NULL;
    size_t layer = strtoul(name + strlen(prefix), &end, 10);
    bool mtp = layer >= m->layers && layer < m->layers + m->mtp_layers;
    return *end == '.' && mtp ? end + 1 : NULL;
}

bool model_has_mtp(const struct model *m, const struct checkpoint *c)
{
    for (size_t i = 0; m->mtp.layers > 0 && i < checkpoint_count(c); i++)
        if (in_mtp_layer(m, checkpoint_at(c, i)->name))
            return true;
    return false;
}

/* A tensor that is not the decoder's, or an MTP layer's that has no use. */
static bool is_skipped(const struct model *m, const char *name)
{
    const struct family *f = family_of(m);
    for (const char *const *s = f->skipped; *s; s++)
        if (strncmp(name, *s, strlen(*s)) == 0)
            return true;
    const char *inner = in_mtp_layer(m, name);
    bool skipped = inner && m->mtp.layers == 0;
    for (const char *const *s = f->mtp_copies; inner && s && *s; s++)
        skipped = skipped || strcmp(inner, *s) == 0;
    return skipped;
}

/* A tensor of the file must be one this model has, the scales of one, or skipped. */
static void check_rest(struct check *k)
{
    qsort(k->used, k->n_used, sizeof *k->used, by_address);
    for (size_t i = 0; i < checkpoint_count(k->c); i++) {
        const struct tensor *t = checkpoint_at(k->c, i);
        if (!bsearch(&t, k->used, k->n_used, sizeof *k->used, by_address) &&
            !is_skipped(k->m, t->name))
            problem(k, "%s (%s) is not a tensor of this model: config.json has no place for it",
                    t->name, t->file);
    }
}

static int by_data(const void *left, const void *right)
{
    const struct tensor *a = *(const struct tensor *const *)left;
    const struct tensor *b = *(const struct tensor *const *)right;
    return (a->data > b->data) - (a->data < b->data);
}

const struct tensor **tensors_used(const struct model *m, const struct checkpoint *c, size_t *n)
{
    struct check k = {.m = m, .c = c};
    members_visit(m, check_member, &k);
    qsort(k.used, k.n_used, sizeof *k.used, by_data);
    *n = 0;
    for (size_t i = 0; i < k.n_used; i++)
        if (i == 0 || k.used[i] != k.used[*n - 1])
            k.used[(*n)++] = k.used[i];
    return k.used;
}

int model_check(const struct model *m, const struct checkpoint *c, struct err *e)
{
    struct check k = {.m = m, .c = c};
    members_visit(m, check_member, &k);
    if (model_has_mtp(m, c))
        members_visit_mtp(m, check_member, &k);
    check_rest(&k);
    free(k.used);
    if (k.problems == 0)
        return 0;

    char more[64] = "";
    if (k.problems > PROBLEMS_SHOWN)
        snprintf(more, sizeof more, "\n  and %zu more", k.problems - PROBLEMS_SHOWN);
    return err_set(e, "%s: the tensors do not fit config.json (family %s):%.*s%s",
                   checkpoint_directory(c), family_of(m)->name, ERR_TEXT_MAX - 256, k.lines.text,
                   more);
}
