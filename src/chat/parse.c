/* Statements: what stands in {% %} and around it. */
#include "chat/parse.h"

#include "chat/expression.h"

#include <string.h>

static struct chat_node *parse_block(struct chat_source *s, const char *const *ends, int depth);

static void end_tag(struct chat_source *s)
{
    if (s->tokens[s->at].kind != TOKEN_BLOCK_END)
        chat_source_fail(s, s->tokens[s->at].at, "wanted the end of the tag, found %s",
                         chat_token_name(s));
    s->at++;
}

static struct chat_node *parse_if(struct chat_source *s, size_t at, int depth)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    struct chat_node *n = chat_new_node(s, NODE_IF, at);
    for (bool more = true; more;) {
        chat_add(s, n, chat_parse_tuple(s, false, depth));
        end_tag(s);
        chat_add(s, n, parse_block(s, ends, depth));
        more = chat_skip_name(s, "elif");
    }
    if (chat_skip_name(s, "else")) {
        end_tag(s);
        chat_add(s, n, parse_block(s, ends + 2, depth));
    }
    if (!chat_skip_name(s, "endif"))
        chat_source_fail(s, s->tokens[s->at].at, "wanted endif, found %s", chat_token_name(s));
    end_tag(s);
    return n;
}

static struct chat_node *parse_for(struct chat_source *s, size_t at, int depth)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    struct chat_node *n = chat_new_node(s, NODE_FOR, at);
    n->a = chat_parse_target(s);
    if (!chat_skip_name(s, "in"))
        chat_source_fail(s, s->tokens[s->at].at, "wanted 'in', found %s", chat_token_name(s));
    n->b = chat_parse_tuple(s, false, depth);
    if (chat_skip_name(s, "if"))
        n->c = chat_parse_expression(s, depth);
    if (chat_is_name(s, "recursive"))
        chat_source_fail(s, s->tokens[s->at].at, "recursive loops are not supported");
    end_tag(s);
    chat_add(s, n, parse_block(s, ends, depth));
    struct chat_node *otherwise = NULL;
    if (chat_skip_name(s, "else")) {
        end_tag(s);
        otherwise = parse_block(s, ends + 1, depth);
    }
    chat_add(s, n, otherwise);
    chat_skip_name(s, "endfor");
    end_tag(s);
    return n;
}

static struct chat_node *parse_set(struct chat_source *s, size_t at, int depth)
{
    static const char *const ends[] = {"endset", NULL};
    struct chat_node *target = chat_parse_target(s);
    if (chat_skip_operator(s, "=")) {
        struct chat_node *n = chat_new_node(s, NODE_SET, at);
        n->a = target;
        n->b = chat_parse_tuple(s, true, depth);
        end_tag(s);
        return n;
    }
    struct chat_node *n = chat_new_node(s, NODE_CAPTURE, at);
    n->a = target;
    n->b = chat_parse_filters(s, NULL, depth);
    end_tag(s);
    chat_add(s, n, parse_block(s, ends, depth));
    chat_skip_name(s, "endset");
    end_tag(s);
    return n;
}

static struct chat_node *parse_macro(struct chat_source *s, size_t at, int depth)
{
    static const char *const ends[] = {"endmacro", NULL};
    struct chat_node *n = chat_new_node(s, NODE_MACRO, at);
    n->name = chat_take_name(s);
    if (!chat_skip_operator(s, "("))
        chat_source_fail(s, s->tokens[s->at].at, "wanted '(', found %s", chat_token_name(s));
    while (!chat_skip_operator(s, ")")) {
        struct chat_node *parameter = chat_new_node(s, NODE_KEYWORD, s->tokens[s->at].at);
        parameter->name = chat_take_name(s);
        if (chat_skip_operator(s, "="))
            parameter->a = chat_parse_expression(s, depth);
        chat_add(s, n, parameter);
        if (!chat_skip_operator(s, ",") && !chat_is_operator(s, ")"))
            chat_source_fail(s, s->tokens[s->at].at, "wanted ',' or ')', found %s",
                             chat_token_name(s));
    }
    end_tag(s);
    n->b = parse_block(s, ends, depth);
    chat_skip_name(s, "endmacro");
    end_tag(s);
    return n;
}

