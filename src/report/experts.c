#include "report/experts.h"

#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define SHOWN 12 /* layers in the text */
#define WIDTH 32 /* experts, or groups of them, in a line of it */

struct layer_load {
    size_t layer, busiest, idle;
    uint64_t rows;
    double most; /* of the busiest, over the mean */
};

static struct layer_load load_of(const struct stats *s, size_t layer)
{
    const uint64_t *c = s->chosen + layer * s->experts;
    struct layer_load l = {.layer = layer};
    for (size_t i = 0; i < s->experts; i++) {
        l.rows += c[i];
        l.idle += c[i] == 0;
        l.busiest = c[i] > c[l.busiest] ? i : l.busiest;
    }
    l.most = l.rows ? (double)c[l.busiest] * (double)s->experts / (double)l.rows : 0;
    return l;
}

static int by_most(const void *x, const void *y)
{
    const struct layer_load *a = x, *b = y;
    return (a->most < b->most) - (a->most > b->most);
}

static int by_layer(const void *x, const void *y)
{
    const struct layer_load *a = x, *b = y;
    return (a->layer > b->layer) - (a->layer < b->layer);
}

/* The layers that have experts, those with the busiest expert first; malloc'd. */
static struct layer_load *sorted(const struct stats *s, size_t *n)
{
    struct layer_load *all = mem_new(s->layers, sizeof *all);
    *n = 0;
    for (size_t l = 0; l < s->layers; l++) {
        struct layer_load one = load_of(s, l);
        if (one.rows > 0)
            all[(*n)++] = one;
    }
    qsort(all, *n, sizeof *all, by_most);
    return all;
}

/* Experts side by side, in eight heights; the highest is the busiest. */
static void print_heights(const struct stats *s, size_t layer, FILE *out)
{
    static const char *const heights[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    size_t width = s->experts < WIDTH ? s->experts : WIDTH;
    double sums[WIDTH] = {0}, most = 0;
    for (size_t i = 0; i < width; i++) {
        size_t from = i * s->experts / width, to = (i + 1) * s->experts / width;
        for (size_t k = from; k < to; k++)
            sums[i] += (double)s->chosen[layer * s->experts + k] / (double)(to - from);
        most = fmax(most, sums[i]);
    }
    for (size_t i = 0; i < width; i++)
        fputs(heights[(int)ceil(8 * sums[i] / most)], out);
}

void experts_text(const struct stats *s, FILE *out)
{
    size_t n;
    if (!s->chosen)
        return;
    struct layer_load *all = sorted(s, &n);
    size_t shown = n < SHOWN ? n : SHOWN;
    fprintf(out, "\n  %zu experts in %zu layers%s\n", s->experts, n,
            shown < n ? "; the most uneven" : "");
    fprintf(out, "  %5s %12s %9s %8s %6s\n", "layer", "choices", "busiest", "x mean", "idle");
    qsort(all, shown, sizeof *all, by_layer);
    for (size_t i = 0; i < shown; i++) {
        fprintf(out, "  %5zu %12" PRIu64 " %9zu %8.2f %6zu  ", all[i].layer, all[i].rows,
                all[i].busiest, all[i].most, all[i].idle);
        print_heights(s, all[i].layer, out);
        fputc('\n', out);
    }
    free(all);
}

/* A square an expert, a row a layer; the darker the more of the layer's rows. */
void experts_html(const struct stats *s, FILE *out)
{
    size_t n;
    if (!s->chosen)
        return;
    struct layer_load *all = sorted(s, &n);
    double width = 548.0 / (double)s->experts, high = fmax(4, fmin(width, 16)), y = 4;
    fprintf(
        out,
        "<h2>Rows of every expert</h2>\n<p>A row a layer; full colour is twice the mean or "
        "more. The busiest: layer %zu, expert %zu, %.2f times the mean.</p>\n<svg viewBox=\"0 0 "
        "600 %g\" role=\"img\" aria-label=\"experts\">\n",
        all[0].layer, all[0].busiest, all[0].most, (double)n * high + 8);
    qsort(all, n, sizeof *all, by_layer);
    for (size_t i = 0; i < n; i++, y += high) {
        double mean = (double)all[i].rows / (double)s->experts;
        if (i % (size_t)ceil(10 / high) == 0)
            fprintf(out, "<text x=\"38\" y=\"%g\" text-anchor=\"end\">%zu</text>\n", y + high - 1,
                    all[i].layer);
        for (size_t k = 0; k < s->experts; k++) {
            uint64_t rows = s->chosen[all[i].layer * s->experts + k];
            fprintf(out,
                    "<rect x=\"%.1f\" y=\"%g\" width=\"%.1f\" height=\"%g\" fill=\"var(--a)\" "
                    "fill-opacity=\"%.2f\"><title>layer %zu, expert %zu: %" PRIu64
                    "</title></rect>\n",
                    44 + (double)k * width, y, fmax(width - 0.5, 0.5), high - 0.5,
                    fmin((double)rows / mean / 2, 1), all[i].layer, k, rows);
        }
    }
    fputs("</svg>\n", out);
    free(all);
}
