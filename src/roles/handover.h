/* handover.h - how long a process sleeps on after another has called it: measured.
 *
 * What a layer costs that is computed by another process than the one that waits for it
 * (exchange/shared.c): a word in shared memory, and a futex.
 */
#ifndef TANDEM_ROLES_HANDOVER_H
#define TANDEM_ROLES_HANDOVER_H

#include "base/err.h"

/* *seconds of it; forks a process that ends before it returns, as it does when this one ends. -1: there is
 * no such process, or it was ended; what ended it. */
int handover_measure(double *seconds, struct err *e);

#endif
