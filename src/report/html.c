#include "report/report.h"

#include "base/mem.h"
#include "base/files.h"
#include "report/experts.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Text that came from elsewhere: prompts, job files, errors. */
static void escaped(FILE *out, const char *text)
{
    for (const char *c = text; *c; c++) {
        const char *instead = *c == '<'   ? "&lt;"
                              : *c == '>' ? "&gt;"
                              : *c == '&' ? "&amp;"
                              : *c == '"' ? "&quot;"
                                          : NULL;
        if (instead)
            fputs(instead, out);
        else if ((unsigned char)*c >= ' ' || *c == '\n' || *c == '\t')
            fputc(*c, out);
    }
}

static const char style[] =
    ":root{--paper:#fff;--ink:#1c2430;--soft:#667085;--line:#d7dce3;--a:#2f6fde;--b:#d9822b;--c:#"
    "7a58c1;--d:#b8c0cc;--e:#3c9a6b}"
    "@media(prefers-color-scheme:dark){:root{--paper:#14181f;--ink:#e6e9ee;--soft:#98a2b3;--line:#"
    "333b47;--d:#4a5464}}"
    "body{margin:2rem auto;max-width:60rem;padding:0 1rem;background:var(--paper);color:var(--ink);"
    "font:15px/1.5 system-ui,sans-serif}h1{font-size:1.3rem}h2{font-size:1rem;margin:2rem 0 .5rem}"
    "table{border-collapse:collapse}td,th{padding:.15rem .9rem .15rem "
    "0;text-align:right;font-variant-numeric:tabular-nums;font-weight:400}"
    "td:first-child,th:first-child{text-align:left}th{color:var(--soft)}svg{width:100%;height:auto;"
    "display:block}"
    "svg text{fill:var(--soft);font:11px "
    "system-ui,sans-serif}pre{overflow:auto;color:var(--soft);font-size:12px}"
    ".pair{display:grid;grid-template-columns:1fr "
    "1fr;gap:2rem}@media(max-width:40rem){.pair{grid-template-columns:1fr}}";

/* ---- charts: 600 x 160, the drawing between x 44 and 592, y 8 and 136 ------------------------ */

#define LEFT   44.0
#define RIGHT  592.0
#define TOP    8.0
#define BOTTOM 136.0

