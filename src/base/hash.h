/* hash.h - a fast 64-bit hash that says whether two things are the same.
 *
 * Not against an adversary: it answers "is this the model, tokenizer or prompt file the job began
 * with?". Pure functions; any thread. The values are written into output files and compared by
 * later runs: a change of the function makes unfinished jobs impossible to continue.
 */
#ifndef TANDEM_BASE_HASH_H
#define TANDEM_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START 0x9e3779b97f4a7c15u

/* h, continued by n bytes. The length takes part: "ab" and "c" differ from "a" and "bc". Two calls
 * are therefore not one call with the bytes joined. data may be NULL when n is 0. */
uint64_t hash_bytes(uint64_t h, const void *data, size_t n);

/* Another hash of the same, for much data: as fast as memory. */
uint64_t hash_wide(uint64_t h, const void *data, size_t n);

/* The string without its NUL. */
uint64_t hash_string(uint64_t h, const char *s);

uint64_t hash_u64(uint64_t h, uint64_t value);

#endif
