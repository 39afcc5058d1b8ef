/* Values as text: str(), repr(), json.dumps(). */
#include "chat/value.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The shortest digits that read back as the same number, written as Python does. */
static void append_real(struct string_builder *b, double x)
{
    char text[40], digits[20] = "";
    if (isnan(x) || isinf(x)) {
        chat_append_text(b, isnan(x) ? "nan" : x < 0 ? "-inf" : "inf");
        return;
    }
    int precision = 1;
    for (; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision - 1, x);
        if (strtod(text, NULL) == x)
            break;
    }
    snprintf(text, sizeof text, "%.*e", precision - 1, fabs(x));
    int power = atoi(strchr(text, 'e') + 1), n = 0;
    for (const char *c = text; *c != 'e'; c++)
        if (*c != '.')
            digits[n++] = *c;
    if (signbit(x))
        chat_append_text(b, "-");
    if (power < -4 || power >= 16) {
        char out[40];
        snprintf(out, sizeof out, "%c%s%.*se%c%02d", *digits, n > 1 ? "." : "", n - 1, digits + 1,
                 power < 0 ? '-' : '+', abs(power));
        chat_append_text(b, out);
        return;
    }
    if (power < 0)
        chat_append_text(b, "0.");
    for (int i = power; i < -1; i++)
        chat_append_text(b, "0");
    for (int i = 0; i < n || i <= power; i++) {
        chat_append_byte(b, i < n ? digits[i] : '0', 0);
        if (i == power)
            chat_append_text(b, i + 1 < n ? "." : ".0");
    }
}

static void append_int(struct string_builder *b, int64_t x)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, x);
    chat_append_text(b, text);
}

/* Characters that repr() writes as escapes: separators, controls, formats, private use. */
static bool printable(uint32_t code)
{
    static const uint32_t ranges[][2] = {
        {0x0, 0x1f},         {0x7f, 0xa0},       {0xad, 0xad},       {0x600, 0x605},
        {0x61c, 0x61c},      {0x6dd, 0x6dd},     {0x70f, 0x70f},     {0x890, 0x891},
        {0x8e2, 0x8e2},      {0x1680, 0x1680},   {0x180e, 0x180e},   {0x2000, 0x200f},
        {0x2028, 0x202f},    {0x205f, 0x206f},   {0x3000, 0x3000},   {0xe000, 0xf8ff},
        {0xfeff, 0xfeff},    {0xfff0, 0xfffb},   {0xfffe, 0xffff},   {0x110bd, 0x110bd},
        {0x110cd, 0x110cd},  {0x13430, 0x1343f}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a},
        {0xe0000, 0x10ffff},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (code >= ranges[i][0] && code <= ranges[i][1])
            return code >= 0xe0100 && code <= 0xe01ef; /* selectors of variants can be seen */
    return true;
}

static void repr_string(struct string_builder *b, struct string s)
{
    static const char escaped[] = "\n\r\t\\";
    bool single = memchr(s.s, '\'', s.n) != NULL, twice = memchr(s.s, '"', s.n) != NULL;
    char quote = single && !twice ? '"' : '\'';
    chat_append_byte(b, quote, 0);
    for (size_t i = 0, length; i < s.n; i += length) {
        char text[16] = "", mark = s.mark ? s.mark[i] : 0;
        uint32_t code = 0;
        if (!utf8_read(s.s + i, s.n - i, &code, &length))
            length = 1;
        const char *known = code ? memchr(escaped, s.s[i], 4) : NULL;
        if (known)
            snprintf(text, sizeof text, "\\%c", "nrt\\"[known - escaped]);
        else if (code == (uint32_t)quote)
            snprintf(text, sizeof text, "\\%c", quote);
        else if (!printable(code))
            snprintf(text, sizeof text,
                     code < 0x100     ? "\\x%02x"
                     : code < 0x10000 ? "\\u%04x"
                                      : "\\U%08x",
                     (unsigned)code);
        for (const char *t = text; *t; t++)
            chat_append_byte(b, *t, mark);
        if (!*text)
            chat_append(b, chat_part(s, i, i + length));
    }
    chat_append_byte(b, quote, 0);
}

static void repr_items(struct string_builder *b, struct chat_value v)
{
    bool dict = v.kind == VALUE_DICT;
    const struct list *items = dict ? &v.dict->keys : v.list;
    chat_append_text(b, dict ? "{" : v.kind == VALUE_LIST ? "[" : "(");
    for (size_t i = 0; i < items->n; i++) {
        if (i)
            chat_append_text(b, ", ");
        chat_value_repr(b, items->at[i]);
        if (dict) {
            chat_append_text(b, ": ");
            chat_value_repr(b, v.dict->values.at[i]);
        }
    }
    if (v.kind == VALUE_TUPLE && items->n == 1)
        chat_append_text(b, ",");
    chat_append_text(b, dict ? "}" : v.kind == VALUE_LIST ? "]" : ")");
}

void chat_value_repr(struct string_builder *b, struct chat_value v)
{
    switch (v.kind) {
    case VALUE_UNDEFINED:
        chat_append_text(b, "Undefined");
        break;
    case VALUE_NONE:
        chat_append_text(b, "None");
        break;
    case VALUE_BOOL:
        chat_append_text(b, v.whole ? "True" : "False");
        break;
    case VALUE_INT:
        append_int(b, v.whole);
        break;
    case VALUE_REAL:
        append_real(b, v.real);
        break;
    case VALUE_STRING:
        repr_string(b, v.string);
        break;
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_DICT:
        repr_items(b, v);
        break;
    default:
        chat_append_text(b, chat_value_kind_name(v));
    }
}

