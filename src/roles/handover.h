/* handover.h - how long a process sleeps on after another has called it: measured.
 *
 * What a layer costs that is computed by another process than the one that waits for it
 * (exchange/shared.c): a word in shared memory, and a futex.
 */
#ifndef TANDEM_ROLES_HANDOVER_H
#define TANDEM_ROLES_HANDOVER_H

/* Seconds; forks a process that ends before it returns. 0: it cannot be measured. */
double handover_seconds(void);

#endif
