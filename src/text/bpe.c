#include "text/bpe.h"

#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define NO_RANK   UINT32_MAX
#define SHORT_MAX 64 /* pieces up to here: arrays and a linear search beat the heap */

struct pair_slot {
    uint64_t pair; /* left << 32 | right */
    uint32_t rank; /* NO_RANK: the slot is empty */
};

struct whole_slot {
    const char *text; /* NULL: the slot is empty */
    uint32_t n;
    int32_t id;
};

struct bpe {
    int32_t bytes[256];
    int32_t unknown;
    bool fuse_unknown;
    int32_t *into; /* by rank */
    struct pair_slot *pairs;
    size_t pair_mask;
    struct whole_slot *wholes; /* NULL: none */
    size_t whole_mask;
};

/* A token of a long piece; neighbors are indices, -1 at the ends. id -1: merged away. */
struct symbol {
    int32_t id, before, behind;
};

struct bpe_work {
    struct symbol *symbols;
    uint64_t *heap; /* rank << 32 | index of the left symbol; smallest on top */
    size_t symbol_room, heap_room, heap_n;
};

/* A power of two that stays at most half full. */
static size_t table_size(size_t entries)
{
    size_t size = 16;
    while (size / 2 < entries)
        size *= 2;
    return size;
}

static struct pair_slot *find_pair(const struct bpe *b, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t at = hash_u64(HASH_START, pair) & b->pair_mask;
    while (b->pairs[at].rank != NO_RANK && b->pairs[at].pair != pair)
        at = (at + 1) & b->pair_mask;
    return &b->pairs[at];
}

static uint32_t rank_of(const struct bpe *b, int32_t left, int32_t right)
{
    return find_pair(b, left, right)->rank;
}

struct bpe *bpe_new(const int32_t bytes[256], int32_t unknown, bool fuse_unknown,
                    const struct bpe_merge *merges, size_t n)
{
    struct bpe *b = mem_zeroed(1, sizeof *b);
    memcpy(b->bytes, bytes, sizeof b->bytes);
    b->unknown = unknown;
    b->fuse_unknown = fuse_unknown;
    b->into = mem_new(n, sizeof *b->into);
    size_t size = table_size(n);
    b->pair_mask = size - 1;
    b->pairs = mem_new(size, sizeof *b->pairs);
    for (size_t i = 0; i < size; i++)
        b->pairs[i].rank = NO_RANK;
    for (size_t i = 0; i < n; i++) {
        struct pair_slot *slot = find_pair(b, merges[i].left, merges[i].right);
        slot->pair = (uint64_t)(uint32_t)merges[i].left << 32 | (uint32_t)merges[i].right;
        slot->rank = (uint32_t)i;
        b->into[i] = merges[i].into;
    }
    return b;
}

void bpe_free(struct bpe *b)
{
    if (!b)
        return;
    free(b->into);
    free(b->pairs);
    free(b->wholes);
    free(b);
}

struct bpe_work *bpe_work_new(void)
{
    return mem_zeroed(1, sizeof(struct bpe_work));
}

void bpe_work_free(struct bpe_work *w)
{
    if (!w)
        return;
    free(w->symbols);
    free(w->heap);
    free(w);
}

void bpe_append(struct bpe_ids *out, int32_t id)
{
    if (out->n == out->room) {
        out->room = out->room ? 2 * out->room : 64;
        out->ids = mem_resize(out->ids, out->room, sizeof *out->ids);
    }
    out->ids[out->n++] = id;
}

static struct whole_slot *find_whole(const struct bpe *b, const char *text, size_t n)
{
    size_t at = hash_bytes(HASH_START, text, n) & b->whole_mask;
    while (b->wholes[at].text && (b->wholes[at].n != n || memcmp(b->wholes[at].text, text, n) != 0))
        at = (at + 1) & b->whole_mask;
    return &b->wholes[at];
}

void bpe_reserve_whole(struct bpe *b, size_t tokens)
{
    size_t size = table_size(tokens);
    b->whole_mask = size - 1;
    b->wholes = mem_zeroed(size, sizeof *b->wholes);
}

/* A short piece whose bytes all have tokens: the pair of lowest rank is found by looking at all. */
static void merge_short(const struct bpe *b, const char *piece, size_t n, struct bpe_ids *out)
{
    int32_t ids[SHORT_MAX];
    uint32_t ranks[SHORT_MAX]; /* of ids[i] and ids[i + 1] */
    for (size_t i = 0; i < n; i++)
        ids[i] = b->bytes[(unsigned char)piece[i]];
    for (size_t i = 0; i + 1 < n; i++)
        ranks[i] = rank_of(b, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best])
                best = i;
        if (ranks[best] == NO_RANK)
            break;
        ids[best] = b->into[ranks[best]];
        memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof *ids);
        n--;
        if (best + 1 < n) {
            memmove(ranks + best + 1, ranks + best + 2, (n - best - 2) * sizeof *ranks);
            ranks[best] = rank_of(b, ids[best], ids[best + 1]);
        }
        if (best > 0)
            ranks[best - 1] = rank_of(b, ids[best - 1], ids[best]);
    }
    for (size_t i = 0; i < n; i++)
        bpe_append(out, ids[i]);
}

