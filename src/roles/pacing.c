#include "roles/pacing.h"

struct pace pacing_open(enum speculation wanted, size_t mtp_drafts,
                        const struct schedule_limits *limits)
{
    return (struct pace){.always = wanted != SPECULATE_AUTO || limits->draft_rows == 0,
                         .mtp = mtp_drafts > 0,
                         .kind = wanted == SPECULATE_NGRAM ? DRAFT_GRAM
                                 : wanted == SPECULATE_MTP ? DRAFT_MTP
                                                           : DRAFT_NONE};
}

double pacing_share(const struct model *m)
{
    double own = 2 * (double)m->drafts, others = (double)m->layers + 1;
    return own / (own + others);
}

void pacing_took(struct pace *p, struct pace_step *t, const struct micro_batch *plan,
                 int micro_batches)
{
    int rows = 0, sampled = 0;
    t->drafts = 0;
    for (int m = 0; m < micro_batches; m++) {
        rows += plan[m].rows;
        sampled += plan[m].n_sampled - plan[m].scored;
        t->drafts += plan[m].drafts;
    }
    t->prompts = rows > sampled;
    t->sequences = sampled - t->drafts > 0 ? sampled - t->drafts : t->prompts;
    pace_took(p, t);
}
