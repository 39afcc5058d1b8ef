/* mem.h - memory that is there, or the job ends.
 *
 * Every function returns memory or calls die(): running out of memory is a broken world, not an
 * input error. Sizes are checked: a stacked expert tensor of Step-3 has 3.5e9 bytes, and counts
 * multiplied in `int` would be wrong long before that. Free with free(). Any thread.
 */
#ifndef TANDEM_BASE_MEM_H
#define TANDEM_BASE_MEM_H

#include <stddef.h>

#define MEM_ALIGN 64 /* a cache line and an AVX-512 vector */

/* a * b, or die() when it does not fit size_t. */
size_t mem_mul(size_t a, size_t b);

/* count objects of `size` bytes; mem_zeroed() clears them. count 0 gives a pointer that can be
 * freed. */
void *mem_new(size_t count, size_t size);
void *mem_zeroed(size_t count, size_t size);

/* Grows or shrinks what mem_new() gave; contents stay. */
void *mem_resize(void *old, size_t count, size_t size);

/* As mem_zeroed(), for what is large and read again and again: in huge pages, where the system has them. What
 * is never touched still takes no memory. */
void *mem_zeroed_huge(size_t count, size_t size);

/* As mem_new(), at a multiple of MEM_ALIGN; in huge pages too. */
void *mem_aligned(size_t count, size_t size);

/* A copy of the string; of the first n bytes with a NUL behind them. */
char *mem_string(const char *s);
char *mem_string_n(const char *s, size_t n);

#endif
