/* card.h - a card that is elsewhere, for the plan of a job that shall run on it: `tandem check --for`.
 *
 * Weights are as large as a card's are, and fit the same kernels; the rest is the reference kernels', on this
 * host: KV caches are a card's, scratch memory is about as large. Nothing can be loaded or run.
 */
#ifndef TANDEM_ROLES_CARD_H
#define TANDEM_ROLES_CARD_H

#include "kernels/device.h"

/* One card of so many bytes in a process; there is one at a time. */
const struct backend *card_backend(size_t bytes);

#endif
