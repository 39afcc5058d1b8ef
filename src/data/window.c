#include "data/window.h"

#include "base/mem.h"
#include "data/h5.h"

#include <stdlib.h>

void window_init(struct window *w, hid_t dataset, hid_t type, size_t total, size_t ahead_bytes)
{
    *w = (struct window){.dataset = dataset, .type = type, .total = total};
    w->element = H5Tget_size(type);
    w->ahead = ahead_bytes / w->element ? ahead_bytes / w->element : 1;
}

void window_free(struct window *w)
{
    free(w->data);
    *w = (struct window){0};
}

static int load(struct window *w, size_t begin, size_t n)
{
    if (n > w->room) {
        free(w->data);
        w->data = mem_new(n, w->element);
        w->room = n;
    }
    w->held = 0;
    hsize_t from = begin, count = n;
    hid_t file_space = H5Dget_space(w->dataset);
    hid_t space = H5Screate_simple(1, &count, NULL);
    if (file_space < 0 || space < 0 ||
        H5Sselect_hyperslab(file_space, H5S_SELECT_SET, &from, NULL, &count, NULL) < 0)
        die("HDF5 cannot select %zu elements from %zu of %zu", n, begin, w->total);
    herr_t rc = H5Dread(w->dataset, w->type, space, file_space, H5P_DEFAULT, w->data);
    if (rc >= 0) {
        w->begin = begin;
        w->held = n;
    }
    h5_close(space);
    h5_close(file_space);
    return rc < 0 ? -1 : 0;
}

const void *window_get(struct window *w, size_t begin, size_t n)
{
    if (n == 0)
        return "";
    if (begin < w->begin || begin + n > w->begin + w->held) {
        size_t left = w->total - begin;
        size_t want = n > w->ahead ? n : w->ahead < left ? w->ahead : left;
        if (load(w, begin, want) != 0)
            return NULL;
    }
    return w->data + (begin - w->begin) * w->element;
}