/* {% generation %} (which marks what a model is trained on) and {% filter trim %}. */
static struct chat_node *parse_wrapped(struct chat_source *s, size_t at, const char *end,
                                       bool filtered, int depth)
{
    const char *const ends[] = {end, NULL};
    struct chat_node *n = chat_new_node(s, filtered ? NODE_FILTERED : NODE_SCOPE, at);
    if (filtered)
        n->b = chat_parse_filter_block(s, depth);
    end_tag(s);
    chat_add(s, n, parse_block(s, ends, depth));
    chat_skip_name(s, end);
    end_tag(s);
    return n;
}

static struct chat_node *parse_statement(struct chat_source *s, int depth)
{
    size_t at = s->tokens[s->at].at;
    if (chat_skip_name(s, "if"))
        return parse_if(s, at, depth);
    if (chat_skip_name(s, "for"))
        return parse_for(s, at, depth);
    if (chat_skip_name(s, "set"))
        return parse_set(s, at, depth);
    if (chat_skip_name(s, "macro"))
        return parse_macro(s, at, depth);
    if (chat_skip_name(s, "generation"))
        return parse_wrapped(s, at, "endgeneration", false, depth);
    if (chat_skip_name(s, "filter"))
        return parse_wrapped(s, at, "endfilter", true, depth);
    bool leaves = chat_is_name(s, "break");
    if (leaves || chat_is_name(s, "continue")) {
        s->at++;
        end_tag(s);
        return chat_new_node(s, leaves ? NODE_BREAK : NODE_CONTINUE, at);
    }
    chat_source_fail(s, at,
                     "the statement %s is not supported; if, for, set, macro, filter, generation, "
                     "break and continue are",
                     chat_token_name(s));
}

static bool at_end(const struct chat_source *s, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (chat_is_name(s, *ends))
            return true;
    return false;
}

/* Statements up to a tag that begins with one of `ends`, whose name is then next; NULL: up to the
 * end of the template. */
static struct chat_node *parse_block(struct chat_source *s, const char *const *ends, int depth)
{
    struct chat_node *block = chat_new_node(s, NODE_BLOCK, s->tokens[s->at].at);
    if (depth > CHAT_DEPTH)
        chat_source_fail(s, s->tokens[s->at].at, "more than %d statements inside each other",
                         CHAT_DEPTH);
    for (;;) {
        const struct token *t = &s->tokens[s->at];
        struct chat_node *n;
        switch (t->kind) {
        case TOKEN_DATA:
            s->at++;
            n = chat_new_node(s, NODE_DATA, t->at);
            n->value = chat_value_string((struct string){.s = t->text, .n = t->n});
            break;
        case TOKEN_PRINT_BEGIN:
            s->at++;
            n = chat_new_node(s, NODE_PRINT, t->at);
            n->a = chat_parse_tuple(s, true, depth);
            if (s->tokens[s->at].kind != TOKEN_PRINT_END)
                chat_source_fail(s, s->tokens[s->at].at, "wanted }}, found %s", chat_token_name(s));
            s->at++;
            break;
        case TOKEN_BLOCK_BEGIN:
            s->at++;
            if (at_end(s, ends))
                return block;
            n = parse_statement(s, depth + 1);
            break;
        default:
            if (ends)
                chat_source_fail(s, t->at, "the template ends where %s is wanted", *ends);
            return block;
        }
        chat_add(s, block, n);
    }
}

const struct chat_node *chat_parse_tree(struct chat_source *s)
{
    s->at = 0;
    return parse_block(s, NULL, 0);
}
