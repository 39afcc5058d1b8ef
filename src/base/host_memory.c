#include "base/host_memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_ROOM 4096

/* Where a version of control groups keeps its numbers. */
struct layout {
    const char *mount, *most, *used, *droppable;
};
static const struct layout version_1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                        "memory.usage_in_bytes", "total_inactive_file"},
                           version_2 = {"/sys/fs/cgroup", "memory.max", "memory.current",
                                        "inactive_file"};

/* The number behind `name` and blanks in a file of such lines; a name of "" is the first line. */
static bool find_number(const char *path, const char *name, size_t *value)
{
    FILE *f = fopen(path, "r");
    char line[256];
    size_t n = strlen(name);
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f))
        found = strncmp(line, name, n) == 0 && sscanf(line + n, " %zu", value) == 1;
    if (f)
        fclose(f);
    return found;
}

/* What one group still allows; SIZE_MAX when it has no limit. */
static size_t left_in(const char *folder, const struct layout *l)
{
    char path[PATH_ROOM + 64];
    size_t most = 0, used = 0, droppable = 0;
    snprintf(path, sizeof path, "%s/%s", folder, l->most);
    if (!find_number(path, "", &most))
        return SIZE_MAX;
    snprintf(path, sizeof path, "%s/%s", folder, l->used);
    if (!find_number(path, "", &used))
        return SIZE_MAX;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    find_number(path, l->droppable, &droppable);
    used -= droppable < used ? droppable : used;
    return used < most ? most - used : 0;
}

/* A group's limit holds for all groups within it. A group that is not there is that of a container
 * as its host sees it; inside, its own is the topmost. */
static size_t left_above(const char *root, const char *group, const struct layout *l)
{
    char folder[PATH_ROOM];
    int n = snprintf(folder, sizeof folder, "%s%s", root, l->mount);
    size_t least = left_in(folder, l), top = (size_t)n;
    if (n < 0 || (size_t)n + strlen(group) >= sizeof folder)
        return least;
    strcpy(folder + n, group);
    for (char *end = folder + strlen(folder); end > folder + top; end = strrchr(folder, '/')) {
        *end = 0;
        size_t left = left_in(folder, l);
        least = left < least ? left : least;
    }
    return least;
}

/* Lines "0::/group" (version 2) and "4:memory:/group", "5:cpu,memory:/group" (version 1). */
static size_t left_in_groups(const char *root)
{
    char path[PATH_ROOM], line[PATH_ROOM];
    size_t least = SIZE_MAX;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *what = strchr(line, ':'), *group = what ? strchr(what + 1, ':') : NULL;
        if (!group)
            continue;
        *what++ = *group++ = 0;
        size_t left = SIZE_MAX;
        if (!*what)
            left = left_above(root, group, &version_2);
        else if (strcmp(what, "memory") == 0 || strstr(what, ",memory") || strstr(what, "memory,"))
            left = left_above(root, group, &version_1);
        least = left < least ? left : least;
    }
    if (f)
        fclose(f);
    return least;
}

size_t host_memory_free(const char *root)
{
    char path[PATH_ROOM];
    size_t kilobytes = 0, least = left_in_groups(root);
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (find_number(path, "MemAvailable:", &kilobytes))
        return kilobytes < least / 1024 ? kilobytes * 1024 : least;
    long pages = sysconf(_SC_AVPHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    size_t unused = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : 0;
    return unused < least ? unused : least;
}
