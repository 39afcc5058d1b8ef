/* journal.h - the append-only file of one run (and cell): what was computed is there, or it is not.
 *
 * Every run of a job makes a file of its own in `<output>.partial/`, under a name that is never used
 * again: `NUMBER-ID.journal`, ID being random. It is written from front to back and never changed; a
 * later run only reads it. It is a sequence of records, each a multiple of 8 bytes: a struct journal_record,
 * then the payload. The first is RECORD_HEADER.
 *
 * Records are written in batches: one write, one fdatasync. What a batch holds counts when
 * journal_append() has returned; after SIGKILL or power loss the last batch may be there in part.
 * Every record has a checksum over itself, its place and the file's ID, so no stale block of the
 * disk can pass for one, and says up to where the file was on disk when its batch was begun. So a
 * reader can tell a batch that was never finished (nobody counts on it) from damage.
 *
 * Numbers are in the byte order of the machine, which RECORD_MARK checks. Writing: one thread.
 */
#ifndef TANDEM_OUTPUT_JOURNAL_H
#define TANDEM_OUTPUT_JOURNAL_H

#include "base/err.h"
#include "output/fields.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum record_kind {
    RECORD_HEADER = 1, /* header_table */
    RECORD_COMPLETION, /* completion_table: unit is finished */
    RECORD_PIECE,      /* piece_table: tokens of a unit that is not */
    RECORD_TIMING,     /* rows of timing_table, one after the other */
    RECORD_END,        /* no payload: the run closed the file */
};

#define RECORD_MARK 0x4a44546eu

struct journal_record {
    uint32_t mark, kind;
    uint64_t unit;
    uint64_t bytes;  /* of the payload, without what fills it up to a multiple of 8 */
    uint64_t synced; /* where its batch begins: all before was on disk */
    uint64_t check;
};

/* Bytes a record takes in the file. */
size_t record_room(const struct journal_record *r);

/* What a file says of itself and its job; strings are malloc'd. */
struct journal_header {
    int64_t first_prompt, samples, units; /* of the job */
    int64_t kept;                         /* of the samples of a prompt, in the output (best.h) */
    char *signature;                      /* of the tables: other texts, other programs */
    char *identity, *attributes;          /* JSON objects (identity.h) */
};
extern const struct table header_table;

/* The signature of this program's tables; malloc'd. */
char *journal_signature(void);

/* Appends a record without checksum to a batch: rows[n] of the table, or nothing (NULL). */
void journal_put(struct bytes *batch, enum record_kind kind, uint64_t unit, const struct table *t,
                 const void *rows, size_t n);

/* Steps through the records of a batch that this program made: *at is where the next begins; the
 * payload follows the record. NULL behind the last. */
struct journal_record *journal_next(const struct bytes *batch, size_t *at);

/* ---- writing -------------------------------------------------------------------------------- */

struct journal;

/* Makes the file and its header; both are on disk afterwards. */
int journal_create(struct journal **out, const char *directory, uint64_t number,
                   const struct journal_header *header, struct err *e);

const char *journal_path(const struct journal *j);
uint64_t journal_id(const struct journal *j);
int journal_file(const struct journal *j);

/* Appends a batch (its records get their checksums) and forces it to disk, with patience
 * (base/patience.h); *at: where it begins. -1: the file is as it was, errno says why. */
int journal_append(struct journal *j, const struct bytes *batch, uint64_t *at, struct err *e);

/* ended: all of the run is in it, which a last record says. The descriptor stays open. */
void journal_close(struct journal *j, bool ended);

/* ---- reading -------------------------------------------------------------------------------- */

/* The name of a journal: number and ID. False: another file. */
bool journal_name(const char *name, uint64_t *number, uint64_t *id);

/* Called for every sound record, in the order of the file. -1 ends the scan. */
typedef int (*journal_use)(void *context, uint64_t at, const struct journal_record *r,
                           const char *payload, struct err *e);

/* What a scan met. */
struct journal_scan {
    uint64_t bytes;        /* of the file */
    uint64_t damaged_at;   /* the first damage before the last batch */
    uint64_t damaged, cut; /* bytes damaged; of a last batch that was not finished */
    uint64_t records;      /* sound ones */
};

int journal_scan(int fd, const char *path, uint64_t id, journal_use use, void *context,
                 struct journal_scan *found, struct err *e);

/* Reads one record again: *r, and its payload (in `to`, valid until that is used again). -1: it
 * cannot be read, or is not what it was. */
int journal_read(int fd, const char *path, uint64_t id, uint64_t at, struct journal_record *r,
                 struct bytes *to, struct err *e);

#endif
