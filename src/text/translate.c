#include "text/translate.h"

#include "base/mem.h"
#include "text/unicode.h"
#include "base/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS_MAX 64
#define NOWHERE    SIZE_MAX

struct group {
    size_t start;  /* in the output */
    bool caseless; /* what it was outside */
};

struct translation {
    const char *in;
    size_t at; /* next byte of `in` */
    char *out;
    size_t used, room;
    size_t atom;       /* where in the output the last thing that can be repeated starts */
    bool caseless;     /* inside (?i */
    uint32_t previous; /* the literal before this one, for folds of two letters; 0 none */
    struct group groups[GROUPS_MAX];
    size_t depth;
    struct err *e;
};

static void emit_n(struct translation *t, const char *s, size_t n)
{
    if (t->used + n + 1 > t->room) {
        t->room = 2 * (t->used + n + 1);
        t->out = mem_resize(t->out, t->room, 1);
    }
    memcpy(t->out + t->used, s, n);
    t->used += n;
    t->out[t->used] = 0;
}

static void emit(struct translation *t, const char *s)
{
    emit_n(t, s, strlen(s));
}

static int unsupported(struct translation *t, const char *what)
{
    return err_set(t->e, "%s at byte %zu of the pattern is not supported", what, t->at);
}

static void emit_range(struct translation *t, uint32_t first, uint32_t last)
{
    char s[40];
    snprintf(s, sizeof s, first == last ? "\\x{%x}" : "\\x{%x}-\\x{%x}", first, last);
    emit(t, s);
}

static void emit_spaces(struct translation *t)
{
    for (size_t i = 0; i < unicode_space_count; i++)
        emit_range(t, unicode_spaces[i].first, unicode_spaces[i].last);
}

/* The complement, so that \S can stand inside a class. */
static void emit_not_spaces(struct translation *t)
{
    uint32_t from = 0;
    for (size_t i = 0; i < unicode_space_count; i++) {
        emit_range(t, from, unicode_spaces[i].first - 1);
        from = unicode_spaces[i].last + 1;
    }
    emit_range(t, from, 0x10ffff);
}

/* The inside of a class with the characters of a property. */
static void emit_property(struct translation *t, const struct unicode_property *p)
{
    /* \p{Han} alone means script extensions from PCRE2 10.40 on, and sc: is not known before. */
#if PCRE2_MAJOR > 10 || PCRE2_MINOR >= 40
    emit(t, p->script ? "\\p{sc:" : "\\p{");
#else
    emit(t, "\\p{");
#endif
    emit(t, p->name);
    emit(t, "}");
    for (size_t i = 0; i < p->extras; i++)
        emit_range(t, p->extra[i].first, p->extra[i].last);
}

static void emit_named(struct translation *t, const char *name)
{
    emit_property(t, unicode_find(name, strlen(name)));
}

/* Reads {name} or {^name} behind \p or \P, t->at on the brace. */
static const struct unicode_property *read_property(struct translation *t, bool *negated)
{
    const char *from = t->in + t->at;
    const char *end = *from == '{' ? strchr(from, '}') : NULL;
    if (!end) {
        unsupported(t, "\\p without {name}");
        return NULL;
    }
    from++;
    if (*from == '^') {
        *negated = !*negated;
        from++;
    }
    size_t n = (size_t)(end - from);
    const struct unicode_property *p = unicode_find(from, n);
    bool one_case = n == 2 && from[0] == 'L' && strchr("ult", from[1]);
    if (!p || (t->caseless && one_case)) {
        err_set(t->e, "the property \\p{%.*s} at byte %zu of the pattern is not supported%s",
                (int)(n < 40 ? n : 40), from, t->at,
                p ? " where case is ignored"
                  : " (general categories but C, and common scripts are)");
        return NULL;
    }
    t->at = (size_t)(end + 1 - t->in);
    return p;
}

/* A set such as \s or \p{L}, t->at behind its letter. Outside a class brackets are put around it.
 */
