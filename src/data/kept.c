#include "data/kept.h"

#include "base/mem.h"
#include "data/h5.h"
#include "data/keep.h"

#include <stdlib.h>
#include <string.h>

struct kept_one {
    char *name, *dataset;
    bool json;
    struct column *column;
};

struct kept {
    size_t n;
    struct kept_one columns[KEEP_COLUMNS];
};

static int open_one(struct kept_one *c, hid_t file, const char *path, size_t rows, struct err *e)
{
    if (column_open(&c->column, file, path, c->dataset, e) != 0)
        return -1;
    if (column_count(c->column) != rows)
        return err_set(e, "%s: dataset \"%s\" has %zu rows, wanted %zu", path, c->dataset,
                       column_count(c->column), rows);
    hid_t dataset = H5Dopen2(file, c->dataset, H5P_DEFAULT);
    char *encoding = h5_get_string(dataset, "encoding");
    c->name = h5_get_string(dataset, "name");
    c->json = encoding && strcmp(encoding, "json") == 0 && column_kind(c->column) == COLUMN_STRINGS;
    if (!c->name)
        c->name = mem_string(c->dataset + sizeof KEEP_GROUP);
    free(encoding);
    h5_close(dataset);
    return 0;
}

static int open_all(struct kept *k, hid_t file, hid_t group, const char *path, size_t rows,
                    struct err *e)
{
    H5G_info_t info;
    if (H5Gget_info(group, &info) < 0)
        return h5_err(e, "%s: group \"%s\" cannot be read", path, KEEP_GROUP);
    if (info.nlinks > KEEP_COLUMNS)
        return err_set(e, "%s: group \"%s\" has %llu members, at most %d travel", path, KEEP_GROUP,
                       (unsigned long long)info.nlinks, KEEP_COLUMNS);
    for (hsize_t i = 0; i < info.nlinks; i++) {
        char name[512];
        ssize_t n = H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name,
                                       H5P_DEFAULT);
        if (n < 0)
            return h5_err(e, "%s: group \"%s\" cannot be read", path, KEEP_GROUP);
        if ((size_t)n >= sizeof name)
            return err_set(e, "%s: group \"%s\" has a name of %zd bytes", path, KEEP_GROUP, n);
        struct kept_one *c = &k->columns[k->n++];
        c->dataset = mem_new(sizeof KEEP_GROUP + (size_t)n + 1, 1);
        sprintf(c->dataset, "%s/%s", KEEP_GROUP, name);
        if (open_one(c, file, path, rows, e) != 0)
            return -1;
    }
    return 0;
}

int kept_open(struct kept **out, hid_t file, const char *path, size_t rows, struct err *e)
{
    H5L_info_t link;
    *out = NULL;
    if (!h5_has(file, KEEP_GROUP))
        return 0;
    if (H5Lget_info(file, KEEP_GROUP, &link, H5P_DEFAULT) < 0)
        return h5_err(e, "%s: \"%s\" cannot be read", path, KEEP_GROUP);
    if (link.type == H5L_TYPE_EXTERNAL)
        return err_set(e, "%s: \"%s\" is a link into another file; copy the data into this one",
                       path, KEEP_GROUP);
    hid_t group = H5Gopen2(file, KEEP_GROUP, H5P_DEFAULT);
    if (group < 0)
        return h5_err(e, "%s: \"%s\": wanted a group of columns (one dataset each)", path,
                      KEEP_GROUP);
    struct kept *k = mem_zeroed(1, sizeof *k);
    int rc = open_all(k, file, group, path, rows, e);
    h5_close(group);
    if (rc == 0 && k->n > 0)
        *out = k;
    else
        kept_close(k);
    return rc;
}

void kept_close(struct kept *k)
{
    if (!k)
        return;
    for (size_t i = 0; i < k->n; i++) {
        column_close(k->columns[i].column);
        free(k->columns[i].name);
        free(k->columns[i].dataset);
    }
    free(k);
}

size_t kept_count(const struct kept *k)
{
    return k ? k->n : 0;
}

const char *kept_name(const struct kept *k, size_t i)
{
    return k->columns[i].name;
}

const char *kept_dataset(const struct kept *k, size_t i)
{
    return k->columns[i].dataset;
}

bool kept_is_json(const struct kept *k, size_t i)
{
    return k->columns[i].json;
}

struct column *kept_column(const struct kept *k, size_t i)
{
    return k->columns[i].column;
}

static int try_one(struct column *c, size_t row, struct err *e)
{
    char *text = NULL;
    size_t bytes;
    int64_t integer;
    double real;
    if (column_kind(c) == COLUMN_INTEGERS)
        return column_integers(c, row, 1, &integer, e);
    if (column_kind(c) == COLUMN_REALS)
        return column_reals(c, row, 1, &real, e);
    int rc = column_string(c, row, &text, &bytes, e);
    free(text);
    return rc;
}

int kept_try(struct kept *k, size_t row, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < kept_count(k) && rc == 0; i++)
        rc = try_one(k->columns[i].column, row, e);
    return rc;
}

int kept_fault(const struct kept *k)
{
    int fault = 0;
    for (size_t i = 0; i < kept_count(k) && !fault; i++)
        fault = column_fault(k->columns[i].column);
    return fault;
}
