#include "schedule/pace.h"

#define WARMUP 8 /* steps before MTP layers' first stake */
/* Steps before the first trial of n-grams: one of its steps may take as long as four, and yet no job of any length
 * loses 2 % (tests/schedule/test_drafts.c). */
#define WARMUP_GRAM  156
#define TRIAL        4  /* steps of one: fewer are too noisy */
#define TRIAL_MTP    16 /* the same; some of them go without, to compare */
#define PAUSE        64 /* steps at least between two: what a trial costs is not known to a few per cent */
#define REFRESH      32    /* while drafts pay, one step in so many does without, to compare */
#define COMPARE      4     /* the same in a trial of MTP layers */
#define FADE         0.875 /* weight of what was measured, one step later */
#define FADE_MTP     0.95  /* likewise of MTP layers */
#define FADE_PROMPTS 0.998 /* likewise of prompts, which come in turns */
#define OUTLIER      3     /* a step counts for at most so many: others use the machine too */
#define SPEND                                                                                      \
    0.01 /* of the time, lost by trials; one that has lost as much of all time so far ends */
#define SPEND_MTP 0.007 /* likewise, as they lose more before it is seen */

static bool compares(const struct pace *p, int every)
{
    return p->steps % every == 0;
}

enum draft_kind pace_kind(const struct pace *p)
{
    if (p->always)
        return p->kind;
    if (p->trial[DRAFT_GRAM].on)
        return DRAFT_GRAM;
    if (p->trial[DRAFT_MTP].on)
        return compares(p, COMPARE) ? DRAFT_NONE : DRAFT_MTP;
    return compares(p, REFRESH) ? DRAFT_NONE : p->kind;
}

bool pace_runs_mtp(const struct pace *p)
{
    return p->mtp && (p->kind == DRAFT_MTP || p->trial[DRAFT_MTP].on);
}

/* Tokens a second, of each sequence; 0: not known. Of MTP layers, if all sequences were guessed. */
static double rate(const struct pace *p, enum draft_kind kind)
{
    const struct pace_sum *s = &p->sum[kind], *plain = &p->sum[DRAFT_NONE];
    if (s->steps <= 0)
        return 0;
    if (kind != DRAFT_MTP)
        return s->tokens / s->seconds;
    if (plain->steps <= 0 || s->filled <= 0)
        return 0;
    double each = plain->tokens / plain->steps + s->extra / s->filled;
    double before = plain->seconds / plain->steps, layers = s->layers / s->steps;
    double rows = s->seconds / s->steps - before - layers;
    return each / (before + layers + (rows > 0 ? rows * s->sequences / s->filled : 0));
}

/* The same with the prompts that every token costs, which MTP layers make dearer. */
static double whole_rate(const struct pace *p, enum draft_kind kind)
{
    const struct pace_prompts *of = &p->prompts;
    double each = rate(p, kind), prompts = of->tokens > 0 ? of->seconds / of->tokens : 0;
    if (kind == DRAFT_MTP && of->with_layers > 0)
        prompts *= 1 + of->layers / of->with_layers;
    return each > 0 ? 1 / (1 / each + prompts) : 0;
}

static void add_prompts(struct pace *p, const struct pace_step *s)
{
    struct pace_prompts *of = &p->prompts;
    of->tokens = FADE_PROMPTS * of->tokens + (double)s->tokens / s->sequences;
    of->seconds *= FADE_PROMPTS;
    if (!s->prompts)
        return;
    of->seconds += s->seconds - s->layers;
    if (s->layers <= 0)
        return;
    of->with_layers = FADE_PROMPTS * of->with_layers + s->seconds - s->layers;
    of->layers = FADE_PROMPTS * of->layers + s->layers;
}

/* Of a step that was held up by others, no more than a few like it take. */
static double usual_seconds(const struct pace *p, const struct pace_step *s)
{
    const struct pace_sum *sum = &p->sum[s->kind];
    double seconds = s->kind == DRAFT_MTP ? s->seconds : s->seconds - s->layers;
    double most = sum->steps > 2 ? OUTLIER * sum->seconds / sum->steps : seconds;
    return seconds < most ? seconds : most;
}

static void add(struct pace *p, const struct pace_step *s)
{
    struct pace_sum *sum = &p->sum[s->kind];
    bool mtp = s->kind == DRAFT_MTP;
    double seconds = usual_seconds(p, s);
    double *all[] = {&sum->steps, &sum->seconds, &sum->tokens,   &sum->layers,
                     &sum->extra, &sum->filled,  &sum->sequences};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        *all[i] *= mtp ? FADE_MTP : FADE;
    sum->steps++;
    sum->seconds += seconds;
    sum->tokens += (double)s->tokens / s->sequences;
    sum->layers += s->layers;
    sum->extra += s->tokens - s->sequences;
    sum->filled += s->filled;
    sum->sequences += s->sequences;
}

static void start(struct pace *p, enum draft_kind kind)
{
    p->trial[kind].on = true;
    p->trial[kind].steps = 0;
    p->trial[kind].lost = 0;
    p->sum[kind] = (struct pace_sum){0};
}

