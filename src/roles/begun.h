/* begun.h - what earlier runs have sampled of units that they did not finish.
 *
 * The writer reads it from the journals, every attention rank keeps it until the unit is dealt: who
 * will get it is not known before. No MPI.
 */
#ifndef TANDEM_ROLES_BEGUN_H
#define TANDEM_ROLES_BEGUN_H

#include "output/fields.h"

#include <stddef.h>
#include <stdint.h>

struct begun_list {
    struct piece *pieces; /* units rising; each begins at token 0 */
    size_t n;
    uint64_t tokens; /* of all */
};

/* From a batch of RECORD_PIECE with rising units. */
void begun_read(struct begun_list *b, const struct bytes *batch);
void begun_free(struct begun_list *b);

/* The unit's piece, or NULL. Inside the list. */
const struct piece *begun_find(const struct begun_list *b, uint64_t unit);

#endif
