#include "chat/lex.h"

#include "chat/string.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void chat_source_place(const char *text, size_t at, size_t *line, size_t *column)
{
    *line = *column = 1;
    for (size_t i = 0; i < at && text[i]; i++) {
        if (text[i] == '\n') {
            (*line)++;
            *column = 1;
        } else {
            *column += ((unsigned char)text[i] & 0xc0) != 0x80;
        }
    }
}

void chat_source_fail(struct chat_source *s, size_t at, const char *format, ...)
{
    char what[1024];
    size_t line, column;
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    chat_source_place(s->text, at, &line, &column);
    err_set(s->e, "%zu:%zu: %s", line, column, what);
    longjmp(*s->out, 1);
}

static struct token *put(struct chat_source *s, enum token_kind kind, size_t at, size_t n)
{
    if (s->n_tokens == s->room) {
        size_t room = s->room ? 2 * s->room : 256;
        struct token *bigger = arena_take(s->arena, room, sizeof *bigger);
        if (s->n_tokens)
            memcpy(bigger, s->tokens, s->n_tokens * sizeof *bigger);
        s->tokens = bigger;
        s->room = room;
    }
    struct token *t = &s->tokens[s->n_tokens++];
    *t = (struct token){.kind = kind, .at = at, .text = s->text + at, .n = n};
    return t;
}

static bool is_here(const struct chat_source *s, size_t at, const char *what)
{
    size_t n = strlen(what);
    return at + n <= s->n && memcmp(s->text + at, what, n) == 0;
}

/* --- inside a tag -------------------------------------------------------------------------- */

