#include "output/journal.h"

#include "base/disk.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_FORMAT "%08" PRIu64 "-%016" PRIx64 ".journal"
#define WINDOW      (4u << 20) /* bytes read at once */
#define FIRST_READ  4096u      /* of a record: most are not longer */
#define BYTES_MAX   (1u << 30) /* of a payload: a damaged length must not take all memory */

_Static_assert(sizeof(struct journal_record) == 40, "records have no padding");

struct journal {
    char *path;
    int fd;
    uint64_t id, end;
};

static const struct field header_fields[] = {
    {"first_prompt", FIELD_INT64, .offset = offsetof(struct journal_header, first_prompt)},
    {"samples", FIELD_INT64, .offset = offsetof(struct journal_header, samples)},
    {"kept", FIELD_INT64, .offset = offsetof(struct journal_header, kept)},
    {"units", FIELD_INT64, .offset = offsetof(struct journal_header, units)},
    {"signature", FIELD_STRING, .offset = offsetof(struct journal_header, signature)},
    {"identity", FIELD_STRING, .offset = offsetof(struct journal_header, identity)},
    {"attributes", FIELD_STRING, .offset = offsetof(struct journal_header, attributes)},
};

const struct table header_table = {header_fields, sizeof header_fields / sizeof *header_fields,
                                   sizeof(struct journal_header)};

char *journal_signature(void)
{
    char *a = table_signature(&completion_table), *b = table_signature(&piece_table),
         *c = table_signature(&timing_table);
    size_t room = strlen(a) + strlen(b) + strlen(c) + 8;
    char *all = mem_new(room, 1);
    snprintf(all, room, "%s; %s; %s", a, b, c);
    free(a);
    free(b);
    free(c);
    return all;
}

static size_t padded(uint64_t bytes)
{
    return (size_t)((bytes + 7) / 8 * 8);
}

size_t record_room(const struct journal_record *r)
{
    return sizeof *r + padded(r->bytes);
}

static uint64_t checksum(const struct journal_record *r, const char *payload, uint64_t id,
                         uint64_t at)
{
    const uint64_t parts[] = {id, at, r->mark, r->kind, r->unit, r->bytes, r->synced};
    uint64_t h = hash_bytes(HASH_START, parts, sizeof parts);
    return hash_bytes(h, payload, (size_t)r->bytes);
}

void journal_put(struct bytes *batch, enum record_kind kind, uint64_t unit, const struct table *t,
                 const void *rows, size_t n)
{
    static const char zeros[8];
    size_t begin = batch->used;
    struct journal_record r = {.mark = RECORD_MARK, .kind = kind, .unit = unit};
    bytes_add(batch, &r, sizeof r);
    for (size_t i = 0; i < n; i++)
        table_pack(t, (const char *)rows + i * t->row_bytes, batch);
    r.bytes = batch->used - begin - sizeof r;
    if (r.bytes > BYTES_MAX)
        die("unit %" PRIu64 ": a record of %" PRIu64 " bytes", unit, r.bytes);
    bytes_add(batch, zeros, padded(r.bytes) - (size_t)r.bytes);
    memcpy(batch->data + begin, &r, sizeof r);
}

struct journal_record *journal_next(const struct bytes *batch, size_t *at)
{
    if (*at == batch->used)
        return NULL;
    struct journal_record *r = (struct journal_record *)(void *)(batch->data + *at);
    if (batch->used - *at < sizeof *r || r->mark != RECORD_MARK ||
        r->bytes > batch->used - *at - sizeof *r)
        die("a batch of %zu bytes has no record at %zu", batch->used, *at);
    *at += record_room(r);
    return r;
}

/* ---- writing -------------------------------------------------------------------------------- */

static uint64_t random_id(void)
{
    uint64_t id;
    if (getrandom(&id, sizeof id, 0) != sizeof id)
        die("the system gives no random numbers: %s", strerror(errno));
    return id;
}

