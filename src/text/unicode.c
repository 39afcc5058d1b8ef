#include "text/unicode.h"

#include <string.h>

const struct unicode_range unicode_spaces[] = {
    {0x9, 0xd},       {0x20, 0x20},     {0x85, 0x85},     {0xa0, 0xa0},     {0x1680, 0x1680},
    {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
};
const size_t unicode_space_count = sizeof unicode_spaces / sizeof unicode_spaces[0];

const struct unicode_property *unicode_find(const char *name, size_t n)
{
    for (size_t i = 0; i < unicode_property_count; i++) {
        const struct unicode_property *p = &unicode_properties[i];
        if (strlen(p->name) == n && memcmp(p->name, name, n) == 0)
            return p;
    }
    return NULL;
}

bool unicode_is_space(uint32_t code)
{
    for (size_t i = 0; i < unicode_space_count; i++)
        if (code >= unicode_spaces[i].first && code <= unicode_spaces[i].last)
            return true;
    return false;
}
