/* journals.h - all journals of a job, read through an index: what is done, what was begun.
 *
 * One number of 8 bytes a unit says where its completion is; so completions are read in the order
 * of units although they were written in the order in which they were finished, which is nearly
 * the same. A later journal's completion replaces an earlier one only when that was an error row.
 * Pieces of units that are not finished are kept with their places.
 *
 * Opened by the writer, with the lock of the directory held; and read-only by export and merge,
 * beside a running job if wanted. One thread at a time.
 */
#ifndef TANDEM_OUTPUT_JOURNALS_H
#define TANDEM_OUTPUT_JOURNALS_H

#include "base/err.h"
#include "output/fields.h"
#include "output/journal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal_file {
    char *path;
    int fd;
    uint64_t id;
};

/* Where a piece is. */
struct piece_place {
    uint64_t unit, place;
    uint32_t begin, n;
};

struct journals {
    struct journal_file *files;
    size_t n_files;
    uint64_t next_number;         /* for a new journal */
    struct journal_header header; /* of the latest; strings NULL when there is none */
    uint64_t units;
    uint64_t *places; /* [units] 0: not finished */
    uint64_t n_done, n_errors;
    struct piece_place *pieces;
    size_t n_pieces, room_pieces;
    uint64_t *timings; /* places, in the order of files */
    size_t n_timings, room_timings;
    uint64_t damaged; /* bytes that were damaged, in all files */
    struct bytes buffer;
};

/* Reads every journal of the directory and checks every byte. units: of the job; 0: as the latest
 * header says. Damage is told on stderr with file and offset, and what stood there counts as not
 * computed. check: called with the header of every file; may refuse. -1: a file cannot be read, is
 * of another program version, or its header is damaged. */
typedef int (*journals_check)(void *context, const char *path, const struct journal_header *header,
                              struct err *e);
int journals_open(struct journals *js, const char *directory, uint64_t units, journals_check check,
                  void *context, struct err *e);
void journals_close(struct journals *js);

/* Takes a new journal in, which stays the caller's to write; returns its number here. */
size_t journals_add_file(struct journals *js, const struct journal *j);

/* Takes in a record that stands at `at` of a file. A unit beyond the job is -1. */
int journals_add(struct journals *js, size_t file, uint64_t at, const struct journal_record *r,
                 const char *payload, struct err *e);

/* The number of the file that a place (of a unit, of timings) is in. */
size_t journals_file(uint64_t place);

bool journals_is_error(const struct journals *js, uint64_t unit); /* its row is an error row */

/* The completion of a unit that is done; to be freed with table_free(). -1: it cannot be read now,
 * or is damaged. */
int journals_completion(struct journals *js, uint64_t unit, struct completion *out, struct err *e);

/* Calls `use` with what is there of every unit that has pieces and is not done, joined to one that
 * begins at 0, units rising. */
typedef void (*journals_use_piece)(void *context, const struct piece *p);
int journals_pieces(struct journals *js, journals_use_piece use, void *context, struct err *e);

/* The timings of the i-th record of them: rows are malloc'd. */
int journals_timings(struct journals *js, size_t i, struct timing **rows, size_t *n, struct err *e);

#endif
