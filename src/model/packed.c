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

bool packed_find(const struct checkpoint *c, const char *name, struct packed *p)
{
    char base[NAME_ROOM];
    size_t n = strlen(name), tail = strlen(".weight");
    *p = (struct packed){.kind = PACKED_NONE};
    if (n < tail || n >= sizeof base || strcmp(name + n - tail, ".weight") != 0)
        return false;
    snprintf(base, sizeof base, "%.*s", (int)(n - tail), name);
    if ((p->data = find(c, base, ".qweight"))) {
        p->kind = PACKED_AWQ;
        p->scale = find(c, base, ".scales");
        p->zero = find(c, base, ".qzeros");
    } else if ((p->data = find(c, base, ".weight_packed"))) {
        p->kind = PACKED_INTEGERS;
        p->scale = find(c, base, ".weight_scale");
        p->zero = find(c, base, ".weight_zero_point");
        p->shape = find(c, base, ".weight_shape");
    } else if ((p->data = checkpoint_find(c, name)) &&
               (p->scale = find(c, base, ".weight_scale"))) {
        p->kind = PACKED_SCALED;
        p->zero = find(c, base, ".weight_zero_point");
    }
    return p->kind != PACKED_NONE;
}

/* ---- checking ------------------------------------------------------------------------------- */

