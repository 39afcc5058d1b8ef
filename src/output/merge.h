/* merge.h - HDF5 files from journals: the finished output, or what there is of it.
 *
 * Three files, each of them one table whose datasets have one length: `out.h5` (a row a
 * completion, in the order of units), `out.tokens.h5` (the ragged values, one after the other) and
 * `out.steps.h5` (timings). Each knows the names of the others and has the same attribute `output`,
 * a random number, so that files of two jobs cannot be taken for one. Every number is checksummed by
 * HDF5's fletcher32, every file as a whole by a seal (seal.h).
 *
 * A file is written under another name, closed, forced to disk, read back and compared, sealed, and
 * only then renamed; the main file last. A merge that was stopped begins anew: HDF5 writes its
 * metadata in no order, so after a kill a file that was half written cannot be opened again, and one
 * that was closed in time would have to be trusted at the place where it was not read back yet. The
 * journals are whole until the end, so what is lost is the time since the merge began.
 *
 * Compression uses all OpenMP threads; memory does not grow with the number of completions. One thread
 * calls; nobody else may use HDF5 meanwhile.
 */
#ifndef TANDEM_OUTPUT_MERGE_H
#define TANDEM_OUTPUT_MERGE_H

#include "base/err.h"
#include "data/kept.h"
#include "output/journals.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MERGE_FORMAT "tandem completions 2"

/* malloc'd: "out.tokens.h5" for "out.h5" and "tokens"; ".tokens.h5" is appended to a path without
 * .h5 or .hdf5. */
char *merge_sibling(const char *path, const char *what);

/* What a merge tells, and is told, while it works. */
struct merge_progress {
    atomic_uint_fast64_t rows, of; /* completions written */
    atomic_bool stop;              /* set: give up soon */
};

/* A completion, and the row of its prompt's own columns. */
struct merge_row {
    struct completion completion;
    struct kept *columns; /* NULL: none */
    size_t row;
};

/* Where completions come from: journals, or other outputs (parts.h). */
struct merge_source {
    void *context;
    const struct journal_header *header; /* identity, attributes, first prompt, samples */
    uint64_t units, rows;                /* of the job; those that are finished */
    bool partial;                        /* units that are not finished are left out */
    struct kept *columns;                /* what own columns are like; NULL: there are none */
    size_t n_timings;                    /* batches */
    /* Units rising. 1: *row is the unit's, its completion to be freed; 0: it is not finished. */
    int (*completion)(void *context, uint64_t unit, struct merge_row *row, struct err *e);
    /* The i-th batch: rows are malloc'd. */
    int (*timings)(void *context, size_t i, struct timing **rows, size_t *n, struct err *e);
};

int merge_from(const char *path, const char *directory, const struct merge_source *source,
               struct merge_progress *progress, struct err *e);

/* The same from journals. `directory`: where the files are made (on the file system of `path`). All units must be done;
 * with `partial` those that are become rows. -1: nothing of `path` has changed; errno says whether
 * it may work later (patience.h), and is EBADMSG when a journal is damaged and ECANCELED when
 * progress->stop was set. */
int merge_write(const char *path, const char *directory, struct journals *js, bool partial,
                struct merge_progress *progress, struct err *e);

#endif