static bool starts_name(char c)
{
    return isalpha((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static size_t name_end(const struct chat_source *s, size_t at)
{
    while (at < s->n && (starts_name(s->text[at]) || isdigit((unsigned char)s->text[at])))
        at++;
    return at;
}

/* Integers and reals, with underscores between digits. */
static size_t lex_number(struct chat_source *s, size_t at)
{
    char digits[64];
    size_t n = 0, end = at;
    bool real = false;
    for (; end < s->n && n + 1 < sizeof digits; end++) {
        char c = s->text[end];
        bool point =
            c == '.' && !real && end + 1 < s->n && isdigit((unsigned char)s->text[end + 1]);
        bool power = (c == 'e' || c == 'E') && end + 1 < s->n &&
                     (isdigit((unsigned char)s->text[end + 1]) ||
                      (strchr("+-", s->text[end + 1]) && end + 2 < s->n &&
                       isdigit((unsigned char)s->text[end + 2])));
        bool sign = (c == '+' || c == '-') && n && strchr("eE", digits[n - 1]);
        if (c == '_' && end + 1 < s->n && isdigit((unsigned char)s->text[end + 1]))
            continue;
        if (!isdigit((unsigned char)c) && !point && !power && !sign)
            break;
        real = real || point || power;
        digits[n++] = c;
    }
    digits[n] = 0;
    struct token *t = put(s, real ? TOKEN_REAL : TOKEN_INTEGER, at, end - at);
    if (end < s->n && starts_name(s->text[end]))
        chat_source_fail(s, at, "'%.*s' is no number", (int)(end - at + 1), s->text + at);
    if (real)
        t->real = strtod(digits, NULL);
    else if (n > 18)
        chat_source_fail(s, at, "an integer of %zu digits; at most 18 are supported", n);
    else
        t->whole = strtoll(digits, NULL, 10);
    return end;
}

/* \xNN, \uNNNN, \UNNNNNNNN: the character's bytes at out. Returns the bytes read after the '\'. */
static size_t lex_code(struct chat_source *s, size_t at, size_t digits, char *out, size_t *n)
{
    char hex[9] = "", *end;
    if (at + 2 + digits <= s->n)
        memcpy(hex, s->text + at + 2, digits);
    unsigned long code = strtoul(hex, &end, 16);
    if (strlen(hex) != digits || *end || !isxdigit((unsigned char)*hex) || code > 0x10ffff ||
        (code >= 0xd800 && code < 0xe000))
        chat_source_fail(s, at, "\\%c wants %zu hexadecimal digits of a character", s->text[at + 1],
                         digits);
    *n += utf8_write(out + *n, (uint32_t)code);
    return 1 + digits;
}

/* One escape of a string literal, as Python has them. */
static size_t lex_escape(struct chat_source *s, size_t at, char *out, size_t *n)
{
    static const char names[] = "abfnrtv\\'\"", values[] = "\a\b\f\n\r\t\v\\'\"";
    char c = at + 1 < s->n ? s->text[at + 1] : 0;
    const char *known = c ? strchr(names, c) : NULL;
    if (known)
        out[(*n)++] = values[known - names];
    else if (c == 'x' || c == 'u' || c == 'U')
        return lex_code(s, at, c == 'x' ? 2 : c == 'u' ? 4 : 8, out, n);
    else if (isdigit((unsigned char)c) || c == 'N')
        chat_source_fail(s, at, "the escape \\%c is not supported", c);
    else if (c != '\n')
        out[(*n)++] = '\\'; /* and the character after it is read as itself */
    return known || c == '\n' ? 1 : 0;
}

static size_t lex_string(struct chat_source *s, size_t at)
{
    char quote = s->text[at];
    size_t end = at + 1, n = 0;
    while (end < s->n && s->text[end] != quote)
        end += s->text[end] == '\\' ? 2 : 1;
    if (end >= s->n)
        chat_source_fail(s, at, "a string that does not end");
    char *out = arena_take(s->arena, end - at + 1, 1);
    for (size_t i = at + 1; i < end; i++) {
        if (s->text[i] == '\\')
            i += lex_escape(s, i, out, &n);
        else
            out[n++] = s->text[i];
    }
    struct token *t = put(s, TOKEN_STRING, at, end + 1 - at);
    t->text = out;
    t->n = n;
    return end + 1;
}

static size_t lex_operator(struct chat_source *s, size_t at)
{
    static const char *const operators[] = {"==", "!=", "<=", ">=", "//", "**", "+", "-", "*",
                                            "/",  "%",  "~",  "<",  ">",  "=",  "(", ")", "[",
                                            "]",  "{",  "}",  ",",  ":",  ".",  "|"};
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (!is_here(s, at, operators[i]))
            continue;
        put(s, TOKEN_OPERATOR, at, strlen(operators[i]));
        return at + strlen(operators[i]);
    }
    chat_source_fail(s, at, "'%c' has no meaning inside a tag", s->text[at]);
}

/* --- tags ---------------------------------------------------------------------------------- */

static size_t skip_space(const struct chat_source *s, size_t at)
{
    size_t n;
    while (at < s->n && (n = chat_space_at(s->text + at, s->n - at)) > 0)
        at += n;
    return at;
}

/* The end of a tag at `at` ("%}", "}}", "#}", each perhaps with a sign): where text goes on; 0 when
 * there is none. One line end after a block or a comment is dropped. */
static size_t tag_end(const struct chat_source *s, size_t at, const char *mark)
{
    bool minus = s->text[at] == '-', plus = s->text[at] == '+' && *mark != '}';
    size_t i = at + (minus || plus);
    if (!is_here(s, i, mark))
        return 0;
    i += 2;
    if (minus)
        return skip_space(s, i);
    return i + (*mark != '}' && !plus && i < s->n && s->text[i] == '\n');
}

/* From behind the opening of a tag to behind its end. */
static size_t lex_tag(struct chat_source *s, size_t at, const char *mark, enum token_kind end_kind)
{
    size_t start = at;
    char open[64];
    size_t depth = 0;
    for (;;) {
        at = skip_space(s, at);
        if (at >= s->n)
            chat_source_fail(s, start, "a tag that does not end with %s", mark);
        size_t end = depth == 0 ? tag_end(s, at, mark) : 0;
        char c = s->text[at];
        if (end) {
            put(s, end_kind, at, end - at);
            return end;
        }
        if (starts_name(c)) {
            size_t stop = name_end(s, at);
            put(s, TOKEN_NAME, at, stop - at);
            at = stop;
        } else if (isdigit((unsigned char)c)) {
            at = lex_number(s, at);
        } else if (c == '\'' || c == '"') {
            at = lex_string(s, at);
        } else {
            if (strchr("([{", c)) {
                if (depth == sizeof open)
                    chat_source_fail(s, at, "more than %zu brackets inside each other", depth);
                open[depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
            } else if (strchr(")]}", c) && (depth == 0 || open[--depth] != c)) {
                chat_source_fail(s, at, "'%c' closes nothing", c);
            }
            at = lex_operator(s, at);
        }
    }
}

/* Text from `from` to the tag at `to`, without what the tag's sign or lstrip_blocks remove. */
static void put_data(struct chat_source *s, size_t from, size_t to, bool at_line_start)
{
    size_t end = to;
    char kind = to < s->n ? s->text[to + 1] : 0, sign = to + 2 < s->n ? s->text[to + 2] : 0;
    if (to == s->n) {
        /* nothing follows */
    } else if (sign == '-') {
        end = from + chat_right_strip(s->text + from, to - from);
    } else if (kind != '{' && sign != '+') {
        size_t line = to;
        while (line > from && s->text[line - 1] != '\n')
            line--;
        if ((line > from || at_line_start) && skip_space(s, line) >= to)
            end = line;
    }
    if (end > from)
        put(s, TOKEN_DATA, from, end - from);
}

static size_t lex_comment(struct chat_source *s, size_t at)
{
    for (size_t i = at + 2; i < s->n; i++) {
        size_t end = tag_end(s, i, "#}");
        if (end)
            return end;
    }
    chat_source_fail(s, at, "a comment that does not end with #}");
}

/* Line ends as Jinja wants them. */
static void normalize(struct chat_source *s)
{
    char *text = arena_take(s->arena, s->n + 1, 1);
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->text[i] == '\r' && i + 1 < s->n && s->text[i + 1] == '\n')
            continue;
        text[n++] = s->text[i] == '\r' ? '\n' : s->text[i];
    }
    if (n && text[n - 1] == '\n')
        n--;
    text[n] = 0;
    s->text = text;
    s->n = n;
}

void chat_lex(struct chat_source *s)
{
    normalize(s);
    bool at_line_start = true;
    for (size_t at = 0;;) {
        size_t tag = at;
        while (tag < s->n &&
               !(s->text[tag] == '{' && tag + 1 < s->n && strchr("{%#", s->text[tag + 1])))
            tag++;
        put_data(s, at, tag, at_line_start);
        if (tag == s->n)
            break;
        char kind = s->text[tag + 1];
        bool sign = tag + 2 < s->n && strchr("+-", s->text[tag + 2]);
        size_t inside = tag + 2 + sign;
        if (kind == '#') {
            at = lex_comment(s, tag);
        } else if (kind == '%') {
            put(s, TOKEN_BLOCK_BEGIN, tag, inside - tag);
            at = lex_tag(s, inside, "%}", TOKEN_BLOCK_END);
        } else {
            put(s, TOKEN_PRINT_BEGIN, tag, inside - tag);
            at = lex_tag(s, inside, "}}", TOKEN_PRINT_END);
        }
        at_line_start = s->text[at - 1] == '\n';
    }
    put(s, TOKEN_END, s->n, 0);
}