static void heap_put(struct bpe_work *w, uint64_t entry)
{
    size_t at = w->heap_n++;
    if (w->heap_n > w->heap_room) {
        w->heap_room = 2 * w->heap_n;
        w->heap = mem_resize(w->heap, w->heap_room, sizeof *w->heap);
    }
    for (; at > 0 && w->heap[(at - 1) / 2] > entry; at = (at - 1) / 2)
        w->heap[at] = w->heap[(at - 1) / 2];
    w->heap[at] = entry;
}

static uint64_t heap_take(struct bpe_work *w)
{
    uint64_t top = w->heap[0], last = w->heap[--w->heap_n];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < w->heap_n) {
        child += child + 1 < w->heap_n && w->heap[child + 1] < w->heap[child];
        if (w->heap[child] >= last)
            break;
        w->heap[at] = w->heap[child];
        at = child;
    }
    w->heap[at] = last;
    return top;
}

static void offer(const struct bpe *b, struct bpe_work *w, int32_t left, int32_t right)
{
    if (left < 0 || right < 0)
        return;
    uint32_t rank = rank_of(b, w->symbols[left].id, w->symbols[right].id);
    if (rank != NO_RANK)
        heap_put(w, (uint64_t)rank << 32 | (uint32_t)left);
}

/* The first tokens of a long piece, with unknown bytes as the reference handles them. */
static size_t first_symbols(const struct bpe *b, struct bpe_work *w, const char *piece, size_t n)
{
    if (w->symbol_room < n) {
        w->symbol_room = n;
        free(w->symbols);
        w->symbols = mem_new(n, sizeof *w->symbols);
    }
    size_t used = 0;
    bool unknown_before = false;
    for (size_t i = 0; i < n; i++) {
        int32_t id = b->bytes[(unsigned char)piece[i]];
        bool unknown = id < 0;
        bool skip = unknown && (b->unknown < 0 || (b->fuse_unknown && unknown_before));
        unknown_before = unknown;
        if (skip)
            continue;
        w->symbols[used] = (struct symbol){.id = unknown ? b->unknown : id,
                                           .before = (int32_t)used - 1,
                                           .behind = (int32_t)used + 1};
        used++;
    }
    if (used)
        w->symbols[used - 1].behind = -1;
    return used;
}

static void merge_long(const struct bpe *b, struct bpe_work *w, const char *piece, size_t n,
                       struct bpe_ids *out)
{
    size_t used = first_symbols(b, w, piece, n);
    struct symbol *s = w->symbols;
    w->heap_n = 0;
    for (size_t i = 0; i + 1 < used; i++)
        offer(b, w, (int32_t)i, (int32_t)i + 1);
    while (w->heap_n > 0) {
        uint64_t top = heap_take(w);
        int32_t left = (int32_t)(uint32_t)top, right = s[left].behind;
        if (s[left].id < 0 || right < 0)
            continue;
        /* The pair may have changed since. What counts for the reference is the token it becomes.
         */
        int32_t into = b->into[top >> 32];
        uint32_t rank = rank_of(b, s[left].id, s[right].id);
        if (rank == NO_RANK || b->into[rank] != into)
            continue;
        s[left].id = into;
        s[left].behind = s[right].behind;
        s[right].id = -1;
        if (s[right].behind >= 0)
            s[s[right].behind].before = left;
        offer(b, w, s[left].before, left);
        offer(b, w, left, s[left].behind);
    }
    for (int32_t i = used ? 0 : -1; i >= 0; i = s[i].behind)
        bpe_append(out, s[i].id);
}

static void merge(const struct bpe *b, struct bpe_work *w, const char *piece, size_t n,
                  struct bpe_ids *out)
{
    bool known = n <= SHORT_MAX;
    for (size_t i = 0; i < n && known; i++)
        known = b->bytes[(unsigned char)piece[i]] >= 0;
    if (known)
        merge_short(b, piece, n, out);
    else
        merge_long(b, w, piece, n, out);
}

void bpe_add_whole(struct bpe *b, const char *text, size_t n, int32_t id, bool check,
                   struct bpe_work *w)
{
    if (check) {
        struct bpe_ids got = {0};
        merge(b, w, text, n, &got);
        bool same = got.n == 1 && got.ids[0] == id;
        free(got.ids);
        if (!same)
            return;
    }
    *find_whole(b, text, n) = (struct whole_slot){.text = text, .n = (uint32_t)n, .id = id};
}

void bpe_encode(const struct bpe *b, struct bpe_work *w, const char *piece, size_t n,
                struct bpe_ids *out)
{
    if (b->wholes) {
        const struct whole_slot *whole = find_whole(b, piece, n);
        if (whole->text) {
            bpe_append(out, whole->id);
            return;
        }
    }
    merge(b, w, piece, n, out);
}
