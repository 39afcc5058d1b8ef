#include "roles/trace.h"

#include "base/clock.h"
#include "base/files.h"
#include "base/mem.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct trace_event {
    double start, end; /* clock_now() */
    int32_t step, rows;
    int16_t layer; /* -1: not in a layer */
    int8_t kind, micro_batch;
};

/* What a rank contributes to the file, before its events. */
struct trace_head {
    int32_t rank, index;
    char role[16];
    double wall_minus_clock; /* brings the clocks of different hosts together */
    uint64_t n;
};

static const char *const kind_name[TRACE_KINDS] = {"attention", "ffn",      "send",  "wait",
                                                   "sample",    "contract", "commit"};

void trace_open(struct trace *t, bool keep_events)
{
    *t = (struct trace){0};
    if (keep_events)
        t->ring = mem_new(TRACE_EVENTS, sizeof *t->ring);
}

void trace_close(struct trace *t)
{
    free(t->ring);
    *t = (struct trace){0};
}

double trace_add(struct trace *t, enum trace_kind kind, long step, int layer, int micro_batch,
                 double start)
{
    double now = clock_now();
    t->total[kind] += now - start;
    if (t->ring)
        t->ring[t->n++ % TRACE_EVENTS] = (struct trace_event){
            start,          now,          (int32_t)step,      micro_batch < 0 ? 0 : t->rows,
            (int16_t)layer, (int8_t)kind, (int8_t)micro_batch};
    return now;
}

void trace_reset(struct trace *t)
{
    memset(t->total, 0, sizeof t->total);
}

static void write_event(FILE *f, const struct trace_head *head, const struct trace_event *v,
                        double origin)
{
    double start = (v->start + head->wall_minus_clock - origin) * 1e6;
    fprintf(f, ",\n{\"name\":\"%s\",\"ph\":\"X\",\"pid\":%d,\"tid\":0,\"ts\":%.3f,\"dur\":%.3f",
            kind_name[v->kind], head->rank, start, (v->end - v->start) * 1e6);
    fprintf(f, ",\"args\":{\"step\":%d", v->step);
    if (v->layer >= 0)
        fprintf(f, ",\"layer\":%d", v->layer);
    if (v->micro_batch >= 0)
        fprintf(f, ",\"micro_batch\":%d,\"rows\":%d", v->micro_batch, v->rows);
    fprintf(f, "}}");
}

/* When the first event of all began. */
static double origin_of(const char *data, size_t total)
{
    double origin = INFINITY;
    for (size_t at = 0; at < total;) {
        struct trace_head head;
        struct trace_event v;
        memcpy(&head, data + at, sizeof head);
        at += sizeof head;
        if (head.n > 0) {
            memcpy(&v, data + at, sizeof v);
            origin = fmin(origin, v.start + head.wall_minus_clock);
        }
        at += head.n * sizeof v;
    }
    return origin;
}

/* data: for every rank its head and events. The first event of all is time 0. */
static void write_ranks(FILE *f, const char *data, size_t total)
{
    double origin = origin_of(data, total);
    fprintf(f, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
    for (size_t at = 0; at < total;) {
        struct trace_head head;
        memcpy(&head, data + at, sizeof head);
        const char *events = data + at + sizeof head;
        fprintf(f,
                "%s\n{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,\"args\":"
                "{\"name\":\"rank %d: %s %d\"}}",
                at ? "," : "", head.rank, head.rank, head.role, head.index);
        for (uint64_t i = 0; i < head.n; i++) {
            struct trace_event v;
            memcpy(&v, events + i * sizeof v, sizeof v);
            write_event(f, &head, &v, origin);
        }
        at += sizeof head + head.n * sizeof(struct trace_event);
    }
    fprintf(f, "\n]}\n");
}

/* Beside its name until it is whole. */
static int write_file(const char *path, const char *data, size_t total, struct err *e)
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

int trace_write(struct trace *t, struct comm *c, const char *path, struct err *e)
{
    struct trace_head head = {.rank = c->rank, .index = c->place.index};
    snprintf(head.role, sizeof head.role, "%s", place_role(&c->place));
    uint64_t share = TRACE_EVENTS_ALL / (uint64_t)c->world.size;
    head.n = t->n < TRACE_EVENTS ? t->n : TRACE_EVENTS;
    head.n = head.n < share ? head.n : share;
    comm_barrier(&c->world);
    head.wall_minus_clock = clock_wall() - clock_now();
    size_t bytes = sizeof head + head.n * sizeof *t->ring, total;
    char *mine = mem_new(bytes, 1);
    void *all;
    memcpy(mine, &head, sizeof head);
    for (uint64_t i = 0; i < head.n; i++) /* oldest first */
        memcpy(mine + sizeof head + i * sizeof *t->ring,
               &t->ring[(t->n - head.n + i) % TRACE_EVENTS], sizeof *t->ring);
    comm_gather(&c->world, mine, bytes, &all, &total);
    free(mine);
    if (!all)
        return 0;
    int rc = write_file(path, all, total, e);
    free(all);
    return rc;
}
