#include "roles/measure.h"

#include "kernels/cpu/limits.h"
#include "roles/layouts.h"
#include "roles/lengths.h"
#include "roles/stepper.h"

#include <math.h>

#define MOST_SLOTS    256
#define POINT_SECONDS 0.6
#define SHOWN         5

static void print_roofs(const struct limits_roofs *r, FILE *out)
{
    fprintf(out, "\nThis machine reads %.1f GB/s and makes %.0f GFLOP/s (%s); it was %squiet\n",
            r->bandwidth / 1e9, r->peak / 1e9, r->unit, r->cores < LIMITS_QUIET ? "NOT " : "");
}

static void print_times(const struct forecast_times *t, int cores, FILE *out)
{
    fprintf(out, "\nA decode step on %d core%s, all layers, at a context of %.0f, in ms\n", cores,
            cores == 1 ? "" : "s", t->context);
    fprintf(out, "  %6s %10s %10s %10s %12s\n", "rows", "attention", "FFN", "sampling", "tokens/s");
    for (int i = 0; i < t->n; i++) {
        double all = t->attention[i] + t->ffn[i] + t->sample[i];
        fprintf(out, "  %6d %10.3f %10.3f %10.3f %12.1f\n", t->rows[i], t->attention[i] * 1e3,
                t->ffn[i] * 1e3, t->sample[i] * 1e3, t->rows[i] / all);
    }
    fprintf(out, "  a word from rank to rank: %.1f us\n", t->handover * 1e6);
}

static void print_forecast(const struct forecast *f, const char *mark, FILE *out)
{
    char name[32];
    layouts_name(&f->layout, name, sizeof name);
    fprintf(out, "  %-14s %6d %10.1f %10.2f %12.1f %10.1f%s\n", name, layout_ranks(&f->layout),
            f->rows, f->step * 1e3, f->tokens_per_second, f->seconds, mark);
}

static void print_layouts(struct inputs *in, const struct layout *own,
                          const struct forecast_times *t, const struct forecast_job *job, int cores,
                          FILE *out)
{
    struct forecast all[LAYOUTS_MOST], mine = forecast_run(t, job, own);
    size_t n = layouts_forecast(in, t, job, cores, all);
    fprintf(out, "\n  %-14s %6s %10s %10s %12s %10s\n", "layout", "ranks", "rows", "step, ms",
            "tokens/s", "seconds");
    print_forecast(&mine, "  this job", out);
    for (size_t i = 0; i < n && i < SHOWN; i++)
        print_forecast(&all[i], i == 0 ? "  best" : "", out);
}

int measure_job(const struct measure_options *o, FILE *out, struct err *e)
{
    struct stepper s = {.params = NULL};
    struct lengths l = {0};
    struct forecast_times times;
    if (inputs_open_alone(&s.in, o->job, o->overrides, o->n_overrides, NULL, e) != 0)
        return -1;
    const struct layout own = s.in.job.layout;
    struct forecast_job played = {.slots = s.in.job.schedule.slots,
                                  .chunk = s.in.job.schedule.prefill_chunk};
    int status = lengths_read(&l, &s.in, o->tokens, e);
    if (status == 0)
        status = stepper_open(&s, played.slots < MOST_SLOTS / 4 ? played.slots * 4 : MOST_SLOTS, e);
    if (status == 0) {
        played.prompt = l.prompt;
        played.completion = l.completion;
        played.n = l.n;
        status = stepper_times(&s, l.context, POINT_SECONDS, INFINITY, &times, e);
    }
    if (status == 0) {
        const struct limits_roofs roofs = limits_roofs(s.in.backend->name, s.threads);
        print_roofs(&roofs, out);
        print_times(&times, s.threads, out);
        print_layouts(&s.in, &own, &times, &played, s.threads, out);
    }
    lengths_free(&l);
    stepper_close(&s);
    return status;
}
