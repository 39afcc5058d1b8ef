#include "report/report.h"

#include "report/experts.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Percentiles come from bins (histogram.h): three digits, and whole tokens. */
static void distribution(FILE *out, const char *name, const struct histogram *h, double factor,
                         const char *unit)
{
    static const double shares[] = {0.5, 0.9, 0.99};
    if (h->n == 0)
        return;
    fprintf(out, "  %-19s %9.3g", name, histogram_mean(h) * factor);
    for (int i = 0; i < 3; i++) {
        double value = histogram_percentile(h, shares[i]) * factor;
        fprintf(out, " %9.3g", factor == 1 ? round(value) : value);
    }
    fprintf(out, " %9.4g %s\n", h->most * factor, unit);
}

/* A curve in one line, eight heights. */
static void curve(FILE *out, const char *name, const double *values, const char *unit)
{
    static const char *const heights[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    double most = 0;
    for (int i = 0; i < STATS_TIMES; i++)
        most = values[i] > most ? values[i] : most;
    fprintf(out, "  %-19s ", name);
    for (int i = 0; i < STATS_TIMES; i += 3) {
        double mean = (values[i] + values[i + 1] + values[i + 2]) / 3;
        fputs(heights[most > 0 ? (int)(8 * mean / most + 0.5) : 0], out);
    }
    fprintf(out, " at most %.4g %s\n", most, unit);
}

static void ranks(const struct stats *s, FILE *out)
{
    if (s->n_ranks == 0)
        return;
    fprintf(out,
            "\n  rank     steps   attention       ffn  exchange      wait     other    longest\n");
    for (size_t i = 0; i < s->n_ranks; i++) {
        const struct stats_rank *r = &s->ranks[i];
        double all = r->total > 0 ? r->total / 100 : 1,
               known = r->attention + r->ffn + r->exchange + r->wait;
        fprintf(out,
                "  %4" PRId32 " %9" PRIu64
                " %9.1f %% %7.1f %% %7.1f %% %7.1f %% %7.1f %% %7.1f ms\n",
                r->rank, r->steps, r->attention / all, r->ffn / all, r->exchange / all,
                r->wait / all, (r->total - known) / all, r->longest * 1e3);
    }
}

void report_text(const struct stats *s, const struct roofline *r, FILE *out)
{
    double seconds = stats_seconds(s);
    fprintf(out, "%s (tandem %s)\n", s->path, s->version);
    fprintf(out,
            "  completions         %" PRIu64 ": %" PRIu64 " stopped, %" PRIu64
            " at their limit, %" PRIu64 " failed",
            s->rows, s->stop, s->length, s->errors);
    if (s->other)
        fprintf(out, ", %" PRIu64 " repeated themselves", s->other);
    fputc('\n', out);
    for (size_t i = 0; i < s->reasons.n; i++)
        fprintf(out, "    %8" PRIu64 "  %.66s\n", s->reasons.all[i].count, s->reasons.all[i].text);
    fprintf(out, "  tokens              %" PRIu64 " of prompts, %" PRIu64 " of completions\n",
            s->prompt_tokens, s->tokens);
    fprintf(out, "  time                %.1f s, first admission to last token", seconds);
    fprintf(out, seconds > 0 ? ", %.1f tokens/s\n" : "\n", (double)s->tokens / seconds);
    fprintf(out, "\n  %-19s %9s %9s %9s %9s %9s\n", "", "mean", "median", "90 %", "99 %", "most");
    distribution(out, "prompt", &s->prompt_length, 1, "tokens");
    distribution(out, "completion", &s->length_of, 1, "tokens");
    distribution(out, "first token", &s->first_token, 1e3, "ms");
    distribution(out, "later tokens", &s->per_token, 1e3, "ms");
    fputc('\n', out);
    curve(out, "tokens/s", s->rate, "");
    curve(out, "sequences", s->running, "");
    ranks(s, out);
    roofline_text(r, s, out);
    experts_text(s, out);
}
