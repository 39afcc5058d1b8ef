#include "format/regex.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPEAT_MOST 10000
#define RANGES_MOST 256
#define DEPTH_MOST  200
#define LAST_CHAR   0x10ffffu

struct range {
    uint32_t low, high;
};

struct set {
    struct range ranges[RANGES_MOST];
    int n;
    bool full; /* there were more */
};

struct reader {
    struct grammar *g;
    enum regex_kind kind;
    const char *begin, *at;
    int depth;
    struct err *e;
};

static int fail(struct reader *r, const char *what)
{
    return err_set(r->e, "%s at character %zu of '%.80s'", what, (size_t)(r->at - r->begin) + 1,
                   r->begin);
}

/* ---- sets of characters --------------------------------------------------------------------- */

static void add(struct set *s, uint32_t low, uint32_t high)
{
    if (s->n == RANGES_MOST)
        s->full = true;
    else
        s->ranges[s->n++] = (struct range){low, high};
}

static int by_low(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    return (x->low > y->low) - (x->low < y->low);
}

/* The ranges in order, none touching another. */
static void sort(struct set *s)
{
    int n = 0;
    qsort(s->ranges, (size_t)s->n, sizeof *s->ranges, by_low);
    for (int i = 0; i < s->n; i++) {
        struct range *last = n ? &s->ranges[n - 1] : NULL;
        if (last && s->ranges[i].low <= last->high + 1)
            last->high = s->ranges[i].high > last->high ? s->ranges[i].high : last->high;
        else
            s->ranges[n++] = s->ranges[i];
    }
    s->n = n;
}

/* All characters up to `end` that are not in it. */
static void complement(struct set *s, uint32_t end)
{
    struct set other = {.n = 0};
    uint32_t next = 0;
    sort(s);
    for (int i = 0; i < s->n && next <= end; i++) {
        if (s->ranges[i].low > next)
            add(&other, next, s->ranges[i].low - 1 < end ? s->ranges[i].low - 1 : end);
        next = s->ranges[i].high + 1;
    }
    if (next <= end)
        add(&other, next, end);
    *s = other;
}

/* \d and its like, as far as all readings agree; widest: what any of them takes, which a negated set
 * leaves out. They differ beyond ASCII. */
static void add_class(struct set *s, char name, bool widest)
{
    static const struct range more[] = {
        {0x1c, 0x1f},     {0x85, 0x85},     {0xa0, 0xa0},     {0x1680, 0x1680}, {0x2000, 0x200a},
        {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}};
    struct set c = {.n = 0};
    switch (name) {
    case 'd':
    case 'D':
        add(&c, '0', '9');
        break;
    case 'w':
    case 'W':
        add(&c, '0', '9');
        add(&c, 'A', 'Z');
        add(&c, '_', '_');
        add(&c, 'a', 'z');
        break;
    default:
        add(&c, '\t', '\r');
        add(&c, ' ', ' ');
    }
    bool all_space = name == (widest ? 's' : 'S');
    for (size_t i = 0; i < sizeof more / sizeof *more && all_space; i++)
        add(&c, more[i].low, more[i].high);
    if (name == 'S')
        complement(&c, LAST_CHAR);
    else if (name == 'D' || name == 'W')
        complement(&c, 0x7f);
    if (widest && name != 's' && name != 'S')
        add(&c, 0x80, LAST_CHAR);
    for (int i = 0; i < c.n; i++)
        add(s, c.ranges[i].low, c.ranges[i].high);
}

