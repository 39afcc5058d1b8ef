/* kv_fill.h - fills an engine's KV caches with numbers by chance, for measuring.
 *
 * Reading a cache costs what it costs in a run only where its pages were written. One thread.
 */
#ifndef TANDEM_ROLES_KV_FILL_H
#define TANDEM_ROLES_KV_FILL_H

#include "roles/engine.h"

/* How many blocks of each cache were filled so far; begins with zeros. */
struct kv_filled {
    size_t blocks[MODEL_MAX_CACHES];
};

/* Of every layer of every cache the first `blocks` blocks, or all there are; those that were filled before
 * are left as they are. An engine of an attention rank, loaded; waits for the device. */
void kv_fill(const struct engine *g, size_t blocks, struct kv_filled *done);

#endif
