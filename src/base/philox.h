/* philox.h - random numbers that depend on what they are for, not on when they are drawn.
 *
 * Philox 4x32 with 10 rounds (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011): a counter-based generator, so a draw is a pure function of (seed, prompt,
 * sample, position) and a completion does not depend on batch, rank or restart.
 */
#ifndef TANDEM_BASE_PHILOX_H
#define TANDEM_BASE_PHILOX_H

#include <stdint.h>

/* out = the four words of the block `counter` under `key`. */
void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Uniform in [0, 1), a multiple of 2^-24, exactly a float. Key: seed. Counter: prompt (64 bits),
 * sample, position (the index of the token that is drawn, counted from the start of the prompt). */
float philox_uniform(uint64_t seed, uint64_t prompt, uint32_t sample, uint32_t position);

#endif
