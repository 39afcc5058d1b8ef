/* seats.h - each thread of a team on a core of its own. Internal to kernels/cpu.
 *
 * Where attention and FFN ranks take turns on the same cores, all threads of a rank sleep while the other
 * works, and are woken one by one onto cores that the other is just leaving: two of them then often meet
 * on one core, and the scheduler, which sees the other one busy for a moment longer, leaves them there
 * for milliseconds: an operation took up to twice as long. So the team's threads are bound to one core
 * each (sched_setaffinity). The device's thread alone goes where the scheduler puts it, since it may work
 * alone for long; where it has come to the core of another, that one gets the core it left. Only where
 * the team has as many threads as its process has cores: with cores to spare the scheduler finds a free
 * one.
 *
 * All calls come from the device's thread. Devices of one thread share its OpenMP team, and so they share
 * one struct seats: a second seats_new() returns the same pointer, and the last seats_free() undoes the
 * bindings.
 *
 * A binding is a wish, no exclusion: a stranger on the core of a thread is waited for, as on a machine
 * that is full. Where a thread cannot be bound (its core was taken from the process, or the team was made
 * anew because a region had another number of threads), all seats are dropped: the threads get the old
 * mask back and the scheduler places them until the last device is closed. Both are noticed only when a
 * thread has to move; the threads of a new team are not bound till then either. Results do not depend on
 * any of this.
 */
#ifndef TANDEM_KERNELS_CPU_SEATS_H
#define TANDEM_KERNELS_CPU_SEATS_H

struct seats;

/* Binds the team of the calling thread, `threads` with itself; sched_getaffinity() says its cores. NULL, and
 * nothing is bound, for one thread, for more or fewer threads than cores, where the user has bound them
 * (OMP_PROC_BIND, OMP_PLACES), and where earlier seats that are still in use were for other cores. */
struct seats *seats_new(int threads);

/* On the thread that made it. s may be NULL. */
void seats_free(struct seats *s);

/* Before a parallel region of all threads. s may be NULL. At most two system calls, where a thread moves;
 * else none (sched_getcpu()). */
void seats_take(struct seats *s);

#endif
