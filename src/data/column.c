#include "data/column.h"

#include "base/mem.h"
#include "data/h5.h"
#include "data/window.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (64u << 10)
#define AHEAD_ROWS   256u         /* most variable-length strings read at once */
#define AHEAD_BYTES  (512u << 10) /* and about as many bytes */
#define CACHE_MAX    (256u << 20) /* a chunk above this is not kept decompressed */

struct column {
    char *path, *name;
    hid_t dataset, type; /* type: of an element in memory */
    enum column_kind kind;
    bool variable; /* strings of variable length: `rows`; else `window` */
    H5T_str_t padding;
    size_t count;
    char describe[64];
    struct window window;
    char *rows[AHEAD_ROWS]; /* into what `given` lists */
    void
        *given[AHEAD_ROWS]; /* what HDF5 was given for strings: it forgets them when a read fails */
    size_t n_given;
    hid_t transfer;
    size_t begin, held;
    size_t next, ahead; /* the row that follows the last one read; how many to read then */
};

static int bad(const struct column *c, struct err *e)
{
    return err_prefix(e, "%s: dataset \"%s\"", c->path, c->name);
}

/* A chunk that does not fit HDF5's cache of 1 MiB would be decompressed once for every row. */
static int reopen_with_cache(struct column *c, hid_t file)
{
    hid_t creation = H5Dget_create_plist(c->dataset);
    hsize_t chunk = 0;
    bool chunked = H5Pget_layout(creation) == H5D_CHUNKED && H5Pget_chunk(creation, 1, &chunk) == 1;
    H5Pclose(creation);
    hid_t type = H5Dget_type(c->dataset);
    /* In the file a string of variable length is a reference of 16 bytes, whatever the type says.
     */
    size_t size = H5Tis_variable_str(type) > 0 ? 16 : H5Tget_size(type);
    size_t bytes = (size_t)chunk * size;
    H5Tclose(type);
    if (!chunked || bytes <= 1u << 20 || bytes > CACHE_MAX)
        return 0;
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
    H5Pset_chunk_cache(access, H5D_CHUNK_CACHE_NSLOTS_DEFAULT, bytes, 1.0);
    H5Dclose(c->dataset);
    c->dataset = H5Dopen2(file, c->name, access);
    H5Pclose(access);
    return c->dataset < 0 ? -1 : 0;
}

static int check_filters(const struct column *c, struct err *e)
{
    hid_t creation = H5Dget_create_plist(c->dataset);
    int rc = 0, n = H5Pget_nfilters(creation);
    for (int i = 0; i < n && rc == 0; i++) {
        unsigned flags, config;
        size_t values = 0;
        char name[64] = "";
        H5Z_filter_t id = H5Pget_filter2(creation, (unsigned)i, &flags, &values, NULL, sizeof name,
                                         name, &config);
        if (H5Zfilter_avail(id) <= 0)
            rc = err_set(
                e,
                "is compressed with filter %d (%s), which this HDF5 library lacks; rewrite "
                "the file with `h5repack -f GZIP=4`, or point HDF5_PLUGIN_PATH at the filter",
                (int)id, *name ? name : "no name");
    }
    H5Pclose(creation);
    return rc;
}

static int check_space(struct column *c, struct err *e)
{
    hid_t space = H5Dget_space(c->dataset);
    int dims =
        H5Sget_simple_extent_type(space) == H5S_SIMPLE ? H5Sget_simple_extent_ndims(space) : 0;
    hsize_t n = 0;
    if (dims == 1)
        H5Sget_simple_extent_dims(space, &n, NULL);
    H5Sclose(space);
    if (dims != 1)
        return err_set(e, "wanted one dimension, found %d", dims);
    c->count = (size_t)n;
    return 0;
}

/* The type in memory, from that in the file. */
static int choose_type(struct column *c, struct err *e)
{
    hid_t type = H5Dget_type(c->dataset);
    H5T_class_t class = H5Tget_class(type);
    unsigned bits = (unsigned)H5Tget_size(type) * 8;
    int rc = 0;
    if (class == H5T_STRING) {
        c->kind = COLUMN_STRINGS;
        c->variable = H5Tis_variable_str(type) > 0;
        c->padding = H5Tget_strpad(type);
        c->type =
            H5Tcopy(type); /* HDF5 converts neither character sets nor padding kinds usefully */
        snprintf(c->describe, sizeof c->describe, "strings");
    } else if (class == H5T_INTEGER || class == H5T_FLOAT) {
        c->kind = class == H5T_INTEGER ? COLUMN_INTEGERS : COLUMN_REALS;
        c->type = H5Tcopy(class == H5T_INTEGER ? H5T_NATIVE_INT64 : H5T_NATIVE_DOUBLE);
        snprintf(c->describe, sizeof c->describe, "%s of %u bits",
                 class == H5T_INTEGER ? "integers" : "floating-point numbers", bits);
    } else {
        rc =
            err_set(e, "wanted strings or numbers, found another type (HDF5 class %d)", (int)class);
    }
    H5Tclose(type);
    return rc;
}

/* HDF5 asks for the memory of every string with these. */
static void *give(size_t bytes, void *column)
{
    struct column *c = column;
    /* NULL is HDF5's own error then: a damaged length is no reason to end the job. */
    void *memory = c->n_given < AHEAD_ROWS ? malloc(bytes ? bytes : 1) : NULL;
    if (memory)
        c->given[c->n_given++] = memory;
    return memory;
}

static void take_back(void *memory, void *column)
{
    (void)memory, (void)column; /* drop_rows() frees it */
}

