/* watch.h - notices a rank that has stopped, and says which.
 *
 * When a rank is stopped, thrashes, or loses its host, all others wait for it in the same call, and
 * none of them can tell for whom. So a thread of every rank sends a sign of life every second to the
 * next rank, in the launcher's order, and listens for that of the one before: a rank that is silent is
 * known to its successor, whatever anybody's main thread does at that time, loading, decoding,
 * committing or merging. With the sign travels how long the main thread has worked in one step
 * without waiting for anybody: a rank that lives but does not get on is known as well.
 *
 * After WATCH_WARN_SECONDS there is a warning, and another line when the rank is back. After the
 * limit (schedule.step_timeout) the job dies and names rank, role and host; what is committed stays.
 * Time in which the watching rank was stopped itself does not count: a job may be suspended as a
 * whole. On GPUs a main thread waits for its device, so a step that hangs there has a watchdog of its
 * own (exchange/nccl_watch.c), which speaks later than this one.
 *
 * Needs an MPI that several threads may call at once (MPI_THREAD_MULTIPLE); without, ranks are not
 * watched, and rank 0 says so. One watch per process, made and ended by its main thread.
 */
#ifndef TANDEM_ROLES_WATCH_H
#define TANDEM_ROLES_WATCH_H

#define WATCH_WARN_SECONDS 30

struct watch;

/* Until watch_know() says more, ranks are known by number alone, and the limit is 10 minutes.
 * Collective over all ranks. */
struct watch *watch_start(void);

/* Who the rank before this one is, "rank 3 (ffn 1, host n12)", and the limit in seconds, 0: none. */
void watch_know(struct watch *w, const char *who, double limit);

/* The launcher's number of the rank that this one listens to. */
int watch_before(const struct watch *w);

/* Collective: returns when the rank before has said that it ends too. */
void watch_stop(struct watch *w);

#endif
