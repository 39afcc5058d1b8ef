#include "roles/timeline.h"

#include "base/files.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const kind_name[TRACE_KINDS] = {"attention", "ffn",      "send",  "wait",
                                                   "sample",    "contract", "commit"};

/* One rank of the data: where its events are, and what their times mean. */
struct ranks {
    const char *data;
    size_t total, at; /* of the next head */
    struct timeline_head head;
    const char *events;
    double
        base; /* of all times, the same for all ranks: seconds since the epoch leave no nanoseconds */
};

static bool next_rank(struct ranks *r)
{
    if (r->at >= r->total)
        return false;
    memcpy(&r->head, r->data + r->at, sizeof r->head);
    if (r->at == 0)
        r->base = r->head.wall_minus_clock;
    r->events = r->data + r->at + sizeof r->head;
    r->at += sizeof r->head + r->head.n * sizeof(struct trace_event);
    return true;
}

static struct trace_event event(const struct ranks *r, uint64_t i)
{
    struct trace_event v;
    memcpy(&v, r->events + i * sizeof v, sizeof v);
    v.start += r->head.wall_minus_clock - r->base;
    v.end += r->head.wall_minus_clock - r->base;
    return v;
}

/* ---- who sent what was waited for ----------------------------------------------------------- */

/* Which rows: to the FFN ranks of a layer, or the sums back to layer + 1. */
struct rows_key {
    int32_t cell, step, layer, micro_batch, from_ffn;
};

struct sent {
    struct rows_key key;
    int32_t rank;
    double start, took;
};

static int compare_keys(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;
    for (size_t i = 0; i < sizeof(struct rows_key) / sizeof *x; i++)
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    return 0;
}

/* Equal rows: the last that sent them stands first. */
static int compare_sent(const void *a, const void *b)
{
    const struct sent *x = a, *y = b;
    int order = compare_keys(&x->key, &y->key);
    return order ? order : (x->start < y->start) - (x->start > y->start);
}

struct flows {
    struct sent *sent; /* sorted; one for each key */
    size_t n;
    uint64_t used; /* numbers given to flows */
};

static void find_sends(struct flows *f, const char *data, size_t total)
{
    size_t room = 0, kept = 0;
    for (struct ranks r = {.data = data, .total = total}; next_rank(&r);)
        for (uint64_t i = 0; i < r.head.n && !(r.head.attention && r.head.ffn); i++) {
            struct trace_event v = event(&r, i);
            if (v.kind != TRACE_SEND)
                continue;
            if (f->n == room) {
                room = room * 2 + 1024;
                f->sent = mem_resize(f->sent, room, sizeof *f->sent);
            }
            f->sent[f->n++] =
                (struct sent){{r.head.cell, v.step, v.layer, v.micro_batch, r.head.ffn},
                              r.head.rank,
                              v.start,
                              v.end - v.start};
        }
    if (f->n)
        qsort(f->sent, f->n, sizeof *f->sent, compare_sent);
    for (size_t i = 0; i < f->n; i++)
        if (i == 0 || compare_keys(&f->sent[i].key, &f->sent[kept - 1].key) != 0)
            f->sent[kept++] = f->sent[i];
    f->n = kept;
}

/* The send that this wait waited for; NULL: it is not in the trace, or there was none. */
static const struct sent *sender(const struct flows *f, const struct timeline_head *head,
                                 const struct trace_event *v)
{
    struct rows_key key = {head->cell, v->step, head->ffn ? v->layer : v->layer - 1, v->micro_batch,
                           !head->ffn};
    if (v->kind != TRACE_WAIT || f->n == 0)
        return NULL;
    return bsearch(&key, f->sent, f->n, sizeof *f->sent, compare_keys);
}

/* ---- the file ------------------------------------------------------------------------------- */

/* Microseconds. Events that follow each other are apart by more than viewers lose by rounding: what begins
 * before another's end would be shown inside it. Arrows are drawn between the events around their ends, so
 * both are well inside. */
