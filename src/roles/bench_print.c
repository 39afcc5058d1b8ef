/* bench_print.c - what was measured, as text within 80 columns or as JSON. */
#include "roles/bench.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>

#define SHOWN 5 /* layouts */

/* ---- text ----------------------------------------------------------------------------------- */

static void print_machine(const struct bench_result *r, FILE *out)
{
    fprintf(out, "machine  %s, %d thread%s: reads %.1f GB/s, %.0f GFLOP/s (%s)\n", r->backend,
            r->threads, r->threads == 1 ? "" : "s", r->bandwidth / 1e9, r->peak / 1e9, r->unit);
    fprintf(out, "         %s: threads that never wait got %.1f %% of their cores\n",
            r->cores < LIMITS_QUIET ? "NOT quiet" : "quiet", 100 * r->cores);
    if (r->cores < LIMITS_QUIET)
        fprintf(out, "         others were at work, so that the figures say little\n");
    fprintf(out, "model    %s: %.2f GB of weights\n", r->what, r->weights / 1e9);
    if (r->faster_memory > 1)
        fprintf(out,
                "         its kernels read %.1f times as fast as memory is read: weights\n"
                "         stay in caches, and that speed is their limit here\n",
                r->faster_memory);
}

static const char *limit_of(const struct bench_operation *o, const struct metered *m)
{
    return !m->memory ? "peak" : o->cached ? "caches" : "memory";
}

/* Above 1000 others were at work. */
static void print_share(const struct bench_operation *o, const struct metered *m, FILE *out)
{
    if (m->seconds > 0)
        fprintf(out, " %5.1f %c", fmin(100 * m->share, 999.9), *limit_of(o, m));
    else
        fprintf(out, " %5s  ", "-");
}

static void print_operations(const struct bench_result *r, FILE *out)
{
    fprintf(out,
            "\nOperations, %% of their limit: m of reading memory, c caches, p of the peak\n%40s",
            "rows");
    for (int i = 0; i < BENCH_ROWS; i++)
        fprintf(out, " %5d  ", bench_rows[i]);
    fprintf(out, "\n");
    for (size_t i = 0; i < r->operations; i++) {
        const struct bench_operation *o = &r->operation[i];
        fprintf(out, "%-20s %-19s", o->name, o->shape);
        for (int j = 0; j < BENCH_ROWS; j++)
            print_share(o, &o->share[j], out);
        fprintf(out, "\n");
    }
}

static void print_steps(const struct bench_result *r, FILE *out)
{
    fprintf(
        out,
        "\nDecode steps, and %% of the sum of their operations' limits\n%6s %8s %10s %10s  %-16s"
        "%6s %5s %5s %5s\n",
        "batch", "context", "step, ms", "tokens/s", "(spread)", "all", "att.", "FFN", "head");
    for (size_t i = 0; i < r->steps; i++) {
        const struct bench_step *b = &r->step[i];
        char spread[32];
        if (b->seconds == 0) {
            fprintf(out, "%6d %8d %10s   not measured: more --seconds\n", b->batch, b->context,
                    "-");
            continue;
        }
        snprintf(spread, sizeof spread, "%.0f-%.0f", b->batch / b->high, b->batch / b->low);
        fprintf(out, "%6d %8d %10.2f %10.1f  %-16s%6.1f %5.1f %5.1f %5.1f\n", b->batch, b->context,
                1e3 * b->seconds, b->batch / b->seconds, spread, 100 * b->share,
                100 * b->part.attention, 100 * b->part.ffn, 100 * b->part.head);
    }
}

static void print_layouts(const struct bench_result *r, FILE *out)
{
    fprintf(out,
            "\nLayouts on this machine, by forecast, for prompts of %.0f and completions of %.0f\n",
            r->prompt, r->completion);
    fprintf(out, "  %-14s %6s %10s %12s\n", "layout", "ranks", "step, ms", "tokens/s");
    for (size_t i = 0; i < r->layouts && i < SHOWN; i++) {
        const struct forecast *f = &r->layout[i];
        char name[32];
        layouts_name(&f->layout, name, sizeof name);
        fprintf(out, "  %-14s %6d %10.2f %12.1f%s\n", name, layout_ranks(&f->layout), f->step * 1e3,
                f->tokens_per_second, i == 0 ? "  use this" : "");
    }
}

