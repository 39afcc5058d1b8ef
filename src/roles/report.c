#include "roles/report.h"

#include "base/mem.h"
#include "output/journal.h"
#include "roles/cores.h"
#include "roles/progress.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What one rank says about itself. */
struct rank_line {
    int32_t index, threads, cores, online; /* online: cores of the host */
    cpu_set_t mask;
    char role[16], cores_text[64], device[128];
    double weights, kv, buffers; /* bytes */
};

static struct rank_line describe(const struct comm *c, const struct engine *g)
{
    struct rank_line line = {.index = c->place.index, .threads = g->config.threads};
    cores_mask(&line.mask);
    line.cores = cores_count(&line.mask);
    line.online = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    cores_text(&line.mask, line.cores_text, sizeof line.cores_text);
    snprintf(line.role, sizeof line.role, "%s", place_role(&c->place));
    g->backend->device->describe(g->device, line.device, sizeof line.device);
    line.weights = (double)g->memory.weights;
    line.kv = (double)g->memory.kv;
    line.buffers = (double)g->memory.buffers;
    return line;
}

static void print_line(FILE *f, const struct peer *p, const struct rank_line *l)
{
    char name[32];
    snprintf(name, sizeof name, "%s %d", l->role, l->index);
    fprintf(f, "%4d  %-16s %-13s %7d  %-10s %9.1f %9.1f %9.1f  %s\n", p->rank, p->name, name,
            l->threads, l->cores_text, l->weights / 0x1p20, l->kv / 0x1p20, l->buffers / 0x1p20,
            l->device);
}

static void print_table(FILE *f, const struct comm *c, const struct rank_line *lines)
{
    fprintf(f, "%4s  %-16s %-13s %7s  %-10s %9s %9s %9s  %s\n", "rank", "host", "role", "threads",
            "cores", "weights", "KV", "buffers", "device (memory in MiB)");
    for (int i = 0; i < c->world.size; i++)
        print_line(f, &c->peers[i], &lines[i]);
}

static void warn_about_cores(const struct comm *c, const struct rank_line *lines)
{
    for (int i = 0; i < c->world.size; i++)
        if (lines[i].threads > lines[i].cores)
            fprintf(
                stderr,
                "tandem: warning: rank %d has %d threads but may run on %d core%s (%s); start it "
                "with `mpirun --bind-to none` or `srun --cpu-bind=none`, or set "
                "layout.threads\n",
                c->peers[i].rank, lines[i].threads, lines[i].cores, lines[i].cores == 1 ? "" : "s",
                lines[i].cores_text);
}

/* The rank that its host is numbered by. */
static bool leads_host(const struct comm *c, int rank)
{
    return c->peers[rank].host == c->peers[rank].rank;
}

/* All cores that ranks of this rank's host and of a role (NULL: any) may run on. */
static cpu_set_t cores_used(const struct comm *c, const struct rank_line *lines, int rank,
                            const char *role)
{
    cpu_set_t used;
    CPU_ZERO(&used);
    for (int i = 0; i < c->world.size; i++)
        if (c->peers[i].host == c->peers[rank].host && (!role || strcmp(lines[i].role, role) == 0))
            CPU_OR(&used, &used, &lines[i].mask);
    return used;
}

/* mpirun binds the ranks of a small job to one core each: the other cores of the host then idle. A
 * Slurm allocation may rightly be a part of a host. */
static void warn_about_idle_cores(const struct comm *c, const struct rank_line *lines)
{
    for (int i = 0; i < c->world.size; i++) {
        if (!leads_host(c, i))
            continue;
        cpu_set_t used = cores_used(c, lines, i, NULL);
        if (cores_count(&used) < lines[i].online && !getenv("SLURM_JOB_ID"))
            fprintf(stderr,
                    "tandem: warning: the ranks on %s may run on %d of its %d cores; start them "
                    "with `mpirun --bind-to none` to use all\n",
                    c->peers[i].name, cores_count(&used), lines[i].online);
    }
}

/* Roles that have halves of a host each wait for each other; on all of its cores in turns they do
 * not (cores.h). */
static void warn_about_divided_hosts(const struct comm *c, const struct rank_line *lines)
{
    for (int i = 0; i < c->world.size; i++) {
        if (!leads_host(c, i))
            continue;
        cpu_set_t attention = cores_used(c, lines, i, "attention"), both;
        cpu_set_t ffn = cores_used(c, lines, i, "ffn");
        CPU_AND(&both, &attention, &ffn);
        if (cores_count(&attention) && cores_count(&ffn) && !cores_count(&both))
            fprintf(stderr,
                    "tandem: note: on %s attention and FFN ranks have cores of their own; when the "
                    "weights are larger than the caches they are usually faster taking turns on "
                    "all of them: `mpirun --bind-to none` or `srun --cpu-bind=none`\n",
                    c->peers[i].name);
    }
}

static struct rank_line *gather_lines(struct comm *c, const struct engine *g)
{
    struct rank_line mine = describe(c, g);
    void *all;
    size_t total;
    comm_gather(&c->world, &mine, sizeof mine, &all, &total);
    return all;
}

void report_ranks(struct comm *c, const struct engine *g)
{
    struct rank_line *lines = gather_lines(c, g);
    if (!lines)
        return;
    print_table(stdout, c, lines);
    fflush(stdout);
    warn_about_cores(c, lines);
    const char *repaired = checkpoint_note(g->in->checkpoint);
    if (*repaired)
        fprintf(stderr, "tandem: warning: %s: %s\n", g->in->job.model, repaired);
    const char *ignored = g->in->model.ignored;
    if (*ignored)
        fprintf(stderr, "tandem: warning: %s: model_ignore: counted as absent: %s\n",
                g->in->job.model, ignored);
    if (inputs_doubt(g->in))
        fprintf(stderr, "tandem: warning: %s\n", inputs_doubt(g->in));
    warn_about_idle_cores(c, lines);
    if (g->backend->device->count == NULL)
        warn_about_divided_hosts(c, lines);
    free(lines);
}

