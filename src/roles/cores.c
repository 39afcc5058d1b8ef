#include "roles/cores.h"

#include "base/err.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More than any kernel is built for. */
#define CORES_MAX (1 << 16)

void cores_mask(cpu_set_t *mask)
{
    size_t bytes = CPU_ALLOC_SIZE(CORES_MAX);
    cpu_set_t *all = mem_zeroed(1, bytes);
    if (sched_getaffinity(0, bytes, all) != 0)
        die("the cores of this process cannot be found: %s", strerror(errno));
    memcpy(mask, all, sizeof *mask);
    free(all);
}

int cores_count(const cpu_set_t *mask)
{
    return CPU_COUNT(mask);
}

int cores_share(const cpu_set_t *masks, int n, int self)
{
    double share = 0;
    for (size_t core = 0; core < CPU_SETSIZE; core++) {
        int users = 0;
        if (!CPU_ISSET(core, &masks[self]))
            continue;
        for (int i = 0; i < n; i++)
            users += CPU_ISSET(core, &masks[i]) != 0;
        share += 1.0 / users;
    }
    int threads = (int)(share + 1e-9);
    return threads > 1 ? threads : 1;
}

static bool overlap(const cpu_set_t *a, const cpu_set_t *b)
{
    cpu_set_t both;
    CPU_AND(&both, a, b);
    return CPU_COUNT(&both) > 0;
}

/* role[i]: the first letter of place_role(). */
static bool shares_with_other(const struct comm *c, const char *role, const cpu_set_t *masks,
                              int rank)
{
    for (int i = 0; i < c->world.size; i++)
        if (role[i] != role[rank] && c->peers[i].host == c->peers[rank].host &&
            overlap(&masks[i], &masks[rank]))
            return true;
    return false;
}

/* The share among the ranks of this one's host and role. */
static int share_in_role(const struct comm *c, const char *role, const cpu_set_t *masks)
{
    cpu_set_t *peers = mem_new((size_t)c->world.size, sizeof *peers);
    int n = 0, self = 0;
    for (int i = 0; i < c->world.size; i++) {
        if (role[i] != role[c->world.rank] || c->peers[i].host != c->place.host)
            continue;
        if (i == c->world.rank)
            self = n;
        peers[n++] = masks[i];
    }
    int share = cores_share(peers, n, self);
    free(peers);
    return share;
}

struct cores cores_find(struct comm *c)
{
    size_t size = (size_t)c->world.size;
    char mine = *place_role(&c->place), *role = mem_new(size, 1);
    cpu_set_t mask, *masks = mem_new(size, sizeof *masks);
    cores_mask(&mask);
    comm_allgather(&c->world, &mine, sizeof mine, role);
    comm_allgather(&c->world, &mask, sizeof mask, masks);
    struct cores found = {.threads = share_in_role(c, role, masks),
                          .shared_here = shares_with_other(c, role, masks, c->world.rank)};
    for (int i = 0; i < c->world.size; i++)
        found.shared_by_roles |= shares_with_other(c, role, masks, i);
    free(role);
    free(masks);
    return found;
}

void cores_text(const cpu_set_t *mask, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (size_t core = 0; core < CPU_SETSIZE && used + 16 < size; core++) {
        if (!CPU_ISSET(core, mask))
            continue;
        size_t last = core;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, mask))
            last++;
        const char *comma = used ? "," : "";
        if (last == core)
            used += (size_t)snprintf(text + used, size - used, "%s%zu", comma, core);
        else
            used += (size_t)snprintf(text + used, size - used, "%s%zu-%zu", comma, core, last);
        core = last;
    }
}