static void drop_rows(struct column *c)
{
    while (c->n_given)
        free(c->given[--c->n_given]);
    c->held = 0;
}

int column_open(struct column **out, hid_t file, const char *path, const char *name, struct err *e)
{
    struct column *c = mem_zeroed(1, sizeof *c);
    c->path = mem_string(path);
    c->name = mem_string(name);
    c->type = c->transfer = -1;
    c->next = SIZE_MAX;
    bool there = h5_has(file, name);
    c->dataset = H5Dopen2(file, name, H5P_DEFAULT);
    int rc = 0;
    if (c->dataset < 0)
        rc = h5_err(e, there ? "cannot be opened as a dataset" : "is not in the file");
    if (rc == 0)
        rc = check_space(c, e);
    if (rc == 0)
        rc = choose_type(c, e);
    if (rc == 0)
        rc = check_filters(c, e);
    if (rc == 0 && reopen_with_cache(c, file) != 0)
        rc = h5_err(e, "cannot be opened again");
    if (rc != 0) {
        bad(c, e);
        column_close(c);
        return -1;
    }
    if (c->variable) {
        c->transfer = H5Pcreate(H5P_DATASET_XFER);
        H5Pset_vlen_mem_manager(c->transfer, give, c, take_back, c);
    } else {
        window_init(&c->window, c->dataset, c->type, c->count, WINDOW_BYTES);
    }
    *out = c;
    return 0;
}

void column_close(struct column *c)
{
    if (!c)
        return;
    drop_rows(c);
    window_free(&c->window);
    h5_close(c->transfer);
    h5_close(c->type);
    h5_close(c->dataset);
    free(c->path);
    free(c->name);
    free(c);
}

enum column_kind column_kind(const struct column *c)
{
    return c->kind;
}

size_t column_count(const struct column *c)
{
    return c->count;
}

const char *column_describe(const struct column *c)
{
    return c->describe;
}

static int load_rows(struct column *c, size_t begin, size_t n, struct err *e)
{
    drop_rows(c);
    memset(c->rows, 0, sizeof c->rows);
    hsize_t from = begin, count = n;
    hid_t file_space = H5Dget_space(c->dataset);
    hid_t space = H5Screate_simple(1, &count, NULL);
    H5Sselect_hyperslab(file_space, H5S_SELECT_SET, &from, NULL, &count, NULL);
    int rc = 0;
    if (H5Dread(c->dataset, c->type, space, file_space, c->transfer, c->rows) < 0)
        rc = h5_err(e, "row %zu cannot be read", begin);
    c->begin = begin;
    c->held = n;
    if (rc != 0)
        drop_rows(c);
    H5Sclose(space);
    H5Sclose(file_space);
    return rc;
}

/* Reads one row, or more when rows are being read in order: 1, 2, 4 .. as a kernel reads ahead. */
static int hold_row(struct column *c, size_t i, struct err *e)
{
    if (i >= c->begin && i < c->begin + c->held)
        return 0;
    size_t bytes = 0;
    for (size_t k = 0; k < c->held; k++)
        bytes += c->rows[k] ? strlen(c->rows[k]) : 0;
    if (i != c->next)
        c->ahead = 1;
    else if (bytes < AHEAD_BYTES)
        c->ahead = c->ahead * 2 < AHEAD_ROWS ? c->ahead * 2 : AHEAD_ROWS;
    else if (c->ahead > 1)
        c->ahead /= 2;
    size_t left = c->count - i;
    size_t n = c->ahead < left ? c->ahead : left;
    if (load_rows(c, i, n, e) == 0)
        return 0;
    c->ahead = 1; /* one damaged row must not take its neighbours with it */
    return n == 1 ? -1 : load_rows(c, i, 1, e);
}

int column_string(struct column *c, size_t i, char **text, size_t *bytes, struct err *e)
{
    if (c->variable) {
        int rc = hold_row(c, i, e);
        c->next = i + 1;
        if (rc != 0)
            return bad(c, e);
        const char *row = c->rows[i - c->begin];
        *bytes = row ? strlen(row) : 0;
        *text = mem_string_n(row ? row : "", *bytes);
        return 0;
    }
    const char *row = window_get(&c->window, i, 1);
    if (!row) {
        h5_err(e, "row %zu cannot be read", i);
        return bad(c, e);
    }
    size_t n = c->window.element;
    if (c->padding == H5T_STR_NULLTERM)
        n = strnlen(row, n);
    else
        while (n && row[n - 1] == (c->padding == H5T_STR_SPACEPAD ? ' ' : 0))
            n--;
    *bytes = n;
    *text = mem_string_n(row, n);
    return 0;
}

/* Rows of a numeric column; both kinds have elements of 8 bytes in memory. */
static int numbers(struct column *c, size_t begin, size_t n, void *out, struct err *e)
{
    const void *rows = window_get(&c->window, begin, n);
    if (!rows) {
        h5_err(e, "rows %zu to %zu cannot be read", begin, begin + n - 1);
        return bad(c, e);
    }
    if (n)
        memcpy(out, rows, n * c->window.element);
    return 0;
}

int column_integers(struct column *c, size_t begin, size_t n, int64_t *out, struct err *e)
{
    if (c->kind != COLUMN_INTEGERS)
        die("column \"%s\" of %s is read as integers", c->name, c->path);
    return numbers(c, begin, n, out, e);
}

int column_reals(struct column *c, size_t begin, size_t n, double *out, struct err *e)
{
    if (c->kind != COLUMN_REALS)
        die("column \"%s\" of %s is read as reals", c->name, c->path);
    return numbers(c, begin, n, out, e);
}
