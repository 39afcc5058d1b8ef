/* expression.h - expressions of a chat template, and what reading tokens needs. Part of
 * chat/chat.h; everything leaves by s->out when the tokens are not what is wanted. */
#ifndef TANDEM_CHAT_EXPRESSION_H
#define TANDEM_CHAT_EXPRESSION_H

#include "chat/parse.h"

#define CHAT_DEPTH 100 /* statements and expressions inside each other */

struct chat_node *chat_new_node(struct chat_source *s, enum chat_node_kind kind, size_t at);

/* Appends to n->list; item may be NULL. */
void chat_add(struct chat_source *s, struct chat_node *n, struct chat_node *item);

/* Is the next token the name, the operator? skip: and then it is taken. */
bool chat_is_name(const struct chat_source *s, const char *name);
bool chat_is_operator(const struct chat_source *s, const char *op);
bool chat_skip_name(struct chat_source *s, const char *name);
bool chat_skip_operator(struct chat_source *s, const char *op);

/* The next token, which must be a name. */
const char *chat_take_name(struct chat_source *s);

/* What the next token is, for messages. */
const char *chat_token_name(struct chat_source *s);

struct chat_node *chat_parse_expression(struct chat_source *s, int depth);

/* Expressions with commas between them: a tuple, or the one expression. with_choice: "a if b else
 * c" may stand there. */
struct chat_node *chat_parse_tuple(struct chat_source *s, bool with_choice, int depth);

/* What can be assigned to: a name, a.b of a namespace, or names with commas between them. */
struct chat_node *chat_parse_target(struct chat_source *s);

/* "| f | g(1)" behind `of` (NULL: text that comes later). Returns `of` when there is none. */
struct chat_node *chat_parse_filters(struct chat_source *s, struct chat_node *of, int depth);

/* "f | g(1)", as in {% filter f | g(1) %}. */
struct chat_node *chat_parse_filter_block(struct chat_source *s, int depth);

#endif
