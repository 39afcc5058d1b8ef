#include "report/stats.h"

#include "base/mem.h"
#include "data/column.h"
#include "data/h5.h"
#include "output/merge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS 4096 /* read at once */

/* ---- columns -------------------------------------------------------------------------------- */

enum { FINISH, ERROR, PROMPT_TOKENS, TOKEN_COUNT, ADMITTED, FIRST, LAST, COLUMNS };

static const struct {
    const char *name;
    enum column_kind kind;
} columns[COLUMNS] = {
    [FINISH] = {"finish", COLUMN_STRINGS},
    [ERROR] = {"error", COLUMN_STRINGS},
    [PROMPT_TOKENS] = {"prompt_tokens", COLUMN_INTEGERS},
    [TOKEN_COUNT] = {"token_count", COLUMN_INTEGERS},
    [ADMITTED] = {"admitted", COLUMN_REALS},
    [FIRST] = {"first_token", COLUMN_REALS},
    [LAST] = {"last_token", COLUMN_REALS},
};

struct table_file {
    const char *path;
    hid_t file;
    struct column *column[COLUMNS];
    size_t rows;
};

static int open_column(struct table_file *t, struct column **out, const char *name,
                       enum column_kind kind, struct err *e)
{
    if (column_open(out, t->file, t->path, name, e) != 0)
        return -1;
    if (column_kind(*out) != kind)
        return err_set(e, "%s: dataset \"%s\" has %s; the file is not a completions file", t->path,
                       name, column_describe(*out));
    if (t->rows != SIZE_MAX && column_count(*out) != t->rows)
        return err_set(e, "%s: dataset \"%s\" has %zu rows, others have %zu", t->path, name,
                       column_count(*out), t->rows);
    t->rows = column_count(*out);
    return 0;
}

static void close_table(struct table_file *t)
{
    for (int i = 0; i < COLUMNS; i++)
        column_close(t->column[i]);
    if (t->file >= 0)
        H5Fclose(t->file);
}

/* ---- rows ----------------------------------------------------------------------------------- */

struct chunk {
    size_t begin, n;
    int64_t prompt_tokens[ROWS], token_count[ROWS];
    double admitted[ROWS], first[ROWS], last[ROWS];
};

static int read_chunk(struct table_file *t, struct chunk *c, size_t begin, struct err *e)
{
    c->begin = begin;
    c->n = t->rows - begin < ROWS ? t->rows - begin : ROWS;
    if (column_integers(t->column[PROMPT_TOKENS], begin, c->n, c->prompt_tokens, e) != 0 ||
        column_integers(t->column[TOKEN_COUNT], begin, c->n, c->token_count, e) != 0 ||
        column_reals(t->column[ADMITTED], begin, c->n, c->admitted, e) != 0 ||
        column_reals(t->column[FIRST], begin, c->n, c->first, e) != 0 ||
        column_reals(t->column[LAST], begin, c->n, c->last, e) != 0)
        return -1;
    return 0;
}

static int add_finish(struct stats *s, struct table_file *t, size_t row, struct err *e)
{
    char *text, *why;
    size_t bytes;
    if (column_string(t->column[FINISH], row, &text, &bytes, e) != 0)
        return -1;
    bool error = strcmp(text, "error") == 0;
    s->stop += strcmp(text, "stop") == 0;
    s->length += strcmp(text, "length") == 0;
    s->errors += error;
    free(text);
    if (!error)
        return 0;
    if (column_string(t->column[ERROR], row, &why, &bytes, e) != 0)
        return -1;
    reasons_add(&s->reasons, why, 1);
    free(why);
    return 0;
}