void regex_json_chars(struct grammar *g, int32_t from, int32_t to, uint32_t low, uint32_t high)
{
    static const struct {
        uint32_t code;
        const char *text;
    } escapes[] = {{'\b', "\\b"}, {'\t', "\\t"}, {'\n', "\\n"}, {'\f', "\\f"},
                   {'\r', "\\r"}, {'"', "\\\""}, {'\\', "\\\\"}};
    for (uint32_t c = low; c < 0x20 && c <= high; c++) {
        char text[8];
        bool known = false;
        for (size_t i = 0; i < 5; i++)
            known = known || escapes[i].code == c;
        snprintf(text, sizeof text, "\\u%04x", c);
        if (!known)
            grammar_text(g, from, to, text, 6);
    }
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++)
        if (escapes[i].code >= low && escapes[i].code <= high)
            grammar_text(g, from, to, escapes[i].text, 2);
    static const struct range plain[] = {{0x20, '!'}, {'#', '['}, {']', LAST_CHAR}};
    for (size_t i = 0; i < 3; i++) {
        uint32_t a = low > plain[i].low ? low : plain[i].low,
                 b = high < plain[i].high ? high : plain[i].high;
        if (a <= b)
            grammar_chars(g, from, to, a, b);
    }
}

static void put_set(struct reader *r, struct set *s, int32_t from, int32_t to)
{
    sort(s);
    for (int i = 0; i < s->n; i++)
        if (r->kind == REGEX_JSON)
            regex_json_chars(r->g, from, to, s->ranges[i].low, s->ranges[i].high);
        else
            grammar_chars(r->g, from, to, s->ranges[i].low, s->ranges[i].high);
}

/* ---- one character -------------------------------------------------------------------------- */

/* The next character of the pattern, which is valid UTF-8. */
static uint32_t next_char(struct reader *r)
{
    unsigned char c = (unsigned char)*r->at++;
    int more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    uint32_t code = more == 0 ? c : c & (0x3fu >> more);
    while (more-- > 0)
        code = code << 6 | ((unsigned char)*r->at++ & 0x3f);
    return code;
}

static int read_hex(struct reader *r, int digits, uint32_t *out)
{
    char text[8] = "", *end;
    for (int i = 0; i < digits && r->at[i]; i++)
        text[i] = r->at[i];
    *out = (uint32_t)strtoul(text, &end, 16);
    if (end != text + digits || strchr("+- ", *text) || (*out >= 0xd800 && *out < 0xe000))
        return fail(r, "no character");
    r->at += digits;
    return 0;
}

/* Behind a backslash: a class in *class, or a character. */
static int read_escape(struct reader *r, char *class, uint32_t *code)
{
    static const char names[] = "nrtfv0", values[] = "\n\r\t\f\v";
    char c = *r->at;
    *class = 0;
    if (!c)
        return fail(r, "a backslash at the end");
    if (strchr("dDwWsS", c)) {
        *class = c;
        r->at++;
        return 0;
    }
    if (c == 'x' || c == 'u') {
        r->at++;
        return read_hex(r, c == 'x' ? 2 : 4, code);
    }
    const char *name = strchr(names, c);
    if (name) {
        *code = c == '0' ? 0 : (uint32_t)values[name - names];
        r->at++;
        return 0;
    }
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        char what[64];
        snprintf(what, sizeof what, "\\%c is not supported:", c);
        return fail(r, what);
    }
    *code = next_char(r);
    return 0;
}

static int read_member(struct reader *r, struct set *s, bool negated, bool *single, uint32_t *code)
{
    char class = 0;
    *single = true;
    if (*r->at != '\\') {
        *code = next_char(r);
        return 0;
    }
    r->at++;
    if (*r->at == 'b') {
        r->at++;
        *code = '\b';
        return 0;
    }
    if (read_escape(r, &class, code) != 0)
        return -1;
    if (class) {
        add_class(s, class, negated);
        *single = false;
    }
    return 0;
}

