/* pace.h - are drafts worth their rows? Measured, not assumed.
 *
 * Rows of drafts are nearly free while a step waits for memory and dear when it computes; how many
 * are right depends on the text. So a few steps with drafts are tried now and then, their tokens a
 * second are compared with those of steps without, and what is better goes on. The first trial waits until
 * so many steps have passed that its loss is small beside them, and ends early when it is not; after a
 * trial that lost time the next one waits until a hundred times as much has passed: together they cost about
 * one per cent.
 *
 * MTP layers (roles/mtp.h) are dearer to try: where they did not run they know nothing of a sequence,
 * and running them costs time in every step, prompts included. They run in a trial alone, and once they
 * have been found to pay; only sequences that were (nearly) whole computed with them are guessed by
 * them, so a trial lasts until sequences have come that are. What it may lose is staked before: a
 * hundredth and less of the time that has passed since the last one; when that is lost without a
 * verdict the next stake is twice as high. While some of the sequences are guessed, what a step would
 * take if all were is reckoned: the layers as they are, the rows of guesses in proportion.
 *
 * Pure functions: the caller has the clock. One rank decides for its cell (struct contract), as ranks
 * that tried at different times would each slow all.
 */
#ifndef TANDEM_SCHEDULE_PACE_H
#define TANDEM_SCHEDULE_PACE_H

#include <stdbool.h>

enum draft_kind { DRAFT_NONE, DRAFT_GRAM, DRAFT_MTP, DRAFT_KINDS };

/* What steps of one kind have taken and brought, older ones fading. */
struct pace_sum {
    double steps, seconds, tokens; /* tokens of each sequence */
    double layers;                 /* seconds of MTP layers among them; of this kind alone: */
    double extra, filled, sequences;
};

/* Steps with rows of prompts: what MTP layers cost in them counts too. */
struct pace_prompts {
    double tokens;              /* of all steps, as above */
    double seconds;             /* without the layers */
    double with_layers, layers; /* of steps in which they ran */
};

/* A trial of one kind of drafts. */
struct pace_trial {
    bool on;
    int steps;    /* that can be judged by, so far */
    int bad;      /* verdicts against what goes on, in a row */
    double lost;  /* seconds, by this trial, or by what goes on since the last verdict for it */
    double wait;  /* seconds until the next one */
    double stake; /* MTP: what it may lose */
};

/* What drafts have saved (or, below 0, lost): what the steps with drafts, or with MTP layers, would have taken for
 * the tokens they brought, by what steps without took about then, less what they took. Steps with prompts count
 * their layers alone, as the pace does not compare them; a step that others have held up counts for three like
 * it at most. What a machine does to neighbouring steps goes into both sides, so this is known much better than
 * the times of two runs are; on GPUs, though, what MTP layers take is reckoned from their number, not measured. */
struct pace_balance {
    double saved, seconds; /* seconds: of all steps */
};

/* Zeroed at first, but for these two. */
struct pace {
    bool always;          /* a job wants `kind` whatever it brings */
    bool mtp;             /* there are MTP layers */
    enum draft_kind kind; /* what goes on, as far as is known */
    struct pace_sum sum[DRAFT_KINDS];
    struct pace_prompts prompts;
    struct pace_trial trial[DRAFT_KINDS];
    struct pace_balance balance;
    int steps; /* so far */
};

/* The guesses of the next step, and whether MTP layers run in it (they may without guesses). */
enum draft_kind pace_kind(const struct pace *p);
bool pace_runs_mtp(const struct pace *p);

struct pace_step {
    enum draft_kind kind;
    double seconds, layers; /* of the step; of MTP layers in it */
    int sequences;          /* that ran; 0: none are left */
    int filled;             /* of these, guessed by MTP layers */
    int tokens, drafts;     /* that it has brought; rows of guesses */
    bool prompts;           /* rows of prompts were in it: it is not compared with others */
};

/* A step has run. A rank that has no sequences left ends its trials, as what others gain by them is not
 * seen here. */
void pace_took(struct pace *p, const struct pace_step *s);

#endif
