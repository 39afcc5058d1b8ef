/* window.h - reading a one-dimensional dataset element by element without paying for each.
 *
 * Holds one stretch of the dataset in memory and reads the next when it is left: reading forward in
 * small pieces costs one HDF5 call per stretch. Elements of fixed size only (numbers, compounds,
 * fixed-length strings). One thread.
 */
#ifndef TANDEM_DATA_WINDOW_H
#define TANDEM_DATA_WINDOW_H

#include "base/err.h"

#include <hdf5.h>
#include <stddef.h>

struct window {
    hid_t dataset, type; /* type: of an element in memory; neither is owned */
    size_t element;      /* bytes of an element in memory */
    size_t total;        /* elements of the dataset */
    size_t ahead;        /* elements read at once, when not more are asked for */
    size_t begin, held, room;
    char *data;
};

/* ahead_bytes: how much is read at once, when not more is asked for. */
void window_init(struct window *w, hid_t dataset, hid_t type, size_t total, size_t ahead_bytes);
void window_free(struct window *w);

/* n elements from `begin` on, valid until the next call; NULL when HDF5 cannot read them (its
 * reason is left for h5_err()); the dataset must not be read again then. begin + n <= total is the
 * caller's to check. */
const void *window_get(struct window *w, size_t begin, size_t n);

#endif
