/* parse.h - the syntax tree of a chat template.
 *
 * Jinja2's grammar for the statements and expressions that templates of language models use. What
 * is not supported (recursive loops, imports, blocks, unknown filters, ...) is refused here, by name
 * and place, not when a conversation is rendered. Part of chat/chat.h; a tree is constant.
 */
#ifndef TANDEM_CHAT_PARSE_H
#define TANDEM_CHAT_PARSE_H

#include "chat/lex.h"
#include "chat/value.h"

enum chat_node_kind {
    /* expressions */
    NODE_VALUE,   /* value */
    NODE_NAME,    /* name */
    NODE_LIST,    /* list */
    NODE_TUPLE,   /* list */
    NODE_DICT,    /* list: key, value, key, value, ... */
    NODE_MEMBER,  /* a.name */
    NODE_ITEM,    /* a[b] */
    NODE_SLICE,   /* a[b:c:d], each of b, c, d may be NULL */
    NODE_CALL,    /* a(list) */
    NODE_FILTER,  /* a | name(list); a NULL: the text of a filter block */
    NODE_TEST,    /* a is name(list) */
    NODE_KEYWORD, /* name = a, in a list of arguments */
    NODE_NOT,     /* not a */
    NODE_MINUS,   /* -a */
    NODE_PLUS,    /* +a */
    NODE_AND,     /* a and b */
    NODE_OR,      /* a or b */
    NODE_CHOICE,  /* a if b else c; c may be NULL */
    NODE_BINARY,  /* a name b: + - * / // % ~ */
    NODE_COMPARE, /* a, then list of NODE_BINARY with b: == != < <= > >= in "not in" */
    /* statements */
    NODE_DATA,     /* value: text as it is */
    NODE_PRINT,    /* {{ a }} */
    NODE_IF,       /* list: condition, block, ..., perhaps a last block */
    NODE_FOR,      /* for a in b if c: list[0] block, list[1] else block or NULL */
    NODE_SET,      /* set a = b */
    NODE_CAPTURE,  /* set a, list[0]: the text of a block; b: filters for it, or NULL */
    NODE_MACRO,    /* name, list: parameters (NODE_KEYWORD, a: its default or NULL); b: block */
    NODE_SCOPE,    /* list[0]: a block with its own variables (generation) */
    NODE_FILTERED, /* b: filters, list[0]: block */
    NODE_BREAK,
    NODE_CONTINUE,
    NODE_BLOCK, /* list */
};

struct chat_node {
    enum chat_node_kind kind;
    size_t at; /* byte of the template */
    const char *name;
    struct chat_value value;
    struct chat_node *a, *b, *c, *d;
    struct chat_node **list;
    size_t n;
};

/* The tree of the tokens; leaves by s->out when the text is no template. */
const struct chat_node *chat_parse_tree(struct chat_source *s);

/* Is there a filter, a test of this name? (chat/filter.c) */
bool chat_has_filter(const char *name);
bool chat_has_test(const char *name);

#endif
