/* utf8.h - checking, reading and repairing UTF-8.
 *
 * UTF-8 here is RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. A NUL byte is
 * an ordinary character: every length is given. No state, any rank, any thread.
 */
#ifndef TANDEM_BASE_UTF8_H
#define TANDEM_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 0 when the n bytes at s are UTF-8. -1 when not; *bad_offset (may be NULL) is then the offset of
 * the first byte of the first sequence that is wrong or cut off by the end. s may be NULL when n is
 * 0. */
int utf8_check(const char *s, size_t n, size_t *bad_offset);

/* Reads the sequence at the start of s (n >= 1 bytes). True: a character, *code is its number and
 * *length its bytes (1..4). False: not one; *length is how many bytes (1..3) a decoder replaces by
 * one U+FFFD: the longest start of a valid sequence, or one byte (Unicode standard, section 3.9,
 * "substitution of maximal subparts"). */
bool utf8_read(const char *s, size_t n, uint32_t *code, size_t *length);

/* Writes the character `code` (a Unicode scalar value) at `out`, 1 to 4 bytes; returns how many. */
size_t utf8_write(char *out, uint32_t code);

/* A copy of the n bytes in which every invalid sequence has become U+FFFD, as Python's
 * bytes.decode(errors="replace") does. *out is malloc'd (the caller frees), has *out_bytes bytes,
 * and a NUL behind them that is not counted. Valid text is copied unchanged. */
void utf8_lossy(const char *s, size_t n, char **out, size_t *out_bytes);

#endif
