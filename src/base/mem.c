#include "base/mem.h"

#include "base/err.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20) /* of x86-64; elsewhere an alignment like any other */

static void *checked(void *p, size_t bytes)
{
    if (!p)
        die("out of memory: %zu bytes were asked for", bytes);
    return p;
}

size_t mem_mul(size_t a, size_t b)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product))
        die("a size overflows: %zu x %zu", a, b);
    return product;
}

void *mem_new(size_t count, size_t size)
{
    size_t bytes = mem_mul(count, size);
    return checked(malloc(bytes ? bytes : 1), bytes);
}

void *mem_zeroed(size_t count, size_t size)
{
    size_t bytes = mem_mul(count, size);
    return checked(calloc(bytes ? bytes : 1, 1), bytes);
}

void *mem_resize(void *old, size_t count, size_t size)
{
    size_t bytes = mem_mul(count, size);
    return checked(realloc(old, bytes ? bytes : 1), bytes);
}

/* A hint: without it memory is only slower. */
static void ask_huge(void *p, size_t bytes)
{
    (void)madvise(p, bytes, MADV_HUGEPAGE);
}

void *mem_aligned(size_t count, size_t size)
{
    size_t bytes = mem_mul(count, size);
    if (bytes > SIZE_MAX - MEM_ALIGN)
        die("a size overflows: %zu bytes", bytes);
    size_t align = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : MEM_ALIGN;
    size_t rounded = (bytes + align) / align * align;
    void *p = checked(aligned_alloc(align, rounded), bytes);
    if (align == HUGE_PAGE)
        ask_huge(p, rounded);
    return p;
}

void *mem_zeroed_huge(size_t count, size_t size)
{
    void *p = mem_zeroed(count, size);
    size_t skip = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE, bytes = count * size;
    if (bytes >= 2 * HUGE_PAGE)
        ask_huge((char *)p + skip, (bytes - skip) / HUGE_PAGE * HUGE_PAGE);
    return p;
}

char *mem_string_n(const char *s, size_t n)
{
    char *copy = mem_new(n + 1, 1);
    if (n)
        memcpy(copy, s, n);
    copy[n] = 0;
    return copy;
}

char *mem_string(const char *s)
{
    return mem_string_n(s, strlen(s));
}
