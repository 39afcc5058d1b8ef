#include "base/hash.h"

#include <string.h>

/* 64 x 64 -> 128 bits, both halves folded: every input bit reaches every output bit in two rounds.
 */
static uint64_t mix(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t hash_u64(uint64_t h, uint64_t value)
{
    /* The odd constants keep a zero word from making the product zero. */
    return mix(h ^ 0xa0761d6478bd642fu, value ^ 0xe7037ed1a0b428dbu) + (h << 1 | h >> 63);
}

/* The same on any byte order; one load on this one. */
static uint64_t word_at(const unsigned char *p)
{
    uint64_t word = 0;
    for (int i = 0; i < 8; i++)
        word |= (uint64_t)p[i] << 8 * i;
    return word;
}

uint64_t hash_wide(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;
    size_t left = n;
    uint64_t lane[4]; /* a product takes several cycles: four are under way */
    for (uint64_t i = 0; i < 4; i++)
        lane[i] = hash_u64(h, i);
    for (; left >= 32; left -= 32, p += 32)
        for (int i = 0; i < 4; i++)
            lane[i] = hash_u64(lane[i], word_at(p + (size_t)8 * (size_t)i));
    h = hash_bytes(h, p, left);
    for (int i = 0; i < 4; i++)
        h = hash_u64(h, lane[i]);
    return hash_u64(h, n);
}

uint64_t hash_bytes(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;
    size_t left = n;
    for (; left >= 8; left -= 8, p += 8)
        h = hash_u64(h, word_at(p));
    uint64_t tail = 0;
    for (size_t i = 0; i < left; i++)
        tail |= (uint64_t)p[i] << 8 * i;
    if (left)
        h = hash_u64(h, tail);
    return hash_u64(h, n);
}

uint64_t hash_string(uint64_t h, const char *s)
{
    return hash_bytes(h, s, strlen(s));
}