static int first_pass(struct stats *s, struct table_file *t, struct chunk *c, struct err *e)
{
    for (size_t begin = 0; begin < t->rows; begin += ROWS) {
        if (read_chunk(t, c, begin, e) != 0)
            return -1;
        for (size_t i = 0; i < c->n; i++) {
            if (add_finish(s, t, begin + i, e) != 0)
                return -1;
            s->rows++;
            s->prompt_tokens += (uint64_t)c->prompt_tokens[i];
            s->tokens += (uint64_t)c->token_count[i];
            if (!(c->admitted[i] > 0) || c->token_count[i] <= 0)
                continue;
            s->begin = s->begin == 0 ? c->admitted[i] : fmin(s->begin, c->admitted[i]);
            s->end = fmax(s->end, c->last[i]);
            histogram_add(&s->prompt_length, (double)c->prompt_tokens[i]);
            histogram_add(&s->length_of, (double)c->token_count[i]);
            histogram_add(&s->first_token, c->first[i] - c->admitted[i]);
            if (c->token_count[i] > 1)
                histogram_add(&s->per_token,
                              (c->last[i] - c->first[i]) / (double)(c->token_count[i] - 1));
        }
    }
    s->other = s->rows - s->stop - s->length - s->errors; /* repetition */
    return 0;
}

/* Adds `amount`, spread evenly over the time from .. to, to the points of a curve; each point gets
 * its share in seconds of the point. */
static void spread(double *curve, const struct stats *s, double from, double to, double amount)
{
    double width = stats_seconds(s) / STATS_TIMES, a = (from - s->begin) / width,
           b = (to - s->begin) / width;
    if (!(width > 0))
        return;
    if (b - a < 1e-9) /* all at once */
        b = a + 1e-9;
    for (int i = (int)fmax(a, 0); i < STATS_TIMES && i < b; i++) {
        double part = fmin(b, i + 1) - fmax(a, i);
        if (part > 0)
            curve[i] += amount * part / (b - a);
    }
}

/* Curves need the job's whole time, known after the first pass. */
static int second_pass(struct stats *s, struct table_file *t, struct chunk *c, struct err *e)
{
    double width = stats_seconds(s) / STATS_TIMES;
    for (size_t begin = 0; begin < t->rows; begin += ROWS) {
        if (read_chunk(t, c, begin, e) != 0)
            return -1;
        for (size_t i = 0; i < c->n; i++) {
            if (!(c->admitted[i] > 0) || c->token_count[i] <= 0)
                continue;
            spread(s->rate, s, c->first[i], c->last[i], (double)c->token_count[i]);
            spread(s->running, s, c->admitted[i], c->last[i], c->last[i] - c->admitted[i]);
        }
    }
    for (int i = 0; width > 0 && i < STATS_TIMES; i++) {
        s->rate[i] /= width;
        s->running[i] /= width;
    }
    return 0;
}

/* ---- the steps file ------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum column_kind kind;
} step_columns[] = {
    {"rank", COLUMN_INTEGERS},   {"steps", COLUMN_INTEGERS}, {"rows", COLUMN_INTEGERS},
    {"attention", COLUMN_REALS}, {"ffn", COLUMN_REALS},      {"exchange", COLUMN_REALS},
    {"wait", COLUMN_REALS},      {"total", COLUMN_REALS},    {"longest", COLUMN_REALS}};
#define STEP_COLUMNS  (sizeof step_columns / sizeof *step_columns)
#define STEP_INTEGERS 3
static const char *const work_columns[] = {"bytes", "operations"};
static const char *const load_columns[] = {"layer", "expert", "chosen"};
#define LOAD_COLUMNS 3
/* More than any model has; a file may say anything. */
#define LOAD_MOST 4096

static struct stats_rank *find_rank(struct stats *s, int32_t rank)
{
    size_t i = 0;
    while (i < s->n_ranks && s->ranks[i].rank < rank)
        i++;
    if (i < s->n_ranks && s->ranks[i].rank == rank)
        return &s->ranks[i];
    s->ranks = mem_resize(s->ranks, s->n_ranks + 1, sizeof *s->ranks);
    memmove(&s->ranks[i + 1], &s->ranks[i], (s->n_ranks - i) * sizeof *s->ranks);
    s->ranks[i] = (struct stats_rank){.rank = rank};
    s->n_ranks++;
    return &s->ranks[i];
}

