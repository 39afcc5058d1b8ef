#include "data/column.h"

#include "base/mem.h"
#include "data/h5.h"
#include "data/window.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (64u << 10)
#define AHEAD_ROWS   256u         /* most variable-length strings read at once */
#define AHEAD_BYTES  (512u << 10) /* and about as many bytes */
#define ELEMENT_MAX  (64u << 20)  /* most bytes of a string of fixed length */
#define CACHE_MAX    (256u << 20) /* a chunk above this is not kept decompressed */
#define LIST_MAX     (16u << 20)  /* most integers of a list */

struct column {
    char *path, *name;
    hid_t file;                  /* not owned */
    hid_t access, dataset, type; /* type: of an element in memory */
    enum column_kind kind;
    bool is_unsigned; /* integers: as uint64_t in memory, else as int64_t */
    bool variable;    /* strings of variable length: `rows`; else `window` */
    bool outside;     /* a link led out of the file */
    size_t most;      /* bytes a string may have, and why: "fit the context" */
    const char *why;
    size_t too_long; /* bytes of a string that had more, in the last read */
    int fault;       /* errno of the last read, 0: of no system call */
    H5T_str_t padding;
    size_t count, width; /* width: elements of a row of two dimensions, else 0 */
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

/* A file that others wrote must not make this job read further files. */
static herr_t refuse_link(const char *parent_file, const char *parent_group, const char *file,
                          const char *object, unsigned *flags, hid_t access, void *column)
{
    (void)parent_file, (void)parent_group, (void)file, (void)object, (void)flags, (void)access;
    ((struct column *)column)->outside = true;
    return -1;
}

static int open_dataset(struct column *c, struct err *e)
{
    bool there = h5_has(c->file, c->name);
    c->access = H5Pcreate(H5P_DATASET_ACCESS);
    H5Pset_elink_cb(c->access, refuse_link, c);
    c->dataset = H5Dopen2(c->file, c->name, c->access);
    if (c->dataset >= 0)
        return 0;
    if (c->outside)
        return err_set(e, "is a link into another file; copy the data into this one (h5copy)");
    return h5_err(e, there ? "cannot be opened as a dataset" : "is not in the file");
}

static int check_storage(const struct column *c, struct err *e)
{
    hid_t creation = H5Dget_create_plist(c->dataset);
    int external = H5Pget_external_count(creation);
    H5D_layout_t layout = H5Pget_layout(creation);
    H5Pclose(creation);
    if (external != 0)
        return err_set(e, "keeps its data in other files (external storage), which are not read; "
                          "copy the data into this one (h5repack)");
    if (layout == H5D_VIRTUAL)
        return err_set(e, "is a virtual dataset, put together from other files, which are not "
                          "read; copy the data into this one");
    return 0;
}

/* A dataset is never used again after a read that failed: HDF5's buffer then holds zeros that it
 * takes for data. */
static void reopen(struct column *c)
{
    H5Dclose(c->dataset);
    c->dataset = c->window.dataset = H5Dopen2(c->file, c->name, c->access);
}

/* A chunk that does not fit HDF5's cache of 1 MiB would be decompressed once for every row. */
static void enlarge_cache(struct column *c)
{
    hid_t creation = H5Dget_create_plist(c->dataset);
    hsize_t chunk = 0;
    bool chunked = H5Pget_layout(creation) == H5D_CHUNKED && H5Pget_chunk(creation, 1, &chunk) == 1;
    H5Pclose(creation);
    hid_t type = H5Dget_type(c->dataset);
    /* In the file a string of variable length is a reference of 16 bytes, whatever the type says. */
    size_t size = H5Tis_variable_str(type) > 0 ? 16 : H5Tget_size(type);
    size_t bytes = (size_t)chunk * size;
    H5Tclose(type);
    if (!chunked || bytes <= 1u << 20 || bytes > CACHE_MAX)
        return;
    H5Pset_chunk_cache(c->access, H5D_CHUNK_CACHE_NSLOTS_DEFAULT, bytes, 1.0);
    reopen(c);
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
    hsize_t n[2] = {0, 0};
    if (dims == 1 || dims == 2)
        H5Sget_simple_extent_dims(space, n, NULL);
    H5Sclose(space);
    hid_t type = H5Dget_type(c->dataset);
    bool lists = dims == 2 && H5Tget_class(type) == H5T_INTEGER && n[1] > 0 && n[1] <= LIST_MAX;
    H5Tclose(type);
    if (dims != 1 && !lists)
        return err_set(e, "wanted one dimension, found %d", dims);
    c->count = (size_t)n[0];
    c->width = lists ? (size_t)n[1] : 0;
    return 0;
}

static const char *class_name(H5T_class_t class)
{
    static const char *const names[] = {
        [H5T_INTEGER] = "integers",
        [H5T_FLOAT] = "reals",
        [H5T_TIME] = "times",
        [H5T_STRING] = "strings",
        [H5T_BITFIELD] = "bit fields",
        [H5T_OPAQUE] = "opaque bytes",
        [H5T_COMPOUND] = "compound values",
        [H5T_REFERENCE] = "references",
        [H5T_ENUM] = "an enumeration (h5py writes booleans so)",
        [H5T_VLEN] = "lists of variable length",
        [H5T_ARRAY] = "arrays",
    };
    return class >= 0 && (size_t) class < sizeof names / sizeof *names ? names[class]
                                                                       : "an unknown type";
}

/* Lists of variable length. False: the elements are no integers. */
static bool choose_lists(struct column *c, hid_t type)
{
    hid_t element = H5Tget_super(type);
    bool fits = H5Tget_class(element) == H5T_INTEGER;
    H5Tclose(element);
    if (!fits)
        return false;
    c->kind = COLUMN_LISTS;
    c->type = H5Tvlen_create(H5T_NATIVE_INT64);
    snprintf(c->describe, sizeof c->describe, "lists of integers");
    return true;
}

/* The type in memory, from that in the file. */
static int choose_type(struct column *c, struct err *e)
{
    hid_t type = H5Dget_type(c->dataset);
    H5T_class_t class = H5Tget_class(type);
    size_t bits = H5Tget_size(type) * 8;
    int rc = 0;
    if (class == H5T_STRING) {
        c->kind = COLUMN_STRINGS;
        c->variable = H5Tis_variable_str(type) > 0;
        c->padding = H5Tget_strpad(type);
        c->type = H5Tcopy(type); /* HDF5 converts neither character sets nor padding usefully */
        snprintf(c->describe, sizeof c->describe, "strings");
    } else if (class == H5T_INTEGER || class == H5T_FLOAT) {
        c->kind = class == H5T_INTEGER ? COLUMN_INTEGERS : COLUMN_REALS;
        c->is_unsigned = class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE;
        c->type = H5Tcopy(c->is_unsigned         ? H5T_NATIVE_UINT64
                          : class == H5T_INTEGER ? H5T_NATIVE_INT64
                                                 : H5T_NATIVE_DOUBLE);
        snprintf(c->describe, sizeof c->describe, "%s of %zu bits",
                 class == H5T_INTEGER ? "integers" : "floating-point numbers", bits);
    } else if (class != H5T_VLEN || !choose_lists(c, type)) {
        rc = err_set(e, "wanted strings or numbers, found %s", class_name(class));
    }
    if (rc == 0 && class == H5T_STRING && !c->variable && bits / 8 > ELEMENT_MAX)
        rc = err_set(e, "its strings have a fixed length of %zu bytes; use variable length",
                     bits / 8);
    if (rc == 0 && c->width) {
        c->kind = COLUMN_LISTS;
        snprintf(c->describe, sizeof c->describe, "rows of %zu integers", c->width);
    }
    H5Tclose(type);
    return rc;
}

/* HDF5 asks for the memory of every string with these. */
static void *give(size_t bytes, void *column)
{
    struct column *c = column;
    if (bytes > 0 && bytes - 1 > c->most)
        c->too_long = bytes - 1;
    /* NULL is HDF5's own error then: a damaged length is no reason to end the job. */
    bool wanted = c->n_given < AHEAD_ROWS && !c->too_long;
    void *memory = wanted ? malloc(bytes ? bytes : 1) : NULL;
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
    c->file = file;
    c->access = c->dataset = c->type = c->transfer = -1;
    c->next = c->most = SIZE_MAX;
    int rc = open_dataset(c, e);
    if (rc == 0)
        rc = check_storage(c, e);
    if (rc == 0)
        rc = check_space(c, e);
    if (rc == 0)
        rc = choose_type(c, e);
    if (rc == 0)
        rc = check_filters(c, e);
    if (rc == 0)
        enlarge_cache(c);
    if (rc != 0) {
        bad(c, e);
        column_close(c);
        return -1;
    }
    if (c->variable || (c->kind == COLUMN_LISTS && !c->width)) {
        c->transfer = H5Pcreate(H5P_DATASET_XFER);
        H5Pset_vlen_mem_manager(c->transfer, give, c, take_back, c);
    } else if (!c->width) {
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
    h5_close(c->access);
    free(c->path);
    free(c->name);
    free(c);
}

enum column_kind column_kind(const struct column *c)
{
    return c->kind;
}

bool column_is_unsigned(const struct column *c)
{
    return c->is_unsigned;
}

size_t column_count(const struct column *c)
{
    return c->count;
}

const char *column_describe(const struct column *c)
{
    return c->describe;
}

void column_limit(struct column *c, size_t bytes, const char *why)
{
    c->most = bytes;
    c->why = why;
}

int column_fault(const struct column *c)
{
    return c->fault;
}

/* What to say of a read that failed, while HDF5 still knows why; the dataset is then a new one. */
static int failed(struct column *c, size_t row, struct err *e)
{
    c->fault = h5_fault();
    if (c->too_long)
        err_set(e, "row %zu has %zu bytes, at most %zu %s", row, c->too_long, c->most, c->why);
    else
        h5_err(e, "row %zu cannot be read", row);
    reopen(c);
    return bad(c, e);
}

static int load_rows(struct column *c, size_t begin, size_t n, struct err *e)
{
    drop_rows(c);
    c->too_long = 0;
    memset(c->rows, 0, sizeof c->rows);
    hsize_t from = begin, count = n;
    hid_t file_space = H5Dget_space(c->dataset);
    hid_t space = H5Screate_simple(1, &count, NULL);
    H5Sselect_hyperslab(file_space, H5S_SELECT_SET, &from, NULL, &count, NULL);
    int rc = 0;
    if (H5Dread(c->dataset, c->type, space, file_space, c->transfer, c->rows) < 0)
        rc = failed(c, begin, e);
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
    c->ahead = 1; /* one damaged row must not take its neighbors with it */
    return n == 1 ? -1 : load_rows(c, i, 1, e);
}

/* As window_get(); what cannot be read of the elements behind does no harm to these. */
static const char *hold_elements(struct column *c, size_t begin, size_t n, struct err *e)
{
    const char *held = window_get(&c->window, begin, n);
    if (!held && h5_fault() == 0) {
        size_t ahead = c->window.ahead;
        reopen(c);
        c->window.ahead = 1;
        held = window_get(&c->window, begin, n);
        c->window.ahead = ahead;
    }
    if (!held)
        failed(c, begin, e);
    return held;
}

int column_string(struct column *c, size_t i, char **text, size_t *bytes, struct err *e)
{
    c->fault = 0;
    if (c->variable) {
        int rc = hold_row(c, i, e);
        c->next = i + 1;
        if (rc != 0)
            return -1;
        const char *row = c->rows[i - c->begin];
        *bytes = row ? strlen(row) : 0;
        *text = mem_string_n(row ? row : "", *bytes);
        return 0;
    }
    const char *row = hold_elements(c, i, 1, e);
    if (!row)
        return -1;
    size_t n = c->window.element;
    if (c->padding == H5T_STR_NULLTERM)
        n = strnlen(row, n);
    else
        while (n && row[n - 1] == (c->padding == H5T_STR_SPACEPAD ? ' ' : 0))
            n--;
    if (n > c->most) {
        err_set(e, "row %zu has %zu bytes, at most %zu %s", i, n, c->most, c->why);
        return bad(c, e);
    }
    *bytes = n;
    *text = mem_string_n(row, n);
    return 0;
}

/* Rows of a numeric column; both kinds have elements of 8 bytes in memory. */
static int numbers(struct column *c, size_t begin, size_t n, void *out, struct err *e)
{
    c->fault = 0;
    const void *rows = hold_elements(c, begin, n, e);
    if (!rows)
        return -1;
    if (n)
        memcpy(out, rows, n * c->window.element);
    return 0;
}

int column_integers(struct column *c, size_t begin, size_t n, int64_t *out, struct err *e)
{
    if (c->kind != COLUMN_INTEGERS)
        die("column \"%s\" of %s is read as integers", c->name, c->path);
    if (numbers(c, begin, n, out, e) != 0)
        return -1;
    for (size_t i = 0; i < n && c->is_unsigned; i++)
        out[i] = out[i] < 0 ? INT64_MAX : out[i];
    return 0;
}

int column_decimal(struct column *c, size_t i, char text[24], struct err *e)
{
    int64_t value;
    if (c->kind != COLUMN_INTEGERS)
        die("column \"%s\" of %s is read as integers", c->name, c->path);
    if (numbers(c, i, 1, &value, e) != 0)
        return -1;
    if (c->is_unsigned)
        snprintf(text, 24, "%" PRIu64, (uint64_t)value);
    else
        snprintf(text, 24, "%" PRId64, value);
    return 0;
}

int column_list(struct column *c, size_t i, int64_t **values, size_t *n, struct err *e)
{
    hsize_t from[2] = {i, 0}, count[2] = {1, c->width ? c->width : 1};
    int dims = c->width ? 2 : 1;
    hvl_t list = {0, NULL};
    if (c->kind != COLUMN_LISTS)
        die("column \"%s\" of %s is read as lists", c->name, c->path);
    drop_rows(c);
    c->fault = 0;
    c->too_long = 0;
    *n = c->width;
    *values = mem_new(c->width, sizeof **values);
    hid_t file_space = H5Dget_space(c->dataset), space = H5Screate_simple(dims, count, NULL);
    H5Sselect_hyperslab(file_space, H5S_SELECT_SET, from, NULL, count, NULL);
    void *to = c->width ? (void *)*values : &list;
    int rc = H5Dread(c->dataset, c->type, space, file_space, c->width ? H5P_DEFAULT : c->transfer,
                     to) < 0
                 ? failed(c, i, e)
                 : 0;
    if (rc == 0 && !c->width) {
        *n = list.len;
        *values = mem_resize(*values, list.len, sizeof **values);
        if (list.len)
            memcpy(*values, list.p, list.len * sizeof **values);
    }
    drop_rows(c);
    H5Sclose(space);
    H5Sclose(file_space);
    if (rc != 0) {
        free(*values);
        *values = NULL;
    }
    return rc;
}

int column_reals(struct column *c, size_t begin, size_t n, double *out, struct err *e)
{
    if (c->kind != COLUMN_REALS)
        die("column \"%s\" of %s is read as reals", c->name, c->path);
    return numbers(c, begin, n, out, e);
}
