/* run.h - one rendering of a chat template. Part of chat/chat.h.
 *
 * Values and text are taken from the arena of the rendering; an error leaves by a jump, from any
 * depth, with the message set.
 */
#ifndef TANDEM_CHAT_RUN_H
#define TANDEM_CHAT_RUN_H

#include "chat/parse.h"

#include <time.h>

struct variable {
    const char *name;
    struct chat_value value;
};

struct scope {
    struct scope *outer;
    struct variable *variables;
    size_t n, room;
};

struct run {
    struct arena *arena;
    const char *text; /* of the template, for places */
    struct err *e;
    jmp_buf *out;
    struct scope *scope;
    struct string_builder *to; /* where text goes */
    const struct tm *date;     /* for strftime_now(); NULL: it may not be asked */
    long steps;                /* nodes seen so far */
    int depth;                 /* macros inside each other */
};

/* Arguments of a call, in the order of the names of what is called. */
#define CHAT_ARGUMENTS 4

/* A filter, test, method or function that is written in C. */
struct builtin {
    const char *name;
    const char *arguments[CHAT_ARGUMENTS]; /* "": cannot be named; NULL: no more */
    struct chat_value (*run)(struct run *r, const struct chat_node *n, struct chat_value self,
                             const struct chat_value *arguments);
    enum chat_value_kind of; /* methods: whose */
};

/* "LINE:COLUMN: message" and out. */
_Noreturn void chat_fail(struct run *r, const struct chat_node *n, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

struct chat_value chat_eval(struct run *r, const struct chat_node *n);

/* Writes what a tree says to r->to. */
void chat_run_tree(struct run *r, const struct chat_node *tree);

/* The value of a variable; undefined when there is none. */
struct chat_value chat_lookup(const struct run *r, const char *name);
void chat_set(struct run *r, const char *name, struct chat_value v);

/* A macro's text. */
struct chat_value chat_call_macro(struct run *r, const struct chat_node *call,
                                  const struct callable *c);

/* v.name, v[key]: undefined when there is none. */
struct chat_value chat_member(struct run *r, const struct chat_node *n, struct chat_value v,
                              const char *name);
struct chat_value chat_item(struct run *r, const struct chat_node *n, struct chat_value v,
                            struct chat_value key);

/* v with a filter of which n is the node, with its arguments; whether a test holds. */
struct chat_value chat_filter(struct run *r, const struct chat_node *n, struct chat_value v);
bool chat_test(struct run *r, const struct chat_node *n, struct chat_value v);

/* Calls a method or function. */
struct chat_value chat_call(struct run *r, const struct chat_node *call, const struct callable *c);

/* The method of a value, the function of a name; undefined when there is none. */
struct chat_value chat_find_method(struct run *r, struct chat_value self, const char *name);
struct chat_value chat_find_function(struct run *r, const char *name);

/* Evaluates the arguments of n->list into the places of their names; those that are not given
 * become absent. */
void chat_bind(struct run *r, const struct chat_node *n, const char *what, const char *const *names,
               struct chat_value *out);
bool chat_absent(struct chat_value v);

/* Values as something, or the message that `what` wants it. */
int64_t chat_want_int(struct run *r, const struct chat_node *n, struct chat_value v,
                      const char *what);
struct string chat_want_string(struct run *r, const struct chat_node *n, struct chat_value v,
                               const char *what);
const struct list *chat_want_items(struct run *r, const struct chat_node *n, struct chat_value v);

/* a + b and its like; a < b and its like. */
struct chat_value chat_binary(struct run *r, const struct chat_node *n, const char *op,
                              struct chat_value a, struct chat_value b);
bool chat_comparison(struct run *r, const struct chat_node *n, const char *op, struct chat_value a,
                     struct chat_value b);

#endif
