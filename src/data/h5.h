/* h5.h - HDF5 for this folder: errors as messages, attributes, opening files.
 *
 * Only src/data/ and src/output/ include hdf5.h. The library is serial and not thread-safe: every function of these
 * folders is called from one thread at a time. HDF5's own printing is switched off; its reason for a
 * failure is the end of our message.
 */
#ifndef TANDEM_DATA_H5_H
#define TANDEM_DATA_H5_H

#include "base/err.h"
#include "data/driver.h"

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

/* Switches HDF5's printing off; whatever opens or creates a file calls it first. Again: nothing. */
void h5_quiet(void);

/* err_set() with HDF5's reason behind the message, and what to do when a file could not be locked.
 * To be called before any HDF5 function but h5_close(), or the reason is lost. Returns -1. */
int h5_err(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* errno of the system call that made the last HDF5 function fail; 0: it was none. To be called where
 * h5_err() is, before it or after. */
int h5_fault(void);

/* Closes an id of any kind (a negative one: nothing) and keeps the reason of an earlier failure. */
void h5_close(hid_t id);

/* Opens for reading; the file's absence, another format and a cut off file are said in plain words.
 */
int h5_open(hid_t *out, const char *path, struct err *e);

/* A file being written. Stays where it is while the file is open. */
struct h5_output {
    hid_t file; /* negative: not open */
    struct driver_state state;
    struct append_pool *pool; /* chunks not written yet (append.h) */
};

/* Creates, or replaces. Closing the file closes everything open in it. */
int h5_create(struct h5_output *o, const char *path, struct err *e);

/* Opens a file of our own for reading, with patience; h5_abandon() closes it. -1: state.failure is
 * set when it is no regular file or cannot be read, 0 when it is not HDF5. */
int h5_read_output(struct h5_output *o, const char *path, struct err *e);

/* Closes the file, whatever happens. -1: something of it could not be written. */
int h5_finish(struct h5_output *o, const char *path, struct err *e);

/* Closes a file that is worthless; not open: nothing. */
void h5_abandon(struct h5_output *o);

/* Is there a link of that name in the file's root? */
bool h5_has(hid_t file, const char *name);

/* What is in the file's root, for messages: "\"a\", \"b\", ..."; only the first. text holds `size`
 * bytes. */
const char *h5_list(hid_t file, char *text, size_t size);

/* Type of a variable-length UTF-8 string. The caller closes it. */
hid_t h5_string_type(void);

/* Attributes with one value. Writing: 0, or -1 with the reason left for h5_err(). A string goes in
 * as variable-length UTF-8: it may be longer than the 64 KiB of an ordinary attribute. */
int h5_put_string(hid_t object, const char *name, const char *value);
int h5_put_u64(hid_t object, const char *name, uint64_t value);

/* Reading: malloc'd string, or NULL when there is none; false when there is no such integer. */
char *h5_get_string(hid_t object, const char *name);
bool h5_get_u64(hid_t object, const char *name, uint64_t *value);

#endif
