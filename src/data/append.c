#include "data/append.h"

#include "base/mem.h"
#include "data/h5.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES  (512u << 10) /* half of HDF5's chunk cache */
#define CHUNK_ROWS   (64u << 10)  /* most elements of a chunk: small types */
#define STRING_ROWS  1024u        /* strings gathered, and elements of their chunk */
#define STRING_BYTES (8u << 20)   /* written earlier when they are long */

struct append {
    char *name;
    const struct driver_state *state;
    hid_t dataset, type;
    bool strings;
    size_t element, total, room, held, written, text_bytes;
    char *data;
};

static hid_t creation(const struct append_spec *s, size_t chunk_rows)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    if (s->flat)
        return plist;
    hsize_t chunk = chunk_rows;
    if (H5Pset_chunk(plist, 1, &chunk) < 0 || H5Pset_shuffle(plist) < 0 ||
        H5Pset_deflate(plist, 4) < 0)
        die("HDF5 was built without gzip");
    return plist;
}

int append_open(struct append **out, const struct h5_output *output, hid_t where,
                const struct append_spec *spec, struct err *e)
{
    struct append *a = mem_zeroed(1, sizeof *a);
    a->name = mem_string(spec->name);
    a->type = H5Tcopy(spec->type);
    a->strings = spec->strings;
    a->total = spec->total;
    a->state = &output->state;
    a->element = spec->strings ? sizeof(char *) : H5Tget_size(spec->type);
    a->room = spec->strings ? STRING_ROWS : CHUNK_BYTES / a->element;
    if (a->room > CHUNK_ROWS && !spec->flat)
        a->room = CHUNK_ROWS;
    if (a->room == 0)
        a->room = 1;
    a->data = mem_new(a->room, a->element);
    bool grows = spec->total == APPEND_GROWS;
    hsize_t now = grows ? 0 : spec->total, most = grows ? H5S_UNLIMITED : now;
    hid_t space = H5Screate_simple(1, &now, &most);
    /* A chunk may not be larger than a dataset that cannot grow. */
    size_t chunk = grows || now > a->room ? a->room : now ? (size_t)now : 1;
    struct append_spec layout = *spec;
    layout.flat = spec->flat || (!grows && now == 0); /* nothing cannot be cut into chunks */
    hid_t plist = creation(&layout, chunk);
    a->dataset = H5Dcreate2(where, spec->name, a->type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    int rc = 0;
    if (a->dataset < 0 || (spec->unit && h5_put_string(a->dataset, "unit", spec->unit) != 0) ||
        (spec->description && h5_put_string(a->dataset, "description", spec->description) != 0))
        rc = h5_err(e, "dataset \"%s\" cannot be created", spec->name);
    H5Pclose(plist);
    H5Sclose(space);
    if (rc != 0) {
        append_drop(a);
        return -1;
    }
    *out = a;
    return 0;
}

static void forget(struct append *a)
{
    if (a->strings)
        for (size_t i = 0; i < a->held; i++)
            free(((char **)a->data)[i]);
    a->held = a->text_bytes = 0;
}

static int flush(struct append *a, struct err *e)
{
    if (a->held == 0)
        return 0;
    hsize_t from = a->written, count = a->held, end = from + count;
    if (a->total == APPEND_GROWS && H5Dset_extent(a->dataset, &end) < 0)
        return h5_err(e, "dataset \"%s\" cannot grow to %zu elements", a->name, (size_t)end);
    if (a->total != APPEND_GROWS && end > a->total)
        die("dataset \"%s\": %zu elements were announced, %zu came", a->name, a->total,
            (size_t)end);
    hid_t file_space = H5Dget_space(a->dataset);
    hid_t space = H5Screate_simple(1, &count, NULL);
    H5Sselect_hyperslab(file_space, H5S_SELECT_SET, &from, NULL, &count, NULL);
    int rc = 0;
    if (H5Dwrite(a->dataset, a->type, space, file_space, H5P_DEFAULT, a->data) < 0)
        rc = h5_err(e, "dataset \"%s\" cannot be written", a->name);
    else if (a->state->failure)
        rc = err_set(e, "dataset \"%s\" cannot be written: %s", a->name,
                     strerror(a->state->failure));
    H5Sclose(space);
    H5Sclose(file_space);
    a->written += a->held;
    forget(a);
    return rc;
}

int append_put(struct append *a, const void *elements, size_t n, struct err *e)
{
    const char *from = elements;
    while (n) {
        size_t room = a->room - a->held;
        size_t take = n < room ? n : room;
        memcpy(a->data + a->held * a->element, from, take * a->element);
        a->held += take;
        from += take * a->element;
        n -= take;
        if (a->held == a->room && flush(a, e) != 0)
            return -1;
    }
    return 0;
}

int append_string(struct append *a, const char *text, struct err *e)
{
    char *copy = mem_string(text);
    memcpy(a->data + a->held * a->element, &copy, sizeof copy);
    a->held++;
    a->text_bytes += strlen(text);
    return a->held == a->room || a->text_bytes > STRING_BYTES ? flush(a, e) : 0;
}

void append_drop(struct append *a)
{
    if (!a)
        return;
    forget(a);
    if (a->dataset >= 0)
        H5Dclose(a->dataset);
    H5Tclose(a->type);
    free(a->data);
    free(a->name);
    free(a);
}

int append_close(struct append *a, struct err *e)
{
    if (!a)
        return 0;
    int rc = flush(a, e);
    if (rc == 0 && a->total != APPEND_GROWS && a->written != a->total)
        die("dataset \"%s\": %zu elements were announced, %zu came", a->name, a->total, a->written);
    append_drop(a);
    return rc;
}
