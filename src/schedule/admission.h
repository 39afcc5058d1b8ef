/* admission.h - who decodes the next units: a pure function that every rank computes alike.
 *
 * The step contract tells every rank how many sequences each attention rank can still take. The
 * next units of the job are dealt from it to the rank with most room (of equals, to the one that
 * has waited longest), so there is no master, no message and no race, and few prompts still spread
 * over all ranks. The samples of a prompt stay together while their rank has room: it reads the
 * prompt once.
 */
#ifndef TANDEM_SCHEDULE_ADMISSION_H
#define TANDEM_SCHEDULE_ADMISSION_H

#include <stddef.h>
#include <stdint.h>

struct admission;

/* For `ranks` attention ranks of at most `slots` places each; `samples` units make a prompt. */
struct admission *admission_new(int ranks, int slots, uint64_t samples);
void admission_free(struct admission *a);

/* Deals units[0 .. n), ascending, to ranks with room[i] from 0 to `slots`. owner[u] is the rank of
 * units[u]. Returns how many were dealt: min(n, sum of room). Time: n + ranks + slots. */
size_t admission_deal(struct admission *a, const int *room, const uint64_t *units, size_t n,
                      int *owner);

#endif
