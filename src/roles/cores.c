#include "roles/cores.h"

#include "base/err.h"

#include <stdio.h>
#include <string.h>

void cores_mask(cpu_set_t *mask)
{
    CPU_ZERO(mask);
    if (sched_getaffinity(0, sizeof *mask, mask) != 0)
        die("the cores of this process cannot be found (more than %d?)", CPU_SETSIZE);
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