static int check(const struct tensor *t, const char *dtypes, size_t rows, size_t columns,
                 struct err *e)
{
    char found[32];
    snprintf(found, sizeof found, "%zu,%zu", t->shape[0], t->shape[1]);
    char dtype[32];
    snprintf(dtype, sizeof dtype, " %.20s ", t->dtype_text);
    if (!strstr(dtypes, dtype))
        return err_set(e, "%s (%s) is %s; wanted%s", t->name, t->file, t->dtype_text, dtypes);
    if (t->dims != 2 || t->shape[0] != rows || t->shape[1] != columns)
        return err_set(e, "%s (%s) has shape [%s]; wanted [%zu,%zu]", t->name, t->file,
                       t->dims == 2 ? found : "of other dimensions", rows, columns);
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

static int check_awq(const struct packed *p, size_t rows, size_t columns, struct err *e)
{
    if (!p->zero)
        return err_set(e, "%s (%s) has no .qzeros beside it", p->data->name, p->data->file);
    if (rows % 8)
        return err_set(e, "%s (%s): %zu outputs cannot be packed by eight", p->data->name,
                       p->data->file, rows);
    size_t groups = p->scale->dims ? p->scale->shape[0] : 0;
    return check(p->data, " I32 ", columns, rows / 8, e) != 0 ||
                   check(p->scale, numbers, groups, rows, e) != 0 ||
                   check(p->zero, " I32 ", groups, rows / 8, e) != 0 ||
                   check_groups(p->scale, columns, groups, e) != 0
               ? -1
               : 0;
}

/* 8 or 4; whichever makes the packed width. */
static size_t bits_of(const struct packed *p, size_t columns)
{
    return p->data->dims == 2 && p->data->shape[1] == (columns + 3) / 4 ? 8 : 4;
}

static int check_said_shape(const struct packed *p, size_t rows, size_t columns, struct err *e)
{
    int64_t said[2];
    const struct tensor *t = p->shape;
    if (!t)
        return err_set(e, "%s (%s) has no .weight_shape beside it", p->data->name, p->data->file);
    if (strcmp(t->dtype_text, "I64") != 0 || t->bytes != sizeof said)
        return err_set(e, "%s (%s) is not two numbers of I64", t->name, t->file);
    memcpy(said, t->data, sizeof said);
    if (said[0] != (int64_t)rows || said[1] != (int64_t)columns)
        return err_set(e, "%s (%s) says [%lld,%lld]; config.json makes it [%zu,%zu]", t->name,
                       t->file, (long long)said[0], (long long)said[1], rows, columns);
    return 0;
}

static int check_integers(const struct packed *p, size_t rows, size_t columns, struct err *e)
{
    size_t per = 32 / bits_of(p, columns), groups = p->scale->dims == 2 ? p->scale->shape[1] : 0;
    if (check_said_shape(p, rows, columns, e) != 0 ||
        check(p->data, " I32 ", rows, (columns + per - 1) / per, e) != 0 ||
        check(p->scale, numbers, rows, groups, e) != 0 ||
        check_groups(p->scale, columns, groups, e) != 0)
        return -1;
    return p->zero ? check(p->zero, " I32 ", (rows + per - 1) / per, groups, e) : 0;
}

static bool in_blocks(const struct packed *p, size_t rows, size_t columns)
{
    return p->data->dtype == DTYPE_F8E4M3 && p->scale->dims == 2 && columns > BLOCK &&
           p->scale->shape[0] == (rows + BLOCK - 1) / BLOCK &&
           p->scale->shape[1] == (columns + BLOCK - 1) / BLOCK;
}

static int check_scaled(const struct packed *p, size_t rows, size_t columns, struct err *e)
{
    size_t groups = p->scale->dims == 2 ? p->scale->shape[1] : 0;
    if (p->zero)
        return err_set(e, "%s (%s): zero points of whole integers are not supported", p->zero->name,
                       p->zero->file);
    if (check(p->data, " I8 F8_E4M3 ", rows, columns, e) != 0)
        return -1;
    if (in_blocks(p, rows, columns))
        return check(p->scale, numbers, p->scale->shape[0], groups, e);
    return check(p->scale, numbers, rows, groups, e) != 0
               ? -1
               : check_groups(p->scale, columns, groups, e);
}

int packed_check(const struct packed *p, size_t rows, size_t columns, struct err *e)
{
    if (!p->scale)
        return err_set(e, "%s (%s) has no scales beside it", p->data->name, p->data->file);
    switch (p->kind) {
    case PACKED_AWQ:
        return check_awq(p, rows, columns, e);
    case PACKED_INTEGERS:
        return check_integers(p, rows, columns, e);
    case PACKED_SCALED:
        return check_scaled(p, rows, columns, e);
    case PACKED_NONE:
        break;
    }
    return 0;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* Of one row and columns / groups columns each; a group that is the whole row is 0. */
static void set_groups(struct weight_part *w, const struct tensor *scale, size_t groups)
{
    w->scale = scale->data;
    w->scale_dtype = scale->dtype;
    w->scale_rows = 1;
    w->scale_columns = groups > 1 ? w->k / groups : 0;
    w->scale_stride = scale->shape[1];
}

static struct weight_part awq_part(const struct packed *p)
{
    struct weight_part w = {.codec = &codec_awq, .data = p->data->data, .k = p->data->shape[0]};
    w.n = p->scale->shape[1];
    w.stride = p->data->shape[1];
    set_groups(&w, p->scale, p->scale->shape[0]);
    w.zero = p->zero->data;
    w.zero_stride = p->zero->shape[1];
    return w;
}

static struct weight_part integers_part(const struct packed *p)
{
    int64_t said[2];
    memcpy(said, p->shape->data, sizeof said);
    struct weight_part w = {.data = p->data->data, .n = (size_t)said[0], .k = (size_t)said[1]};
    w.codec = bits_of(p, w.k) == 8 ? &codec_packed8 : &codec_packed4;
    w.stride = w.k;
    set_groups(&w, p->scale, p->scale->shape[1]);
    w.zero = p->zero ? p->zero->data : NULL;
    w.zero_stride = p->scale->shape[1];
    return w;
}

static struct weight_part scaled_part(const struct packed *p)
{
    struct weight_part w = {.codec = p->data->codec, .data = p->data->data};
    w.n = p->data->shape[0];
    w.k = w.stride = p->data->shape[1];
    set_groups(&w, p->scale, p->scale->shape[1]);
    if (in_blocks(p, w.n, w.k))
        w.scale_rows = w.scale_columns = BLOCK;
    return w;
}

struct weight_part packed_part(const struct packed *p)
{
    return p->kind == PACKED_AWQ        ? awq_part(p)
           : p->kind == PACKED_INTEGERS ? integers_part(p)
                                        : scaled_part(p);
}
