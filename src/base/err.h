/* err.h - the two kinds of failure.
 *
 * Input can be wrong: a function returns -1 and fills `struct err` with one message that says what
 * was wanted, what was found, where, and what to do. The caller passes it on or prints it; nothing
 * is printed at the place of the error.
 *
 * The world can break (MPI, CUDA, out of memory, a broken invariant): die() names rank, role, host
 * and step in one line, and ends all ranks. There is no third kind.
 *
 * Any rank and thread may call any function here; die_context_*() once, from the main thread.
 */
#ifndef TANDEM_BASE_ERR_H
#define TANDEM_BASE_ERR_H

/* Exit statuses of the program, as documented in the README. */
enum exit_status {
    EXIT_DONE = 0,        /* everything asked for is done */
    EXIT_INPUT = 1,       /* job, checkpoint, prompts or command line are wrong */
    EXIT_RUN = 2,         /* the world broke while running */
    EXIT_UNFINISHED = 75, /* stopped by a signal or time limit; the same command continues */
};

#define ERR_TEXT_MAX 2048

/* A message of at most ERR_TEXT_MAX - 1 bytes; empty when nothing went wrong. UTF-8 without control
 * characters, whatever stood in the names and values it shows; a line break only before two blanks,
 * as in a list. */
struct err {
    char text[ERR_TEXT_MAX];
};

/* Writes the message (printf format) and returns -1, so that `return err_set(e, ...)` reads well.
 */
int err_set(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "context: " before the message that is there, and returns -1. */
int err_prefix(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Makes the above true of a text that was written into e->text by other means; returns -1. */
int err_clean(struct err *e);

/* What die() puts before its message: "rank 3 (ffn 1, host n12, step 71): ". Host is found here. */
void die_context_rank(int rank, const char *role, int role_index);
void die_context_step(long step);

/* The step of die_context_step(); -1: not in one. */
long die_step(void);

/* What die() calls after printing, with the exit status; MPI_Abort in an MPI program. Default exit.
 */
void die_context_abort(void (*abort_all)(int status));

/* Prints one line to stderr and ends all ranks with EXIT_RUN. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
