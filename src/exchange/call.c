#include "exchange/call.h"

#include "base/backoff.h"
#include "base/err.h"

#include <stdatomic.h>

void mpi_must(int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING];
    int length;
    if (code == MPI_SUCCESS)
        return;
    MPI_Error_string(code, text, &length);
    die("MPI: %s failed: %s", what, text);
}

static _Atomic uint64_t waits;

void mpi_waiting(void)
{
    waits++;
}

void mpi_working(void)
{
    waits++;
}

uint64_t mpi_waits(void)
{
    return waits;
}

/* MPI_STATUSES_IGNORE of MPICH is the address 1, which gcc takes for an array that is too short. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstringop-overflow"
bool mpi_done(int n, MPI_Request *requests, const char *what)
{
    int done;
    mpi_must(MPI_Testall(n, requests, &done, MPI_STATUSES_IGNORE), what);
    return done;
}
#pragma GCC diagnostic pop

void mpi_wait(int n, MPI_Request *requests, const char *what)
{
    struct backoff pause = {0};
    mpi_waiting();
    while (!mpi_done(n, requests, what))
        backoff_pause(&pause);
    mpi_working();
}

void mpi_meet(MPI_Comm comm)
{
    MPI_Request request;
    mpi_must(MPI_Ibarrier(comm, &request), "MPI_Ibarrier");
    mpi_wait(1, &request, "a barrier");
}
