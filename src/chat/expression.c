#include "chat/expression.h"

#include <stdio.h>
#include <string.h>

struct chat_node *chat_new_node(struct chat_source *s, enum chat_node_kind kind, size_t at)
{
    struct chat_node *n = arena_take(s->arena, 1, sizeof *n);
    n->kind = kind;
    n->at = at;
    return n;
}

void chat_add(struct chat_source *s, struct chat_node *n, struct chat_node *item)
{
    if ((n->n & (n->n - 1)) == 0) { /* full at every power of two */
        struct chat_node **bigger =
            arena_take(s->arena, n->n ? 2 * n->n : 1, sizeof(struct chat_node *));
        if (n->n)
            memcpy(bigger, n->list, n->n * sizeof *bigger);
        n->list = bigger;
    }
    n->list[n->n++] = item;
}

static bool is_token(const struct chat_source *s, enum token_kind kind, const char *text)
{
    const struct token *t = &s->tokens[s->at];
    return t->kind == kind && t->n == strlen(text) && memcmp(t->text, text, t->n) == 0;
}

bool chat_is_name(const struct chat_source *s, const char *name)
{
    return is_token(s, TOKEN_NAME, name);
}

bool chat_is_operator(const struct chat_source *s, const char *op)
{
    return is_token(s, TOKEN_OPERATOR, op);
}

bool chat_skip_name(struct chat_source *s, const char *name)
{
    bool is = chat_is_name(s, name);
    s->at += is;
    return is;
}

bool chat_skip_operator(struct chat_source *s, const char *op)
{
    bool is = chat_is_operator(s, op);
    s->at += is;
    return is;
}

const char *chat_token_name(struct chat_source *s)
{
    const struct token *t = &s->tokens[s->at];
    if (t->kind == TOKEN_END)
        return "the end of the template";
    if (t->kind == TOKEN_BLOCK_END || t->kind == TOKEN_PRINT_END)
        return "the end of the tag";
    char *text = arena_take(s->arena, t->n + 3, 1);
    snprintf(text, t->n + 3, "'%.*s'", (int)t->n, s->text + t->at);
    return text;
}

const char *chat_take_name(struct chat_source *s)
{
    const struct token *t = &s->tokens[s->at];
    if (t->kind != TOKEN_NAME)
        chat_source_fail(s, t->at, "wanted a name, found %s", chat_token_name(s));
    s->at++;
    return arena_string(s->arena, t->text, t->n);
}

static void want_operator(struct chat_source *s, const char *op)
{
    if (!chat_skip_operator(s, op))
        chat_source_fail(s, s->tokens[s->at].at, "wanted '%s', found %s", op, chat_token_name(s));
}

/* --- primaries ----------------------------------------------------------------------------- */

static struct chat_node *parse_or(struct chat_source *s, int depth);
static struct chat_node *parse_unary(struct chat_source *s, bool with_filters, int depth);

static struct chat_node *parse_items(struct chat_source *s, enum chat_node_kind kind,
                                     const char *end, int depth)
{
    struct chat_node *n = chat_new_node(s, kind, s->tokens[s->at].at);
    s->at++;
    while (!chat_skip_operator(s, end)) {
        chat_add(s, n, chat_parse_expression(s, depth));
        if (kind == NODE_DICT) {
            want_operator(s, ":");
            chat_add(s, n, chat_parse_expression(s, depth));
        }
        if (!chat_skip_operator(s, ",") && !chat_is_operator(s, end))
            chat_source_fail(s, s->tokens[s->at].at, "wanted ',' or '%s', found %s", end,
                             chat_token_name(s));
    }
    return n;
}

static struct chat_node *parse_word(struct chat_source *s)
{
    static const char *const words[] = {"true", "True", "false", "False", "none", "None"};
    struct chat_node *n = chat_new_node(s, NODE_VALUE, s->tokens[s->at].at);
    for (size_t i = 0; i < 6; i++)
        if (chat_skip_name(s, words[i])) {
            n->value = i < 4 ? chat_value_bool(i < 2) : (struct chat_value){.kind = VALUE_NONE};
            return n;
        }
    n->kind = NODE_NAME;
    n->name = chat_take_name(s);
    return n;
}

/* String literals that follow each other are one. */
static struct chat_node *parse_strings(struct chat_source *s)
{
    struct chat_node *n = chat_new_node(s, NODE_VALUE, s->tokens[s->at].at);
    struct string_builder b = {.arena = s->arena};
    for (; s->tokens[s->at].kind == TOKEN_STRING; s->at++)
        chat_append(&b, (struct string){.s = s->tokens[s->at].text, .n = s->tokens[s->at].n});
    n->value = chat_value_string(chat_built(&b));
    n->value.string.mark = NULL;
    return n;
}

