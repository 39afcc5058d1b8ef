#include "roles/selftest.h"

#include "base/hash.h"
#include "base/mem.h"
#include "exchange/trial.h"
#include "kernels/selftest.h"
#include "model/block.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what a model asks for ------------------------------------------------------------------ */

static void add_number(int *list, int *n, size_t number)
{
    for (int i = 0; i < *n; i++)
        if (list[i] == (int)number)
            return;
    if (*n < SELFTEST_SHAPES && number > 0)
        list[(*n)++] = (int)number;
}

struct shapes_of {
    const struct model *model;
    struct selftest_shapes *to;
};

/* The inputs of every matrix; of experts it is ffn's. */
static void add_member(void *context, const struct member *member, size_t layer)
{
    const struct shapes_of *s = context;
    size_t shape[3];
    if (member->as == AS_MATRIX && member_shape(s->model, member, layer, shape) == 2)
        add_number(s->to->widths, &s->to->n_widths, shape[1]);
}

static void add_layer(struct selftest_shapes *s, const struct layer_spec *l,
                      const struct layout *layout)
{
    const struct attention_spec *a = &l->attention;
    int i = 0;
    while (i < s->n_attention && memcmp(&s->attention[i], &a->attn, sizeof a->attn) != 0)
        i++;
    if (i == s->n_attention && i < SELFTEST_SHAPES)
        s->attention[s->n_attention++] = a->attn;
    if (a->kv_rank > 0) {
        s->heads = a->attn.heads;
        s->head_in = (int)a->nope_dim;
        s->head_out = (int)a->kv_rank;
    }
    const struct router_spec *r = &l->ffn.router;
    for (i = 0; i < s->n_routers && memcmp(&s->routers[i], r, sizeof *r) != 0;)
        i++;
    if (r->experts > 0 && i == s->n_routers && i < SELFTEST_SHAPES)
        s->routers[s->n_routers++] = *r;
    if (r->experts > 0)
        add_number(s->inters, &s->n_inters, placement_expert_inter(l->ffn.inter, layout, 0).count);
    else
        add_number(s->inters, &s->n_inters, placement_shared_inter(l->ffn.inter, layout, 0).count);
    add_number(s->inters, &s->n_inters,
               placement_shared_inter(l->ffn.shared_inter, layout, 0).count);
}

static struct selftest_shapes *shapes_of(const struct engine *g)
{
    const struct model *m = &g->in->model;
    struct selftest_shapes *s = mem_zeroed(1, sizeof *s);
    s->hidden = (int)m->hidden;
    s->vocab = (int)m->vocab;
    s->wire = g->shape.dispatch;
    members_visit(m, add_member, &(struct shapes_of){m, s});
    for (size_t l = 0; l < m->layers; l++)
        add_layer(s, &m->layer[l], &g->in->job.layout);
    return s;
}

/* ---- what has passed ------------------------------------------------------------------------ */

/* malloc'd; NULL: there is no such directory, and none can be made. */
static char *cache_file(void)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char path[4096];
    if (cache && *cache)
        snprintf(path, sizeof path - 32, "%s", cache);
    else if (home && *home)
        snprintf(path, sizeof path - 32, "%s/.cache", home);
    else
        return NULL;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return NULL;
    strcat(path, "/tandem");
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return NULL;
    strcat(path, "/selftest");
    return mem_string(path);
}

/* One line: what this device is, who tests it, and with what. */
static void passed_line(const struct engine *g, const char *version, char *line, size_t size)
{
    char sort[200];
    struct selftest_shapes *s = shapes_of(g);
    uint64_t hash = hash_bytes(HASH_START, s, sizeof *s);
    g->backend->device->sort(g->device, sort, sizeof sort);
    const int rest[] = {g->config.act, g->config.kv, g->config.blas};
    snprintf(line, size, "%s, tandem %s, shapes %016llx\n", sort, version,
             (unsigned long long)hash_bytes(hash, rest, sizeof rest));
    free(s);
}

