#include "roles/report.h"

#include "base/files.h"
#include "base/mem.h"
#include "output/journal.h"
#include "roles/progress.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(float **list, size_t *n, size_t *room, double value)
{
    if (*n == *room) {
        *room = *room ? *room * 2 : 1024;
        *list = mem_resize(*list, *room, sizeof **list);
    }
    (*list)[(*n)++] = (float)value;
}

static void count(struct report *r, const struct completion *c)
{
    if (c->finish == FINISH_ERROR) {
        r->counts.failed++;
        reasons_add(&r->reasons, c->error ? c->error : "", 1);
        return;
    }
    r->counts.done++;
    r->counts.prompt_tokens += c->n_prompt_tokens;
    r->counts.new_tokens += c->n_tokens;
    r->counts.scored += c->n_scored;
    r->counts.score += c->score;
    add(&r->first, &r->n_first, &r->room_first, c->first_token - c->admitted);
    if (c->n_tokens > 1)
        add(&r->each, &r->n_each, &r->room_each,
            (c->last_token - c->first_token) / (c->n_tokens - 1));
}

void report_completions(struct report *r, const struct bytes *batch)
{
    const struct journal_record *record;
    for (size_t at = 0; (record = journal_next(batch, &at));) {
        struct completion c;
        if (record->kind != RECORD_COMPLETION)
            continue;
        if (table_unpack(&completion_table, record + 1, (size_t)record->bytes, &c) != 0)
            die("the completion of unit %llu cannot be understood",
                (unsigned long long)record->unit);
        count(r, &c);
        table_free(&completion_table, &c);
    }
}

/* ---- the summary: what all ranks say, put together ------------------------------------------ */

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Milliseconds that half of the values, and 99 of 100, do not exceed. */
struct latency {
    double median, most;
};

static double quantile_ms(const float *sorted, size_t n, double q)
{
    size_t i = (size_t)ceil(q * (double)n);
    return 1e3 * (double)sorted[i > 0 ? i - 1 : 0];
}

static struct latency latency_of(float *values, size_t n)
{
    if (n == 0)
        return (struct latency){NAN, NAN};
    qsort(values, n, sizeof *values, by_value);
    return (struct latency){quantile_ms(values, n, 0.5), quantile_ms(values, n, 0.99)};
}

/* Per rank: seconds of each kind, and whether it has which role. */
struct rank_time {
    double total[TRACE_KINDS];
    int32_t attention, ffn;
    struct schedule_usage schedule;
    struct pace_balance guessing;
    struct report_counts counts;
    struct reasons reasons;
};

/* Where the time of the ranks of a role went, in percent: together 100. */
struct role_time {
    const char *name;
    int ranks; /* 0: there are none */
    double working, sending, waiting, other;
};

struct summary {
    struct report_counts counts;
    struct reasons reasons;
    struct schedule_usage schedule;
    struct pace_balance guessing;
    struct latency first, each;
    struct role_time roles[2];
};

/* attention: of ranks that attend, else of those that only have experts. */
static struct role_time role_time(const char *name, const struct rank_time *ranks, int n,
                                  bool attention, double seconds)
{
    struct role_time r = {.name = name};
    for (int i = 0; i < n; i++) {
        if (attention ? !ranks[i].attention : !ranks[i].ffn || ranks[i].attention)
            continue;
        const double *t = ranks[i].total;
        r.working += t[TRACE_ATTENTION] + t[TRACE_SAMPLE] + t[TRACE_FFN];
        r.waiting += t[TRACE_WAIT] + t[TRACE_CONTRACT];
        r.sending += t[TRACE_SEND];
        r.ranks++;
    }
    double percent = r.ranks && seconds > 0 ? 100 / seconds / r.ranks : 0;
    r.working = round(10 * r.working * percent) / 10; /* as it is shown, so that sums are right */
    r.sending = round(10 * r.sending * percent) / 10;
    r.waiting = round(10 * r.waiting * percent) / 10;
    r.other = fmax(0, 100 - r.working - r.sending - r.waiting);
    return r;
}

