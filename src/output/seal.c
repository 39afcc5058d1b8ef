#include "output/seal.h"

#include "base/disk.h"
#include "base/hash.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE (4u << 20) /* bytes hashed at once */

static const char mark[16] = "tandem sealed 1";

struct seal {
    char mark[16];
    uint64_t bytes, hash; /* of everything before it; bytes also tells a seal from other text */
};

static int hash_file(int fd, const char *path, uint64_t bytes, uint64_t *hash, struct err *e)
{
    char *piece = mem_aligned(PIECE, 1);
    int rc = 0;
    *hash = HASH_START;
    for (uint64_t at = 0; at < bytes && rc == 0; at += PIECE) {
        size_t n = bytes - at < PIECE ? (size_t)(bytes - at) : PIECE, got;
        rc = disk_read(fd, path, piece, n, at, &got, e);
        if (rc == 0 && got < n)
            rc = err_set(e, "%s: became shorter while it was read", path);
        if (rc == 0)
            *hash = hash_bytes(*hash, piece, n);
    }
    free(piece);
    return rc;
}

int seal_put(const char *path, struct err *e)
{
    struct seal seal = {.bytes = 0};
    int fd = disk_open(path, O_RDWR, e);
    if (fd < 0)
        return fd == -2 ? err_set(e, "%s: is gone", path) : -1;
    memcpy(seal.mark, mark, sizeof seal.mark);
    int rc = disk_size(fd, path, &seal.bytes, e);
    if (rc == 0)
        rc = hash_file(fd, path, seal.bytes, &seal.hash, e);
    if (rc == 0)
        rc = disk_write(fd, path, &seal, sizeof seal, seal.bytes, e);
    if (rc == 0)
        rc = disk_sync(fd, path, e);
    int why = errno;
    close(fd);
    errno = why;
    return rc;
}

static int check(int fd, const char *path, bool *sealed, struct err *e)
{
    struct seal seal;
    uint64_t bytes, hash;
    size_t got;
    if (disk_size(fd, path, &bytes, e) != 0)
        return -1;
    if (bytes < sizeof seal)
        return 0;
    if (disk_read(fd, path, &seal, sizeof seal, bytes - sizeof seal, &got, e) != 0)
        return -1;
    /* One changed bit in the seal itself leaves the mark or the length. */
    bool marked = memcmp(seal.mark, mark, sizeof mark) == 0;
    if (!marked && seal.bytes != bytes - sizeof seal)
        return 0;
    if (sealed)
        *sealed = true;
    if (!marked || seal.bytes != bytes - sizeof seal)
        return err_set(e, "%s: is damaged at its end", path);
    if (hash_file(fd, path, seal.bytes, &hash, e) != 0)
        return -1;
    if (hash != seal.hash)
        return err_set(e, "%s: is damaged: it is not as it was written", path);
    return 0;
}

int seal_check(const char *path, bool *sealed, struct err *e)
{
    if (sealed)
        *sealed = false;
    int fd = disk_open(path, O_RDONLY, e);
    if (fd < 0)
        return fd == -2 ? err_set(e, "%s: cannot be opened: %s", path, strerror(ENOENT)) : -1;
    int rc = check(fd, path, sealed, e);
    close(fd);
    return rc;
}
