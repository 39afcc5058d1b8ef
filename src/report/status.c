#include "report/status.h"

#include "base/clock.h"
#include "base/files.h"
#include "base/mem.h"
#include "data/h5.h"
#include "output/finished.h"
#include "output/journals.h"
#include "output/lock.h"
#include "output/output.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RECENT 60.0 /* seconds of the table of ranks */
#define ACTIVE 90.0 /* a journal of the last run is not older than the latest one by more */

/* What one rank did in the last minute. */
struct rank_row {
    int32_t rank;
    size_t file; /* its cell's journal */
    int64_t rows, steps;
    double attention, ffn, exchange, wait, total;
};

struct status {
    struct journals js;
    double *first, *last; /* [n_files] times of their timings; 0: none */
    double newest;
    struct rank_row *ranks;
    size_t n_ranks;
};

/* ---- reading -------------------------------------------------------------------------------- */

static struct rank_row *rank_of(struct status *s, int32_t rank, size_t file)
{
    for (size_t i = 0; i < s->n_ranks; i++)
        if (s->ranks[i].rank == rank)
            return &s->ranks[i];
    s->ranks = mem_resize(s->ranks, s->n_ranks + 1, sizeof *s->ranks);
    s->ranks[s->n_ranks] = (struct rank_row){.rank = rank, .file = file};
    return &s->ranks[s->n_ranks++];
}

static void add_rank(struct status *s, const struct timing *t, size_t file)
{
    struct rank_row *r = rank_of(s, t->rank, file);
    r->rows += t->rows;
    r->steps += t->steps;
    r->attention += (double)t->attention;
    r->ffn += (double)t->ffn;
    r->exchange += (double)t->exchange;
    r->wait += (double)t->wait;
    r->total += (double)t->total;
}

/* Twice: when the files are of, then what was done lately. */
static int read_timings(struct status *s, bool recent, struct err *e)
{
    for (size_t i = 0; i < s->js.n_timings; i++) {
        struct timing *rows;
        size_t n, file = journals_file(s->js.timings[i]);
        if (journals_timings(&s->js, i, &rows, &n, e) != 0)
            return -1;
        for (size_t k = 0; k < n; k++) {
            double time = rows[k].time;
            if (recent && time > s->newest - RECENT && s->last[file] > s->newest - ACTIVE)
                add_rank(s, &rows[k], file);
            if (recent)
                continue;
            s->first[file] = s->first[file] > 0 ? fmin(s->first[file], time) : time;
            s->last[file] = fmax(s->last[file], time);
            s->newest = fmax(s->newest, time);
        }
        free(rows);
    }
    return 0;
}

static int by_rank(const void *a, const void *b)
{
    return ((const struct rank_row *)a)->rank - ((const struct rank_row *)b)->rank;
}

/* Completions a second of the last run; 0: unknown. */
static double rate_of(const struct status *s)
{
    double began = s->newest;
    uint64_t done = 0;
    for (size_t f = 0; f < s->js.n_files; f++)
        if (s->last[f] > s->newest - ACTIVE && s->first[f] > 0)
            began = fmin(began, s->first[f]);
    for (uint64_t u = 0; u < s->js.units; u++)
        done += s->js.places[u] && s->last[journals_file(s->js.places[u])] > s->newest - ACTIVE;
    return s->newest > began ? (double)done / (s->newest - began) : 0;
}

/* ---- printing ------------------------------------------------------------------------------- */

static const char *duration(double seconds, char *text)
{
    long s = lround(seconds);
    if (s >= 3600)
        snprintf(text, 32, "%ldh%02ldm", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(text, 32, "%ldm%02lds", s / 60, s % 60);
    else
        snprintf(text, 32, "%lds", s);
    return text;
}

static void print_ranks(const struct status *s, FILE *out)
{
    if (s->n_ranks == 0)
        return;
    fprintf(out, "\nthe last minute%8s %8s %9s %5s %9s %5s %6s\n", "steps/s", "rows/s", "attention",
            "FFN", "exchange", "wait", "other");
    for (size_t i = 0; i < s->n_ranks; i++) {
        const struct rank_row *r = &s->ranks[i];
        double all = r->total > 0 ? r->total / 100 : 1,
               known = r->attention + r->ffn + r->exchange + r->wait;
        fprintf(out, "  rank %-7d %8.1f %8.1f %7.1f %% %5.1f %7.1f %% %5.1f %5.1f %%\n", r->rank,
                (double)r->steps / (all * 100), (double)r->rows / (all * 100), r->attention / all,
                r->ffn / all, r->exchange / all, r->wait / all, (r->total - known) / all);
    }
}

static void print_status(const struct status *s, const char *path, const char *directory, FILE *out)
{
    char who[200], ago[32], left[32];
    const struct journals *js = &s->js;
    double rate = rate_of(s);
    bool running = lock_is_held(directory, who, sizeof who);
    fprintf(out, "%s: %" PRIu64 " of %" PRIu64 " completions (%.1f %%)", path, js->n_done,
            js->units, js->units ? 100.0 * (double)js->n_done / (double)js->units : 0);
    if (js->n_errors)
        fprintf(out, ", %" PRIu64 " failed", js->n_errors);
    fprintf(out, "\n%s%s%s", running ? "running" : "not running", running && *who ? ": " : "",
            running ? who : "; `tandem run` with its job continues it");
    if (s->newest > 0)
        fprintf(out, "; last heard of %s ago", duration(fmax(0, clock_wall() - s->newest), ago));
    fprintf(out, "\n");
    if (running && rate > 0)
        fprintf(out, "%.2f completions a second, %s left\n", rate,
                duration((double)(js->units - js->n_done) / rate, left));
    print_ranks(s, out);
}

static int print_finished(const char *path, FILE *out, struct err *e)
{
    struct finished *f;
    if (finished_open(&f, path, FINISHED_TRUSTED, e) != 0)
        return -1;
    fprintf(out, "%s: finished, %zu completion%s\n", path, finished_rows(f),
            finished_rows(f) == 1 ? "" : "s");
    finished_close(f);
    return 0;
}

static int print_unfinished(const char *path, const char *directory, FILE *out, struct err *e)
{
    struct status s = {.newest = 0};
    if (journals_open(&s.js, directory, 0, NULL, NULL, e) != 0)
        return -1;
    s.first = mem_zeroed(s.js.n_files + 1, sizeof *s.first);
    s.last = mem_zeroed(s.js.n_files + 1, sizeof *s.last);
    int rc = read_timings(&s, false, e);
    if (rc == 0)
        rc = read_timings(&s, true, e);
    if (rc == 0) {
        if (s.n_ranks)
            qsort(s.ranks, s.n_ranks, sizeof *s.ranks, by_rank);
        print_status(&s, path, directory, out);
    }
    free(s.first);
    free(s.last);
    free(s.ranks);
    journals_close(&s.js);
    return rc;
}

int status_print(const char *path, FILE *out, struct err *e)
{
    char *directory = output_directory(path);
    bool begun = files_exist(directory);
    h5_quiet();
    int rc = files_exist(path) ? print_finished(path, out, e)
             : begun           ? print_unfinished(path, directory, out, e)
                               : err_set(e, "%s: does not exist, nor does %s", path, directory);
    free(directory);
    return rc;
}
