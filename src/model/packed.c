#include "model/packed.h"

#include <stdio.h>
#include <string.h>

#define NAME_ROOM  256
#define BLOCK      128 /* rows and columns of a block of FP8 */
#define GROUP_STEP 16 /* groups of the grouped forms are multiples of it (kernels/weights/form.h) */

static const struct tensor *find(const struct checkpoint *c, const char *base, const char *suffix)
{
    char name[NAME_ROOM];
    int n = snprintf(name, sizeof name, "%s%s", base, suffix);
    return n < (int)sizeof name ? checkpoint_find(c, name) : NULL;
}

/* Behind a module's name, and behind that of a tensor of all experts. */
static const char *const suffixes[] = {".weight_packed", ".weight_scale", ".weight_zero_point",
                                       ".weight_shape"};
static const char *const stacked_suffixes[] = {"_packed", "_scale", "_zero_point", "_shape"};

static bool find_mxfp4(const struct checkpoint *c, const char *base, struct packed *p)
{
    p->data = find(c, base, "_blocks");
    if (!p->data)
        return false;
    p->kind = PACKED_MXFP4;
    p->scale = find(c, base, "_scales");
    return true;
}

static bool find_integers(const struct checkpoint *c, const char *base, const char *const suffix[4],
                          struct packed *p)
{
    p->data = find(c, base, suffix[0]);
    if (!p->data)
        return false;
    p->kind = PACKED_INTEGERS;
    p->scale = find(c, base, suffix[1]);
    p->zero = find(c, base, suffix[2]);
    p->shape = find(c, base, suffix[3]);
    return true;
}

/* The last two sizes: a matrix's, of several as of one. */
static const size_t *sizes(const struct tensor *t)
{
    static const size_t none[2];
    return t->dims >= 2 ? &t->shape[t->dims - 2] : none;
}

bool packed_find(const struct checkpoint *c, const char *name, struct packed *p)
{
    char base[NAME_ROOM];
    size_t n = strlen(name), tail = strlen(".weight");
    *p = (struct packed){.kind = PACKED_NONE};
    if (n >= sizeof base)
        return false;
    if (n < tail || strcmp(name + n - tail, ".weight") != 0) { /* all experts in one */
        return find_integers(c, name, stacked_suffixes, p) || find_mxfp4(c, name, p);
    }
    snprintf(base, sizeof base, "%.*s", (int)(n - tail), name);
    if ((p->data = find(c, base, ".qweight"))) {
        p->kind = PACKED_AWQ;
        p->scale = find(c, base, ".scales");
        p->zero = find(c, base, ".qzeros");
    } else if (find_integers(c, base, suffixes, p)) {
        return true;
    } else if ((p->data = checkpoint_find(c, name)) &&
               (p->scale = find(c, base, ".weight_scale"))) {
        p->kind = PACKED_SCALED;
        p->zero = find(c, base, ".weight_zero_point");
    }
    return p->kind != PACKED_NONE;
}

/* ---- checking ------------------------------------------------------------------------------- */

/* matrices 0: it is one, of two dimensions. */
struct wanted {
    size_t matrices, rows, columns;
};

static int check(const struct tensor *t, const char *dtypes, struct wanted w, struct err *e)
{
    char dtype[32], found[96] = "";
    snprintf(dtype, sizeof dtype, " %.20s ", t->dtype_text);
    if (!strstr(dtypes, dtype))
        return err_set(e, "%s (%s) is %s; wanted%s", t->name, t->file, t->dtype_text, dtypes);
    for (int i = 0; i < t->dims && i < 4; i++)
        snprintf(found + strlen(found), sizeof found - strlen(found), i ? ",%zu" : "%zu",
                 t->shape[i]);
    bool stack = w.matrices > 0;
    if (t->dims != 2 + stack || (stack && t->shape[0] != w.matrices) || sizes(t)[0] != w.rows ||
        sizes(t)[1] != w.columns)
        return err_set(e, "%s (%s) has shape [%s]; wanted [%.*zu%s%zu,%zu]", t->name, t->file,
                       found, stack, w.matrices, stack ? "," : "", w.rows, w.columns);
    if ((uintptr_t)t->data % 4 && strstr(dtypes, "I32"))
        return err_set(e, "%s (%s): its data are not at a multiple of 4 bytes", t->name, t->file);
    return 0;
}

static const char numbers[] = " F16 BF16 F32 ";

/* Groups along the inputs. */
static int check_groups(const struct tensor *t, size_t columns, size_t groups, struct err *e)
{
    if (groups == 0 || columns % groups || (groups > 1 && columns / groups % GROUP_STEP))
        return err_set(e,
                       "%s (%s): %zu inputs in %zu groups; wanted groups of equal size, a multiple "
                       "of %d",
                       t->name, t->file, columns, groups, GROUP_STEP);
    return 0;
}