/* Behind "[". */
static int read_set(struct reader *r, struct set *s)
{
    bool negated = *r->at == '^', single, also;
    uint32_t low, high;
    r->at += negated;
    for (bool first = true; first || *r->at != ']'; first = false) {
        if (!*r->at)
            return fail(r, "] is missing");
        if (*r->at == '[' && (r->at[1] == ':' || r->at[1] == '='))
            return fail(r, "named classes are not supported");
        if (first && *r->at == ']')
            return fail(r, "an empty class, or ] without a backslash");
        if (read_member(r, s, negated, &single, &low) != 0)
            return -1;
        if (!single)
            continue;
        high = low;
        if (*r->at == '-' && r->at[1] && r->at[1] != ']') {
            r->at++;
            if (read_member(r, s, negated, &also, &high) != 0)
                return -1;
            if (!also || high < low)
                return fail(r, "a range that is none");
        }
        add(s, low, high);
    }
    r->at++;
    if (s->full)
        return fail(r, "too many ranges in a class");
    if (negated)
        complement(s, LAST_CHAR);
    return 0;
}

/* ---- the expression ------------------------------------------------------------------------- */

static int read_alternatives(struct reader *r, bool top, int32_t from, int32_t to);

#define NAME_CHARS "_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

static int read_group(struct reader *r, int32_t from, int32_t to)
{
    if (*r->at == '?') {
        const char *name = r->at[1] == 'P' ? r->at + 2 : r->at + 1;
        size_t n = *name == '<' ? strspn(name + 1, NAME_CHARS) : 0;
        if (r->at[1] == ':')
            r->at += 2;
        else if (n > 0 && name[1 + n] == '>' && !(name[1] >= '0' && name[1] <= '9'))
            r->at = name + n + 2;
        else
            return fail(r, "(? of this kind (assertion, flag) is not supported:");
    }
    if (++r->depth > DEPTH_MOST)
        return fail(r, "groups too deep in each other");
    if (read_alternatives(r, false, from, to) != 0)
        return -1;
    r->depth--;
    if (*r->at != ')')
        return fail(r, ") is missing");
    r->at++;
    return 0;
}

static int read_atom(struct reader *r, int32_t from, int32_t to)
{
    struct set s = {.n = 0};
    char class = 0, c = *r->at;
    uint32_t code;
    if (c == '(') {
        r->at++;
        return read_group(r, from, to);
    }
    if (strchr("*+?{}", c))
        return fail(r, "nothing to repeat, or a brace without a backslash");
    if (c == '^' || c == '$')
        return fail(r, "^ and $ are supported at the ends only:");
    if (c == '[') {
        r->at++;
        if (read_set(r, &s) != 0)
            return -1;
    } else if (c == '.') {
        r->at++;
        add(&s, '\n', '\n');
        add(&s, '\r', '\r');
        add(&s, 0x2028, 0x2029);
        complement(&s, LAST_CHAR);
    } else if (c == '\\') {
        r->at++;
        if (read_escape(r, &class, &code) != 0)
            return -1;
        class ? add_class(&s, class, false) : add(&s, code, code);
    } else {
        code = next_char(r);
        add(&s, code, code);
    }
    put_set(r, &s, from, to);
    return 0;
}

/* {m}, {m,}, {m,n}, *, +, ? behind an atom; *most -1: no end. False: none is there. */
static int read_counts(struct reader *r, int *least, int *most)
{
    *least = *most = 1;
    char c = *r->at;
    if (c == '*' || c == '+' || c == '?') {
        r->at++;
        *least = c == '+';
        *most = c == '?' ? 1 : -1;
    } else if (c == '{') {
        char *end;
        if (r->at[1] < '0' || r->at[1] > '9')
            return fail(r, "a brace without a backslash");
        long a = strtol(r->at + 1, &end, 10), b = a;
        if (*end == ',')
            b = end[1] == '}' ? (end++, -1) : strtol(end + 1, &end, 10);
        if (*end != '}' || a > REPEAT_MOST || b > REPEAT_MOST || (b >= 0 && b < a))
            return fail(r, "wanted {m}, {m,} or {m,n} up to 10000");
        r->at = end + 1;
        *least = (int)a;
        *most = (int)b;
    } else {
        return 0;
    }
    if (*r->at == '?') /* lazy: the same texts */
        r->at++;
    if (*r->at == '*' || *r->at == '+')
        return fail(r, "possessive or double repetition is not supported:");
    return 0;
}