static int emit_set(struct translation *t, char letter, bool in_class)
{
    bool negated = letter >= 'A' && letter <= 'Z';
    const struct unicode_property *p = NULL;
    if (letter == 'p' || letter == 'P') {
        p = read_property(t, &negated);
        if (!p)
            return -1;
    }
    if (in_class && negated && letter != 'S')
        return unsupported(t, "a negated set inside a class");
    if (!in_class)
        emit(t, negated && letter != 'S' ? "[^" : "[");
    switch (letter) {
    case 's':
        emit_spaces(t);
        break;
    case 'S':
        emit_not_spaces(t);
        break;
    case 'd':
    case 'D':
        emit_named(t, "Nd");
        break;
    case 'h':
    case 'H':
        emit(t, "0-9A-Fa-f");
        break;
    case 'w':
    case 'W':
        emit_named(t, "Alphabetic");
        emit_named(t, "M");
        emit_named(t, "Nd");
        emit_named(t, "Pc");
        /* Oniguruma reads these from another table when \w is not in a class. */
        if (!in_class)
            emit(t, "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}");
        break;
    default:
        emit_property(t, p);
    }
    if (!in_class)
        emit(t, "]");
    return 0;
}

static bool is_letter(uint32_t c)
{
    return (c | 32) >= 'a' && (c | 32) <= 'z';
}

/* One literal character, always as a number: no byte of it can mean something to PCRE2. */
static int emit_literal(struct translation *t, uint32_t code, bool in_class)
{
    if (t->caseless) {
        static const char folds[][3] = {"ss", "ff", "fi", "fl", "st"};
        for (size_t i = 0; i < sizeof folds / sizeof folds[0] && !in_class; i++)
            if ((t->previous | 32) == (uint32_t)folds[i][0] && (code | 32) == (uint32_t)folds[i][1])
                return unsupported(
                    t, "a pair of letters that folds to one (such as ss), case ignored,");
        if (code > 0x7f)
            return unsupported(t, "a character outside ASCII where case is ignored");
    }
    if (is_letter(code)) {
        char c = (char)code;
        emit_n(t, &c, 1);
    } else {
        emit_range(t, code, code);
    }
    t->previous = code;
    return 0;
}

static bool hex_number(const char *s, size_t n, uint32_t *code)
{
    char digits[9], *end;
    if (n == 0 || n >= sizeof digits || strspn(s, "0123456789abcdefABCDEF") < n)
        return false;
    memcpy(digits, s, n);
    digits[n] = 0;
    *code = (uint32_t)strtoul(digits, &end, 16);
    return *code <= 0x10ffff && !(*code >= 0xd800 && *code < 0xe000);
}

/* \xHH (ASCII), \x{H...}, \uHHHH: t->at behind the letter. */
static int read_hex(struct translation *t, char letter, uint32_t *code)
{
    const char *s = t->in + t->at;
    size_t digits = letter == 'u' ? 4 : 2, skip = 0, after = 0;
    if (letter == 'x' && *s == '{') {
        digits = strcspn(s + 1, "}");
        skip = 1;
        after = s[1 + digits] == '}';
    }
    if ((skip && !after) || !hex_number(s + skip, digits, code) ||
        (letter == 'x' && !skip && *code > 0x7f))
        return unsupported(t, "this \\x or \\u");
    t->at += skip + digits + after;
    return 0;
}

/* Reads one character or escape that stands for a character. 0: *code; 1: it is a set, *letter. */
static int read_item(struct translation *t, uint32_t *code, char *letter)
{
    const char *s = t->in + t->at;
    size_t length;
    if (*s != '\\') {
        utf8_read(s, strlen(s), code, &length);
        t->at += length;
        return 0;
    }
    if (!s[1])
        return unsupported(t, "a \\ at the end");
    if (!utf8_read(s + 1, strlen(s + 1), code, &length))
        return unsupported(t, "this escape");
    static const char names[] = "tnrfvae", codes[] = "\t\n\r\f\v\a\x1b";
    const char *name = length == 1 ? strchr(names, (int)*code) : NULL;
    if (length == 1 && strchr("sSdDwWhHpP", (int)*code)) {
        *letter = s[1];
        t->at += 2;
        return 1;
    }
    if (name) {
        *code = (uint32_t)codes[name - names];
    } else if (*code == 'x' || *code == 'u') {
        t->at += 2;
        return read_hex(t, s[1], code);
    } else if (is_letter(*code) || (*code >= '0' && *code <= '9')) {
        char what[16];
        snprintf(what, sizeof what, "\\%c", s[1]);
        return unsupported(t, what);
    }
    t->at += 1 + length;
    return 0;
}