int journal_create(struct journal **out, const char *directory, uint64_t number,
                   const struct journal_header *header, struct err *e)
{
    struct journal *j = mem_zeroed(1, sizeof *j);
    size_t room = strlen(directory) + 64;
    j->path = mem_new(room, 1);
    j->id = random_id();
    snprintf(j->path, room, "%s/" NAME_FORMAT, directory, number, j->id);
    j->fd = disk_open(j->path, O_RDWR | O_CREAT | O_EXCL, e);
    struct bytes batch = {0};
    uint64_t at;
    journal_put(&batch, RECORD_HEADER, 0, &header_table, header, 1);
    int rc = j->fd < 0 ? -1 : journal_append(j, &batch, &at, e);
    if (rc == 0)
        rc = disk_sync_directory(directory, e);
    free(batch.data);
    if (rc == 0) {
        *out = j;
        return 0;
    }
    int why = errno;
    if (j->fd >= 0) {
        close(j->fd);
        unlink(j->path);
    }
    free(j->path);
    free(j);
    errno = why;
    return -1;
}

const char *journal_path(const struct journal *j)
{
    return j->path;
}

uint64_t journal_id(const struct journal *j)
{
    return j->id;
}

int journal_file(const struct journal *j)
{
    return j->fd;
}

/* A file that has lost its name would take everything and keep nothing. */
static int still_there(const struct journal *j, struct err *e)
{
    struct stat st;
    if (fstat(j->fd, &st) != 0 || st.st_nlink > 0)
        return 0;
    errno = ENOENT;
    return err_set(e, "%s: was removed while the job was running", j->path);
}

int journal_append(struct journal *j, const struct bytes *batch, uint64_t *at, struct err *e)
{
    struct patience p = {0};
    struct journal_record *r;
    for (size_t next = 0, here = 0; (r = journal_next(batch, &next)); here = next) {
        r->synced = j->end;
        r->check = checksum(r, (const char *)(r + 1), j->id, j->end + here);
    }
    *at = j->end;
    /* After fdatasync() has failed, only what is written again can reach the disk. */
    while (disk_write_once(j->fd, j->path, batch->data, batch->used, j->end, e) != 0 ||
           disk_sync(j->fd, j->path, e) != 0) {
        int why = errno;
        struct err ignored;
        disk_cut(j->fd, j->path, j->end, &ignored);
        errno = why;
        if (!patience_again(&p, j->path, "be written"))
            return -1;
    }
    patience_end(&p, j->path);
    if (still_there(j, e) != 0)
        return -1;
    j->end += batch->used;
    return 0;
}

void journal_close(struct journal *j, bool ended)
{
    struct bytes batch = {0};
    struct err ignored;
    uint64_t at;
    if (!j)
        return;
    journal_put(&batch, RECORD_END, 0, NULL, NULL, 0);
    if (ended)
        journal_append(j, &batch, &at,
                       &ignored); /* without it the last batch may be damaged unseen */
    free(batch.data);
    free(j->path);
    free(j);
}

/* ---- reading -------------------------------------------------------------------------------- */

bool journal_name(const char *name, uint64_t *number, uint64_t *id)
{
    char again[64];
    if (sscanf(name, "%" SCNu64 "-%" SCNx64 ".journal", number, id) != 2)
        return false;
    snprintf(again, sizeof again, NAME_FORMAT, *number, *id);
    return strcmp(name, again) == 0;
}

/* The part of the file in memory. */
struct window {
    int fd;
    const char *path;
    uint64_t id, begin, size;
    size_t held, room;
    char *data;
};

/* n bytes at `at`, in memory; the caller knows that the file has them. NULL: they cannot be read. */
static const char *window_at(struct window *w, uint64_t at, size_t n, struct err *e)
{
    if (at >= w->begin && at + n <= w->begin + w->held)
        return w->data + (at - w->begin);
    size_t want = n > WINDOW ? n : WINDOW;
    if (want > w->room) {
        free(w->data);
        w->data = mem_aligned(want, 1);
        w->room = want;
    }
    w->begin = at;
    w->held = 0;
    if (disk_read(w->fd, w->path, w->data, w->size - at < want ? w->size - at : want, at, &w->held,
                  e) != 0)
        return NULL;
    if (w->held >= n)
        return w->data;
    err_set(e, "%s: became shorter while it was read", w->path);
    return NULL;
}

