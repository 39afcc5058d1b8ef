/* call.h - what everybody does who calls MPI: look at the result, and wait asleep. Any thread that
 * may call MPI, unless it says otherwise.
 */
#ifndef TANDEM_EXCHANGE_CALL_H
#define TANDEM_EXCHANGE_CALL_H

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

/* Dies, saying what failed and why, unless code is MPI_SUCCESS: errors return, since comm_start()
 * and whoever makes a communicator say so, and are then told with rank, role and step. */
void mpi_must(int code, const char *what);

/* Main thread: until all ranks of comm have called it, without holding the core: before collective calls that
 * would wait for the slowest rank awake. */
void mpi_meet(MPI_Comm comm);

/* The main thread says that it waits for another rank, or for its device, and that it no longer does.
 * mpi_waits() counts both: odd means that it waits, an equal number that it is still at the same
 * (roles/watch.h). Any thread may ask. */
void mpi_waiting(void);
void mpi_working(void);
uint64_t mpi_waits(void);

/* Whether all n requests are done; those that are become MPI_REQUEST_NULL once all are. */
bool mpi_done(int n, MPI_Request *requests, const char *what);

/* Main thread: until all n requests are done, without holding the core (base/backoff.h). */
void mpi_wait(int n, MPI_Request *requests, const char *what);

#endif
