/* pace.h - are drafts worth their rows? Measured, not assumed.
 *
 * Rows of drafts are nearly free while a step waits for memory and dear when it computes; how many
 * are right depends on the text. So a few steps with drafts are tried now and then, their tokens a
 * second are compared with those of steps without, and what is better goes on. After a trial that
 * lost time the next one waits until a hundred times as much has passed: together they cost about one
 * per cent.
 *
 * Pure functions: the caller has the clock. One rank decides for its cell (struct contract.drafts),
 * as ranks that tried at different times would each slow all.
 */
#ifndef TANDEM_SCHEDULE_PACE_H
#define TANDEM_SCHEDULE_PACE_H

#include <stdbool.h>

/* Zeroed at first; `always` is set by a job that wants drafts whatever they bring. */
struct pace {
    bool always;
    bool pays;                    /* drafts do, as far as is known */
    double seconds[2], tokens[2]; /* [without, with drafts] of recent steps, older ones fading */
    int trial;                    /* steps left of a trial */
    double lost;                  /* seconds, by this trial */
    double wait;                  /* seconds until the next one */
    int steps;                    /* so far */
};

/* Should the next step have drafts? */
bool pace_wants_drafts(const struct pace *p);

/* A step without prompt rows took `seconds` for `sequences` running ones and brought `tokens`;
 * drafts: how many of its rows were guesses. A rank that has no sequences left ends its trial, as what
 * others gain by it is not seen here. */
void pace_took(struct pace *p, double seconds, int sequences, int tokens, int drafts);

#endif
