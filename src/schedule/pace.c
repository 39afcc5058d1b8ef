#include "schedule/pace.h"

#define WARMUP  8 /* steps before the first trial */
#define TRIAL   4 /* steps of one: fewer are too noisy */
#define PAUSE   64 /* steps at least between two: what a trial costs is not known to a few per cent */
#define REFRESH 32    /* while drafts pay, one step in so many does without, to compare */
#define FADE    0.875 /* weight of what was measured, one step later */
#define SPEND   0.01  /* of the time, lost by trials */

bool pace_wants_drafts(const struct pace *p)
{
    return p->always || p->trial > 0 || (p->pays && p->steps % REFRESH != 0);
}

/* Tokens a second, of each sequence. */
static double rate(const struct pace *p, int kind)
{
    return p->seconds[kind] > 0 ? p->tokens[kind] / p->seconds[kind] : 0;
}

static void judge(struct pace *p, double seconds)
{
    if (p->trial > 0 && --p->trial > 0)
        return;
    p->pays = rate(p, 1) > rate(p, 0);
    if (!p->pays)
        p->wait = (p->lost > 0 ? p->lost / SPEND : 0) + PAUSE * seconds;
}

static void start_trial(struct pace *p)
{
    p->trial = TRIAL;
    p->lost = p->seconds[1] = p->tokens[1] = 0;
}

void pace_took(struct pace *p, double seconds, int sequences, int tokens, int drafts)
{
    int kind = drafts > 0;
    if (sequences < 1) { /* nobody would end the trial that other ranks go on with */
        p->trial = 0;
        return;
    }
    if (seconds <= 0)
        return;
    double each = (double)tokens / sequences;
    p->steps++;
    p->seconds[kind] = FADE * p->seconds[kind] + seconds;
    p->tokens[kind] = FADE * p->tokens[kind] + each;
    if (kind) {
        p->lost += seconds - (rate(p, 0) > 0 ? each / rate(p, 0) : seconds);
        judge(p, seconds);
    } else if (!p->pays && p->trial == 0) {
        p->wait -= seconds;
        if (p->wait <= 0 && p->steps >= WARMUP)
            start_trial(p);
    }
}
