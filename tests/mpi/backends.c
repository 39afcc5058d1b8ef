/* A job on hosts of several kinds: $BACKENDS says what the processor of each rank can, one name a rank,
 * separated by commas. Each are those kernels where this machine has them, else the plain ones under their
 * name: what is looked at is who agrees with whom on which. */
#include "base/err.h"
#include "base/mem.h"
#include "kernels/device.h"
#include "roles/run.h"
#include "roles/stop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const struct backend backend_plain;
#ifdef TANDEM_X86
extern const struct backend backend_avx2, backend_avx512;
#endif

static struct backend named[3];
static const struct backend *all[] = {&named[0], &named[1], &named[2], NULL};

static void make_backends(void)
{
    static const char *const names[] = {"plain", "avx2", "avx512"};
    for (int i = 0; i < 3; i++) {
        named[i] = backend_plain;
        named[i].name = names[i];
    }
#ifdef TANDEM_X86
    const struct backend *const real[] = {&backend_avx2, &backend_avx512};
    struct err ignored;
    for (int i = 0; i < 2; i++)
        if (real[i]->usable(&ignored) == 0)
            named[1 + i] = *real[i];
#endif
}

/* Of this rank's processor: 0 .. 2. */
static int most(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *kinds = getenv("BACKENDS");
    if (!rank)
        rank = getenv("PMI_RANK");
    for (int i = rank ? atoi(rank) : 0; i > 0 && kinds; i--)
        kinds = strchr(kinds, ',') ? strchr(kinds, ',') + 1 : NULL;
    for (int i = 0; kinds && i < 3; i++)
        if (strncmp(kinds, named[i].name, strcspn(kinds, ",")) == 0)
            return i;
    die("BACKENDS says nothing of this rank");
}

/* In place of those of kernels/backend.c. */
const struct backend *const *backend_all(void)
{
    return all;
}

const struct backend *backend_find(const char *device, const char *kernels, struct err *e)
{
    (void)device;
    for (int i = most(); i >= 0; i--)
        if (strcmp(kernels, "auto") == 0 || strcmp(kernels, named[i].name) == 0)
            return all[i];
    err_set(e, "kernels: %s cannot be used here", kernels);
    return NULL;
}

/* run JOB.yaml [--set KEY=VALUE]... */
int main(int argc, char **argv)
{
    struct comm comm;
    const char **sets = mem_new((size_t)argc, sizeof *sets);
    struct run_options o = {.job = argv[2], .overrides = sets, .max_restarts = -1};
    for (int i = 4; i < argc; i += 2)
        sets[o.n_overrides++] = argv[i];
    make_backends();
    stop_on_signals();
    comm_start(&comm, &argc, &argv);
    int status = (int)run_job(&comm, &o);
    comm_finish(&comm);
    free(sets);
    return status;
}
