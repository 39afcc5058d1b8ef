/* admission.h - who decodes the next prompts: a pure function that every rank computes alike.
 *
 * The step contract tells every rank how many sequences each attention rank can still take. The
 * next units of the job are dealt from it, one at a time to the rank with most room (the first of
 * equals), so there is no master, no message and no race, and few prompts still spread over all
 * ranks.
 */
#ifndef TANDEM_SCHEDULE_ADMISSION_H
#define TANDEM_SCHEDULE_ADMISSION_H

#include <stddef.h>

/* Deals up to `available` units to n ranks with room[i] >= 0. owner[u] is the rank of the u-th unit
 * dealt; owner has at least min(available, sum of room) entries. Returns how many were dealt. */
size_t admission_deal(const int *room, int n, size_t available, int *owner);

#endif
