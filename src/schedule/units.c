#include "schedule/units.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdbool.h>
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

void units_init(struct units *u, uint64_t total, const uint8_t *done)
{
    size_t bytes = (size_t)((total + 7) / 8);
    *u = (struct units){.total = total, .done = mem_zeroed(units_bitmap_bytes(total), 1)};
    if (done)
        memcpy(u->done, done, bytes);
    for (uint64_t i = 0; i < total; i++)
        u->left += !is_done(u, i);
}

void units_free(struct units *u)
{
    free(u->done);
    *u = (struct units){0};
}

uint64_t units_take(struct units *u)
{
    while (u->next < u->total && is_done(u, u->next))
        u->next++;
    if (u->next == u->total)
        die("units: all %llu are handed out", (unsigned long long)u->total);
    u->left--;
    return u->next++;
}
