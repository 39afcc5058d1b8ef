/* backend.c - the backends in this binary, and how a job chooses one of them. */
#include "kernels/device.h"

#include <stdio.h>
#include <string.h>

extern const struct backend backend_plain;
#ifdef TANDEM_X86
extern const struct backend backend_avx2, backend_avx512;
#endif
#ifdef __aarch64__
extern const struct backend backend_neon;
#endif
#ifdef TANDEM_CUDA
extern const struct backend backend_cuda;
#endif

static const struct backend *const all[] = {
    &backend_plain,
#ifdef TANDEM_X86
    &backend_avx2,  &backend_avx512,
#endif
#ifdef __aarch64__
    &backend_neon,
#endif
#ifdef TANDEM_CUDA
    &backend_cuda,
#endif
    NULL,
};

const struct backend *const *backend_all(void)
{
    return all;
}

/* Letters to insert, delete or replace to turn a into b; names longer than 31 letters are cut. */
static size_t edits(const char *a, const char *b)
{
    size_t cost[32], n = strnlen(b, 31);
    for (size_t j = 0; j <= n; j++)
        cost[j] = j;
    for (size_t i = 1; a[i - 1] && i < 32; i++) {
        size_t diagonal = cost[0];
        cost[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t replace = diagonal + (a[i - 1] != b[j - 1]);
            size_t other = 1 + (cost[j] < cost[j - 1] ? cost[j] : cost[j - 1]);
            diagonal = cost[j];
            cost[j] = replace < other ? replace : other;
        }
    }
    return cost[n];
}

/* Adds ", did you mean ...?" to the message when a known name is at most two edits away. */
static void suggest(struct err *e, const char *name, const char *const *known)
{
    const char *nearest = NULL;
    size_t least = 3;
    for (; *known; known++) {
        size_t distance = edits(name, *known);
        if (distance < least) {
            least = distance;
            nearest = *known;
        }
    }
    size_t used = strlen(e->text);
    if (nearest)
        snprintf(e->text + used, sizeof e->text - used, "; did you mean \"%s\"?", nearest);
}

static int check_device(const char *device, struct err *e)
{
    static const char *const known[] = {"cpu", "cuda", NULL};
    if (strcmp(device, "cpu") == 0)
        return 0;
    if (strcmp(device, "cuda") != 0) {
        err_set(e, "device: must be cpu or cuda, not \"%s\"", device);
        suggest(e, device, known);
        return -1;
    }
#ifdef TANDEM_CUDA
    return 0;
#else
    return err_set(e,
                   "device: cuda is not in this binary; build it with `make CUDA=1` (it needs the "
                   "CUDA Toolkit), or say `device: cpu`");
#endif
}

static bool runs_on(const struct backend *b, const char *device)
{
    return strcmp(b->device->name, device) == 0;
}

static const struct backend *find_auto(const char *device, struct err *e)
{
    const struct backend *best = NULL;
    struct err why = {""};
    for (size_t i = 0; all[i]; i++)
        if (runs_on(all[i], device) && all[i]->usable(&why) == 0)
            best = all[i];
    if (!best)
        err_set(e, "device: %s cannot be used here: %s", device, why.text);
    return best;
}

const struct backend *backend_find(const char *device, const char *kernels, struct err *e)
{
    if (check_device(device, e) != 0)
        return NULL;
    if (strcmp(kernels, "auto") == 0)
        return find_auto(device, e);

    const char *names[sizeof all / sizeof all[0] + 1] = {"auto"};
    char list[256] = "auto";
    size_t count = 1;
    for (size_t i = 0; all[i]; i++) {
        if (!runs_on(all[i], device))
            continue;
        if (strcmp(all[i]->name, kernels) == 0) {
            if (all[i]->usable(e) == 0)
                return all[i];
            err_prefix(e, "kernels: %s cannot be used here", kernels);
            return NULL;
        }
        names[count++] = all[i]->name;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, ", %s", all[i]->name);
    }
    err_set(e, "kernels: with device: %s one of %s is needed, not \"%s\"", device, list, kernels);
    suggest(e, kernels, names);
    return NULL;
}
