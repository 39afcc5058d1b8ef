#include "plan/forecast.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>

/* Between the points a straight line, and beyond the last the last one's. */
static double at(const struct forecast_times *t, const double *seconds, double rows)
{
    int i = 1;
    if (rows <= 0)
        return 0;
    if (t->n < 2)
        return seconds[0] * rows / t->rows[0];
    while (i < t->n - 1 && rows > t->rows[i])
        i++;
    double from = t->rows[i - 1], to = t->rows[i], part = (rows - from) / (to - from);
    return fmax(seconds[i - 1] + part * (seconds[i] - seconds[i - 1]), 0);
}

double forecast_step(const struct forecast_times *t, const struct layout *l, double rows,
                     double sampled, double context)
{
    double ranks = l->attention, mine = rows / ranks;
    if (mine < 1) /* some ranks have nothing to do */
        ranks = rows, mine = 1;
    double more = rows * t->row_context * (context - t->context);
    double attention = fmax(ranks * at(t, t->attention, mine) + more, 0);
    double sample = ranks * at(t, t->sample, sampled / ranks);
    double ffn = l->colocated ? ranks * at(t, t->ffn, mine) : at(t, t->ffn, rows);
    int all = layout_ranks(l);
    /* Each layer there and back, and the step contract, whose messages meet in rounds. */
    double words = (l->colocated ? 0 : 2 * t->layers) + ceil(log2(all));
    return attention + sample + ffn + words * t->handover;
}

/* ---- playing the job ------------------------------------------------------------------------ */

struct running {
    uint32_t unread, undone, context;
};

struct play {
    const struct forecast_job *job;
    size_t units, next, n, places;
    struct running *all; /* [n], in order of admission */
    double steps, rows;
};

static void admit(struct play *p)
{
    for (; p->n < p->places && p->next < p->units; p->next++)
        p->all[p->n++] = (struct running){p->job->prompt[p->next], p->job->completion[p->next], 0};
}

struct played {
    double rows, sampled, context;
};

/* One step: a row for each that decodes, and chunks of prompts in order. */
static struct played advance(struct play *p, uint32_t chunk)
{
    struct played s = {0};
    size_t kept = 0;
    for (size_t i = 0; i < p->n; i++) {
        struct running r = p->all[i];
        uint32_t rows = r.unread == 0 ? 1 : r.unread < chunk ? r.unread : chunk;
        if (r.unread > 0) {
            chunk -= rows;
            r.unread -= rows;
        }
        s.context += rows * (r.context + rows / 2.0);
        s.rows += rows;
        r.context += rows;
        if (rows > 0 && r.unread == 0) {
            s.sampled++;
            r.undone -= r.undone > 0;
        }
        if (r.unread > 0 || r.undone > 0)
            p->all[kept++] = r;
    }
    p->n = kept;
    s.context = s.rows > 0 ? s.context / s.rows : 0;
    return s;
}

/* So many sequences for every place say enough about a long job. */
#define ROUNDS 64

struct forecast forecast_run(const struct forecast_times *t, const struct forecast_job *job,
                             const struct layout *l)
{
    struct forecast f = {.layout = *l};
    struct play p = {.job = job, .places = (size_t)job->slots * (size_t)l->attention};
    double tokens = 0, played = 0, steps = 0;
    p.units = job->n < ROUNDS * p.places ? job->n : ROUNDS * p.places;
    p.all = mem_new(p.places, sizeof *p.all);
    for (admit(&p); p.n > 0; admit(&p), steps++) {
        struct played s = advance(&p, (uint32_t)job->chunk * (uint32_t)l->attention);
        f.seconds += forecast_step(t, l, s.rows, s.sampled, s.context);
        f.rows += s.rows;
    }
    free(p.all);
    for (size_t i = 0; i < job->n; i++) {
        tokens += job->completion[i];
        played += i < p.units ? job->completion[i] : 0;
    }
    f.step = steps > 0 ? f.seconds / steps : 0;
    f.rows = steps > 0 ? f.rows / steps : 0;
    f.tokens_per_second = f.seconds > 0 ? played / f.seconds : 0;
    f.seconds *= played > 0 ? tokens / played : 1;
    return f;
}