void bench_print(const struct bench_result *r, FILE *out)
{
    print_machine(r, out);
    print_operations(r, out);
    print_steps(r, out);
    print_layouts(r, out);
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static json_t *operation_json(const struct bench_operation *o)
{
    json_t *rows = json_array();
    for (int i = 0; i < BENCH_ROWS; i++) {
        const struct metered *m = &o->share[i];
        if (m->seconds > 0)
            json_array_append_new(rows,
                                  json_pack("{s:i, s:f, s:f, s:f, s:f, s:s}", "rows", bench_rows[i],
                                            "seconds", m->seconds, "share", m->share, "low", m->low,
                                            "high", m->high, "limit", limit_of(o, m)));
    }
    return json_pack("{s:s, s:s, s:f, s:o}", "name", o->name, "shape", o->shape, "bytes", o->bytes,
                     "measured", rows);
}

static json_t *step_json(const struct bench_step *b)
{
    if (b->seconds == 0)
        return json_pack("{s:i, s:i, s:n}", "batch", b->batch, "context", b->context, "seconds");
    return json_pack("{s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:{s:f, s:f, s:f}}", "batch", b->batch,
                     "context", b->context, "seconds", b->seconds, "tokens_per_second",
                     b->batch / b->seconds, "slowest", b->batch / b->high, "fastest",
                     b->batch / b->low, "share", b->share, "shares", "attention", b->part.attention,
                     "ffn", b->part.ffn, "head", b->part.head);
}

static json_t *layout_json(const struct forecast *f)
{
    char name[32];
    layouts_name(&f->layout, name, sizeof name);
    return json_pack("{s:s, s:i, s:i, s:i, s:b, s:f, s:f}", "name", name, "attention",
                     f->layout.attention, "expert", f->layout.expert, "tensor", f->layout.tensor,
                     "colocated", f->layout.colocated, "step", f->step, "tokens_per_second",
                     f->tokens_per_second);
}

/* json_pack() gives NULL for text that is not UTF-8 and for figures that are no numbers, and an array takes
 * no NULL: then one of these is missing. */
static bool is_whole(const struct bench_result *r, const json_t *operations, const json_t *steps,
                     const json_t *layouts)
{
    for (size_t i = 0; i < json_array_size(operations); i++) {
        size_t measured = 0;
        for (int j = 0; j < BENCH_ROWS; j++)
            measured += r->operation[i].share[j].seconds > 0;
        const json_t *o = json_array_get(operations, i);
        if (json_array_size(json_object_get(o, "measured")) != measured)
            return false;
    }
    return json_array_size(operations) == r->operations && json_array_size(steps) == r->steps &&
           json_array_size(layouts) == r->layouts;
}

int bench_print_json(const struct bench_result *r, FILE *out, struct err *e)
{
    json_t *operations = json_array(), *steps = json_array(), *layouts = json_array();
    for (size_t i = 0; i < r->operations; i++)
        json_array_append_new(operations, operation_json(&r->operation[i]));
    for (size_t i = 0; i < r->steps; i++)
        json_array_append_new(steps, step_json(&r->step[i]));
    for (size_t i = 0; i < r->layouts; i++)
        json_array_append_new(layouts, layout_json(&r->layout[i]));
    json_t *machine = json_pack("{s:s, s:i, s:f, s:f, s:s, s:f, s:b}", "kernels", r->backend,
                                "threads", r->threads, "read_bytes_per_second", r->bandwidth,
                                "peak_flops_per_second", r->peak, "peak_unit", r->unit, "cores",
                                r->cores, "quiet", r->cores >= LIMITS_QUIET);
    bool whole = is_whole(r, operations, steps, layouts);
    json_t *all =
        json_pack("{s:o, s:s, s:f, s:f, s:o, s:o, s:{s:f, s:f}, s:o}", "machine", machine, "model",
                  r->what, "weight_bytes", r->weights, "faster_memory", r->faster_memory,
                  "operations", operations, "steps", steps, "job", "prompt_tokens", r->prompt,
                  "completion_tokens", r->completion, "layouts", layouts);
    whole = whole && all;
    bool written = whole && json_dumpf(all, out, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) == 0 &&
                   fputc('\n', out) != EOF && fflush(out) == 0;
    json_decref(all);
    if (whole && !written)
        return err_set(e, "what was measured cannot be written: %s", strerror(errno));
    if (!whole)
        return err_set(
            e,
            "%s: what was measured cannot be written as JSON: a figure is not finite, or the "
            "model's name is not UTF-8; without --json it is printed as text",
            r->what);
    return 0;
}
