#include "report/roofline.h"

#include "base/mem.h"
#include "kernels/cpu/limits.h"
#include "plan/hardware.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KINDS 8 /* numbers of threads that ranks have */

/* ---- roofs ---------------------------------------------------------------------------------- */

static int measure_all(struct roofline *r, const struct stats *s, struct limits_roofs *all)
{
    char host[64] = "";
    bool elsewhere = false;
    int n = 0;
    gethostname(host, sizeof host - 1);
    for (size_t i = 0; i < s->n_ranks; i++) {
        int k = 0, threads = s->ranks[i].threads;
        while (k < n && all[k].threads != threads)
            k++;
        if (k == n && n < KINDS && threads > 0)
            all[n++] = limits_roofs(s->kernels, threads);
        elsewhere |= strcmp(s->ranks[i].host, host) != 0;
    }
    if (n > 0)
        snprintf(r->source, sizeof r->source,
                 "%.1f GB/s, %.0f GFLOP/s (%s, %d thread%s), just now\n%22son %.40s%s%s",
                 all[0].bandwidth / 1e9, all[0].peak / 1e9, all[0].unit, all[0].threads,
                 all[0].threads == 1 ? "" : "s", "", host,
                 elsewhere ? ", which is NOT where the job ran" : "",
                 all[0].cores < LIMITS_QUIET ? ", which was not quiet" : "");
    else
        snprintf(r->source, sizeof r->source,
                 "not measured: the output does not say how many threads ranks had");
    return n;
}

/* Has the device's name a card's in it, as a word of its own? "NVIDIA H100 80GB" is h100. */
static bool is_card(const char *device, const char *card)
{
    size_t n = strlen(card);
    for (const char *at = device; (at = strcasestr(at, card)) != NULL; at++)
        if ((at == device || !isalnum((unsigned char)at[-1])) && !isalnum((unsigned char)at[n]))
            return true;
    return false;
}

static const char *known_card(const struct stats *s)
{
    const char *const *names = card_names();
    for (size_t i = 0; names[i] && s->n_ranks > 0; i++)
        if (is_card(s->ranks[0].device, names[i]))
            return names[i];
    return NULL;
}

static bool on_cpus(const struct stats *s)
{
    return strcmp(s->kernels, "cuda") != 0;
}

/* Returns how many kinds of ranks have roofs; one of 0 threads is for all. -1. */
static int find_roofs(struct roofline *r, const struct stats *s, bool measure, const char *card,
                      struct limits_roofs *all, struct err *e)
{
    struct card c;
    if (measure && card)
        return err_set(e, "--measure and --card exclude each other: give one of them");
    if (measure && !on_cpus(s))
        return err_set(e, "--measure is of CPUs, and this job ran on GPUs: give --card NAME");
    if (measure)
        return measure_all(r, s, all);
    if (!card && !on_cpus(s))
        card = known_card(s);
    if (!card) {
        snprintf(r->source, sizeof r->source, "not known: %s",
                 on_cpus(s) ? "--measure takes those of this machine in a second"
                            : "--card NAME takes those of a card (tandem plan --cards)");
        return 0;
    }
    if (card_find(&c, card) != 0)
        return err_set(e, "--card wants one of `tandem plan --cards`, found '%s'", card);
    all[0] = (struct limits_roofs){0, c.bandwidth, c.bf16, 1, ""};
    snprintf(r->source, sizeof r->source, "%s, as its maker says: %.0f GB/s, %.0f TFLOP/s in bf16",
             c.name, c.bandwidth / 1e9, c.bf16 / 1e12);
    return 1;
}

/* ---- roles ---------------------------------------------------------------------------------- */

static struct roofline_role *role_of(struct roofline *r, const char *role)
{
    for (int i = 0; i < r->n; i++)
        if (strcmp(r->role[i].name, role) == 0)
            return &r->role[i];
    if (r->n == ROOFLINE_ROLES)
        return NULL;
    snprintf(r->role[r->n].name, sizeof r->role[r->n].name, "%s", role);
    return &r->role[r->n++];
}

static void add_rank(struct roofline *r, const struct stats_rank *k,
                     const struct limits_roofs *roofs, int n)
{
    struct roofline_role *role = role_of(r, k->role);
    double steps = (double)k->steps;
    if (!role || k->steps == 0)
        return;
    role->ranks++;
    role->rows += (double)k->rows / steps;
    role->step += k->total / steps;
    role->works += (k->attention + k->ffn) / steps;
    role->sends += k->exchange / steps;
    role->waits += k->wait / steps;
    for (int i = 0; i < n; i++)
        if (roofs[i].threads == 0 || roofs[i].threads == k->threads) {
            double memory = k->bytes / roofs[i].bandwidth, peak = k->operations / roofs[i].peak;
            role->floor += fmax(memory, peak) / steps;
            role->memory = memory > peak;
        }
}

