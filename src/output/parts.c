#include "output/parts.h"

#include "base/files.h"
#include "base/mem.h"
#include "output/beside.h"
#include "output/finished.h"
#include "output/merge.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMING_ROWS 4096 /* of a batch */
#define EVERYTHING  (FINISHED_TOKENS | FINISHED_LOGPROBS | FINISHED_STEPS)

struct part {
    const char *path;
    uint64_t first, units, rows; /* prompt; completions it is about, and has */
    uint64_t begin, end;         /* rows of its whole job */
    int32_t ranks;
    size_t n_timings;
    struct identity identity, texts;
};

struct parts {
    struct part *all;
    size_t n;
    uint64_t first, samples;
    int32_t first_rank; /* of the part that is open */
    size_t now;         /* its number */
    struct finished *open;
    size_t row; /* the next one of it */
    struct finished *model;
};

/* ---- reading what each is ------------------------------------------------------------------- */

static bool is_sibling(const char *path, const char *const *paths, size_t n)
{
    static const char *const names[] = {"tokens", "steps"};
    bool is = false;
    for (size_t i = 0; i < n && !is; i++)
        for (size_t k = 0; k < 2 && !is; k++) {
            char *sibling = merge_sibling(paths[i], names[k]);
            is = strcmp(sibling, path) == 0;
            free(sibling);
        }
    return is;
}

static int count_ranks(struct part *p, struct finished *f, struct err *e)
{
    struct timing *rows = mem_new(TIMING_ROWS, sizeof *rows);
    size_t n = finished_timings(f);
    int rc = 0;
    p->n_timings = (n + TIMING_ROWS - 1) / TIMING_ROWS;
    for (size_t begin = 0; begin < n && rc == 0; begin += TIMING_ROWS) {
        size_t some = n - begin < TIMING_ROWS ? n - begin : TIMING_ROWS;
        rc = finished_timing(f, begin, some, rows, e);
        for (size_t i = 0; i < some && rc == 0; i++)
            p->ranks = rows[i].rank >= p->ranks ? rows[i].rank + 1 : p->ranks;
    }
    free(rows);
    return rc;
}

/* Names that must be the same in all parts: all but which rows they have. */
static int read_identity(struct part *p, const struct finished *f, struct err *e)
{
    struct identity all = {0};
    char *json = finished_text(f, "identity");
    int rc = json && identity_add_json(&all, json) == 0
                 ? 0
                 : err_set(e, "%s: does not say which job it is of", p->path);
    for (size_t i = 0; i < all.n; i++) {
        const char *name = all.entries[i].name;
        if (strcmp(name, "prompts") != 0 && strcmp(name, "completions") != 0 &&
            strcmp(name, "first prompt") != 0)
            identity_add(&p->identity, name, all.entries[i].value);
    }
    free(json);
    identity_free(&all);
    return rc;
}

static int read_part(struct parts *parts, struct part *p, struct err *e)
{
    struct finished *f;
    uint64_t samples = 0;
    if (finished_open(&f, p->path, EVERYTHING, e) != 0)
        return -1;
    int rc = read_identity(p, f, e);
    if (rc == 0 && (!finished_number(f, "first_prompt", &p->first) ||
                    !finished_number(f, "units", &p->units) ||
                    !finished_number(f, "samples", &samples) || samples == 0))
        rc = err_set(e, "%s: does not say which prompts it is of", p->path);
    if (rc == 0)
        rc = count_ranks(p, f, e);
    finished_texts(f, &p->texts);
    const char *range = identity_value(&p->texts, BESIDE_RANGE),
               *prompts = identity_value(&p->texts, BESIDE_ROWS);
    if (!range || sscanf(range, "%" SCNu64 " %" SCNu64, &p->begin, &p->end) != 2) {
        p->begin = 0; /* of an earlier version */
        p->end = prompts ? strtoull(prompts, NULL, 10) : 0;
    }
    p->rows = finished_rows(f);
    parts->samples = samples;
    finished_close(f);
    return rc;
}

/* ---- do they fit together? ------------------------------------------------------------------ */

static int by_first(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    if (x->first != y->first)
        return x->first > y->first ? 1 : -1;
    return (x->units > y->units) - (x->units < y->units); /* parts without rows come first */
}

static int check_same_job(const struct part *one, const struct part *p, struct err *e)
{
    char differs[1400];
    const char *a = identity_value(&one->texts, "prompts_stamp");
    const char *b = identity_value(&p->texts, "prompts_stamp");
    if (identity_differs(&p->identity, &one->identity, differs, sizeof differs))
        return err_set(e, "%s: is of another job than %s: it has %s", p->path, one->path, differs);
    if (a && b && strcmp(a, b) != 0)
        return err_set(e,
                       "%s: its prompts file was another one (%s) than that of %s (%s); parts of "
                       "one job read one prompts file",
                       p->path, b, one->path, a);
    return 0;
}