static struct chat_node *parse_primary(struct chat_source *s, int depth)
{
    const struct token *t = &s->tokens[s->at];
    struct chat_node *n;
    if (depth > CHAT_DEPTH)
        chat_source_fail(s, t->at, "more than %d expressions inside each other", CHAT_DEPTH);
    if (t->kind == TOKEN_NAME)
        return parse_word(s);
    if (t->kind == TOKEN_STRING)
        return parse_strings(s);
    if (t->kind == TOKEN_INTEGER || t->kind == TOKEN_REAL) {
        s->at++;
        n = chat_new_node(s, NODE_VALUE, t->at);
        n->value = chat_value_int(t->whole);
        if (t->kind == TOKEN_REAL)
            n->value = (struct chat_value){.kind = VALUE_REAL, .real = t->real};
        return n;
    }
    if (chat_is_operator(s, "["))
        return parse_items(s, NODE_LIST, "]", depth + 1);
    if (chat_is_operator(s, "{"))
        return parse_items(s, NODE_DICT, "}", depth + 1);
    if (!chat_skip_operator(s, "("))
        chat_source_fail(s, t->at, "wanted a value, found %s", chat_token_name(s));
    n = chat_is_operator(s, ")") ? chat_new_node(s, NODE_TUPLE, t->at)
                                 : chat_parse_tuple(s, true, depth + 1);
    want_operator(s, ")");
    return n;
}

/* --- what follows a primary ---------------------------------------------------------------- */

static void parse_arguments(struct chat_source *s, struct chat_node *call, int depth)
{
    bool named = false;
    s->at++;
    while (!chat_skip_operator(s, ")")) {
        const struct token *t = &s->tokens[s->at];
        if (chat_is_operator(s, "*") || chat_is_operator(s, "**"))
            chat_source_fail(s, t->at, "* and ** before an argument are not supported");
        struct chat_node *argument;
        if (t->kind == TOKEN_NAME && t[1].kind == TOKEN_OPERATOR && t[1].n == 1 &&
            *t[1].text == '=') {
            argument = chat_new_node(s, NODE_KEYWORD, t->at);
            argument->name = chat_take_name(s);
            s->at++;
            argument->a = chat_parse_expression(s, depth);
            named = true;
        } else {
            if (named)
                chat_source_fail(s, t->at, "an argument without a name behind one with a name");
            argument = chat_parse_expression(s, depth);
        }
        chat_add(s, call, argument);
        if (!chat_skip_operator(s, ",") && !chat_is_operator(s, ")"))
            chat_source_fail(s, s->tokens[s->at].at, "wanted ',' or ')', found %s",
                             chat_token_name(s));
    }
}

static struct chat_node *parse_subscript(struct chat_source *s, struct chat_node *of, int depth)
{
    struct chat_node *part[3] = {0}, *n = chat_new_node(s, NODE_ITEM, s->tokens[s->at].at);
    int colons = 0;
    s->at++;
    while (!chat_is_operator(s, "]")) {
        if (chat_skip_operator(s, ":")) {
            if (++colons > 2)
                chat_source_fail(s, n->at, "a slice has at most two ':'");
        } else if (part[colons]) {
            chat_source_fail(s, s->tokens[s->at].at, "wanted ']', found %s", chat_token_name(s));
        } else {
            part[colons] = chat_parse_expression(s, depth);
        }
    }
    s->at++;
    if (colons == 0 && !part[0])
        chat_source_fail(s, n->at, "nothing stands in the brackets");
    n->kind = colons ? NODE_SLICE : NODE_ITEM;
    n->a = of;
    n->b = part[0];
    n->c = part[1];
    n->d = part[2];
    return n;
}

static struct chat_node *parse_call(struct chat_source *s, struct chat_node *of, int depth)
{
    struct chat_node *n = chat_new_node(s, NODE_CALL, of->at);
    n->a = of;
    parse_arguments(s, n, depth);
    return n;
}

static struct chat_node *parse_member(struct chat_source *s, struct chat_node *of)
{
    s->at++;
    const struct token *t = &s->tokens[s->at];
    struct chat_node *n =
        chat_new_node(s, t->kind == TOKEN_INTEGER ? NODE_ITEM : NODE_MEMBER, t->at);
    n->a = of;
    if (t->kind == TOKEN_INTEGER) { /* x.0 is x[0] */
        n->b = chat_new_node(s, NODE_VALUE, t->at);
        n->b->value = chat_value_int(t->whole);
        s->at++;
    } else {
        n->name = chat_take_name(s);
    }
    return n;
}

