#include "data/driver.h"

#include "base/disk.h"
#include "base/err.h"
#include "base/mem.h"

#if defined __has_include
#if __has_include(<H5FDdevelop.h>)
#include <H5FDdevelop.h> /* HDF5 1.14 moved the driver interface here */
#endif
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DRIVER_NAME "tandem"

struct file {
    H5FD_t base; /* HDF5's part; first */
    int fd;
    bool reading;
    char *path;
    haddr_t allocated, end; /* what HDF5 has given out; what is written, or believed to be */
    struct driver_state *state;
};

/* The property list carries the pointer to the caller's state, by value. */
struct parameters {
    struct driver_state *state;
};

static void failed(struct file *f, int why)
{
    if (!f->state->failure)
        f->state->failure = why ? why : EIO;
}

static H5FD_t *open_file(const char *name, unsigned flags, hid_t access, haddr_t most)
{
    (void)most;
    struct err e;
    const struct parameters *p = H5Pget_driver_info(access);
    bool reading = !(flags & H5F_ACC_CREAT);
    if (!p || (reading && (flags & H5F_ACC_RDWR)))
        return NULL;
    uint64_t end = 0;
    int fd = disk_open(name, reading ? O_RDONLY : O_RDWR | O_CREAT | O_EXCL, &e);
    if (fd < 0 || (reading && disk_size(fd, name, &end, &e) != 0)) {
        p->state->failure = errno;
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    struct file *f = mem_zeroed(1, sizeof *f);
    f->fd = fd;
    f->reading = reading;
    f->path = mem_string(name);
    f->state = p->state;
    f->end = end;
    return &f->base;
}

static herr_t close_file(H5FD_t *base)
{
    struct file *f = (struct file *)base;
    /* NFS says here that the quota is used up. */
    if (close(f->fd) != 0 && errno != EINTR && !f->reading)
        failed(f, errno);
    free(f->path);
    free(f);
    return 0;
}

static herr_t query(const H5FD_t *base, unsigned long *flags)
{
    (void)base;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA | H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
    return 0;
}

static haddr_t get_allocated(const H5FD_t *base, H5FD_mem_t type)
{
    (void)type;
    return ((const struct file *)base)->allocated;
}

static herr_t set_allocated(H5FD_t *base, H5FD_mem_t type, haddr_t address)
{
    (void)type;
    ((struct file *)base)->allocated = address;
    return 0;
}

static haddr_t get_end(const H5FD_t *base, H5FD_mem_t type)
{
    (void)type;
    return ((const struct file *)base)->end;
}

static herr_t read_bytes(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t address,
                         size_t size, void *buffer)
{
    (void)type, (void)transfer;
    struct file *f = (struct file *)base;
    struct err e;
    size_t got = 0;
    if (disk_read(f->fd, f->path, buffer, size, address, &got, &e) != 0) {
        failed(f, errno);
        if (f->reading)
            return -1;
    }
    memset((char *)buffer + got, 0, size - got); /* what was never written reads as zeros */
    return 0;
}

static herr_t write_bytes(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t address,
                          size_t size, const void *buffer)
{
    (void)type, (void)transfer;
    struct file *f = (struct file *)base;
    struct err e;
    if (address + size > f->end)
        f->end = address + size;
    if (!f->state->failure && disk_write(f->fd, f->path, buffer, size, address, &e) != 0)
        failed(f, errno);
    return 0;
}

static herr_t truncate_file(H5FD_t *base, hid_t transfer, hbool_t closing)
{
    (void)transfer, (void)closing;
    struct file *f = (struct file *)base;
    struct err e;
    if (!f->reading && f->end != f->allocated) {
        if (disk_cut(f->fd, f->path, f->allocated, &e) != 0)
            failed(f, errno);
        f->end = f->allocated;
    }
    return 0;
}

static void *copy_parameters(const void *from)
{
    struct parameters *p = mem_new(1, sizeof *p);
    memcpy(p, from, sizeof *p);
    return p;
}

static herr_t free_parameters(void *p)
{
    free(p);
    return 0;
}

static const H5FD_class_t driver = {
#ifdef H5FD_CLASS_VERSION
    .version = H5FD_CLASS_VERSION,
    .value = (H5FD_class_value_t)511, /* the last number of those for private use */
#endif
    .name = DRIVER_NAME,
    .maxaddr = (haddr_t)INT64_MAX,
    .fc_degree = H5F_CLOSE_STRONG,
    .fapl_size = sizeof(struct parameters),
    .fapl_copy = copy_parameters,
    .fapl_free = free_parameters,
    .open = open_file,
    .close = close_file,
    .query = query,
    .get_eoa = get_allocated,
    .set_eoa = set_allocated,
    .get_eof = get_end,
    .read = read_bytes,
    .write = write_bytes,
    .truncate = truncate_file,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

hid_t driver_access(struct driver_state *state)
{
    const struct parameters p = {state};
    state->failure = 0;
    state->driver = H5FDregister(&driver);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (state->driver < 0 || access < 0 || H5Pset_driver(access, state->driver, &p) < 0 ||
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) < 0)
        die("HDF5 does not take our file driver");
    return access;
}

void driver_release(struct driver_state *state)
{
    if (state->driver >= 0)
        H5FDunregister(state->driver);
    state->driver = -1;
}