static int check_awq(const struct packed *p, struct wanted w, struct err *e)
{
    size_t stack = w.matrices, rows = w.rows, columns = w.columns, groups = sizes(p->scale)[0];
    if (!p->zero)
        return err_set(e, "%s (%s) has no .qzeros beside it", p->data->name, p->data->file);
    if (rows % 8)
        return err_set(e, "%s (%s): %zu outputs cannot be packed by eight", p->data->name,
                       p->data->file, rows);
    return check(p->data, " I32 ", (struct wanted){stack, columns, rows / 8}, e) != 0 ||
                   check(p->scale, numbers, (struct wanted){stack, groups, rows}, e) != 0 ||
                   check(p->zero, " I32 ", (struct wanted){stack, groups, rows / 8}, e) != 0 ||
                   check_groups(p->scale, columns, groups, e) != 0
               ? -1
               : 0;
}

/* 8 or 4; whichever makes the packed width. */
static size_t bits_of(const struct packed *p, size_t columns)
{
    return sizes(p->data)[1] == (columns + 3) / 4 ? 8 : 4;
}

/* Of several matrices in one tensor it may be missing: their rows are whole words then. */
static int check_said_shape(const struct packed *p, struct wanted w, struct err *e)
{
    int64_t said[3] = {0};
    const struct tensor *t = p->shape;
    size_t per = 32 / bits_of(p, w.columns), first = w.matrices > 0 && t && t->bytes > 16 ? 1 : 0;
    if (!t && w.matrices > 0)
        return w.columns % per == 0 ? 0
                                    : err_set(e,
                                              "%s (%s): %zu inputs are no whole words, and nothing "
                                              "says how many there are",
                                              p->data->name, p->data->file, w.columns);
    if (!t)
        return err_set(e, "%s (%s) has no .weight_shape beside it", p->data->name, p->data->file);
    if (strcmp(t->dtype_text, "I64") != 0 || t->bytes != (2 + first) * sizeof *said)
        return err_set(e, "%s (%s) is not two numbers of I64", t->name, t->file);
    memcpy(said, t->data, t->bytes);
    if (said[first] != (int64_t)w.rows || said[first + 1] != (int64_t)w.columns ||
        (first && said[0] != (int64_t)w.matrices))
        return err_set(e, "%s (%s) says [%lld,%lld]; config.json makes it [%zu,%zu]", t->name,
                       t->file, (long long)said[first], (long long)said[first + 1], w.rows,
                       w.columns);
    return 0;
}

static int check_integers(const struct packed *p, struct wanted w, struct err *e)
{
    size_t per = 32 / bits_of(p, w.columns), groups = sizes(p->scale)[1], stack = w.matrices;
    struct wanted packed = {stack, w.rows, (w.columns + per - 1) / per};
    if (check_said_shape(p, w, e) != 0 || check(p->data, " I32 ", packed, e) != 0 ||
        check(p->scale, numbers, (struct wanted){stack, w.rows, groups}, e) != 0 ||
        check_groups(p->scale, w.columns, groups, e) != 0)
        return -1;
    struct wanted zeros = {stack, (w.rows + per - 1) / per, groups};
    return p->zero ? check(p->zero, " I32 ", zeros, e) : 0;
}

static bool in_blocks(const struct packed *p, size_t rows, size_t columns)
{
    return p->data->dtype == DTYPE_F8E4M3 && columns > BLOCK &&
           sizes(p->scale)[0] == (rows + BLOCK - 1) / BLOCK &&
           sizes(p->scale)[1] == (columns + BLOCK - 1) / BLOCK;
}

static int check_scaled(const struct packed *p, struct wanted w, struct err *e)
{
    size_t groups = sizes(p->scale)[1];
    if (p->zero)
        return err_set(e, "%s (%s): zero points of whole integers are not supported", p->zero->name,
                       p->zero->file);
    if (check(p->data, " I8 F8_E4M3 ", w, e) != 0)
        return -1;
    if (in_blocks(p, w.rows, w.columns))
        return check(p->scale, numbers, (struct wanted){w.matrices, sizes(p->scale)[0], groups}, e);
    return check(p->scale, numbers, (struct wanted){w.matrices, w.rows, groups}, e) != 0
               ? -1
               : check_groups(p->scale, w.columns, groups, e);
}

#define MXFP4_INPUTS 32 /* of a group */
#define MXFP4_BYTES  16

static int check_mxfp4(const struct packed *p, struct wanted w, struct err *e)
{
    const struct tensor *t = p->data;
    size_t groups = w.columns / MXFP4_INPUTS;
    if (w.columns % MXFP4_INPUTS)
        return err_set(e, "%s (%s): %zu inputs are no whole groups of %d", t->name, t->file,
                       w.columns, MXFP4_INPUTS);
    if (strcmp(t->dtype_text, "U8") != 0)
        return err_set(e, "%s (%s) is %s; wanted U8", t->name, t->file, t->dtype_text);
    if (t->dims != 4 || t->shape[0] != w.matrices || t->shape[1] != w.rows ||
        t->shape[2] != groups || t->shape[3] != MXFP4_BYTES)
        return err_set(e, "%s (%s) does not have the shape [%zu,%zu,%zu,%d]", t->name, t->file,
                       w.matrices, w.rows, groups, MXFP4_BYTES);
    return check(p->scale, " U8 ", (struct wanted){w.matrices, w.rows, groups}, e);
}