char *report_rank_table(struct comm *c, const struct engine *g)
{
    struct rank_line *lines = gather_lines(c, g);
    char *text = NULL;
    size_t size;
    if (!lines)
        return NULL;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        die("out of memory");
    print_table(f, c, lines);
    fclose(f);
    free(lines);
    return text;
}

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
        return;
    }
    r->counts.done++;
    r->counts.prompt_tokens += c->n_prompt_tokens;
    r->counts.new_tokens += c->n_tokens;
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

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The value that a share `q` of the values do not exceed, in milliseconds; sorts them. */
static double quantile_ms(float *values, size_t n, double q)
{
    if (n == 0)
        return NAN;
    qsort(values, n, sizeof *values, by_value);
    size_t i = (size_t)ceil(q * (double)n);
    return 1e3 * (double)values[i > 0 ? i - 1 : 0];
}

static void print_latency(const char *what, float *values, size_t n)
{
    printf("%-22s median %.1f ms, 99th percentile %.1f ms\n", what, quantile_ms(values, n, 0.5),
           quantile_ms(values, n, 0.99));
}

/* Per rank: seconds of each kind, and whether it has which role. */
struct rank_time {
    double total[TRACE_KINDS];
    int32_t attention, ffn;
    struct schedule_usage schedule;
    struct report_counts counts;
};

/* Share of the time the ranks of a role spent working, sending and waiting. */
static void print_role(const char *name, const struct rank_time *ranks, int n, bool attention,
                       double seconds)
{
    double work = 0, wait = 0, send = 0;
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (attention ? !ranks[i].attention : !ranks[i].ffn || ranks[i].attention)
            continue;
        const double *t = ranks[i].total;
        work += t[TRACE_ATTENTION] + t[TRACE_SAMPLE] + t[TRACE_FFN];
        wait += t[TRACE_WAIT] + t[TRACE_CONTRACT];
        send += t[TRACE_SEND];
        count++;
    }
    if (count > 0 && seconds > 0)
        printf("%-22s working %.1f %%, sending %.1f %%, waiting %.1f %%\n", name,
               100 * work / seconds / count, 100 * send / seconds / count,
               100 * wait / seconds / count);
}

static void print_roles(const struct rank_time *ranks, int n, double seconds)
{
    bool colocated = ranks[0].attention && ranks[0].ffn;
    print_role(colocated ? "ranks" : "attention ranks", ranks, n, true, seconds);
    print_role("FFN ranks", ranks, n, false, seconds);
}

static void print_schedule(const struct rank_time *ranks, int n)
{
    struct schedule_usage sum = {0};
    for (int i = 0; i < n; i++) {
        sum.put_back += ranks[i].schedule.put_back;
        sum.computed_again += ranks[i].schedule.computed_again;
        sum.shared += ranks[i].schedule.shared;
    }
    if (sum.shared > 0)
        printf("%-22s %llu prompt tokens were there already\n", "KV cache",
               (unsigned long long)sum.shared);
    if (sum.put_back > 0)
        printf("%-22s was short: %llu times a sequence was put back, %llu tokens computed again\n",
               "KV memory", (unsigned long long)sum.put_back,
               (unsigned long long)sum.computed_again);
}

static struct report_counts sum_counts(const struct rank_time *ranks, int n)
{
    struct report_counts sum = {0};
    for (int i = 0; i < n; i++) {
        sum.done += ranks[i].counts.done;
        sum.failed += ranks[i].counts.failed;
        sum.prompt_tokens += ranks[i].counts.prompt_tokens;
        sum.new_tokens += ranks[i].counts.new_tokens;
    }
    return sum;
}

void report_summary(struct report *r, struct comm *c, const struct trace *t, double seconds,
                    const char *path, bool finished)
{
    struct rank_time mine = {.attention = c->place.attention,
                             .ffn = c->place.ffn,
                             .schedule = r->schedule,
                             .counts = r->counts};
    void *all;
    size_t total;
    char text[32];
    memcpy(mine.total, t->total, sizeof mine.total);
    comm_gather(&c->world, &mine, sizeof mine, &all, &total);
    if (!all)
        return;
    struct report_counts n = sum_counts(all, c->world.size);
    printf("%-22s %llu done, %llu failed, in %s\n", "completions", (unsigned long long)n.done,
           (unsigned long long)n.failed, progress_duration(seconds, text));
    if (n.done > 0) {
        printf("%-22s %llu prompt (%.1f per second), %llu completion (%.1f per second)\n", "tokens",
               (unsigned long long)n.prompt_tokens, (double)n.prompt_tokens / seconds,
               (unsigned long long)n.new_tokens, (double)n.new_tokens / seconds);
        print_latency("time to first token", r->first, r->n_first);
        if (r->n_each > 0)
            print_latency("time per token", r->each, r->n_each);
        print_roles(all, c->world.size, seconds);
        print_schedule(all, c->world.size);
        if (r->replayed > 0)
            printf("%-22s %llu of %llu were launched as CUDA graphs\n", "steps",
                   (unsigned long long)r->replayed, (unsigned long long)r->steps);
    }
    printf("%-22s %s%s\n", finished ? "output" : "unfinished", path,
           finished ? "" : " (nothing is lost; the same command continues)");
    fflush(stdout);
    free(all);
}

void report_free(struct report *r)
{
    free(r->first);
    free(r->each);
    *r = (struct report){0};
}
