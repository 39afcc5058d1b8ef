#include "schedule/units.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

size_t units_bitmap_bytes(uint64_t total)
{
    return (size_t)(total / 8 + 1);
}

static bool is_done(const struct units *u, uint64_t unit)
{
    return u->done[unit / 8] >> unit % 8 & 1;
}

void units_init(struct units *u, uint64_t total, const uint8_t *done, int cells, uint64_t samples,
                uint64_t places)
{
    *u = (struct units){.total = total,
                        .done = mem_zeroed(units_bitmap_bytes(total), 1),
                        .cells = cells,
                        .samples = samples,
                        .most = cells == 1 ? total : 4 * places};
    if (done)
        memcpy(u->done, done, (size_t)((total + 7) / 8));
    for (uint64_t i = 0; i < total; i++)
        u->undone += !is_done(u, i);
    if (cells == 1)
        units_claim(u, 0);
}

void units_free(struct units *u)
{
    free(u->done);
    free(u->ranges);
    *u = (struct units){0};
}

/* Each cell takes half of its share of what is left, so that what a slow one has taken last is
 * little; whole prompts, at least one. */
static uint64_t block_size(const struct units *u, uint64_t left)
{
    uint64_t n = u->cells == 1 ? left : left / (2 * (uint64_t)u->cells);
    if (n > u->most)
        n = u->most;
    n = (n + u->samples - 1) / u->samples * u->samples;
    if (n == 0)
        n = u->samples;
    return n < left ? n : left;
}

static void add_range(struct units *u, uint64_t first, uint64_t end)
{
    if (u->n_ranges == u->room_ranges) {
        u->room_ranges = 2 * u->room_ranges + 4;
        u->ranges = mem_resize(u->ranges, u->room_ranges, sizeof *u->ranges);
    }
    u->ranges[u->n_ranges++] = (struct unit_range){first, end};
    for (uint64_t i = first; i < end; i++)
        u->left += !is_done(u, i);
}

bool units_claim(struct units *u, uint64_t number)
{
    if (number < u->block)
        die("units: block %llu is drawn after %llu", (unsigned long long)number,
            (unsigned long long)u->block);
    for (; u->cut < u->total; u->block++) {
        uint64_t first = u->cut;
        u->cut += block_size(u, u->total - first);
        if (u->block == number) {
            add_range(u, first, u->cut);
            u->block++;
            return true;
        }
    }
    return false;
}

uint64_t units_take(struct units *u)
{
    while (u->n_ranges > 0) {
        struct unit_range *r = &u->ranges[0];
        while (r->next < r->end && is_done(u, r->next))
            r->next++;
        if (r->next < r->end) {
            u->left--;
            return r->next++;
        }
        memmove(r, r + 1, --u->n_ranges * sizeof *r);
    }
    die("units: all that were claimed of %llu are handed out", (unsigned long long)u->total);
}