static struct chat_node *parse_postfix(struct chat_source *s, struct chat_node *n, int depth)
{
    for (;;) {
        if (chat_is_operator(s, "."))
            n = parse_member(s, n);
        else if (chat_is_operator(s, "["))
            n = parse_subscript(s, n, depth + 1);
        else if (chat_is_operator(s, "("))
            n = parse_call(s, n, depth + 1);
        else
            return n;
    }
}

static struct chat_node *parse_filter(struct chat_source *s, struct chat_node *of, int depth)
{
    struct chat_node *n = chat_new_node(s, NODE_FILTER, s->tokens[s->at].at);
    n->name = chat_take_name(s);
    n->a = of;
    if (!chat_has_filter(n->name))
        chat_source_fail(s, n->at, "the filter '%s' is not supported", n->name);
    if (chat_is_operator(s, "("))
        parse_arguments(s, n, depth + 1);
    return n;
}

struct chat_node *chat_parse_filters(struct chat_source *s, struct chat_node *of, int depth)
{
    while (chat_skip_operator(s, "|"))
        of = parse_filter(s, of, depth);
    return of;
}

struct chat_node *chat_parse_filter_block(struct chat_source *s, int depth)
{
    return chat_parse_filters(s, parse_filter(s, NULL, depth), depth);
}

static bool begins_argument(const struct chat_source *s)
{
    const struct token *t = &s->tokens[s->at];
    if (t->kind == TOKEN_NAME)
        return !chat_is_name(s, "else") && !chat_is_name(s, "or") && !chat_is_name(s, "and") &&
               !chat_is_name(s, "is") && !chat_is_name(s, "if") && !chat_is_name(s, "in") &&
               !chat_is_name(s, "not");
    return t->kind == TOKEN_STRING || t->kind == TOKEN_INTEGER || t->kind == TOKEN_REAL ||
           chat_is_operator(s, "[") || chat_is_operator(s, "{");
}

static struct chat_node *parse_test(struct chat_source *s, struct chat_node *of, int depth)
{
    bool not = chat_skip_name(s, "not");
    struct chat_node *n = chat_new_node(s, NODE_TEST, s->tokens[s->at].at);
    n->name = chat_take_name(s);
    n->a = of;
    if (!chat_has_test(n->name))
        chat_source_fail(s, n->at, "the test '%s' is not supported", n->name);
    if (chat_is_operator(s, "("))
        parse_arguments(s, n, depth + 1);
    else if (begins_argument(s))
        chat_add(s, n, parse_postfix(s, parse_primary(s, depth + 1), depth));
    if (!not )
        return n;
    struct chat_node *negated = chat_new_node(s, NODE_NOT, n->at);
    negated->a = n;
    return negated;
}

static struct chat_node *parse_filters_and_tests(struct chat_source *s, struct chat_node *n,
                                                 int depth)
{
    for (;;) {
        if (chat_skip_operator(s, "|"))
            n = parse_filter(s, n, depth);
        else if (chat_skip_name(s, "is"))
            n = parse_test(s, n, depth);
        else if (chat_is_operator(s, "("))
            n = parse_call(s, n, depth + 1);
        else
            return n;
    }
}

/* --- operators, the loosest last ----------------------------------------------------------- */

static struct chat_node *parse_unary(struct chat_source *s, bool with_filters, int depth)
{
    struct chat_node *n;
    size_t at = s->tokens[s->at].at;
    bool minus = chat_skip_operator(s, "-");
    if (minus || chat_skip_operator(s, "+")) {
        n = chat_new_node(s, minus ? NODE_MINUS : NODE_PLUS, at);
        if (depth > CHAT_DEPTH)
            chat_source_fail(s, at, "more than %d signs", CHAT_DEPTH);
        n->a = parse_unary(s, false, depth + 1);
    } else {
        n = parse_primary(s, depth);
    }
    n = parse_postfix(s, n, depth);
    if (chat_is_operator(s, "**"))
        chat_source_fail(s, s->tokens[s->at].at, "the operator ** is not supported");
    return with_filters ? parse_filters_and_tests(s, n, depth) : n;
}

/* Levels of binary operators, the tightest first. */
static const char *const levels[][5] = {{"*", "/", "//", "%", NULL}, {"~", NULL}, {"+", "-", NULL}};

static struct chat_node *parse_level(struct chat_source *s, int level, int depth)
{
    if (level < 0)
        return parse_unary(s, true, depth);
    struct chat_node *left = parse_level(s, level - 1, depth);
    for (;;) {
        const char *const *op = levels[level];
        while (*op && !chat_is_operator(s, *op))
            op++;
        if (!*op)
            return left;
        struct chat_node *n = chat_new_node(s, NODE_BINARY, s->tokens[s->at].at);
        s->at++;
        n->name = *op;
        n->a = left;
        n->b = parse_level(s, level - 1, depth);
        left = n;
    }
}