#define APART  0.002
#define INSIDE 0.005

static void write_flow(FILE *f, const char *phase, uint64_t id, int rank, double time)
{
    fprintf(f,
            ",\n{\"name\":\"rows\",\"cat\":\"flow\",\"ph\":\"%s\",\"id\":%" PRIu64
            ",\"pid\":%d,\"tid\":1,\"ts\":%.3f%s}",
            phase, id, rank, time, *phase == 'f' ? ",\"bp\":\"e\"" : "");
}

static void write_event(FILE *f, const struct timeline_head *head, const struct trace_event *v,
                        struct flows *flows, double origin)
{
    double start = (v->start - origin) * 1e6, took = (v->end - v->start) * 1e6;
    const struct sent *from = sender(flows, head, v);
    fprintf(f, ",\n{\"name\":\"%s\",\"ph\":\"X\",\"pid\":%d,\"tid\":1,\"ts\":%.3f,\"dur\":%.3f",
            kind_name[v->kind], head->rank, start, fmax(took - APART, 0));
    fprintf(f, ",\"args\":{\"step\":%d", v->step);
    if (v->layer >= 0 && v->layer < head->layers)
        fprintf(f, ",\"layer\":%d", v->layer);
    if (v->micro_batch >= 0)
        fprintf(f, ",\"micro_batch\":%d,\"rows\":%d", v->micro_batch, v->rows);
    if (v->bytes)
        fprintf(f, ",\"bytes\":%" PRIu32, v->bytes);
    fprintf(f, "}}");
    if (!from || took < 2 * INSIDE || from->took * 1e6 < 2 * INSIDE)
        return;
    double leaves = (from->start - origin) * 1e6 + INSIDE, arrives = start + took - INSIDE;
    if (leaves >= arrives)
        return; /* clocks of two processors may differ by as much as a short wait takes */
    write_flow(f, "s", ++flows->used, from->rank, leaves);
    write_flow(f, "f", flows->used, head->rank, arrives);
}

/* When the first event of all began. */
static double origin_of(const char *data, size_t total)
{
    double origin = INFINITY;
    for (struct ranks r = {.data = data, .total = total}; next_rank(&r);)
        if (r.head.n > 0)
            origin = fmin(origin, event(&r, 0).start);
    return origin;
}

static void write_ranks(FILE *f, const char *data, size_t total)
{
    double origin = origin_of(data, total);
    struct flows flows = {0};
    const char *before = "";
    find_sends(&flows, data, total);
    fprintf(f, "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[");
    for (struct ranks r = {.data = data, .total = total}; next_rank(&r);) {
        fprintf(f,
                "%s\n{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"name\":\"rank "
                "%d: %s %d\"}},\n{\"name\":\"process_sort_index\",\"ph\":\"M\",\"pid\":%d,"
                "\"args\":{\"sort_index\":%d}}",
                before, r.head.rank, r.head.rank, r.head.role, r.head.index, r.head.rank,
                r.head.rank);
        before = ",";
        for (uint64_t i = 0; i < r.head.n; i++) {
            struct trace_event v = event(&r, i);
            write_event(f, &r.head, &v, &flows, origin);
        }
    }
    fprintf(f, "\n]}\n");
    free(flows.sent);
}

/* Beside its name until it is whole. */
int timeline_write(const char *path, const void *data, size_t total, struct err *e)
{
    size_t room = strlen(path) + 32;
    char *tmp = mem_new(room, 1);
    snprintf(tmp, room, "%s.%ld.tmp", path, (long)getpid());
    FILE *f = fopen(tmp, "w");
    if (f)
        write_ranks(f, data, total);
    int rc = f && fclose(f) == 0
                 ? files_publish(tmp, path, e)
                 : err_set(e, "%s: the trace cannot be written: %s", path, strerror(errno));
    if (rc != 0)
        unlink(tmp);
    free(tmp);
    return rc;
}