static int read_steps(struct stats *s, struct column *const *c, size_t rows, struct err *e)
{
    for (size_t row = 0; row < rows; row++) {
        int64_t whole[STEP_INTEGERS];
        double real[STEP_COLUMNS];
        for (size_t i = 0; i < STEP_COLUMNS; i++)
            if ((i < STEP_INTEGERS ? column_integers(c[i], row, 1, &whole[i], e)
                                   : column_reals(c[i], row, 1, &real[i], e)) != 0)
                return -1;
        struct stats_rank *r = find_rank(s, (int32_t)whole[0]);
        r->steps += (uint64_t)whole[1];
        r->rows += (uint64_t)whole[2];
        r->attention += real[3];
        r->ffn += real[4];
        r->exchange += real[5];
        r->wait += real[6];
        r->total += real[7];
        r->longest = fmax(r->longest, real[8]);
    }
    return 0;
}

/* Counts for one expert more; the table grows as it is met. */
static void add_chosen(struct stats *s, size_t layer, size_t expert, uint64_t rows)
{
    if (layer >= s->layers || expert >= s->experts) {
        size_t layers = layer >= s->layers ? layer + 1 : s->layers,
               experts = expert >= s->experts ? expert + 1 : s->experts;
        uint64_t *wider = mem_zeroed(mem_mul(layers, experts), sizeof *wider);
        for (size_t l = 0; l < s->layers; l++)
            memcpy(wider + l * experts, s->chosen + l * s->experts, s->experts * sizeof *wider);
        free(s->chosen);
        s->chosen = wider;
        s->layers = layers;
        s->experts = experts;
    }
    s->chosen[layer * s->experts + expert] += rows;
}

static int read_load(struct stats *s, struct column *const *c, size_t rows, struct err *e)
{
    for (size_t row = 0; row < rows; row++) {
        int64_t v[LOAD_COLUMNS];
        for (size_t i = 0; i < LOAD_COLUMNS; i++)
            if (column_integers(c[i], row, 1, &v[i], e) != 0)
                return -1;
        if (v[0] >= 0 && v[0] < LOAD_MOST && v[1] >= 0 && v[1] < LOAD_MOST && v[2] > 0)
            add_chosen(s, (size_t)v[0], (size_t)v[1], (uint64_t)v[2]);
    }
    return 0;
}

static int read_work(struct stats *s, struct column *const *c, size_t rows, struct err *e)
{
    for (size_t row = 0; row < rows; row++) {
        int64_t rank;
        double bytes, operations;
        if (column_integers(c[0], row, 1, &rank, e) != 0 ||
            column_reals(c[1], row, 1, &bytes, e) != 0 ||
            column_reals(c[2], row, 1, &operations, e) != 0)
            return -1;
        struct stats_rank *r = find_rank(s, (int32_t)rank);
        r->bytes += bytes;
        r->operations += operations;
    }
    return 0;
}

/* Outputs of earlier versions have none. */
static int open_work(struct stats *s, struct table_file *t, struct column *rank, struct err *e)
{
    struct column *c[3] = {rank};
    int status = 0;
    if (H5Lexists(t->file, work_columns[0], H5P_DEFAULT) <= 0)
        return 0;
    for (size_t i = 0; status == 0 && i < 2; i++)
        status = open_column(t, &c[i + 1], work_columns[i], COLUMN_REALS, e);
    if (status == 0)
        status = read_work(s, c, t->rows, e);
    column_close(c[1]);
    column_close(c[2]);
    return status;
}

/* Nor have they. */
static int open_load(struct stats *s, struct table_file *t, struct err *e)
{
    struct column *c[LOAD_COLUMNS] = {NULL};
    int status = 0;
    if (H5Lexists(t->file, load_columns[0], H5P_DEFAULT) <= 0)
        return 0;
    for (size_t i = 0; status == 0 && i < LOAD_COLUMNS; i++)
        status = open_column(t, &c[i], load_columns[i], COLUMN_INTEGERS, e);
    if (status == 0)
        status = read_load(s, c, t->rows, e);
    for (size_t i = 0; i < LOAD_COLUMNS; i++)
        column_close(c[i]);
    return status;
}

