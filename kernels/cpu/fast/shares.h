/* shares.h - units of work, shared out to threads. Internal to kernels/cpu/fast.
 *
 * Every thread begins with a part of its own and takes it unit by unit in order, because weights that lie behind
 * those before them are on their way already; where a thread begins anew it waits for memory. Time over that with
 * runs dealt out in turns, shorter and shorter, which begin anew some thirty times (Zen 4, two threads, cold, in turns,
 * 5120 x 1024): 1 row bf16 .90, FP8 .87, int8 .95, int4 .94; 4 rows .97, .95, .95, .93; 16 rows .95 to .98; experts .96 to .99.
 *
 * Who is done takes half of what is left of the largest part, from its end: threads that are slowed down (by others, or by
 * colder memory) do less.
 */
#ifndef TANDEM_KERNELS_CPU_FAST_SHARES_H
#define TANDEM_KERNELS_CPU_FAST_SHARES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Two lines of the cache: they come in pairs. Scratch memory begins at a line. */
struct share {
    _Atomic uint64_t left; /* the first unit, and the end << 32 */
    uint64_t apart[15];
};

struct shares {
    struct share *of; /* [threads] */
    size_t threads;
};

/* Units 0 .. total-1 in `of`, which the caller keeps; total below 2^32. */
struct shares shares_of(struct share *of, size_t total, size_t threads);

/* Bytes from what one thread writes to what the next one does, at least `bytes`. A core fetches lines beside those that
 * it uses, up to the end of a page; where it takes them out of another core's cache, both wait: with sums of two
 * threads in neighboring lines, cores on two chiplets took 1.03 to 1.11 times as long for FP8 with 1 to 4 rows (in turns). */
static inline size_t shares_apart(size_t bytes)
{
    return (bytes + 4095) / 4096 * 4096;
}

/* The next unit for a thread; false: nothing is left. */
bool shares_take(const struct shares *s, size_t thread, size_t *unit);

#endif
