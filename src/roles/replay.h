/* replay.h - a step that enqueues exactly what an earlier step has enqueued is launched as a graph.
 *
 * A step of Step-3 is thousands of launches, each a few microseconds of the host; while sequences
 * decode, one step after the other has the same shapes, and then only what the pinned buffers hold
 * differs (attention_plan). A step whose shapes come for the first time is enqueued as it is; the
 * second time it is captured in a graph on the way; after that the graph is launched.
 *
 * NCCL wants all ranks of a transfer to capture it in the same step, and later to launch the graphs
 * of that capture. So the key must be the same on all ranks, and hold what determines the launches
 * of each: then all make the same choices, since these depend on the keys so far and on nothing
 * else.
 *
 * One struct replay per rank, used by its main thread. On a device without graphs every step is
 * enqueued.
 */
#ifndef TANDEM_ROLES_REPLAY_H
#define TANDEM_ROLES_REPLAY_H

#include "kernels/device.h"

struct replay;

/* The most graphs kept; the one not launched for longest goes first. */
#define REPLAY_GRAPHS 32

/* Device memory of a launch or copy in a graph that is kept, at most: graphs of 1,000, 4,000 and 16,000 took
 * 2,100, 2,620 and 2,360 bytes for each on an H200 with driver 580. */
#define REPLAY_NODE_BYTES ((size_t)2640)

/* stream: where steps begin and end. on: false, or a device without graphs: nothing is ever
 * captured. key_bytes: of every key. */
struct replay *replay_open(const struct device_ops *dev, struct device *d, struct stream *stream,
                           bool on, size_t key_bytes);
/* The stream has passed everything. NULL is allowed. */
void replay_close(struct replay *r);

/* True: the caller enqueues the step, then calls replay_end(). False: a graph of it has been
 * launched. */
bool replay_begin(struct replay *r, const void *key);
void replay_end(struct replay *r);

/* How many steps were launched as a graph, the captured ones included. */
uint64_t replay_launches(const struct replay *r);
/* Seconds of the last step that went into making a graph of it: steps to come do without. */
double replay_made(const struct replay *r);

#endif