static int translate_class(struct translation *t);

/* What [A&&[B]] is there: (?:(?=[B])[A]). t->at is behind the second '[', the output ends with "[A", which begins
 * at `start`. */
static int intersect(struct translation *t, size_t start)
{
    char *left = mem_string(t->out + start);
    t->used = start;
    emit(t, "(?:(?=");
    int status = translate_class(t);
    if (status == 0 && t->in[t->at] != ']')
        status = unsupported(t, "anything behind && and a class, in a class,");
    emit(t, ")");
    emit(t, left);
    emit(t, "])");
    free(left);
    t->at++;
    return status;
}

/* The class at t->at, which is behind its '['. */
static int translate_class(struct translation *t)
{
    size_t start = t->used, first = t->at;
    bool negated = t->in[t->at] == '^';
    emit(t, negated ? "[^" : "[");
    t->at += negated;
    if (t->in[t->at] == ']')
        return unsupported(t, "an empty class, or a ] that is not escaped,");
    uint32_t low = 0;
    bool can_range = false; /* the item before is one character, and not the end of a range */
    while (t->in[t->at] != ']') {
        const char *s = t->in + t->at;
        if (!*s)
            return unsupported(t, "a class that is not closed");
        if (*s == '[')
            return unsupported(t, "a class or POSIX bracket inside a class");
        if (strncmp(s, "&&[", 3) == 0 && !negated && !t->caseless && t->at > first) {
            t->at += 3;
            return intersect(t, start);
        }
        /* [^A&&[B]] is not [^A] and [B]; without case, what is common to both is looked for first there. */
        if (s[0] == '&' && s[1] == '&')
            return unsupported(t, "&& in a class, but for [A&&[B]],");
        bool range = *s == '-' && can_range && s[1] != ']';
        if (*s == '-' && !range && !can_range && s[1] != ']' && s[-1] != '[' && s[-1] != '^')
            return unsupported(t, "a '-' behind a set or range in a class");
        t->at += range;
        uint32_t code = 0;
        char letter = 0;
        int kind = read_item(t, &code, &letter);
        if (kind < 0)
            return -1;
        if (range && (kind == 1 || code < low || s[1] == '['))
            return unsupported(t, "this range in a class");
        if (range)
            emit(t, "-");
        if (kind == 1 ? emit_set(t, letter, true) : emit_literal(t, code, true))
            return -1;
        can_range = kind == 0 && !range;
        low = code;
    }
    t->at++;
    emit(t, "]");
    return 0;
}

/* t->at behind '('. Capturing groups become plain ones: nothing can refer to them. */
static int open_group(struct translation *t)
{
    static const char *const kinds[] = {"?:", "?=", "?!", "?>", "?<=", "?<!", "?i:"};
    const char *s = t->in + t->at, *kind = *s == '?' ? NULL : "?:";
    size_t skip = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && !kind; i++)
        if (strncmp(s, kinds[i], strlen(kinds[i])) == 0) {
            kind = kinds[i];
            skip = strlen(kind);
        }
    /* Oniguruma's (?i) reaches over the alternatives behind it; only at the start is that the same.
     */
    if (!kind && t->at == 1 && strncmp(s, "?i)", 3) == 0) {
        emit(t, "(?i)");
        t->caseless = true;
        t->at += 3;
        return 0;
    }
    if (!kind)
        return unsupported(t, "this kind of group");
    if (t->depth == GROUPS_MAX)
        return unsupported(t, "a group inside 64 others");
    t->groups[t->depth++] = (struct group){.start = t->used, .caseless = t->caseless};
    if (strcmp(kind, "?i:") == 0)
        t->caseless = true;
    emit(t, "(");
    emit(t, kind);
    t->at += skip;
    t->atom = NOWHERE;
    return 0;
}