/* The comparison that stands next, taken; NULL: none. */
static const char *take_comparison(struct chat_source *s)
{
    static const char *const ops[] = {"==", "!=", "<", "<=", ">", ">="};
    for (size_t i = 0; i < 6; i++)
        if (chat_skip_operator(s, ops[i]))
            return ops[i];
    if (chat_skip_name(s, "in"))
        return "in";
    if (!chat_is_name(s, "not"))
        return NULL;
    s->at++;
    if (chat_skip_name(s, "in"))
        return "not in";
    s->at--;
    return NULL;
}

static struct chat_node *parse_compare(struct chat_source *s, int depth)
{
    struct chat_node *left = parse_level(s, 2, depth), *n = NULL;
    for (;;) {
        size_t at = s->tokens[s->at].at;
        const char *op = take_comparison(s);
        if (!op)
            return n ? n : left;
        if (!n) {
            n = chat_new_node(s, NODE_COMPARE, at);
            n->a = left;
        }
        struct chat_node *part = chat_new_node(s, NODE_BINARY, at);
        part->name = op;
        part->b = parse_level(s, 2, depth);
        chat_add(s, n, part);
    }
}

static struct chat_node *parse_not(struct chat_source *s, int depth)
{
    size_t at = s->tokens[s->at].at;
    if (!chat_skip_name(s, "not"))
        return parse_compare(s, depth);
    struct chat_node *n = chat_new_node(s, NODE_NOT, at);
    if (depth > CHAT_DEPTH)
        chat_source_fail(s, at, "more than %d 'not'", CHAT_DEPTH);
    n->a = parse_not(s, depth + 1);
    return n;
}

static struct chat_node *join(struct chat_source *s, enum chat_node_kind kind, struct chat_node *a,
                              struct chat_node *b)
{
    struct chat_node *n = chat_new_node(s, kind, a->at);
    n->a = a;
    n->b = b;
    return n;
}

static struct chat_node *parse_and(struct chat_source *s, int depth)
{
    struct chat_node *left = parse_not(s, depth);
    while (chat_skip_name(s, "and"))
        left = join(s, NODE_AND, left, parse_not(s, depth));
    return left;
}

static struct chat_node *parse_or(struct chat_source *s, int depth)
{
    struct chat_node *left = parse_and(s, depth);
    while (chat_skip_name(s, "or"))
        left = join(s, NODE_OR, left, parse_and(s, depth));
    return left;
}

struct chat_node *chat_parse_expression(struct chat_source *s, int depth)
{
    if (depth > CHAT_DEPTH)
        chat_source_fail(s, s->tokens[s->at].at, "more than %d expressions inside each other",
                         CHAT_DEPTH);
    struct chat_node *n = parse_or(s, depth + 1);
    while (chat_skip_name(s, "if")) {
        struct chat_node *choice = join(s, NODE_CHOICE, n, parse_or(s, depth + 1));
        if (chat_skip_name(s, "else"))
            choice->c = chat_parse_expression(s, depth + 1);
        n = choice;
    }
    return n;
}

struct chat_node *chat_parse_tuple(struct chat_source *s, bool with_choice, int depth)
{
    struct chat_node *n = with_choice ? chat_parse_expression(s, depth) : parse_or(s, depth + 1);
    if (!chat_is_operator(s, ","))
        return n;
    struct chat_node *tuple = chat_new_node(s, NODE_TUPLE, n->at);
    chat_add(s, tuple, n);
    while (chat_skip_operator(s, ",")) {
        enum token_kind next = s->tokens[s->at].kind;
        if (next == TOKEN_PRINT_END || next == TOKEN_BLOCK_END || chat_is_operator(s, ")"))
            break;
        chat_add(s, tuple, with_choice ? chat_parse_expression(s, depth) : parse_or(s, depth + 1));
    }
    return tuple;
}

struct chat_node *chat_parse_target(struct chat_source *s)
{
    bool bracket = chat_skip_operator(s, "(");
    struct chat_node *n = chat_new_node(s, NODE_NAME, s->tokens[s->at].at);
    n->name = chat_take_name(s);
    if (chat_is_operator(s, "."))
        return parse_member(s, n);
    if (chat_is_operator(s, ",")) {
        struct chat_node *tuple = chat_new_node(s, NODE_TUPLE, n->at);
        chat_add(s, tuple, n);
        while (chat_skip_operator(s, ",")) {
            struct chat_node *next = chat_new_node(s, NODE_NAME, s->tokens[s->at].at);
            next->name = chat_take_name(s);
            chat_add(s, tuple, next);
        }
        n = tuple;
    }
    if (bracket)
        want_operator(s, ")");
    return n;
}