struct string chat_value_str(struct arena *a, struct chat_value v)
{
    struct string_builder b = {.arena = a};
    if (v.kind == VALUE_STRING)
        return v.string;
    if (v.kind != VALUE_UNDEFINED)
        chat_value_repr(&b, v);
    return chat_built(&b);
}

/* --- JSON ---------------------------------------------------------------------------------- */

static void json_code(struct string_builder *b, uint32_t code, char mark)
{
    char text[16];
    if (code >= 0x10000) {
        code -= 0x10000;
        snprintf(text, sizeof text, "\\u%04x\\u%04x", (unsigned)(0xd800 + (code >> 10)),
                 (unsigned)(0xdc00 + (code & 0x3ff)));
    } else {
        snprintf(text, sizeof text, "\\u%04x", (unsigned)code);
    }
    for (const char *t = text; *t; t++)
        chat_append_byte(b, *t, mark);
}

static void json_text(struct string_builder *b, struct string s, bool ensure_ascii)
{
    static const char escapes[] = "\"\\\n\r\t\f\b", names[] = "\"\\nrtfb";
    chat_append_byte(b, '"', 0);
    for (size_t i = 0, length; i < s.n; i += length) {
        char mark = s.mark ? s.mark[i] : 0;
        uint32_t code = (unsigned char)s.s[i];
        const char *known = code ? strchr(escapes, s.s[i]) : NULL;
        length = 1;
        if (code >= 0x80 && !utf8_read(s.s + i, s.n - i, &code, &length))
            length = 1;
        if (known) {
            chat_append_byte(b, '\\', mark);
            chat_append_byte(b, names[known - escapes], mark);
        } else if (code < 32 || (ensure_ascii && code >= 127)) {
            json_code(b, code, mark);
        } else {
            chat_append(b, chat_part(s, i, i + length));
        }
    }
    chat_append_byte(b, '"', 0);
}

static void json_line(struct string_builder *b, const struct chat_value_json *how, int depth)
{
    if (how->indent < 0)
        return;
    chat_append_text(b, "\n");
    for (int i = 0; i < depth * how->indent; i++)
        chat_append_text(b, " ");
}

static bool json_value(struct string_builder *b, struct chat_value v,
                       const struct chat_value_json *how, int depth, const char **what);

/* The place of the i-th smallest key; keys of a sorted dict are strings. */
static size_t key_in_order(const struct dict *d, size_t i)
{
    for (size_t k = 0; k < d->keys.n; k++) {
        size_t below = 0;
        for (size_t j = 0; j < d->keys.n; j++) {
            int order = 0;
            chat_value_compare(d->keys.at[j], d->keys.at[k], &order);
            below += order < 0 || (order == 0 && j < k);
        }
        if (below == i)
            return k;
    }
    return i;
}

static bool json_items(struct string_builder *b, struct chat_value v,
                       const struct chat_value_json *how, int depth, const char **what)
{
    bool dict = v.kind == VALUE_DICT;
    size_t n = dict ? v.dict->keys.n : v.list->n;
    chat_append_text(b, dict ? "{" : "[");
    for (size_t i = 0; i < n; i++) {
        size_t k = dict && how->sort_keys ? key_in_order(v.dict, i) : i;
        if (i)
            chat_append(b, how->item);
        json_line(b, how, depth + 1);
        if (dict) {
            struct string_builder key = {.arena = b->arena};
            if (v.dict->keys.at[k].kind == VALUE_STRING)
                key = (struct string_builder){.arena = b->arena};
            else if (!json_value(&key, v.dict->keys.at[k], how, 0, what))
                return false;
            json_text(b,
                      v.dict->keys.at[k].kind == VALUE_STRING ? v.dict->keys.at[k].string
                                                              : chat_built(&key),
                      how->ensure_ascii);
            chat_append(b, how->colon);
        }
        if (!json_value(b, dict ? v.dict->values.at[k] : v.list->at[k], how, depth + 1, what))
            return false;
    }
    if (n)
        json_line(b, how, depth);
    chat_append_text(b, dict ? "}" : "]");
    return true;
}

static bool json_value(struct string_builder *b, struct chat_value v,
                       const struct chat_value_json *how, int depth, const char **what)
{
    switch (v.kind) {
    case VALUE_NONE:
        chat_append_text(b, "null");
        return true;
    case VALUE_BOOL:
        chat_append_text(b, v.whole ? "true" : "false");
        return true;
    case VALUE_INT:
        append_int(b, v.whole);
        return true;
    case VALUE_REAL:
        if (isnan(v.real) || isinf(v.real))
            chat_append_text(b, isnan(v.real) ? "NaN" : v.real < 0 ? "-Infinity" : "Infinity");
        else
            append_real(b, v.real);
        return true;
    case VALUE_STRING:
        json_text(b, v.string, how->ensure_ascii);
        return true;
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_DICT:
        return json_items(b, v, how, depth, what);
    default:
        *what = chat_value_kind_name(v);
        return false;
    }
}

bool chat_value_json(struct string_builder *b, struct chat_value v,
                     const struct chat_value_json *how, const char **what)
{
    return json_value(b, v, how, 0, what);
}