static int close_group(struct translation *t)
{
    if (t->depth == 0)
        return unsupported(t, "a ) that closes nothing");
    struct group g = t->groups[--t->depth];
    emit(t, ")");
    t->caseless = g.caseless;
    t->atom = g.start;
    return 0;
}

/* {n}, {n,}, {n,m}, {,m}: bytes behind the brace up to and with '}', or 0 when it is a literal
 * brace. */
static size_t interval(const char *s, bool *single)
{
    size_t low = strspn(s, "0123456789"), n = low, high = 0;
    *single = s[n] != ',';
    if (!*single) {
        high = strspn(s + n + 1, "0123456789");
        n += 1 + high;
    }
    return s[n] == '}' && low + high > 0 ? n + 1 : 0;
}

/* A repeat at t->at. In Oniguruma X{n,m}+ repeats X{n,m} again; in PCRE2 it would be possessive. */
static int translate_repeat(struct translation *t)
{
    const char *s = t->in + t->at;
    if (t->atom == NOWHERE)
        return unsupported(t, "a repeat of nothing");
    if (*s != '{') {
        size_t n = s[1] == '+' || s[1] == '?' ? 2 : 1;
        emit_n(t, s, n);
        t->at += n;
        t->atom = NOWHERE;
        return 0;
    }
    bool single;
    size_t n = interval(s + 1, &single);
    emit(t, s[1] == ',' ? "{0" : "{");
    emit_n(t, s + 1, n);
    t->at += 1 + n;
    char next = t->in[t->at];
    if (next == '?' && single)
        return unsupported(t, "{n}?");
    if (next == '?') {
        emit(t, "?");
        t->at++;
    } else if (next == '+') {
        emit(t, "(?:)+"); /* room; then moved to where it belongs */
        memmove(t->out + t->atom + 3, t->out + t->atom, t->used - t->atom - 5);
        memcpy(t->out + t->atom, "(?:", 3);
        memcpy(t->out + t->used - 2, ")+", 2);
        t->at++;
    }
    t->atom = NOWHERE;
    return 0;
}

static int translate_one(struct translation *t)
{
    const char *s = t->in + t->at;
    bool single;
    if (strchr("*+?", *s) || (*s == '{' && interval(s + 1, &single)))
        return translate_repeat(t);
    if (*s == '\\' && s[1] && strchr("AzZ", s[1])) {
        emit_n(t, s, 2);
        t->at += 2;
        t->atom = NOWHERE;
        return 0;
    }
    if (strchr("()[|^$.", *s)) {
        t->previous = 0;
        t->at++;
        if (*s == '(')
            return open_group(t);
        if (*s == ')')
            return close_group(t);
        t->atom = strchr("|^$", *s) ? NOWHERE : t->used;
        if (*s == '[')
            return translate_class(t);
        emit_n(t, s, 1);
        return 0;
    }
    uint32_t code = 0;
    char letter = 0;
    size_t start = t->used;
    int kind = read_item(t, &code, &letter);
    if (kind < 0 || (kind == 1 ? emit_set(t, letter, false) : emit_literal(t, code, false)))
        return -1;
    t->atom = start;
    return 0;
}

char *translate_regex(const char *regex, struct err *e)
{
    struct translation t = {.in = regex, .atom = NOWHERE, .e = e};
    size_t bad;
    emit(&t, "");
    if (utf8_check(regex, strlen(regex), &bad) != 0) {
        err_set(e, "the pattern is not UTF-8 at byte %zu", bad);
        goto fail;
    }
    while (regex[t.at])
        if (translate_one(&t) != 0)
            goto fail;
    if (t.depth > 0) {
        unsupported(&t, "the end inside a group");
        goto fail;
    }
    return t.out;
fail:
    free(t.out);
    return NULL;
}
