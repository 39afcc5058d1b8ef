/* pool.h - blocks of memory that lie together in huge pages.
 *
 * A matrix of less than some megabytes would have small pages to itself, or a huge one that it does not fill. Measured
 * on Zen 4 (matrices of 3.3 MB in 4 bits, cold, 1 and 4 rows): in huge pages they are read 1.10 to 1.14 times as fast by
 * one core, 1.05 times by two whose memory gives 35 GB/s.
 *
 * Blocks are cut from chunks of 32 MB, one after the other; a large one has its own. A chunk is free when its last
 * block is given back. Not to be used by two threads at a time.
 */
#ifndef TANDEM_BASE_POOL_H
#define TANDEM_BASE_POOL_H

#include <stddef.h>

struct pool {
    struct pool_chunk *chunk; /* that blocks are cut from; NULL, as it begins: none yet */
};

/* `bytes` bytes at a multiple of MEM_ALIGN, or it dies (mem.h). Contents are undefined. */
void *pool_take(struct pool *p, size_t bytes);

/* The pool that it comes from; NULL is nothing. */
void pool_give(struct pool *p, void *block);

#endif
