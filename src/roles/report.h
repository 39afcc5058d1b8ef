/* report.h - what the user sees at the end: the summary, as text and as JSON.
 *
 * Printed by the writer on stdout, from what all ranks say.
 */
#ifndef TANDEM_ROLES_REPORT_H
#define TANDEM_ROLES_REPORT_H

#include "output/fields.h"
#include "output/reasons.h"
#include "roles/comm.h"
#include "roles/engine.h"
#include "roles/trace.h"
#include "schedule/pace.h"

struct report_counts {
    uint64_t done, failed; /* completions */
    uint64_t prompt_tokens, new_tokens;
    uint64_t scored; /* tokens of prompts, and */
    double score;    /* the sum of their logprobs */
    uint64_t drawn;  /* tokens, also those of sequences that are not finished */
};

struct report {
    struct report_counts counts; /* of this run: the writer's cell */
    struct reasons reasons;      /* of what failed */
    float *first, *each;         /* seconds to the first token, and per token after it */
    size_t n_first, n_each, room_first, room_each;
    uint64_t steps, replayed;       /* of this run; launched as graphs */
    struct schedule_usage schedule; /* this rank's, at the end */
    struct pace_balance guessing;   /* likewise; 0 seconds: not measured */
};

/* Counts the completions in a batch of records. */
void report_completions(struct report *r, const struct bytes *batch);

/* How a run ended. */
struct report_end {
    const char *path, *summary;  /* the output; a file for the summary as JSON, or NULL */
    const char *version, *time;  /* the program's; now */
    double seconds;              /* of the decoding */
    bool finished;               /* all of the job, or only what this run came to */
    bool all_failed;             /* and nothing but errors */
    uint64_t completions, units; /* that are there, of all runs; of the job */
    int ranks;
};

/* Collective: prints the summary; *end counts at the writer of the first cell. */
void report_summary(struct report *r, struct comm *c, const struct trace *t,
                    const struct report_end *end);

void report_free(struct report *r);

#endif
