/* units.h - what is left of a job: the units (one prompt, one sample) that are not finished yet.
 *
 * Units are numbered prompt x samples + sample, with prompts counted from the job's first. Cells
 * claim them in blocks; a block is a pure function of its number, so that to claim one is to draw
 * the next number. Blocks grow smaller towards the end, so that all cells end at about the same
 * time; they are whole prompts. With one cell there is one block, and it is claimed. Inside a cell units are handed
 * out in order, skipping those finished by an earlier run; every rank of it walks the same list and
 * so knows, from the step contract alone, which units any rank was given.
 */
#ifndef TANDEM_SCHEDULE_UNITS_H
#define TANDEM_SCHEDULE_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct units {
    uint64_t total, undone; /* of the job; of these, not finished when this run began */
    uint64_t left;          /* claimed, not finished and not handed out */
    uint8_t *done;          /* bitmap of the units an earlier run has finished */
    /* How blocks are cut: */
    int cells;
    uint64_t samples, most; /* units of a prompt; of a block */
    uint64_t block, cut;    /* the next block's number and first unit */
    /* Claimed and not walked over yet, in order: */
    struct unit_range {
        uint64_t next, end;
    } * ranges;
    size_t n_ranges, room_ranges;
};

/* Bytes of the bitmap of so many units. */
size_t units_bitmap_bytes(uint64_t total);

/* done: bitmap (bit u of byte u / 8), copied; NULL: none is done. places: units that
 * a cell can have under way. */
void units_init(struct units *u, uint64_t total, const uint8_t *done, int cells, uint64_t samples,
                uint64_t places);
void units_free(struct units *u);

/* This cell has drawn block `number`, greater than all before. False: there is no such block, all
 * of the job is claimed. */
bool units_claim(struct units *u, uint64_t number);

/* The next unit; only when left > 0. */
uint64_t units_take(struct units *u);

#endif
