#include "roles/replay.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* Keys met once and not captured yet: only their hashes, the oldest is forgotten. Two keys with one
 * hash cost a capture that would not have been needed. */
#define SEEN 256

struct kept {
    void *key;
    struct graph *graph; /* NULL: the place is free */
    uint64_t used;       /* when it was launched last */
};

struct replay {
    const struct device_ops *dev;
    struct device *device;
    struct stream *stream;
    bool on;
    size_t key_bytes;
    struct kept kept[REPLAY_GRAPHS];
    struct kept *capturing;
    uint64_t seen[SEEN], n_seen;
    uint64_t launches;
    double began, made; /* when the last capture began; seconds of the last step */
};

struct replay *replay_open(const struct device_ops *dev, struct device *d, struct stream *stream,
                           bool on, size_t key_bytes)
{
    struct replay *r = mem_zeroed(1, sizeof *r);
    *r = (struct replay){.dev = dev,
                         .device = d,
                         .stream = stream,
                         .on = on && dev->capture_begin,
                         .key_bytes = key_bytes};
    for (int i = 0; r->on && i < REPLAY_GRAPHS; i++)
        r->kept[i].key = mem_zeroed(key_bytes, 1);
    return r;
}

void replay_close(struct replay *r)
{
    if (!r)
        return;
    for (int i = 0; i < REPLAY_GRAPHS; i++) {
        if (r->kept[i].graph)
            r->dev->graph_destroy(r->device, r->kept[i].graph);
        free(r->kept[i].key);
    }
    free(r);
}

static struct kept *find(struct replay *r, const void *key)
{
    for (int i = 0; i < REPLAY_GRAPHS; i++)
        if (r->kept[i].graph && memcmp(r->kept[i].key, key, r->key_bytes) == 0)
            return &r->kept[i];
    return NULL;
}

/* Whether the key was met before; it has been now. */
static bool seen_before(struct replay *r, const void *key)
{
    uint64_t hash = hash_bytes(HASH_START, key, r->key_bytes);
    for (uint64_t i = 0; i < SEEN && i < r->n_seen; i++)
        if (r->seen[i] == hash)
            return true;
    r->seen[r->n_seen++ % SEEN] = hash;
    return false;
}

/* A place for a new graph: a free one, or that of the graph not launched for longest. */
static struct kept *make_room(struct replay *r)
{
    struct kept *oldest = &r->kept[0];
    for (int i = 0; i < REPLAY_GRAPHS && oldest->graph; i++)
        if (!r->kept[i].graph || r->kept[i].used < oldest->used)
            oldest = &r->kept[i];
    if (oldest->graph)
        r->dev->graph_destroy(r->device, oldest->graph);
    oldest->graph = NULL;
    return oldest;
}

static void launch(struct replay *r, struct kept *k)
{
    k->used = ++r->launches;
    r->dev->graph_launch(r->device, r->stream, k->graph);
}

bool replay_begin(struct replay *r, const void *key)
{
    r->made = 0;
    if (!r->on)
        return true;
    struct kept *k = find(r, key);
    if (k) {
        launch(r, k);
        return false;
    }
    if (seen_before(r, key)) {
        r->capturing = make_room(r);
        memcpy(r->capturing->key, key, r->key_bytes);
        r->began = clock_now();
        r->dev->capture_begin(r->device, r->stream);
    }
    return true;
}

void replay_end(struct replay *r)
{
    struct kept *k = r->capturing;
    r->capturing = NULL;
    if (!k)
        return;
    k->graph = r->dev->capture_end(r->device, r->stream);
    r->made = clock_now() - r->began;
    launch(r, k);
}

double replay_made(const struct replay *r)
{
    return r->made;
}

uint64_t replay_launches(const struct replay *r)
{
    return r->launches;
}
