/* report.h - what the user sees: the table of ranks at the start, the summary at the end.
 *
 * The table and the summary are printed by the writer on stdout, from what all ranks say.
 */
#ifndef TANDEM_ROLES_REPORT_H
#define TANDEM_ROLES_REPORT_H

#include "output/fields.h"
#include "roles/comm.h"
#include "roles/engine.h"
#include "roles/trace.h"

struct report_counts {
    uint64_t done, failed; /* completions */
    uint64_t prompt_tokens, new_tokens;
};

struct report {
    struct report_counts counts; /* of this run: the writer's cell */
    float *first, *each;         /* seconds to the first token, and per token after it */
    size_t n_first, n_each, room_first, room_each;
    uint64_t steps, replayed;       /* of this run; launched as graphs */
    struct schedule_usage schedule; /* this rank's, at the end */
};

/* Collective: every rank's line. Warns when a rank has fewer cores than threads. */
void report_ranks(struct comm *c, const struct engine *g);

/* The table as text, one line a rank, for the output's attributes; malloc'd at the writer, NULL
 * elsewhere. Collective. */
char *report_rank_table(struct comm *c, const struct engine *g);

/* Counts the completions in a batch of records. */
void report_completions(struct report *r, const struct bytes *batch);

/* Collective: prints the summary. seconds: of the decoding. path: the output. finished: all of the
 * job, or only what this run came to. */
void report_summary(struct report *r, struct comm *c, const struct trace *t, double seconds,
                    const char *path, bool finished);

void report_free(struct report *r);

#endif