/* A round number at or above: 1, 2 or 5 times a power of ten. */
static double round_up(double value)
{
    double power = value > 0 ? pow(10, floor(log10(value))) : 1, part = value / power;
    return power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

static void frame(FILE *out, const char *label, double most)
{
    fprintf(out, "<svg viewBox=\"0 0 600 160\" role=\"img\" aria-label=\"%s\">\n", label);
    for (int i = 0; i <= 2; i++) {
        double y = BOTTOM - i * (BOTTOM - TOP) / 2;
        fprintf(out,
                "<path d=\"M%g %gH%g\" stroke=\"var(--line)\"/><text x=\"38\" y=\"%g\" "
                "text-anchor=\"end\">%.4g</text>\n",
                LEFT, y, RIGHT, y + 4, most * i / 2);
    }
}

static void time_axis(FILE *out, double seconds)
{
    double unit = seconds > 7200 ? 3600 : seconds > 120 ? 60 : 1;
    for (int i = 0; i <= 4; i++)
        fprintf(out, "<text x=\"%g\" y=\"154\" text-anchor=\"%s\">%.3g %s</text>\n",
                LEFT + i * (RIGHT - LEFT) / 4,
                i == 0   ? "start"
                : i == 4 ? "end"
                         : "middle",
                seconds * i / 4 / unit,
                unit == 3600 ? "h"
                : unit == 60 ? "min"
                             : "s");
}

static void curve(FILE *out, const char *title, const double *values, double seconds,
                  const char *color)
{
    double most = 0;
    for (int i = 0; i < STATS_TIMES; i++)
        most = values[i] > most ? values[i] : most;
    most = round_up(most);
    fprintf(out, "<h2>%s</h2>\n", title);
    frame(out, title, most);
    fprintf(out,
            "<path fill=\"var(%s)\" fill-opacity=\".2\" stroke=\"var(%s)\" stroke-width=\"1.5\" "
            "d=\"M%g %g",
            color, color, LEFT, BOTTOM);
    for (int i = 0; i < STATS_TIMES; i++)
        fprintf(out, "L%.1f %.1f", LEFT + (i + 0.5) * (RIGHT - LEFT) / STATS_TIMES,
                BOTTOM - values[i] / most * (BOTTOM - TOP));
    fprintf(out, "L%g %gZ\"/>\n", RIGHT, BOTTOM);
    time_axis(out, seconds);
    fputs("</svg>\n", out);
}

/* Bars on a logarithmic scale from the smallest value to the largest. */
static void bars(FILE *out, const char *title, const struct histogram *h, double factor,
                 const char *unit, const char *color)
{
    enum { BARS = 24 };
    uint64_t counts[BARS], most = 1;
    if (h->n == 0)
        return;
    double from = fmax(h->least, 1e-6) / 1.0001, to = fmax(h->most, from * 1.1) * 1.0001,
           step = pow(to / from, 1.0 / BARS);
    for (int i = 0; i < BARS; i++) {
        counts[i] = histogram_between(h, i ? from * pow(step, i) : -1,
                                      i < BARS - 1 ? from * pow(step, i + 1) : INFINITY);
        most = counts[i] > most ? counts[i] : most;
    }
    fprintf(out, "<div><h2>%s</h2>\n", title);
    frame(out, title, round_up((double)most));
    for (int i = 0; i < BARS; i++) {
        double width = (RIGHT - LEFT) / BARS,
               height = (double)counts[i] / round_up((double)most) * (BOTTOM - TOP);
        fprintf(out,
                "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                "fill=\"var(%s)\"><title>%.3g to %.3g %s: %" PRIu64 "</title></rect>\n",
                LEFT + i * width + 1, BOTTOM - height, width - 2, height, color,
                from * pow(step, i) * factor, from * pow(step, i + 1) * factor, unit, counts[i]);
    }
    for (int i = 0; i <= 4; i++)
        fprintf(out, "<text x=\"%g\" y=\"154\" text-anchor=\"%s\">%.3g%s%s</text>\n",
                LEFT + i * (RIGHT - LEFT) / 4,
                i == 0   ? "start"
                : i == 4 ? "end"
                         : "middle",
                from * pow(to / from, i / 4.0) * factor, i == 4 ? " " : "", i == 4 ? unit : "");
    fputs("</svg></div>\n", out);
}

static void rank_bars(FILE *out, const struct stats *s)
{
    static const char *const names[] = {"attention", "ffn", "exchange", "wait", "other"};
    static const char *const colors[] = {"--a", "--b", "--c", "--d", "--e"};
    double height = 18.0 * (double)s->n_ranks + 24;
    if (s->n_ranks == 0)
        return;
    fprintf(out,
            "<h2>Where the time of every rank went</h2>\n<svg viewBox=\"0 0 600 %g\" role=\"img\" "
            "aria-label=\"ranks\">\n",
            height);
    for (int k = 0; k < 5; k++)
        fprintf(out,
                "<rect x=\"%d\" y=\"2\" width=\"10\" height=\"10\" fill=\"var(%s)\"/><text "
                "x=\"%d\" y=\"11\">%s</text>\n",
                44 + k * 90, colors[k], 58 + k * 90, names[k]);
    for (size_t i = 0; i < s->n_ranks; i++) {
        const struct stats_rank *r = &s->ranks[i];
        double parts[5] = {r->attention, r->ffn, r->exchange, r->wait, 0}, x = LEFT,
               y = 20 + 18.0 * (double)i;
        parts[4] = fmax(r->total - parts[0] - parts[1] - parts[2] - parts[3], 0);
        double all = parts[0] + parts[1] + parts[2] + parts[3] + parts[4];
        fprintf(out, "<text x=\"38\" y=\"%g\" text-anchor=\"end\">%" PRId32 "</text>\n", y + 11,
                r->rank);
        for (int k = 0; all > 0 && k < 5; k++) {
            double width = parts[k] / all * (RIGHT - LEFT);
            fprintf(out,
                    "<rect x=\"%.1f\" y=\"%g\" width=\"%.1f\" height=\"14\" "
                    "fill=\"var(%s)\"><title>rank %" PRId32 " %s: %.1f s, %.1f %%</title></rect>\n",
                    x, y, width, colors[k], r->rank, names[k], parts[k], parts[k] / all * 100);
            x += width;
        }
    }
    fputs("</svg>\n", out);
}

/* ---- tables --------------------------------------------------------------------------------- */

static void summary(FILE *out, const struct stats *s)
{
    double seconds = stats_seconds(s);
    fprintf(out,
            "<table>\n<tr><td>completions<td>%" PRIu64 "</tr>\n<tr><td>stopped<td>%" PRIu64
            "</tr>\n<tr><td>at their limit<td>%" PRIu64
            "</tr>\n<tr><td>repeated themselves<td>%" PRIu64 "</tr>\n<tr><td>failed<td>%" PRIu64
            "</tr>\n",
            s->rows, s->stop, s->length, s->other, s->errors);
    fprintf(out,
            "<tr><td>prompt tokens<td>%" PRIu64 "</tr>\n<tr><td>completion tokens<td>%" PRIu64
            "</tr>\n<tr><td>seconds<td>%.1f</tr>\n<tr><td>tokens/s<td>%.1f</tr>\n</table>\n",
            s->prompt_tokens, s->tokens, seconds, seconds > 0 ? (double)s->tokens / seconds : 0);
}

static void distribution(FILE *out, const char *name, const struct histogram *h, double factor)
{
    fprintf(out, "<tr><td>%s<td>%.3g<td>%.3g<td>%.3g<td>%.3g<td>%.4g</tr>\n", name,
            histogram_mean(h) * factor, histogram_percentile(h, 0.5) * factor,
            histogram_percentile(h, 0.9) * factor, histogram_percentile(h, 0.99) * factor,
            h->most * factor);
}

static void reasons(FILE *out, const struct stats *s)
{
    if (s->reasons.n == 0)
        return;
    fputs("<h2>Why prompts failed</h2>\n<table>\n", out);
    for (size_t i = 0; i < s->reasons.n; i++) {
        fputs("<tr><td>", out);
        escaped(out, s->reasons.all[i].text);
        fprintf(out, "<td>%" PRIu64 "</tr>\n", s->reasons.all[i].count);
    }
    fputs("</table>\n", out);
}

/* The same lines as in the text. */
static void roofline(FILE *out, const struct stats *s, const struct roofline *r)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *plain = open_memstream(&text, &bytes);
    if (!plain)
        die("out of memory");
    roofline_text(r, s, plain);
    if (fclose(plain) != 0)
        die("out of memory");
    if (*text) {
        fputs("<h2>Layout, and a step against the roofline</h2>\n<pre>", out);
        escaped(out, text);
        fputs("</pre>\n", out);
    }
    free(text);
}