/* Goes on with what is best, `kind` having been measured now. One that does not go on waits. */
static void judge(struct pace *p, enum draft_kind kind, double seconds)
{
    struct pace_trial *t = &p->trial[kind];
    enum draft_kind other = p->kind == kind ? DRAFT_NONE : p->kind;
    t->on = false;
    t->steps = t->bad = 0;
    p->kind = whole_rate(p, kind) > whole_rate(p, other) ? kind : other;
    if (p->kind == kind)
        return;
    double lost = t->lost > t->stake ? t->lost : t->stake;
    t->wait = lost / (kind == DRAFT_MTP ? SPEND_MTP : SPEND) + PAUSE * seconds;
}

/* What the step has lost by not being one of the other kind. */
static double loss_against(const struct pace *p, const struct pace_step *s, enum draft_kind other)
{
    double usual = rate(p, other);
    if (s->prompts || s->kind == DRAFT_NONE || usual <= 0)
        return s->layers;
    double layers = s->kind == DRAFT_MTP ? 0 : s->layers;
    return usual_seconds(p, s) + layers - (double)s->tokens / s->sequences / usual;
}

/* What the step has cost a trial, or what goes on. */
static double loss_of(const struct pace *p, const struct pace_step *s)
{
    return loss_against(p, s, p->kind == s->kind ? DRAFT_NONE : p->kind);
}

static void go_on_with_gram(struct pace *p, const struct pace_step *s)
{
    struct pace_trial *t = &p->trial[DRAFT_GRAM];
    if (s->kind == DRAFT_GRAM && s->drafts > 0 && !s->prompts) {
        t->lost += loss_of(p, s);
        if (!t->on || ++t->steps >= TRIAL || t->lost > SPEND * p->balance.seconds)
            judge(p, DRAFT_GRAM, s->seconds);
    } else if (p->kind == DRAFT_NONE && !t->on && !p->trial[DRAFT_MTP].on && !s->prompts) {
        t->wait -= s->seconds;
        if (t->wait <= 0 && p->steps >= WARMUP_GRAM)
            start(p, DRAFT_GRAM);
    }
}

/* Does the step say what MTP layers bring? */
static bool is_told(const struct pace_step *s)
{
    return s->kind == DRAFT_MTP && !s->prompts && 4 * s->filled >= s->sequences;
}

/* One bad run of steps may be noise, two are not. */
static void judge_again(struct pace *p, double seconds)
{
    struct pace_trial *t = &p->trial[DRAFT_MTP];
    bool pays = whole_rate(p, DRAFT_MTP) > whole_rate(p, DRAFT_NONE);
    t->steps = 0;
    t->bad = pays ? 0 : t->bad + 1;
    if (pays)
        t->lost = 0;
    else if (t->bad == 2)
        judge(p, DRAFT_MTP, seconds);
}

/* A trial that has lost its stake ends; the next one has more. */
static void go_on_with_mtp(struct pace *p, const struct pace_step *s)
{
    struct pace_trial *t = &p->trial[DRAFT_MTP];
    if (t->on) {
        t->lost += loss_of(p, s);
        t->steps += is_told(s);
        if (t->steps >= TRIAL_MTP) {
            judge(p, DRAFT_MTP, s->seconds);
        } else if (t->lost > t->stake) {
            t->on = false;
            t->stake *= 2;
            t->wait = t->stake / SPEND_MTP;
        }
    } else if (p->kind == DRAFT_MTP) {
        t->lost += loss_of(p, s);
        t->steps += is_told(s);
        if (t->steps >= TRIAL_MTP)
            judge_again(p, s->seconds);
    } else if (p->mtp && p->steps >= WARMUP) {
        if (t->stake <= 0 && !s->prompts) {
            t->stake = WARMUP * s->seconds;
            t->wait = t->stake / SPEND_MTP;
        }
        t->wait -= s->seconds;
        if (t->stake > 0 && t->wait <= 0) {
            p->trial[DRAFT_GRAM].on = false; /* perhaps one that has found nothing to guess */
            start(p, DRAFT_MTP);
        }
    }
}

void pace_took(struct pace *p, const struct pace_step *s)
{
    if (p->always)
        return;
    if (s->sequences < 1) { /* nobody would end the trial that other ranks go on with */
        p->trial[DRAFT_GRAM].on = p->trial[DRAFT_MTP].on = false;
        return;
    }
    if (s->seconds <= 0)
        return;
    struct pace_step seen = *s;
    if (s->kind == DRAFT_GRAM && s->drafts == 0)
        seen.kind = DRAFT_NONE;
    p->balance.seconds += s->seconds;
    p->balance.saved -= loss_against(p, &seen, DRAFT_NONE);
    if (!s->prompts && (seen.kind != DRAFT_MTP || 4 * s->filled >= s->sequences))
        add(p, &seen);
    add_prompts(p, s);
    p->steps += !s->prompts;
    go_on_with_gram(p, &seen);
    go_on_with_mtp(p, &seen);
}
