/* completions.h - the output: finished completions, never lost.
 *
 * Attention rank 0 is the only writer. While the job runs, finished completions are sealed in shard
 * files inside `<output>.partial/`: a shard is written, closed, fsynced, renamed, and the directory
 * fsynced; completions_seal() returns when that has happened, and what it returned for survives
 * SIGKILL and power loss. At the end completions_merge() writes the one output file from the
 * shards, the same way, and removes the directory. A unit is one (prompt, sample); unit = prompt x
 * samples + sample; the output has one row per unit, in that order.
 *
 * Output (README "Completions"): every dataset of the file has the same first dimension; the ragged
 * values (datasets tokens and logprobs, group steps) stand in `<stem>.tokens.h5` beside it, whose
 * name is the file's attribute `ragged`. (No external link: Hugging Face `datasets` 5 refuses
 * them.)
 */
#ifndef TANDEM_DATA_COMPLETIONS_H
#define TANDEM_DATA_COMPLETIONS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum finish {
    FINISH_STOP,   /* a stop token was produced (it is not part of the completion's text) */
    FINISH_LENGTH, /* max_new_tokens or the model's context is used up */
    FINISH_ERROR,  /* the prompt could not be decoded; `error` says why */
};

/* "stop", "length", "error". */
const char *finish_name(enum finish f);

/* One finished unit. Pointers belong to whoever filled it; completion_free() frees all of them. */
struct completion {
    uint64_t unit;
    enum finish finish;
    char *error;     /* FINISH_ERROR: why; else NULL */
    char *text;      /* UTF-8 without NUL, invalid bytes replaced; "" when there is no tokenizer */
    int32_t *tokens; /* [n_tokens], the stop token included when there was one */
    float *logprobs; /* [n_tokens] log softmax at temperature 1 */
    uint32_t n_tokens, n_prompt_tokens;
    double admitted, first_token, last_token; /* seconds since the Unix epoch; 0: never */
    int32_t rank;                             /* attention rank that decoded it */
};

void completion_free(struct completion *c);

/* What must stay the same for a job to be continued, and is recorded in the output's attributes. */
struct completions_identity {
    uint64_t model_hash, tokenizer_hash, prompts_hash;
    uint64_t first_prompt; /* row of the prompts file that unit 0 belongs to */
    uint64_t units, samples;
    char *sampling; /* the resolved sampling section as JSON: equal, or not continued */
};

/* Free-form attributes of the finished file: name, and a string value (JSON or text). */
struct attribute {
    const char *name, *value;
};

/* Timing of one rank in one step; the table `steps` of the ragged file. Seconds. */
struct step_timing {
    uint32_t step;
    int32_t rank;
    int32_t rows; /* rows this rank worked on */
    float attention, ffn, exchange,
        wait; /* compute of each role, packing and posting, exposed wait */
    float total;
};

struct completions;

/* Opens or creates `<path>.partial/`, locks it (flock; where the file system has none, two jobs
 * that write one output are not noticed) and reads which units are sealed already. -1: the
 * directory belongs to another job (says which of model, tokenizer, prompts, sampling differs, and
 * what to do) or another job is writing to it (says its process and host), a shard is damaged
 * (named; moving it away is the advice), the output exists and is not this job's, or nothing can be
 * written there. If `path` itself exists, complete and of this identity, *finished is set and *out
 * is NULL. Makes a copy of id. */
int completions_open(struct completions **out, const char *path,
                     const struct completions_identity *id, bool *finished, struct err *e);
void completions_close(struct completions *c); /* gives the lock back; NULL: nothing */

/* Sealed shards are merged into larger ones, this many at a time (default 64): tests use less. */
void completions_fanout(struct completions *c, size_t fanout);

/* Bitmap of sealed units: bit u of byte u/8. (units + 7) / 8 bytes, valid until the next seal. */
const uint8_t *completions_done(const struct completions *c);
size_t completions_done_count(const struct completions *c);

/* Seals n completions and m step timings as one shard. Duplicates of sealed units are an error of
 * the program: die(). Returns -1 when the file system refuses (full, gone): nothing is lost so far.
 */
int completions_seal(struct completions *c, const struct completion *rows, size_t n,
                     const struct step_timing *steps, size_t m, struct err *e);

/* All units sealed (else die()): writes the output file and removes `<path>.partial/`. Prompt ids
 * come from `prompts`. Memory does not grow with the number of completions. -1: the file system
 * refuses; the shards are still there, and the same job can be started again to merge them.
 * Afterwards c can only be closed. */
struct prompts;
int completions_merge(struct completions *c, struct prompts *prompts,
                      const struct attribute *attributes, size_t n_attributes, struct err *e);

#endif