void report_html(const struct stats *s, const struct roofline *r, FILE *out)
{
    double seconds = stats_seconds(s);
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width\"><title>",
          out);
    escaped(out, s->path);
    fprintf(out, "</title><style>%s</style></head><body>\n<h1>", style);
    escaped(out, s->path);
    fputs("</h1>\n", out);
    summary(out, s);
    reasons(out, s);
    curve(out, "Completion tokens a second", s->rate, seconds, "--a");
    curve(out, "Sequences under way", s->running, seconds, "--e");
    rank_bars(out, s);
    roofline(out, s, r);
    experts_html(s, out);
    fputs("<h2>Lengths and latencies</h2>\n<table><tr><th><th>mean<th>median<th>90 %<th>99 "
          "%<th>most</tr>\n",
          out);
    distribution(out, "prompt, tokens", &s->prompt_length, 1);
    distribution(out, "completion, tokens", &s->length_of, 1);
    distribution(out, "first token, ms", &s->first_token, 1e3);
    distribution(out, "later tokens, ms", &s->per_token, 1e3);
    fputs("</table>\n<div class=\"pair\">\n", out);
    bars(out, "Prompt lengths", &s->prompt_length, 1, "tokens", "--c");
    bars(out, "Completion lengths", &s->length_of, 1, "tokens", "--a");
    bars(out, "Time to the first token", &s->first_token, 1e3, "ms", "--b");
    bars(out, "Time of a later token", &s->per_token, 1e3, "ms", "--e");
    fputs("</div>\n<h2>Ranks</h2>\n<pre>", out);
    escaped(out, s->ranks_text);
    fputs("</pre>\n<h2>Job</h2>\n<pre>", out);
    escaped(out, s->job);
    fputs("</pre>\n<p>tandem ", out);
    escaped(out, s->version);
    fputs("</p>\n</body></html>\n", out);
}

int report_file(const struct stats *s, const struct roofline *r, const char *path, struct err *e)
{
    char *text = NULL, *directory = files_directory(path);
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        die("out of memory");
    report_html(s, r, out);
    if (fclose(out) != 0)
        die("out of memory");
    int status = files_write(directory, files_name(path), text, bytes, e);
    free(directory);
    free(text);
    return status;
}
