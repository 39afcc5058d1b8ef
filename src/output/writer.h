/* writer.h - a thread that does, one after the other, what must not hold up the step.
 *
 * Jobs are a function and a batch of bytes. After a failure nothing more is done: what waits is
 * dropped, and the state says why. One thread pushes.
 */
#ifndef TANDEM_OUTPUT_WRITER_H
#define TANDEM_OUTPUT_WRITER_H

#include "base/err.h"
#include "output/fields.h"
#include "output/output.h"

#define WRITER_WAITING_MAX ((size_t)128 << 20) /* bytes */

struct writer;

struct writer *writer_start(void);
/* Waits for what was pushed, ends the thread, frees. NULL: nothing. */
void writer_stop(struct writer *w);

/* -1 with errno: OUTPUT_LATER when it may mend (patience.h) or was stopped or damaged. */
typedef int (*writer_do)(void *context, struct bytes *batch, struct err *e);

/* Takes the bytes over. Waits only while more than WRITER_WAITING_MAX wait. */
void writer_push(struct writer *w, writer_do what, void *context, struct bytes *batch);

enum output_state writer_state(struct writer *w, struct err *e);
enum output_state writer_drain(struct writer *w, struct err *e);

#endif
