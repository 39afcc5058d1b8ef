/* feeder.h - a thread that turns the units a rank was given into tokens, ahead of the step.
 *
 * Reading a row can wait for a disk and tokenizing one can take long; the step, in which all ranks
 * wait for each other, must do neither. Units are put in as they are dealt and come out in the same
 * order, each as tokens or as the error of its row. A row that cannot fit the context is refused by
 * its bytes, before it is tokenized; the samples of a prompt are tokenized once.
 *
 * What the file system does is no property of a prompt: a read that fails is tried again, aloud, as
 * long as patience_set() said, and then the job goes on another day. Every row is read from the file
 * that was opened: one that changes meanwhile ends the job. In both cases nothing comes out any more
 * and feeder_state() says why.
 *
 * One per attention rank. The main thread calls everything here; while the feeder is open only its
 * thread reads prompts, and so uses HDF5.
 */
#ifndef TANDEM_ROLES_FEEDER_H
#define TANDEM_ROLES_FEEDER_H

#include "base/stamp.h"
#include "roles/prompting.h"

struct feeder;

/* Everything it points to outlives the feeder. */
struct feeder_job {
    const struct job *job;
    const struct prompting *prompting;
    struct prompts *prompts;
    const struct stamps *file; /* the prompts file as it was opened */
    size_t max_context;
};

/* One unit, ready. The taker owns what it points to; tokens, id and error are malloc'd. */
struct fed {
    uint64_t unit;
    char *id;
    int32_t *tokens;         /* [n]; NULL: an error row */
    size_t n;                /* also of a prompt with too many of them */
    size_t limit;            /* most tokens the sequence may come to */
    size_t score_from;       /* schedule/sequence.h */
    bool prompt_only;        /* nothing is generated (max_new_tokens: 0) */
    struct request *request; /* NULL with an error */
    char *error;             /* NULL: none */
    const void *with;        /* what was put in with it */
};

/* What has become of the file. */
enum feeder_state {
    FEEDER_FINE,
    FEEDER_LATER,   /* it could not be read for too long */
    FEEDER_CHANGED, /* it is another file now */
};

struct feeder *feeder_open(const struct feeder_job *job);

/* For the dry run, without a thread or a feeder: `use` sees what becomes of each of the job's n rows, until
 * it returns; unit is not set. */
typedef void (*feeder_use)(void *context, const struct fed *fed);
enum feeder_state feeder_survey(const struct feeder_job *job, uint64_t n, feeder_use use,
                                void *context, struct err *e);

/* Waits for the row it is at; units still in it are dropped (but not `with`). NULL: nothing. */
void feeder_close(struct feeder *f);

void feeder_put(struct feeder *f, uint64_t unit, const void *with);

/* The next unit, in the order they were put in; false: it is not ready. Never waits. */
bool feeder_take(struct feeder *f, struct fed *out);

/* Units that were put in and not taken out. */
int feeder_coming(struct feeder *f);

/* For a step without a row on any rank: sleeps until what was put in is ready, or some of it and 10
 * ms have passed; at most 100 ms. */
void feeder_wait(struct feeder *f);

/* The message when it is not FEEDER_FINE. */
enum feeder_state feeder_state(struct feeder *f, struct err *e);

#endif