static int missing(uint64_t from, uint64_t to, struct err *e)
{
    return err_set(e,
                   "rows %" PRIu64 " to %" PRIu64
                   " of the prompts file are in none of these files; "
                   "are all parts finished and named? --partial leaves them out",
                   from, to - 1);
}

/* The parts stand in the order of prompts. They are whole when they have all rows of the jobs they are of. */
static int check_rows(const struct parts *parts, bool partial, struct err *e)
{
    uint64_t next = UINT64_MAX, end = 0;
    for (size_t i = 0; i < parts->n; i++) {
        next = parts->all[i].begin < next ? parts->all[i].begin : next;
        end = parts->all[i].end > end ? parts->all[i].end : end;
    }
    for (size_t i = 0; i < parts->n; i++) {
        const struct part *p = &parts->all[i];
        if (i > 0 && check_same_job(&parts->all[0], p, e) != 0)
            return -1;
        if (i > 0 && p->first < next)
            return err_set(e, "%s and %s both have row %" PRIu64 " of the prompts file",
                           parts->all[i - 1].path, p->path, p->first);
        if (!partial && p->first > next)
            return missing(next, p->first, e);
        if (!partial && p->rows != p->units)
            return err_set(e,
                           "%s: has %" PRIu64 " of %" PRIu64
                           " completions; finish its job, or take "
                           "what is there with --partial",
                           p->path, p->rows, p->units);
        next = p->first + p->units / parts->samples;
    }
    return !partial && next < end ? missing(next, end, e) : 0;
}

/* ---- the rows ------------------------------------------------------------------------------- */

static int turn_to(struct parts *p, size_t number, struct err *e)
{
    if (p->open && p->now == number)
        return 0;
    finished_close(p->open);
    p->open = NULL;
    p->now = number;
    p->row = 0;
    p->first_rank = 0;
    for (size_t i = 0; i < number; i++)
        p->first_rank += p->all[i].ranks;
    return finished_open(&p->open, p->all[number].path, EVERYTHING | FINISHED_TRUSTED, e);
}

static int check_columns(const struct parts *p, struct err *e)
{
    struct kept *mine = finished_kept(p->open), *first = finished_kept(p->model);
    bool same = kept_count(mine) == kept_count(first);
    for (size_t i = 0; i < kept_count(mine) && same; i++)
        same = strcmp(kept_dataset(mine, i), kept_dataset(first, i)) == 0 &&
               column_kind(kept_column(mine, i)) == column_kind(kept_column(first, i)) &&
               kept_is_json(mine, i) == kept_is_json(first, i);
    return same ? 0
                : err_set(e, "%s: its own columns are not those of %s", p->all[p->now].path,
                          p->all[0].path);
}

/* The part that has this unit, and its place in it: *within. False: none has. */
static bool find_part(const struct parts *p, uint64_t unit, size_t *number, uint64_t *within)
{
    for (size_t i = p->now; i < p->n; i++) {
        uint64_t begin = (p->all[i].first - p->first) * p->samples;
        if (unit < begin)
            return false;
        *number = i;
        *within = unit - begin;
        if (*within < p->all[i].units)
            return true;
    }
    return false;
}

static int part_row(void *context, uint64_t unit, struct merge_row *row, struct err *e)
{
    struct parts *p = context;
    size_t number;
    uint64_t within;
    *row = (struct merge_row){.row = 0};
    if (!find_part(p, unit, &number, &within))
        return 0;
    if (turn_to(p, number, e) != 0 || (p->row == 0 && check_columns(p, e) != 0))
        return -1;
    if (p->row == finished_rows(p->open))
        return 0;
    if (finished_row(p->open, p->row, &row->completion, e) != 0) {
        table_free(&completion_table, &row->completion);
        return err_prefix(e, "%s: row %zu", p->all[number].path, p->row);
    }
    const struct completion *c = &row->completion;
    uint64_t is = ((uint64_t)c->prompt - p->first) * p->samples + (uint64_t)c->sample;
    if (is < unit || (is > unit && p->all[number].rows == p->all[number].units)) {
        table_free(&completion_table, &row->completion);
        return err_set(e, "%s: row %zu is not the one that belongs there", p->all[number].path,
                       p->row);
    }
    if (is > unit) { /* of a part that is not whole */
        table_free(&completion_table, &row->completion);
        return 0;
    }
    row->completion.rank += p->first_rank;
    row->columns = finished_kept(p->open);
    row->row = p->row++;
    return 1;
}

