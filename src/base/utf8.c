#include "base/utf8.h"

#include "base/mem.h"

#include <string.h>

#define REPLACEMENT 0xfffdu

/* The bytes a lead byte promises, and the range of the second byte: it is what excludes overlong
 * forms, surrogates and numbers above U+10FFFF (RFC 3629, section 4). 0: not a lead byte. */
static size_t lead(uint8_t first, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    if (first < 0xe0)
        return 2;
    if (first < 0xf0) {
        if (first == 0xe0)
            *low = 0xa0;
        if (first == 0xed)
            *high = 0x9f;
        return 3;
    }
    if (first == 0xf0)
        *low = 0x90;
    if (first == 0xf4)
        *high = 0x8f;
    return 4;
}

bool utf8_read(const char *s, size_t n, uint32_t *code, size_t *length)
{
    const uint8_t *p = (const uint8_t *)s;
    *length = 1;
    if (p[0] < 0x80) {
        *code = p[0];
        return true;
    }
    uint8_t low, high;
    size_t want = lead(p[0], &low, &high);
    if (want == 0)
        return false;
    uint32_t c = p[0] & (0x7fu >> want);
    for (size_t i = 1; i < want; i++) {
        *length = i;
        if (i >= n || p[i] < low || p[i] > high)
            return false;
        c = c << 6 | (p[i] & 0x3fu);
        low = 0x80;
        high = 0xbf;
    }
    *length = want;
    *code = c;
    return true;
}

int utf8_check(const char *s, size_t n, size_t *bad_offset)
{
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (n - i >= sizeof eight) {
            memcpy(&eight, s + i, sizeof eight);
            if (!(eight & 0x8080808080808080u)) {
                i += sizeof eight;
                continue;
            }
        }
        uint32_t code;
        size_t length;
        if (!utf8_read(s + i, n - i, &code, &length)) {
            if (bad_offset)
                *bad_offset = i;
            return -1;
        }
        i += length;
    }
    return 0;
}

size_t utf8_write(char *out, uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    out[0] = (char)((0xf00u >> n & 0xff) | code);
    return n;
}

void utf8_lossy(const char *s, size_t n, char **out, size_t *out_bytes)
{
    /* One invalid byte becomes three at most. */
    char *to = mem_new(mem_mul(n, 3) + 1, 1);
    size_t used = 0, i = 0;
    while (i < n) {
        uint32_t code;
        size_t length;
        if (utf8_read(s + i, n - i, &code, &length)) {
            memcpy(to + used, s + i, length);
            used += length;
        } else {
            used += utf8_write(to + used, REPLACEMENT);
        }
        i += length;
    }
    to[used] = 0;
    *out = mem_resize(to, used + 1, 1);
    *out_bytes = used;
}