int packed_check(const struct packed *p, size_t matrices, size_t rows, size_t columns,
                 struct err *e)
{
    const struct wanted w = {matrices, rows, columns};
    if (!p->scale)
        return err_set(e, "%s (%s) has no scales beside it", p->data->name, p->data->file);
    switch (p->kind) {
    case PACKED_AWQ:
        return check_awq(p, w, e);
    case PACKED_INTEGERS:
        return check_integers(p, w, e);
    case PACKED_SCALED:
        return check_scaled(p, w, e);
    case PACKED_MXFP4:
        return check_mxfp4(p, w, e);
    case PACKED_NONE:
        break;
    }
    return 0;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* Where a matrix of several begins; of one, its data. */
static const void *matrix_of(const struct tensor *t, size_t matrix)
{
    return (const char *)t->data + (t->dims > 2 ? matrix * (t->bytes / t->shape[0]) : 0);
}

/* Of one row and columns / groups columns each; a group that is the whole row is 0. */
static void set_groups(struct weight_part *w, const struct packed *p, size_t matrix, size_t groups)
{
    w->scale = matrix_of(p->scale, matrix);
    w->scale_dtype = p->scale->dtype;
    w->scale_rows = 1;
    w->scale_columns = groups > 1 ? w->k / groups : 0;
    w->scale_stride = sizes(p->scale)[1];
    w->zero = p->zero ? matrix_of(p->zero, matrix) : NULL;
}

static struct weight_part awq_part(const struct packed *p, size_t matrix)
{
    struct weight_part w = {.codec = &codec_awq, .data = matrix_of(p->data, matrix)};
    w.n = sizes(p->scale)[1];
    w.k = w.inputs = sizes(p->data)[0];
    w.stride = sizes(p->data)[1];
    set_groups(&w, p, matrix, sizes(p->scale)[0]);
    w.zero_stride = sizes(p->zero)[1];
    return w;
}

static struct weight_part integers_part(const struct packed *p, size_t columns, size_t matrix)
{
    int64_t said[3];
    if (p->shape) {
        memcpy(said, p->shape->data, p->shape->bytes);
        columns = (size_t)said[p->shape->bytes / sizeof *said - 1];
    }
    struct weight_part w = {.data = matrix_of(p->data, matrix), .n = sizes(p->data)[0]};
    w.k = w.stride = columns;
    w.codec = bits_of(p, columns) == 8 ? &codec_packed8 : &codec_packed4;
    set_groups(&w, p, matrix, sizes(p->scale)[1]);
    w.zero_stride = sizes(p->scale)[1];
    return w;
}

static struct weight_part scaled_part(const struct packed *p, size_t matrix)
{
    struct weight_part w = {.codec = p->data->codec, .data = matrix_of(p->data, matrix)};
    w.n = sizes(p->data)[0];
    w.k = w.stride = sizes(p->data)[1];
    set_groups(&w, p, matrix, sizes(p->scale)[1]);
    if (in_blocks(p, w.n, w.k))
        w.scale_rows = w.scale_columns = BLOCK;
    return w;
}

static struct weight_part mxfp4_part(const struct packed *p, size_t matrix)
{
    struct weight_part w = {.codec = &codec_mxfp4_apart, .data = matrix_of(p->data, matrix)};
    w.n = p->data->shape[1];
    w.k = w.stride = p->data->shape[2] * MXFP4_INPUTS;
    w.scale = matrix_of(p->scale, matrix);
    w.scale_dtype = DTYPE_I8; /* bytes, which the codec reads */
    w.scale_rows = 1;
    w.scale_columns = MXFP4_INPUTS;
    w.scale_stride = p->data->shape[2];
    return w;
}

struct weight_part packed_part(const struct packed *p, size_t columns, size_t matrix)
{
    return p->kind == PACKED_AWQ        ? awq_part(p, matrix)
           : p->kind == PACKED_INTEGERS ? integers_part(p, columns, matrix)
           : p->kind == PACKED_MXFP4    ? mxfp4_part(p, matrix)
                                        : scaled_part(p, matrix);
}

bool packed_halves(const struct packed *p)
{
    if (p->kind == PACKED_MXFP4)
        return true;
    size_t rows = p->kind == PACKED_AWQ ? sizes(p->scale)[1] : sizes(p->data)[0];
    return p->kind != PACKED_SCALED || sizes(p->scale)[0] == rows || rows / 2 % BLOCK == 0;
}