static void finish_role(struct roofline_role *role)
{
    double n = role->ranks;
    char name[sizeof role->name];
    if (n == 0)
        return;
    double *means[] = {&role->rows,  &role->step,  &role->works,
                       &role->sends, &role->waits, &role->floor};
    for (size_t i = 0; i < sizeof means / sizeof *means; i++)
        *means[i] /= n;
    snprintf(name, sizeof name, "%d %.16s", role->ranks, role->name);
    memcpy(role->name, name, sizeof name);
}

static void name_layout(struct roofline *r, const struct stats *s)
{
    int attention = 0, ffn = 0, colocated = 0;
    for (size_t i = 0; i < s->n_ranks; i++) {
        attention += strcmp(s->ranks[i].role, "attention") == 0;
        ffn += strcmp(s->ranks[i].role, "ffn") == 0;
        colocated += strcmp(s->ranks[i].role, "colocated") == 0;
    }
    if (colocated)
        snprintf(r->layout, sizeof r->layout, "%d colocated, %.20s", colocated, s->kernels);
    else
        snprintf(r->layout, sizeof r->layout, "%dA%dF over %.16s, %.20s", attention, ffn,
                 s->exchange, s->kernels);
}

int roofline_read(struct roofline *r, const struct stats *s, bool measure, const char *card,
                  struct err *e)
{
    struct limits_roofs roofs[KINDS];
    *r = (struct roofline){.n = 0};
    int n = find_roofs(r, s, measure, card, roofs, e);
    if (n < 0)
        return -1;
    name_layout(r, s);
    for (size_t i = 0; i < s->n_ranks; i++)
        add_rank(r, &s->ranks[i], roofs, n);
    for (int i = 0; i < r->n; i++)
        finish_role(&r->role[i]);
    return 0;
}

/* ---- text --------------------------------------------------------------------------------- */

/* Ranks that follow each other on the same device. */
static void devices(const struct stats *s, FILE *out)
{
    for (size_t i = 0, end; i < s->n_ranks; i = end) {
        for (end = i + 1;
             end < s->n_ranks && strcmp(s->ranks[end].device, s->ranks[i].device) == 0;)
            end++;
        if (*s->ranks[i].device && end - i == s->n_ranks)
            fprintf(out, "  device              %.58s\n", s->ranks[i].device);
        else if (*s->ranks[i].device) {
            char ranks[32];
            snprintf(ranks, sizeof ranks, end > i + 1 ? "rank %d-%d" : "rank %d", s->ranks[i].rank,
                     s->ranks[end - 1].rank);
            fprintf(out, "  %-19s %.58s\n", ranks, s->ranks[i].device);
        }
    }
}

void roofline_text(const struct roofline *r, const struct stats *s, FILE *out)
{
    bool above = false;
    if (r->n == 0)
        return;
    fprintf(out, "\n  layout              %s\n", r->layout);
    devices(s, out);
    for (const char *line = s->exchange_measured; *line;) {
        size_t n = strcspn(line, "\n");
        fputs("  exchange            ", out);
        fwrite(line, 1, n, out);
        fputc('\n', out);
        line += n + (line[n] != 0);
    }
    fprintf(out, "  roofs               %s\n", r->source);
    fprintf(out, "\n  %-13s %7s %7s %7s %7s %7s %7s %6s  %s\n", "ms of a step", "rows", "step",
            "works", "sends", "waits", "floor", "share", "bound by");
    for (int i = 0; i < r->n; i++) {
        const struct roofline_role *k = &r->role[i];
        fprintf(out, "  %-13s %7.1f %7.2f %7.2f %7.2f %7.2f", k->name, k->rows, k->step * 1e3,
                k->works * 1e3, k->sends * 1e3, k->waits * 1e3);
        if (k->floor > 0 && k->works > 0)
            fprintf(out, " %7.2f %4.0f %%  %s\n", k->floor * 1e3, 100 * k->floor / k->works,
                    k->memory ? "memory" : "products");
        else
            fprintf(out, " %7s %6s\n", "-", "-");
        above |= k->floor > k->works;
    }
    if (above)
        fputs("  Above 100 %: weights that stay in caches are read faster than memory.\n", out);
}