static struct summary summarize(struct report *r, const struct rank_time *ranks, int n,
                                double seconds)
{
    struct summary s = {.first = latency_of(r->first, r->n_first),
                        .each = latency_of(r->each, r->n_each)};
    for (int i = 0; i < n; i++) {
        const struct report_counts *c = &ranks[i].counts;
        s.counts.done += c->done;
        s.counts.failed += c->failed;
        s.counts.prompt_tokens += c->prompt_tokens;
        s.counts.new_tokens += c->new_tokens;
        s.counts.scored += c->scored;
        s.counts.score += c->score;
        s.counts.drawn += c->drawn;
        s.schedule.put_back += ranks[i].schedule.put_back;
        s.schedule.computed_again += ranks[i].schedule.computed_again;
        s.schedule.shared += ranks[i].schedule.shared;
        s.schedule.guessed += ranks[i].schedule.guessed;
        s.schedule.right += ranks[i].schedule.right;
        s.guessing.saved += ranks[i].guessing.saved;
        s.guessing.seconds += ranks[i].guessing.seconds;
        for (uint64_t k = 0; k < ranks[i].reasons.n; k++)
            reasons_add(&s.reasons, ranks[i].reasons.all[k].text, ranks[i].reasons.all[k].count);
    }
    bool colocated = ranks[0].attention && ranks[0].ffn;
    s.roles[0] = role_time(colocated ? "ranks" : "attention ranks", ranks, n, true, seconds);
    s.roles[1] = role_time("FFN ranks", ranks, n, false, seconds);
    return s;
}

/* ---- as text -------------------------------------------------------------------------------- */

static void print_latency(const char *what, struct latency l)
{
    if (!isnan(l.median))
        printf("%-20s median %.1f ms, 99th percentile %.1f ms\n", what, l.median, l.most);
}

static void print_role(const struct role_time *r)
{
    if (r->ranks > 0)
        printf("%-20s working %.1f%%, sending %.1f%%, waiting %.1f%%, other %.1f%%\n", r->name,
               r->working, r->sending, r->waiting, r->other);
}

/* Of the time that the steps would have taken without guesses, in percent; `auto` alone knows. */
static double saved_by_guesses(const struct pace_balance *b)
{
    return b->seconds > 0 ? 100 * b->saved / (b->seconds + b->saved) : NAN;
}

static void print_guesses(const struct schedule_usage *u, const struct pace_balance *b)
{
    double saved = saved_by_guesses(b);
    printf("%-20s %llu of %llu guesses came true", "speculation", (unsigned long long)u->right,
           (unsigned long long)u->guessed);
    if (isnan(saved))
        printf("\n");
    else
        printf(", %s %.1f%% of the time\n", saved < 0 ? "lost" : "saved", fabs(saved));
}

static void print_schedule(const struct schedule_usage *u, const struct pace_balance *guessing)
{
    if (u->shared > 0)
        printf("%-20s %llu prompt tokens were there already\n", "KV cache",
               (unsigned long long)u->shared);
    if (u->guessed > 0)
        print_guesses(u, guessing);
    if (u->put_back > 0)
        printf("%-20s was short: %llu times a sequence was put back, %llu tokens computed again\n",
               "KV memory", (unsigned long long)u->put_back, (unsigned long long)u->computed_again);
}

static void print_reasons(const struct reasons *r)
{
    for (uint64_t i = 0; i < r->n; i++)
        printf("%-20s %llu x %s\n", i ? "" : "failed", (unsigned long long)r->all[i].count,
               r->all[i].text);
}

/* Of a scored token. */
static double nats(const struct report_counts *c)
{
    return -c->score / (double)c->scored;
}

static void print_summary(const struct report *r, const struct summary *s,
                          const struct report_end *end)
{
    char text[32];
    double seconds = end->seconds;
    printf("%-20s %llu done, %llu failed, in %s\n", "completions",
           (unsigned long long)s->counts.done, (unsigned long long)s->counts.failed,
           progress_duration(seconds, text));
    print_reasons(&s->reasons);
    if (s->counts.done > 0) {
        printf("%-20s %llu prompt (%.1f/s), %llu completion (%.1f/s)\n", "tokens",
               (unsigned long long)s->counts.prompt_tokens,
               (double)s->counts.prompt_tokens / seconds, (unsigned long long)s->counts.new_tokens,
               (double)s->counts.new_tokens / seconds);
        if (s->counts.scored > 0)
            printf("%-20s %llu tokens, %.5f nats each, perplexity %.4f\n", "scored",
                   (unsigned long long)s->counts.scored, nats(&s->counts), exp(nats(&s->counts)));
        print_latency("time to first token", s->first);
        print_latency("time per token", s->each);
        print_role(&s->roles[0]);
        print_role(&s->roles[1]);
        print_schedule(&s->schedule, &s->guessing);
        if (r->replayed > 0)
            printf("%-20s %llu of %llu were launched as CUDA graphs\n", "steps",
                   (unsigned long long)r->replayed, (unsigned long long)r->steps);
    }
    printf("%-20s %s%s\n", end->finished ? "output" : "unfinished", end->path,
           end->finished ? "" : " (nothing is lost; the same command continues)");
    if (end->all_failed)
        printf("%-20s every completion failed: the output has nothing but errors\n", "warning");
    fflush(stdout);
}