static int open_steps(struct stats *s, const char *main_path, struct err *e)
{
    char *path = merge_sibling(main_path, "steps");
    struct table_file t = {.path = path, .file = -1, .rows = SIZE_MAX};
    struct column *c[STEP_COLUMNS] = {NULL};
    int status = 0;
    if (access(path, R_OK) == 0) {
        status = h5_open(&t.file, path, e);
        for (size_t i = 0; status == 0 && i < STEP_COLUMNS; i++)
            status = open_column(&t, &c[i], step_columns[i].name, step_columns[i].kind, e);
        if (status == 0)
            status = read_steps(s, c, t.rows, e);
        if (status == 0)
            status = open_work(s, &t, c[0], e);
        if (status == 0)
            status = open_load(s, &t, e);
    }
    for (size_t i = 0; i < STEP_COLUMNS; i++)
        column_close(c[i]);
    close_table(&t);
    free(path);
    return status;
}

/* A line of the table of ranks (roles/ranks.h) for every rank that worked. */
static void read_ranks(struct stats *s)
{
    for (const char *line = s->ranks_text; *line; line += strcspn(line, "\n"), line += *line != 0) {
        int rank, threads, at = 0;
        char host[64], role[16];
        if (sscanf(line, "%d %63s %15s %*d %d %*s %*f %*f %*f %n", &rank, host, role, &threads,
                   &at) < 4 ||
            at == 0)
            continue;
        for (size_t i = 0; i < s->n_ranks; i++) {
            struct stats_rank *r = &s->ranks[i];
            if (r->rank != rank)
                continue;
            r->threads = threads;
            snprintf(r->host, sizeof r->host, "%s", host);
            snprintf(r->role, sizeof r->role, "%s", role);
            snprintf(r->device, sizeof r->device, "%.*s", (int)strcspn(line + at, "\n"), line + at);
        }
    }
}

/* ---- all of it ------------------------------------------------------------------------------ */

static char *attribute(hid_t file, const char *name)
{
    char *text = h5_get_string(file, name);
    return text ? text : mem_string("");
}

int stats_read(struct stats *s, const char *path, struct err *e)
{
    struct table_file t = {.path = path, .file = -1, .rows = SIZE_MAX};
    struct chunk *c = mem_new(1, sizeof *c);
    *s = (struct stats){.path = mem_string(path)};
    int status = h5_open(&t.file, path, e);
    for (int i = 0; status == 0 && i < COLUMNS; i++)
        status = open_column(&t, &t.column[i], columns[i].name, columns[i].kind, e);
    if (status == 0) {
        s->job = attribute(t.file, "job");
        s->version = attribute(t.file, "tandem_version");
        s->ranks_text = attribute(t.file, "ranks");
        s->kernels = attribute(t.file, "kernels");
        s->exchange = attribute(t.file, "exchange");
        s->exchange_measured = attribute(t.file, "exchange_measured");
        status = first_pass(s, &t, c, e);
    }
    if (status == 0)
        status = second_pass(s, &t, c, e);
    if (status == 0)
        status = open_steps(s, path, e);
    if (status == 0)
        read_ranks(s);
    close_table(&t);
    free(c);
    if (status != 0)
        stats_free(s);
    return status;
}

void stats_free(struct stats *s)
{
    free(s->path);
    free(s->job);
    free(s->version);
    free(s->ranks_text);
    free(s->kernels);
    free(s->exchange);
    free(s->exchange_measured);
    free(s->ranks);
    free(s->chosen);
    *s = (struct stats){0};
}

double stats_seconds(const struct stats *s)
{
    return s->end > s->begin ? s->end - s->begin : 0;
}