static int part_timings(void *context, size_t i, struct timing **rows, size_t *n, struct err *e)
{
    struct parts *p = context;
    size_t number = 0;
    while (i >= p->all[number].n_timings)
        i -= p->all[number++].n_timings;
    if (turn_to(p, number, e) != 0)
        return -1;
    size_t left = finished_timings(p->open) - i * TIMING_ROWS;
    *n = left < TIMING_ROWS ? left : TIMING_ROWS;
    *rows = mem_new(*n, sizeof **rows);
    int rc = finished_timing(p->open, i * TIMING_ROWS, *n, *rows, e);
    for (size_t k = 0; k < *n && rc == 0; k++)
        (*rows)[k].rank += p->first_rank;
    if (rc != 0)
        free(*rows);
    return rc;
}

/* ---- all of it ------------------------------------------------------------------------------ */

/* What the result says of itself: what the parts have in common, and which they were. */
static void describe(const struct parts *p, struct identity *id, struct identity *texts)
{
    char number[32];
    const struct part *last = &p->all[p->n - 1];
    struct bytes names = {0}, ranks = {0};
    uint64_t units = (last->first - p->first) * p->samples + last->units;
    for (size_t i = 0; i < p->n; i++) {
        const char *table = identity_value(&p->all[i].texts, "ranks");
        bytes_add(&names, i ? "\n" : "", i ? 1 : 0);
        bytes_add(&names, p->all[i].path, strlen(p->all[i].path));
        if (table)
            bytes_add(&ranks, table, strlen(table));
    }
    bytes_add(&names, "", 1);
    bytes_add(&ranks, "", 1);
    *texts = (struct identity){0};
    for (size_t i = 0; i < p->all[0].texts.n; i++)
        identity_add(texts, p->all[0].texts.entries[i].name, p->all[0].texts.entries[i].value);
    identity_add(texts, "merged_from", names.data);
    identity_add(texts, "ranks", ranks.data);
    *id = (struct identity){0};
    for (size_t i = 0; i < p->all[0].identity.n; i++)
        identity_add(id, p->all[0].identity.entries[i].name, p->all[0].identity.entries[i].value);
    snprintf(number, sizeof number, "%" PRIu64, units);
    identity_add(id, "completions", number);
    snprintf(number, sizeof number, "%" PRIu64, p->first);
    identity_add(id, "first prompt", number);
    free(names.data);
    free(ranks.data);
}

static int write_all(struct parts *p, const char *to, bool partial, uint64_t *rows, struct err *e)
{
    struct identity id, texts;
    struct merge_progress progress = {.stop = false};
    const struct part *last = &p->all[p->n - 1];
    if (finished_open(&p->model, p->all[0].path, FINISHED_TRUSTED, e) != 0)
        return -1;
    describe(p, &id, &texts);
    struct journal_header header = {.first_prompt = (int64_t)p->first,
                                    .samples = (int64_t)p->samples,
                                    .kept = (int64_t)p->samples,
                                    .identity = identity_json(&id),
                                    .attributes = identity_json(&texts)};
    struct merge_source source = {
        .context = p,
        .header = &header,
        .units = (last->first - p->first) * p->samples + last->units,
        .partial = partial,
        .columns = finished_kept(p->model),
        .completion = part_row,
        .timings = part_timings,
    };
    for (size_t i = 0; i < p->n; i++) {
        source.rows += p->all[i].rows;
        source.n_timings += p->all[i].n_timings;
    }
    char *beside = files_directory(to);
    int rc = merge_from(to, beside, &source, &progress, e);
    *rows = source.rows;
    free(beside);
    free(header.identity);
    free(header.attributes);
    identity_free(&id);
    identity_free(&texts);
    return rc;
}

static void free_parts(struct parts *p)
{
    for (size_t i = 0; i < p->n; i++) {
        identity_free(&p->all[i].identity);
        identity_free(&p->all[i].texts);
    }
    finished_close(p->open);
    finished_close(p->model);
    free(p->all);
}

int parts_merge(const char *const *paths, size_t n, const char *to, bool partial, uint64_t *rows,
                struct err *e)
{
    struct parts p = {.all = mem_zeroed(n, sizeof *p.all)};
    int rc = files_exist(to) ? err_set(e, "%s: exists; name another file for the whole", to) : 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (is_sibling(paths[i], paths, n))
            continue;
        p.all[p.n].path = paths[i];
        rc = read_part(&p, &p.all[p.n++], e);
    }
    if (rc == 0) {
        qsort(p.all, p.n, sizeof *p.all, by_first);
        p.first = p.all[0].first;
        rc = check_rows(&p, partial, e);
    }
    if (rc == 0)
        rc = write_all(&p, to, partial, rows, e);
    free_parts(&p);
    return rc;
}