static bool passed_before(const char *line)
{
    char other[512], *path = cache_file();
    FILE *f = path ? fopen(path, "r") : NULL;
    bool found = false;
    while (f && !found && fgets(other, sizeof other, f))
        found = strcmp(other, line) == 0;
    if (f)
        fclose(f);
    free(path);
    return found;
}

/* It is a note, not a promise: where it cannot be written the next job tests again. */
static void note_passed(const char *line)
{
    char *path = cache_file();
    FILE *f = path && !passed_before(line) ? fopen(path, "a") : NULL;
    if (f) {
        fputs(line, f);
        fclose(f);
    }
    free(path);
}

/* ---- kernels -------------------------------------------------------------------------------- */

#define LINES_TOLD 20

struct teller {
    char before[32];
    int lines;
};

/* The first lines of a test, on stderr as they come. */
static void tell(void *teller, const char *line)
{
    struct teller *t = teller;
    if (t->lines++ < LINES_TOLD)
        fprintf(stderr, "tandem: selftest: %s%s\n", t->before, line);
}

static void tell_rest(const struct teller *t)
{
    if (t->lines > LINES_TOLD)
        fprintf(stderr, "tandem: selftest: %sand %d more\n", t->before, t->lines - LINES_TOLD);
}

static int complain(const struct selftest *t, const char *what, const char *version, struct err *e)
{
    return err_set(
        e,
        "%d of %d tests of kernels have failed on %s: it would give wrong completions. Please "
        "send the authors the lines above, and this: tandem %s. The same job runs with "
        "device: cpu",
        t->wrong, t->checks, what, version);
}

/* On this rank's device, opened once more. */
static int test_kernels(const struct comm *c, const struct engine *g, const char *version,
                        struct err *e)
{
    char sort[200];
    struct teller teller = {.lines = 0};
    snprintf(teller.before, sizeof teller.before, "rank %d: ", c->rank);
    struct selftest_shapes *shapes = shapes_of(g);
    struct selftest t = {.backend = g->backend,
                         .index = g->config.index,
                         .threads = g->config.threads,
                         .act = g->config.act,
                         .kv = g->config.kv,
                         .blas = g->config.blas,
                         .tell = tell,
                         .teller = &teller};
    int status = selftest_run(&t, shapes, e);
    tell_rest(&teller);
    if (g->backend->device->sort)
        g->backend->device->sort(g->device, sort, sizeof sort);
    else
        g->backend->device->describe(g->device, sort, sizeof sort);
    if (status == 0 && t.wrong > 0)
        status = complain(&t, sort, version, e);
    free(shapes);
    return status;
}

/* Of the ranks of a host whose devices have one line, the first tests for all. Collective. */
static bool first_of_kind(const struct comm *c, const char *line)
{
    size_t size = (size_t)c->world.size;
    uint64_t mine = hash_string(HASH_START, line), *all = mem_zeroed(size, sizeof *all);
    int host = c->peers[c->world.rank].host;
    bool first = true;
    comm_allgather(&c->world, &mine, sizeof mine, all);
    for (size_t i = 0; i < size; i++)
        first =
            first && !(all[i] == mine && c->peers[i].host == host && c->peers[i].rank < c->rank);
    free(all);
    return first;
}

bool selftest_kernels_of(struct comm *c, const struct engine *g, const char *version, bool always,
                         bool *tested)
{
    char line[512] = "";
    struct err e = {{0}};
    bool notes = g->backend->device->sort != NULL;
    if (notes)
        passed_line(g, version, line, sizeof line);
    bool first = first_of_kind(c, line);
    uint64_t test = always || (notes && first && !passed_before(line));
    int status = test ? test_kernels(c, g, version, &e) : 0;
    comm_largest(&c->world, &test, 1);
    *tested = test;
    return comm_agree(c, status == 0, &e);
}

/* ---- the exchange --------------------------------------------------------------------------- */

