#include "data/keep.h"

#include "base/mem.h"
#include "data/append.h"

#include <stdlib.h>
#include <string.h>

struct keep_column {
    char *name;
    bool json;
    size_t rows;
    struct append *values;
};

struct keep {
    struct h5_output *output;
    hid_t group, string_type;
    size_t n, row;
    struct keep_column columns[KEEP_COLUMNS];
};

int keep_open(struct keep **out, struct h5_output *output, hid_t string_type, struct err *e)
{
    *out = mem_zeroed(1, sizeof **out);
    (*out)->output = output;
    (*out)->string_type = string_type;
    (*out)->group = H5Gcreate2(output->file, KEEP_GROUP, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    return (*out)->group < 0 ? h5_err(e, "group \"%s\" cannot be made", KEEP_GROUP) : 0;
}

/* Names with a slash would be groups of groups: another character stands for it. */
static char *dataset_name(const char *name)
{
    char *copy = mem_string(*name ? name : "_");
    for (char *c = copy; (c = strchr(c, '/')) != NULL;)
        *c = '_';
    if (strcmp(copy, ".") == 0)
        *copy = '_';
    return copy;
}

static int fill(struct keep_column *c, size_t rows, struct err *e)
{
    int status = 0;
    for (; status == 0 && c->rows < rows; c->rows++)
        status = append_string(c->values, c->json ? "null" : "", e);
    return status;
}

static int new_column(struct keep *k, const char *name, bool json, struct keep_column **out,
                      struct err *e)
{
    struct keep_column *c = &k->columns[k->n];
    if (k->n == KEEP_COLUMNS)
        return err_set(
            e, "field \"%s\": more than %d columns are kept; name those that matter (--keep)", name,
            KEEP_COLUMNS);
    *c = (struct keep_column){.name = mem_string(name), .json = json};
    k->n++;
    char *dataset = dataset_name(name);
    const struct append_spec spec = {
        .name = dataset, .type = k->string_type, .strings = true, .total = APPEND_GROWS};
    int status = append_open(&c->values, k->output, k->group, &spec, e);
    free(dataset);
    *out = c;
    return status == 0 ? fill(c, k->row, e) : -1;
}

bool keep_has(const struct keep *k, const char *name)
{
    for (size_t i = 0; i < k->n; i++)
        if (strcmp(k->columns[i].name, name) == 0)
            return true;
    return false;
}

int keep_put(struct keep *k, const char *name, const json_t *value, struct err *e)
{
    struct keep_column *c = NULL;
    for (size_t i = 0; i < k->n; i++)
        if (strcmp(k->columns[i].name, name) == 0)
            c = &k->columns[i];
    if (!c && new_column(k, name, !json_is_string(value), &c, e) != 0)
        return -1;
    if (c->rows > k->row) /* two names that became one */
        return 0;
    c->rows++;
    if (!c->json && json_is_string(value))
        return append_string(c->values, json_string_value(value), e);
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    int status = append_string(c->values, text ? text : "null", e);
    free(text);
    return status;
}

int keep_end_row(struct keep *k, struct err *e)
{
    int status = 0;
    k->row++;
    for (size_t i = 0; status == 0 && i < k->n; i++)
        status = fill(&k->columns[i], k->row, e);
    return status;
}

static void free_keep(struct keep *k)
{
    for (size_t i = 0; i < k->n; i++)
        free(k->columns[i].name);
    h5_close(k->group);
    free(k);
}

/* Attributes of the dataset, which append.h keeps to itself while it is open. */
int keep_describe(hid_t where, const char *dataset, const char *name, const char *encoding,
                  struct err *e)
{
    hid_t d = H5Dopen2(where, dataset, H5P_DEFAULT);
    int status = 0;
    if (d < 0 || (encoding && h5_put_string(d, "encoding", encoding) != 0) ||
        h5_put_string(d, "name", name) != 0)
        status = h5_err(e, "column \"%s\" cannot be described", name);
    h5_close(d);
    return status;
}

static int describe(const struct keep *k, const struct keep_column *c, struct err *e)
{
    char *dataset = dataset_name(c->name);
    int status = keep_describe(k->group, dataset, c->name, c->json ? "json" : "text", e);
    free(dataset);
    return status;
}

int keep_close(struct keep *k, struct err *e)
{
    int status = 0;
    if (!k)
        return 0;
    for (size_t i = 0; i < k->n; i++) {
        if (status == 0)
            status = append_close(k->columns[i].values, e);
        else
            append_drop(k->columns[i].values);
        if (status == 0)
            status = describe(k, &k->columns[i], e);
    }
    free_keep(k);
    return status;
}

void keep_drop(struct keep *k)
{
    if (!k)
        return;
    for (size_t i = 0; i < k->n; i++)
        append_drop(k->columns[i].values);
    free_keep(k);
}
