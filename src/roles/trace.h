/* trace.h - what a rank did when: a timeline for chrome://tracing and Perfetto.
 *
 * Every rank keeps the last TRACE_EVENTS events of the steps that are wanted in a ring in memory (a
 * store and two clock reads an event, so it can be left on); at the end the writer gathers all rings
 * into one file (timeline.h). The same events feed the timing totals, so the trace and the summary
 * cannot disagree.
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

struct trace_event {
    double start, end; /* clock_now() */
    int32_t step, rows;
    uint32_t bytes; /* TRACE_SEND, TRACE_WAIT: that went, or came; 0 of others */
    int16_t layer;  /* -1: not in a layer; waiting for the last layer's sums: how many there are */
    int8_t kind, micro_batch; /* micro_batch -1: of the whole step */
};

struct trace {
    struct trace_event *ring;  /* NULL: only totals are kept */
    long first, last;          /* steps whose events are kept */
    uint64_t n;                /* events ever kept */
    int32_t rows;              /* of the micro-batch that the next events are about, */
    size_t sends, waits;       /* and the bytes it sends and waits for */
    double total[TRACE_KINDS]; /* seconds in each kind since trace_reset() */
};

void trace_open(struct trace *t, bool keep_events, long first, long last);
void trace_close(struct trace *t);

/* The event from `start` until now; returns now, so that events can follow each other. */
double trace_add(struct trace *t, enum trace_kind kind, long step, int layer, int micro_batch,
                 double start);

/* Sets the totals to 0. */
void trace_reset(struct trace *t);

/* Collective: writes the file at the writer. -1 there when it cannot be written. layers: of the model. */
int trace_write(struct trace *t, struct comm *c, int layers, const char *path, struct err *e);

#endif
