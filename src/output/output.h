/* output.h - the output of a job: what is computed is never lost.
 *
 * One process writes: attention rank 0. With cells, that of the first cell is the output's owner, as
 * below, and those of the others join it with a journal of their own. While the job runs,
 * batches of records (journal.h) go to a thread, which appends them to this run's journal in
 * `<path>.partial/` and forces them to disk: the step never waits for a disk. What a disk refuses
 * is tried again, aloud, for as long as patience_set() said. At the end the journals are merged into
 * the output by the same thread (merge.h), and the directory is removed.
 *
 *     output_open()          the lock, the identity, what is done and what was begun
 *     output_start()         this run's journal, when the model is loaded
 *     output_push() ...      and now and then output_state()
 *     output_drain()         everything pushed is on disk
 *     output_merge() ...     until output_state() is no longer OUTPUT_BUSY
 *     output_close()
 *
 *     output_join()          others, instead of the first two; then push, state, drain, close
 *     output_reread()        the owner, before it merges, when all others have closed
 */
#ifndef TANDEM_OUTPUT_OUTPUT_H
#define TANDEM_OUTPUT_OUTPUT_H

#include "base/err.h"
#include "output/identity.h"
#include "output/journals.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An attribute: ids are numbers, as the source had them; their text is their digits. */
#define OUTPUT_IDS          "ids"
#define OUTPUT_IDS_INTEGERS "integers"

/* An attribute: what the prompts were. */
#define OUTPUT_PROMPTS          "prompts_kind"
#define OUTPUT_PROMPTS_MESSAGES "messages"
#define OUTPUT_PROMPTS_TEXTS    "texts"
#define OUTPUT_PROMPTS_TOKENS   "tokens"

#define OUTPUT_WEIGHTS       "weights"
#define OUTPUT_WEIGHTS_STAMP "weights_stamp"

struct output_job {
    const char *path;
    /* The same, or not continued. OUTPUT_WEIGHTS may be IDENTITY_LATER until output_start(): a model that
     * is not loaded yet. */
    const struct identity *identity;
    /* Free-form: recorded in the finished files. OUTPUT_WEIGHTS_STAMP: equal in two runs when the weight
     * files are the same, unchanged. */
    const struct identity *attributes;
    uint64_t first_prompt, samples, units;
    uint64_t kept;     /* of the samples of a prompt, in the output (best.h); 0: all */
    bool retry_errors; /* error rows count as not done */
    /* When the prompts have grown, journals of fewer units are of this job too: fills the identity it
     * had then, to be freed. NULL: they are not. */
    int (*shorter)(void *context, uint64_t units, struct identity *id, struct err *e);
    /* Called for a finished output that was made with weight files of another stamp: reads the weights now,
     * and puts their value into `identity`. */
    void (*read_weights)(void *context);
    void *context;
};

struct output;

/* What is there of an output that nobody has opened: for the dry run. */
struct output_there {
    bool finished;
    uint64_t done, errors; /* completions; those of them that are error rows */
    char who[200];         /* the process that writes it now; "" */
};

/* Changes nothing. -1: what is there is not this job's, or cannot be read. */
int output_look(const struct output_job *job, struct output_there *there, struct err *e);

/* Opens or makes `<path>.partial/`, locks it (flock; where the file system has none, two jobs that
 * write one output are not noticed) and reads its journals. -1: the directory belongs to another
 * job, another user or a running job, or others may write to it; a journal cannot be used (named);
 * the output exists and is not this job's; nothing can be written there. If `path` itself exists,
 * whole and of this identity, *finished is set and *out is NULL. Copies what it is given. */
int output_open(struct output **out, const struct output_job *job, bool *finished, struct err *e);

/* Stops the thread, gives the lock back. NULL: nothing. */
void output_close(struct output *o);

/* Sets the bit of every unit that is done: bit u % 8 of byte u / 8, (units + 7) / 8 bytes. */
void output_done(const struct output *o, uint8_t *bitmap);
uint64_t output_done_count(const struct output *o);

/* How many units, done or to be retried, are error rows. */
uint64_t output_errors(const struct output *o);

/* Appends a RECORD_PIECE for every unit that was begun and is not done. */
int output_begun(struct output *o, struct bytes *batch, struct err *e);

/* Attributes that were found out since output_open(); before output_start(). */
void output_describe(struct output *o, const struct identity *attributes);

/* Makes this run's journal and the thread. weights: the value of OUTPUT_WEIGHTS, which journals that are
 * there must have too (else -1); NULL when the model was not loaded, because nothing is left to decode:
 * then their value stays. */
int output_start(struct output *o, const char *weights, struct err *e);

/* Their value now, malloc'd: what others than the owner give to output_join() as part of the identity. */
char *output_weights(const struct output *o);

/* The number of the journal that output_start() has made: those who join take the next ones. */
uint64_t output_number(const struct output *o);

/* A journal of one's own, with this number, and a thread, in the directory that the owner has opened
 * and started. */
int output_join(struct output **out, const struct output_job *job, uint64_t number, struct err *e);

/* Reads all journals again, those of others too. */
int output_reread(struct output *o, struct err *e);

/* Takes over the bytes of a batch (it is empty afterwards). Returns at once, unless 128 MiB wait. A
 * unit that is finished twice is an error of the program: die(). */
void output_push(struct output *o, struct bytes *batch);

enum output_state {
    OUTPUT_FINE,   /* nothing failed; nothing waits */
    OUTPUT_BUSY,   /* something is being written */
    OUTPUT_LATER,  /* the file system refused for too long, or it was stopped: go on later */
    OUTPUT_BROKEN, /* the file system refuses for good */
};

/* What the thread has come to; the message of LATER and BROKEN. */
enum output_state output_state(struct output *o, struct err *e);

/* Waits until nothing waits any more. */
enum output_state output_drain(struct output *o, struct err *e);

/* The thread merges: all units are done (else die()). Only the thread may use HDF5 until it has
 * ended. What it has come to: rows of rows. stop: it gives up soon, OUTPUT_LATER. */
void output_merge(struct output *o);
void output_merge_progress(const struct output *o, uint64_t *rows, uint64_t *of);
void output_merge_stop(struct output *o);

/* For `tandem merge --partial`: what is finished so far as a file of its own, beside a running job
 * if wanted. *rows of *of completions. */
int output_merge_partial(const char *path, const char *to, uint64_t *rows, uint64_t *of,
                         struct err *e);

/* malloc'd: the directory of the journals. */
char *output_directory(const char *path);

#endif
