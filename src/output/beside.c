#include "output/beside.h"

#include "base/mem.h"
#include "data/append.h"
#include "data/keep.h"
#include "output/identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct beside {
    struct kept *like; /* not owned */
    struct h5_output *out;
    hid_t group, string_type;
    struct append *columns[KEEP_COLUMNS];
    uint64_t sums[KEEP_COLUMNS];
};

/* ---- the source ----------------------------------------------------------------------------- */

static int open_columns(struct beside_source *s, const char *path, size_t rows, struct err *e)
{
    errno = 0;
    return h5_read_output(&s->file, path, e) == 0
               ? kept_open(&s->columns, s->file.file, path, rows, e)
               : -1;
}

int beside_source_open(struct beside_source *s, const char *attributes, struct err *e)
{
    struct identity list = {0};
    *s = (struct beside_source){.file.file = -1};
    if (!attributes || identity_add_json(&list, attributes) != 0)
        return 0;
    const char *path = identity_value(&list, BESIDE_ATTRIBUTE);
    const char *rows = identity_value(&list, BESIDE_ROWS);
    int rc = path && rows ? open_columns(s, path, strtoull(rows, NULL, 10), e) : 0;
    if (rc != 0)
        err_prefix(e, "the prompts' own columns stand beside the completions, but");
    identity_free(&list);
    return rc;
}

void beside_source_close(struct beside_source *s)
{
    kept_close(s->columns);
    h5_abandon(&s->file);
    *s = (struct beside_source){.file.file = -1};
}

/* ---- the copy ------------------------------------------------------------------------------- */

static bool is_text(const struct beside *b, size_t i)
{
    return column_kind(kept_column(b->like, i)) == COLUMN_STRINGS;
}

static hid_t type_of(const struct beside *b, size_t i)
{
    const struct column *c = kept_column(b->like, i);
    if (is_text(b, i))
        return b->string_type;
    if (column_kind(c) == COLUMN_REALS)
        return H5T_NATIVE_DOUBLE;
    return column_is_unsigned(c) ? H5T_NATIVE_UINT64 : H5T_NATIVE_INT64;
}

int beside_open(struct beside **out, struct kept *like, struct h5_output *file, size_t rows,
                struct err *e)
{
    *out = NULL;
    if (!like)
        return 0;
    struct beside *b = *out = mem_zeroed(1, sizeof *b);
    b->like = like;
    b->out = file;
    b->string_type = h5_string_type();
    b->group = H5Gcreate2(file->file, KEEP_GROUP, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    int rc = b->group < 0 ? h5_err(e, "group \"%s\" cannot be made", KEEP_GROUP) : 0;
    for (size_t i = 0; i < kept_count(b->like) && rc == 0; i++) {
        const struct append_spec spec = {.name = kept_dataset(b->like, i),
                                         .type = type_of(b, i),
                                         .strings = is_text(b, i),
                                         .total = rows};
        rc = append_open(&b->columns[i], file, file->file, &spec, e);
    }
    return rc;
}

static int put_number(struct append *to, struct column *from, size_t row, struct err *e)
{
    char text[24];
    double real;
    if (column_kind(from) == COLUMN_REALS)
        return column_reals(from, row, 1, &real, e) == 0 ? append_put(to, &real, 1, e) : -1;
    if (column_decimal(from, row, text, e) != 0)
        return -1;
    uint64_t value = *text == '-' ? (uint64_t)strtoll(text, NULL, 10) : strtoull(text, NULL, 10);
    return append_put(to, &value, 1, e);
}

static int put_text(struct append *to, struct column *from, size_t row, struct err *e)
{
    char *text = NULL;
    size_t bytes;
    if (column_string(from, row, &text, &bytes, e) != 0)
        return -1;
    int rc = append_text(to, text, e);
    free(text);
    return rc;
}

int beside_put(struct beside *b, struct kept *from, size_t row, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; b && i < kept_count(b->like) && rc == 0; i++) {
        struct column *column = kept_column(from, i);
        rc = is_text(b, i) ? put_text(b->columns[i], column, row, e)
                           : put_number(b->columns[i], column, row, e);
        if (rc != 0)
            errno = kept_fault(from);
    }
    return rc;
}

int beside_flush(struct beside *b, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; b && i < kept_count(b->like) && rc == 0; i++)
        rc = append_flush(b->columns[i], e);
    return rc;
}

static void drop(struct beside *b)
{
    for (size_t i = 0; i < KEEP_COLUMNS; i++) {
        append_drop(b->columns[i]);
        b->columns[i] = NULL;
    }
}

int beside_end(struct beside *b, struct err *e)
{
    int rc = 0;
    if (!b)
        return 0;
    for (size_t i = 0; i < kept_count(b->like); i++)
        b->sums[i] = append_sum(b->columns[i]);
    drop(b);
    for (size_t i = 0; i < kept_count(b->like) && rc == 0; i++)
        rc = keep_describe(b->out->file, kept_dataset(b->like, i), kept_name(b->like, i),
                           is_text(b, i) ? kept_is_json(b->like, i) ? "json" : "text" : NULL, e);
    h5_close(b->group); /* or the file would not close */
    b->group = -1;
    return rc;
}

int beside_verify(const struct beside *b, hid_t file, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; b && i < kept_count(b->like) && rc == 0; i++)
        rc = append_verify(file, kept_dataset(b->like, i), is_text(b, i), b->sums[i], e);
    return rc;
}

void beside_close(struct beside *b)
{
    if (!b)
        return;
    drop(b);
    h5_close(b->group);
    h5_close(b->string_type);
    free(b);
}