/* ---- as JSON -------------------------------------------------------------------------------- */

static json_t *json_latency(struct latency l)
{
    return isnan(l.median) ? json_null()
                           : json_pack("{s:f, s:f}", "median", l.median, "p99", l.most);
}

static json_t *json_roles(const struct summary *s)
{
    json_t *all = json_object();
    for (int i = 0; i < 2; i++) {
        const struct role_time *r = &s->roles[i];
        if (r->ranks > 0)
            json_object_set_new(all, r->name,
                                json_pack("{s:i, s:f, s:f, s:f, s:f}", "ranks", r->ranks, "working",
                                          r->working, "sending", r->sending, "waiting", r->waiting,
                                          "other", r->other));
    }
    return all;
}

static json_t *json_summary(const struct report *r, const struct summary *s,
                            const struct report_end *end)
{
    json_t *why = json_object();
    for (uint64_t i = 0; i < s->reasons.n; i++)
        json_object_set_new(why, s->reasons.all[i].text,
                            json_integer((json_int_t)s->reasons.all[i].count));
    json_t *run =
        json_pack("{s:I, s:I, s:o, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "done",
                  (json_int_t)s->counts.done, "failed", (json_int_t)s->counts.failed, "reasons",
                  why, "prompt_tokens", (json_int_t)s->counts.prompt_tokens, "completion_tokens",
                  (json_int_t)s->counts.new_tokens, "tokens_drawn", (json_int_t)s->counts.drawn,
                  "seconds", end->seconds, "steps", (json_int_t)r->steps, "graphs",
                  (json_int_t)r->replayed, "shared_prompt_tokens", (json_int_t)s->schedule.shared,
                  "sequences_put_back", (json_int_t)s->schedule.put_back, "tokens_computed_again",
                  (json_int_t)s->schedule.computed_again, "guesses",
                  (json_int_t)s->schedule.guessed, "guesses_true", (json_int_t)s->schedule.right);
    if (s->guessing.seconds > 0)
        json_object_set_new(run, "guesses_saved_percent",
                            json_real(saved_by_guesses(&s->guessing)));
    if (s->counts.scored > 0)
        json_object_set_new(run, "scored",
                            json_pack("{s:I, s:f, s:f}", "tokens", (json_int_t)s->counts.scored,
                                      "nats", nats(&s->counts), "perplexity",
                                      exp(nats(&s->counts))));
    return json_pack("{s:s, s:s, s:b, s:I, s:I, s:s, s:I, s:o, s:o, s:o, s:o}", "version",
                     end->version, "output", end->path, "finished", (int)end->finished,
                     "completions", (json_int_t)end->completions, "of", (json_int_t)end->units,
                     "ended", end->time, "ranks", (json_int_t)end->ranks, "this_run", run,
                     "first_token_ms", json_latency(s->first), "per_token_ms",
                     json_latency(s->each), "percent_of_time", json_roles(s));
}

/* A summary that cannot be written is no reason to call a finished job anything else. */
static void write_summary(const struct report *r, const struct summary *s,
                          const struct report_end *end)
{
    struct err e;
    json_t *root = json_summary(r, s, end);
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    char *directory = files_directory(end->summary);
    if (!text)
        die("the summary is no JSON");
    if (files_write(directory, files_name(end->summary), text, strlen(text), &e) != 0)
        fprintf(stderr, "tandem: warning: %s\n", e.text);
    free(directory);
    free(text);
    json_decref(root);
}

void report_summary(struct report *r, struct comm *c, const struct trace *t,
                    const struct report_end *end)
{
    struct rank_time mine = {.attention = c->place.attention,
                             .ffn = c->place.ffn,
                             .schedule = r->schedule,
                             .guessing = r->guessing,
                             .counts = r->counts,
                             .reasons = r->reasons};
    void *all;
    size_t total;
    memcpy(mine.total, t->total, sizeof mine.total);
    comm_gather(&c->world, &mine, sizeof mine, &all, &total);
    if (!all)
        return;
    struct summary s = summarize(r, all, c->world.size, end->seconds);
    print_summary(r, &s, end);
    if (end->summary)
        write_summary(r, &s, end);
    free(all);
}

void report_free(struct report *r)
{
    free(r->first);
    free(r->each);
    *r = (struct report){0};
}