/* An atom that stands at `text`, read again for every time it may come. */
static int repeat(struct reader *r, const char *text, int32_t from, int32_t to, int least, int most)
{
    const char *behind = r->at;
    int32_t node = from;
    int times = most < 0 ? least + 1 : most;
    for (int i = 0; i < times; i++) {
        bool loop = most < 0 && i == times - 1;
        int32_t next = grammar_node(r->g);
        r->at = text;
        if (i >= least)
            grammar_empty(r->g, node, to);
        if (loop) { /* in a node of its own, which nothing else leaves */
            int32_t again = grammar_node(r->g);
            grammar_empty(r->g, node, again);
            node = again;
        }
        if (r->g->n_nodes > GRAMMAR_NODES)
            break;
        if (read_atom(r, node, next) != 0)
            return -1;
        if (loop) {
            grammar_empty(r->g, next, node);
            grammar_empty(r->g, node, to);
        }
        node = next;
    }
    if (most >= 0)
        grammar_empty(r->g, node, to);
    r->at = behind;
    return 0;
}

/* The atom is read once for its end, into nodes that lead nowhere when it is then repeated. */
static int read_piece(struct reader *r, int32_t from, int32_t to)
{
    const char *text = r->at;
    int32_t start = grammar_node(r->g), end = grammar_node(r->g);
    int least, most;
    if (r->g->n_nodes > GRAMMAR_NODES)
        return fail(r, "too large, with its repetitions,");
    if (read_atom(r, start, end) != 0 || read_counts(r, &least, &most) != 0)
        return -1;
    if (least != 1 || most != 1)
        return repeat(r, text, from, to, least, most);
    grammar_empty(r->g, from, start);
    grammar_empty(r->g, end, to);
    return 0;
}

/* Any characters. */
static void put_anything(struct reader *r, int32_t from, int32_t to)
{
    struct set all = {.n = 0};
    int32_t node = grammar_node(r->g);
    add(&all, 0, LAST_CHAR);
    grammar_empty(r->g, from, node);
    put_set(r, &all, node, node);
    grammar_empty(r->g, node, to);
}

static int read_sequence(struct reader *r, bool top, int32_t from, int32_t to)
{
    bool anchored = top && *r->at == '^';
    r->at += anchored;
    if (top && !anchored && r->kind == REGEX_JSON) {
        int32_t node = grammar_node(r->g);
        put_anything(r, from, node);
        from = node;
    }
    while (*r->at && *r->at != '|' && *r->at != ')') {
        if (top && *r->at == '$' && (r->at[1] == 0 || r->at[1] == '|')) {
            r->at++;
            grammar_empty(r->g, from, to);
            return 0;
        }
        int32_t next = grammar_node(r->g);
        if (read_piece(r, from, next) != 0)
            return -1;
        from = next;
    }
    if (top && r->kind == REGEX_JSON)
        put_anything(r, from, to);
    else
        grammar_empty(r->g, from, to);
    return 0;
}

static int read_alternatives(struct reader *r, bool top, int32_t from, int32_t to)
{
    for (;;) {
        if (read_sequence(r, top, from, to) != 0)
            return -1;
        if (*r->at != '|')
            return 0;
        r->at++;
    }
}

int regex_add(struct grammar *g, enum regex_kind kind, const char *pattern, int32_t from,
              int32_t to, struct err *e)
{
    struct reader r = {.g = g, .kind = kind, .begin = pattern, .at = pattern, .e = e};
    if (utf8_check(pattern, strlen(pattern), NULL) != 0)
        return err_set(e, "is not UTF-8");
    if (read_alternatives(&r, true, from, to) != 0)
        return -1;
    return *r.at ? fail(&r, ") without (") : 0;
}
