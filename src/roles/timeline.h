/* timeline.h - the events of all ranks as one file that Perfetto and chrome://tracing open.
 *
 * Trace Event Format, JSON: a process a rank, complete events "X" with step, layer, micro-batch, rows
 * and bytes as arguments, times in microseconds from the first event. A flow ("s" to "f") leads to
 * every wait from the send that it waited for: of all ranks that sent rows of that layer and
 * micro-batch, the one that was the last to send them.
 */
#ifndef TANDEM_ROLES_TIMELINE_H
#define TANDEM_ROLES_TIMELINE_H

#include "roles/trace.h"

/* What a rank contributes, before its events. */
struct timeline_head {
    int32_t rank, index, cell, layers;
    bool attention, ffn;
    char role[16];
    double wall_minus_clock; /* brings the clocks of different hosts together */
    uint64_t n;              /* events that follow, the oldest first */
};

/* data: for every rank its head and events, `total` bytes. The file appears whole under its name. -1:
 * it cannot be written. One rank calls it. */
int timeline_write(const char *path, const void *data, size_t total, struct err *e);

#endif
