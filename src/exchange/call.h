/* call.h - what everybody does who calls MPI: look at the result, and wait asleep. Any thread that
 * may call MPI.
 */
#ifndef TANDEM_EXCHANGE_CALL_H
#define TANDEM_EXCHANGE_CALL_H

#include <mpi.h>

/* Dies, saying what failed and why, unless code is MPI_SUCCESS: errors return, since comm_start()
 * and whoever makes a communicator say so, and are then told with rank, role and step. */
void mpi_must(int code, const char *what);

/* Until all ranks of comm have called it, without holding the core: before collective calls that
 * would wait for the slowest rank awake. */
void mpi_meet(MPI_Comm comm);

/* Until all n requests are done, without holding the core (base/backoff.h). */
void mpi_wait(int n, MPI_Request *requests, const char *what);

#endif
