#include "data/driver.h"

#include "base/err.h"
#include "base/mem.h"

#if defined __has_include
#if __has_include(<H5FDdevelop.h>)
#include <H5FDdevelop.h> /* HDF5 1.14 moved the driver interface here */
#endif
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DRIVER_NAME "tandem"

struct file {
    H5FD_t base; /* HDF5's part; first */
    int fd;
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
    const struct parameters *p = H5Pget_driver_info(access);
    if (!p || !(flags & H5F_ACC_CREAT))
        return NULL;
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        p->state->failure = errno;
        return NULL;
    }
    struct file *f = mem_zeroed(1, sizeof *f);
    f->fd = fd;
    f->state = p->state;
    return &f->base;
}

static herr_t close_file(H5FD_t *base)
{
    struct file *f = (struct file *)base;
    if (close(f->fd) != 0) /* NFS says here that the quota is used up */
        failed(f, errno);
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
    char *to = buffer;
    while (size) {
        ssize_t n = pread(f->fd, to, size, (off_t)address);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            failed(f, errno);
        if (n <= 0) { /* what was never written reads as zeros */
            memset(to, 0, size);
            return 0;
        }
        to += n;
        address += (haddr_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static herr_t write_bytes(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t address,
                          size_t size, const void *buffer)
{
    (void)type, (void)transfer;
    struct file *f = (struct file *)base;
    const char *from = buffer;
    if (address + size > f->end)
        f->end = address + size;
    while (size && !f->state->failure) {
        ssize_t n = pwrite(f->fd, from, size, (off_t)address);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            failed(f, n < 0 ? errno : ENOSPC);
            break;
        }
        from += n;
        address += (haddr_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static herr_t truncate_file(H5FD_t *base, hid_t transfer, hbool_t closing)
{
    (void)transfer, (void)closing;
    struct file *f = (struct file *)base;
    if (f->end != f->allocated) {
        if (ftruncate(f->fd, (off_t)f->allocated) != 0)
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
