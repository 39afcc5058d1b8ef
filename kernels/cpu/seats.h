/* seats.h - each thread of a team on a core of its own. Internal to kernels/cpu.
 *
 * Where attention and FFN ranks take turns on the same cores, all threads of a rank sleep while the other
 * works, and are woken one by one onto cores that the other is just leaving: two of them then often meet on one
 * core, and the scheduler, which sees the other one busy for a moment longer, leaves them there for milliseconds:
 * an operation took up to twice as long. So the team's threads are bound to one core each. The
 * device's thread alone goes where the scheduler puts it, since it may work alone for long; where it has come to
 * the core of another, that one gets the core it left. Only where the team is as large as the set of cores: with
 * cores to spare the scheduler finds a free one.
 *
 * Called by the device's thread.
 */
#ifndef TANDEM_KERNELS_CPU_SEATS_H
#define TANDEM_KERNELS_CPU_SEATS_H

struct seats;

/* NULL where there is nothing to do: one thread, fewer than cores, or the user has bound them (OMP_PROC_BIND). */
struct seats *seats_new(int threads);
void seats_free(struct seats *s);

/* Before a parallel region of all threads. s may be NULL. */
void seats_take(struct seats *s);

#endif