/* The record at `at` when it is sound: 1, and *payload; 0 when not; -1: it cannot be read. */
static int sound(struct window *w, uint64_t at, struct journal_record *r, const char **payload,
                 struct err *e)
{
    if (w->size - at < sizeof *r)
        return 0;
    const char *p = window_at(w, at, sizeof *r, e);
    if (!p)
        return -1;
    memcpy(r, p, sizeof *r);
    if (r->mark != RECORD_MARK || r->bytes > BYTES_MAX || r->synced > at ||
        r->bytes > w->size - at - sizeof *r)
        return 0;
    p = window_at(w, at, sizeof *r + (size_t)r->bytes, e);
    if (!p)
        return -1;
    *payload = p + sizeof *r;
    return checksum(r, *payload, w->id, at) == r->check;
}

/* What is no record, from `at` on, and was not judged yet: the records behind it say. */
struct gap {
    uint64_t at, bytes;
};

struct gaps {
    struct gap *list;
    size_t n, judged;
};

/* A record was made when everything before r->synced was on disk: a gap there is damage. The next record
 * may be of the gap's own batch, and knows nothing; a later one does. */
static void judge(struct gaps *gaps, const struct journal_record *r, struct journal_scan *found)
{
    for (; gaps->judged < gaps->n && gaps->list[gaps->judged].at < r->synced; gaps->judged++) {
        if (found->damaged == 0)
            found->damaged_at = gaps->list[gaps->judged].at;
        found->damaged += gaps->list[gaps->judged].bytes;
    }
}

/* Where the next sound record is behind `at`, or the end. */
static int pass_over(struct window *w, uint64_t *at, struct gaps *gaps, struct err *e)
{
    struct journal_record r;
    const char *payload;
    uint64_t next = *at + 8;
    int rc = 0;
    for (; next < w->size && rc == 0; next += rc == 0 ? 8 : 0)
        rc = sound(w, next, &r, &payload, e);
    if (rc < 0)
        return -1;
    if (next > w->size)
        next = w->size;
    gaps->list = mem_resize(gaps->list, gaps->n + 1, sizeof *gaps->list);
    gaps->list[gaps->n++] = (struct gap){*at, next - *at};
    *at = next;
    return 0;
}

int journal_scan(int fd, const char *path, uint64_t id, journal_use use, void *context,
                 struct journal_scan *found, struct err *e)
{
    struct window w = {.fd = fd, .path = path, .id = id};
    struct gaps gaps = {0};
    *found = (struct journal_scan){0};
    if (disk_size(fd, path, &w.size, e) != 0)
        return -1;
    found->bytes = w.size;
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < w.size;) {
        struct journal_record r;
        const char *payload;
        int is = sound(&w, at, &r, &payload, e);
        rc = is < 0 ? -1 : 0;
        if (is == 1) {
            judge(&gaps, &r, found);
            rc = use(context, at, &r, payload, e);
            found->records++;
            at += record_room(&r);
        } else if (is == 0) {
            rc = pass_over(&w, &at, &gaps, e);
        }
    }
    for (size_t i = gaps.judged; i < gaps.n; i++)
        found->cut += gaps.list[i].bytes;
    free(gaps.list);
    free(w.data);
    return rc;
}

/* The record at `at`, as far as the first `want` bytes have it: its size when it has more, 0 when it is
 * whole and sound, or SIZE_MAX when it is no record. */
static size_t missing(const struct bytes *read, size_t got, uint64_t id, uint64_t at,
                      struct journal_record *r)
{
    if (got < sizeof *r)
        return SIZE_MAX;
    memcpy(r, read->data, sizeof *r);
    if (r->mark != RECORD_MARK || r->bytes > BYTES_MAX)
        return SIZE_MAX;
    if (sizeof *r + r->bytes > got)
        return sizeof *r + (size_t)r->bytes;
    return checksum(r, read->data + sizeof *r, id, at) == r->check ? 0 : SIZE_MAX;
}

int journal_read(int fd, const char *path, uint64_t id, uint64_t at, struct journal_record *r,
                 struct bytes *to, struct err *e)
{
    size_t got = 0, want = FIRST_READ;
    while (want != 0 && want != SIZE_MAX) {
        if (want > to->room) {
            to->data = mem_resize(to->data, want, 1);
            to->room = want;
        }
        if (disk_read(fd, path, to->data, want, at, &got, e) != 0)
            return -1;
        size_t next = missing(to, got, id, at, r);
        want = next && got < want ? SIZE_MAX : next; /* the file may end in the middle of it */
    }
    if (want == 0)
        return 0;
    errno = EBADMSG;
    return err_set(e, "%s: damaged at offset %" PRIu64, path, at);
}