/* Of each rail the slowest attention rank: it is what a layer waits for. Colocated ranks have none. */
static char *list_times(const struct comm *c, const struct engine *g, const struct trial_time *all)
{
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        die("out of memory");
    const struct layout *l = &g->in->job.layout;
    for (int r = 0; r < (l->colocated ? 0 : l->tensor); r++) {
        struct trial_time slowest = {0};
        for (int i = 0; i < c->world.size; i++) {
            int in_cell = i % c->cell.size;
            if (in_cell < l->attention && in_cell % l->tensor == r &&
                all[i].seconds > slowest.seconds)
                slowest = all[i];
        }
        if (slowest.seconds > 0)
            fprintf(out, "rail %-2d     %s: %zu rows out and back in %.0f us, %.2f GB/s\n", r,
                    g->exchange_ops->name, g->shape.rows, slowest.seconds * 1e6,
                    (double)slowest.bytes / slowest.seconds / 1e9);
    }
    fclose(out);
    return text;
}

bool selftest_exchange_of(struct comm *c, const struct engine *g, const char *version, bool note,
                          char **said)
{
    struct err e = {{0}};
    const struct endpoint end = engine_endpoint(g, c->cell.mpi);
    const struct trial trial = {g->exchange_ops, g->exchange, &g->shape, &end};
    struct trial_time mine = {0}, *all = mem_zeroed((size_t)c->world.size, sizeof *all);
    int status = trial_run(&trial, &mine, &e);
    comm_allgather(&c->world, &mine, sizeof mine, all);
    bool good = comm_agree(c, status == 0, &e);
    *said = good && comm_is_first(c) ? list_times(c, g, all) : NULL;
    if (*said) {
        fputs(*said, stdout);
        fflush(stdout);
    }
    free(all);
    char line[512] = "";
    if (note && g->backend->device->sort)
        passed_line(g, version, line, sizeof line);
    if (note && first_of_kind(c, line) && good && *line)
        note_passed(line);
    return good;
}

/* ---- alone ---------------------------------------------------------------------------------- */

/* What a device is called; -1: it cannot be opened. */
static int name_of(const struct selftest *t, char *text, size_t size, struct err *e)
{
    struct device *d;
    const struct device_config config = {
        .index = t->index, .threads = t->threads, .act = DTYPE_F32, .kv = DTYPE_F32};
    if (t->backend->device->open(&config, &d, e) != 0)
        return -1;
    if (t->backend->device->sort)
        t->backend->device->sort(d, text, size);
    else
        t->backend->device->describe(d, text, size);
    t->backend->device->close(d);
    return 0;
}

static enum exit_status test_device(const struct backend *b, int index, const char *only,
                                    const char *version)
{
    char name[256];
    struct teller teller = {.lines = 0};
    struct err e = {{0}};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct selftest t = {.backend = b,
                         .index = index,
                         .only = only,
                         .threads = cores > 0 ? (int)cores : 1,
                         .tell = tell,
                         .teller = &teller};
    int status = name_of(&t, name, sizeof name, &e);
    if (status == 0)
        status = selftest_all(&t, &e);
    tell_rest(&teller);
    if (status == 0 && t.wrong > 0)
        status = complain(&t, name, version, &e);
    if (status == 0)
        printf("%s %d   %s: %d tests of kernels passed\n", b->name, index, name, t.checks);
    else
        fprintf(stderr, "tandem: %s\n", e.text);
    fflush(stdout);
    return status == 0 ? EXIT_DONE : EXIT_RUN;
}

enum exit_status selftest_alone(const char *device, const char *only, const char *version)
{
    enum exit_status worst = EXIT_DONE;
    bool any = false;
    for (const struct backend *const *b = backend_all(); *b; b++) {
        struct err why;
        if ((device && strcmp(device, (*b)->device->name) != 0) || (*b)->usable(&why) != 0)
            continue;
        int n = (*b)->device->count ? (*b)->device->count() : 1;
        for (int i = 0; i < n; i++) {
            enum exit_status status = test_device(*b, i, only, version);
            worst = status == EXIT_DONE ? worst : status;
            any = true;
        }
    }
    struct err e = {{0}};
    if (!any && device && !backend_find(device, "auto", &e))
        fprintf(stderr, "tandem: %s\n", e.text);
    return any ? worst : EXIT_INPUT;
}
