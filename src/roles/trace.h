/* trace.h - what a rank did when: a timeline for chrome://tracing and Perfetto.
 *
 * Every rank keeps the last TRACE_EVENTS events in a ring in memory (a store and two clock reads an
 * event, so it can be left on); at the end the writer gathers all rings into one JSON file (Trace
 * Event Format, complete events "X", time in microseconds, one process per rank). The same events
 * feed the timing totals, so the trace and the summary cannot disagree.
 */
#ifndef TANDEM_ROLES_TRACE_H
#define TANDEM_ROLES_TRACE_H

#include "roles/comm.h"

#include <stdbool.h>
#include <stdint.h>

enum trace_kind {
    TRACE_ATTENTION, /* norm, projections, attention, router of one layer and micro-batch */
    TRACE_FFN,       /* experts of one layer and micro-batch */
    TRACE_SEND,      /* packing and posting rows or partial sums */
    TRACE_WAIT,      /* waiting for a peer: exposed exchange */
    TRACE_SAMPLE,    /* final norm, lm_head, sampler */
    TRACE_CONTRACT,  /* the step contract: waiting for all ranks */
    TRACE_COMMIT,    /* gathering and sealing completions */
    TRACE_KINDS,
};

#define TRACE_EVENTS (1u << 18)
/* Of all ranks together: where there are many, the writer takes the last ones of each. */
#define TRACE_EVENTS_ALL (1u << 25)

struct trace {
    struct trace_event *ring;  /* NULL: only totals are kept */
    uint64_t n;                /* events ever */
    int32_t rows;              /* of the micro-batch that the next events are about; 0: of none */
    double total[TRACE_KINDS]; /* seconds in each kind since trace_reset() */
};

void trace_open(struct trace *t, bool keep_events);
void trace_close(struct trace *t);

/* The event from `start` until now; returns now, so that events can follow each other. */
double trace_add(struct trace *t, enum trace_kind kind, long step, int layer, int micro_batch,
                 double start);

/* Sets the totals to 0. */
void trace_reset(struct trace *t);

/* Collective: writes the JSON file at the writer. -1 there when it cannot be written. */
int trace_write(struct trace *t, struct comm *c, const char *path, struct err *e);

#endif
