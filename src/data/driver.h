/* driver.h - how HDF5 reads and writes our output: with patience (base/patience.h), and so that it
 * never hears of a full disk.
 *
 * When a write fails inside H5Fclose(), HDF5 frees the file but keeps its id, and crashes when it
 * meets the id again, at the latest at exit (seen with 1.10.8). A job must outlive a full disk: so
 * this file driver remembers the first failure and tells HDF5 that all went well. Whoever writes
 * looks at the state now and then, and before believing in a closed file.
 */
#ifndef TANDEM_DATA_DRIVER_H
#define TANDEM_DATA_DRIVER_H

#include <hdf5.h>

/* Stays where it is as long as the file is open. */
struct driver_state {
    int failure;  /* errno of the first call that failed; 0: none */
    hid_t driver; /* its registration: HDF5 looks at it until the file is closed, and a little
                     longer */
};

/* A file access property list with this driver, for H5Fcreate() with H5F_ACC_EXCL (no symbolic link
 * is followed) and for H5Fopen() to read. The caller closes it. Sets *state and keeps the pointer. A
 * file that cannot be created or opened is a failure too. When reading, failures are HDF5's too. */
hid_t driver_access(struct driver_state *state);

/* After the file was closed, or could not be created. */
void driver_release(struct driver_state *state);

#endif
