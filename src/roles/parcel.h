/* parcel.h - finished completions and step timings as bytes, on their way to the writer.
 *
 * Between two commits every rank collects what it has finished; at a commit the parcels are
 * gathered by comm_gather() and the writer opens them. Same program on every rank, so host byte
 * order.
 */
#ifndef TANDEM_ROLES_PARCEL_H
#define TANDEM_ROLES_PARCEL_H

#include "data/completions.h"

#include <stddef.h>

/* What a rank has not handed over yet. Zero-initialized is empty. */
struct parcel {
    struct completion *rows;
    size_t n, room;
    struct step_timing *steps;
    size_t m, steps_room;
};

/* Takes over what the completion points to. */
void parcel_add(struct parcel *p, const struct completion *c);
void parcel_add_step(struct parcel *p, const struct step_timing *t);

/* Frees the completions and empties the parcel, keeping its memory / giving it back. */
void parcel_clear(struct parcel *p);
void parcel_free(struct parcel *p);

/* The parcel as bytes, malloc'd. */
void *parcel_pack(const struct parcel *p, size_t *bytes);

/* Adds everything in the bytes of one or more packed parcels. Malformed bytes are die(). */
void parcel_unpack(struct parcel *p, const void *data, size_t bytes);

#endif
