#include "roles/ranks.h"

#include "base/mem.h"
#include "roles/cores.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What one rank says about itself. */
struct rank_line {
    int32_t index, threads, cores, online; /* online: cores of the host */
    cpu_set_t mask;
    char role[16], cores_text[64], device[128], overlap[80];
    double weights, kv, buffers, widened; /* bytes */
    struct engine_slow slow;
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
    if (g->backend->device->overlap)
        snprintf(line.overlap, sizeof line.overlap, "%s", g->backend->device->overlap(g->device));
    line.weights = (double)g->memory.weights;
    line.kv = (double)g->memory.kv;
    line.buffers = (double)g->memory.buffers;
    line.widened = (double)g->memory.widened;
    line.slow = engine_slow(g);
    return line;
}

static void print_line(FILE *f, const struct peer *p, const struct rank_line *l)
{
    char name[32];
    snprintf(name, sizeof name, "%s %d", l->role, l->index);
    fprintf(f, "%4d  %-16s %-13s %7d  %-10s %9.1f %9.1f %9.1f  %s%s%s\n", p->rank, p->name, name,
            l->threads, l->cores_text, l->weights / 0x1p20, l->kv / 0x1p20, l->buffers / 0x1p20,
            l->device, *l->overlap ? "; " : "", l->overlap);
}

static void print_table(FILE *f, const struct comm *c, const struct rank_line *lines)
{
    fprintf(f, "%4s  %-16s %-13s %7s  %-10s %9s %9s %9s  %s\n", "rank", "host", "role", "threads",
            "cores", "weights", "KV", "buffers", "device (memory in MiB)");
    for (int i = 0; i < c->world.size; i++)
        print_line(f, &c->peers[i], &lines[i]);
}

/* ---- for people ----------------------------------------------------------------------------- */

#define LINES_MAX 16 /* more ranks than these are shown a host and role at a time */

/* Ranks begin .. end - 1 of the world, which follow each other on one host in one role. */
static int group_end(const struct comm *c, const struct rank_line *lines, int begin, bool one_each)
{
    int end = begin + 1;
    while (!one_each && end < c->world.size && c->peers[end].host == c->peers[begin].host &&
           c->peers[end].rank == c->peers[end - 1].rank + 1 &&
           strcmp(lines[end].role, lines[begin].role) == 0)
        end++;
    return end;
}

static void range_text(char *text, size_t size, int first, int last)
{
    if (last > first)
        snprintf(text, size, "%d-%d", first, last);
    else
        snprintf(text, size, "%d", first);
}

/* Memory of a group is that of all its ranks. */
static void print_group(const struct comm *c, const struct rank_line *lines, int begin, int end)
{
    char ranks[32], index[32], role[48];
    struct rank_line sum = lines[begin];
    for (int i = begin + 1; i < end; i++) {
        sum.weights += lines[i].weights;
        sum.kv += lines[i].kv;
        sum.buffers += lines[i].buffers;
    }
    range_text(ranks, sizeof ranks, c->peers[begin].rank, c->peers[end - 1].rank);
    range_text(index, sizeof index, lines[begin].index, lines[end - 1].index);
    snprintf(role, sizeof role, "%s %s", sum.role, index);
    printf("%5.9s  %-12.12s %-15.15s %3d %-8.8s %8.1f %8.1f %8.1f\n", ranks, c->peers[begin].name,
           role, sum.threads, end > begin + 1 ? "" : sum.cores_text, sum.weights / 0x1p20,
           sum.kv / 0x1p20, sum.buffers / 0x1p20);
}

static bool same_device(const struct rank_line *a, const struct rank_line *b)
{
    return strcmp(a->device, b->device) == 0 && strcmp(a->overlap, b->overlap) == 0;
}

/* A line for ranks that follow each other and have the same device, and one for what more is to be said of it. */
static void print_devices(const struct comm *c, const struct rank_line *lines)
{
    for (int begin = 0, end; begin < c->world.size; begin = end) {
        char ranks[32];
        for (end = begin + 1; end < c->world.size && same_device(&lines[begin], &lines[end]);)
            end++;
        range_text(ranks, sizeof ranks, c->peers[begin].rank, c->peers[end - 1].rank);
        if (begin == 0 && end == c->world.size)
            snprintf(ranks, sizeof ranks, "all");
        printf("%5s  %.70s\n", ranks, lines[begin].device);
        if (*lines[begin].overlap)
            printf("%5s  %.73s\n", "", lines[begin].overlap);
    }
}

/* Within 80 columns. */
static void print_short(const struct comm *c, const struct rank_line *lines)
{
    printf("%5s  %-12s %-15s %3s %-8s %8s %8s %8s\n", "rank", "host", "role", "thr", "cores",
           "weights", "KV", "buffers");
    for (int begin = 0, end; begin < c->world.size; begin = end) {
        end = group_end(c, lines, begin, c->world.size <= LINES_MAX);
        print_group(c, lines, begin, end);
    }
    print_devices(c, lines);
    printf("       (memory in MiB)\n");
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

static void warn_about_weights(const struct comm *c, const struct rank_line *lines)
{
    char text[ENGINE_WIDENED_TEXT], more[ENGINE_SLOW_TEXT];
    struct engine_slow slow = {0};
    double bytes = 0;
    for (int i = 0; i < c->world.size; i++) {
        bytes += lines[i].widened;
        engine_slow_add(&slow, &lines[i].slow);
    }
    if (*engine_describe_widened((size_t)bytes, text))
        fprintf(stderr, "tandem: warning: %s\n", text);
    if (*engine_describe_slow(&slow, more))
        fprintf(stderr, "tandem: warning: %s\n", more);
}

static struct rank_line *gather_lines(struct comm *c, const struct engine *g)
{
    struct rank_line mine = describe(c, g);
    void *all;
    size_t total;
    comm_gather(&c->world, &mine, sizeof mine, &all, &total);
    return all;
}

void ranks_print(struct comm *c, const struct engine *g)
{
    struct rank_line *lines = gather_lines(c, g);
    if (!lines)
        return;
    print_short(c, lines);
    fflush(stdout);
    warn_about_cores(c, lines);
    const char *repaired = checkpoint_note(g->in->checkpoint);
    if (*repaired)
        fprintf(stderr, "tandem: warning: %s: %s\n", g->in->job.model, repaired);
    const char *ignored = g->in->model.ignored;
    if (*ignored)
        fprintf(stderr, "tandem: warning: %s: model_ignore: counted as absent: %s\n",
                g->in->job.model, ignored);
    inputs_doubts(g->in, "tandem: warning: ", stderr);
    warn_about_weights(c, lines);
    warn_about_idle_cores(c, lines);
    if (g->backend->device->count == NULL)
        warn_about_divided_hosts(c, lines);
    free(lines);
}

char *ranks_table(struct comm *c, const struct engine *g)
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
