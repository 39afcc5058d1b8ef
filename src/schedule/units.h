/* units.h - what is left of a job: the units (one prompt, one sample) that are not finished yet.
 *
 * Units are numbered prompt x samples + sample, with prompts counted from the job's first, and are
 * handed out in this order, skipping those an earlier run has finished. Every rank walks the same list
 * and so knows, from the step contract alone, which units any rank was given.
 */
#ifndef TANDEM_SCHEDULE_UNITS_H
#define TANDEM_SCHEDULE_UNITS_H

#include <stddef.h>
#include <stdint.h>

struct units {
    uint64_t total, next; /* all units; the first that may not have been handed out */
    uint64_t left;        /* not finished and not handed out */
    uint8_t *done;        /* bitmap of the units an earlier run has finished */
};

/* Bytes of the bitmap of so many units. */
size_t units_bitmap_bytes(uint64_t total);

/* done: bitmap (bit u of byte u / 8), copied; NULL: none is done. */
void units_init(struct units *u, uint64_t total, const uint8_t *done);
void units_free(struct units *u);

/* The next unit; only when left > 0. */
uint64_t units_take(struct units *u);

#endif
