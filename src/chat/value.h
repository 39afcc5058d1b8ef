/* value.h - the values of a chat template, with Python's rules for them.
 *
 * Truth, equality, order, str(), repr() and json.dumps() as Python and Jinja2 define them, as far
 * as templates come to see it. Values are small and copied; what they point to is in the arena of the
 * rendering and constant, but for namespaces. Part of chat/chat.h.
 */
#ifndef TANDEM_CHAT_VALUE_H
#define TANDEM_CHAT_VALUE_H

#include "chat/string.h"

#include <jansson.h>
#include <stdint.h>

enum chat_value_kind {
    VALUE_UNDEFINED, /* name: what was not there, for messages */
    VALUE_NONE,
    VALUE_BOOL, /* whole: 0 or 1 */
    VALUE_INT,
    VALUE_REAL,
    VALUE_STRING,
    VALUE_LIST,
    VALUE_TUPLE,
    VALUE_DICT,
    VALUE_NAMESPACE,
    VALUE_LOOP, /* the variable `loop` */
    VALUE_CALL, /* a macro, function or method */
};

struct chat_node;
struct scope;
struct chat_value;

struct list {
    struct chat_value *at;
    size_t n, room;
};

/* Keys are strings or numbers, in the order they came. */
struct dict {
    struct list keys, values;
};

struct loop {
    const struct list *items;
    size_t index;
};

struct callable;

struct chat_value {
    enum chat_value_kind kind;
    bool
        safe; /* a string that the filter `safe` gave: Python's Markup, which '+' treats differently */
    union {
        const char *name;
        int64_t whole;
        double real;
        struct string string;
        struct list *list;
        struct dict *dict;
        struct loop *loop;
        struct callable *call;
    };
};

/* What can be called: a macro with the scope it was made in, a function, or a method of a value. */
struct callable {
    const struct chat_node *macro; /* NULL: name and self say what it is */
    struct scope *scope;
    const char *name;
    struct chat_value self; /* VALUE_UNDEFINED: a function */
};

struct chat_value chat_value_bool(bool is);
double chat_value_real(struct chat_value v); /* of a number */
struct chat_value chat_value_int(int64_t whole);
struct chat_value chat_value_string(struct string s);
struct chat_value chat_value_text(const char *text);      /* unmarked; not copied */
struct chat_value chat_value_undefined(const char *name); /* not copied */
struct chat_value chat_value_list(struct arena *a,
                                  enum chat_value_kind kind); /* empty; LIST or TUPLE */
struct chat_value chat_value_dict(struct arena *a,
                                  enum chat_value_kind kind); /* empty; DICT or NAMESPACE */

/* What a JSON value is in Python; the bytes of its strings get the mark. */
struct chat_value chat_value_from_json(struct arena *a, const json_t *json, char mark);

void chat_value_push(struct arena *a, struct list *list, struct chat_value v);

/* The value of a key, or NULL. */
struct chat_value *chat_value_get(const struct dict *d, struct chat_value key);
void chat_value_put(struct arena *a, struct dict *d, struct chat_value key, struct chat_value v);

bool chat_value_true(struct chat_value v);
bool chat_value_equal(struct chat_value a, struct chat_value b);

/* Below 0, 0 or above 0 in *order; false when Python could not compare them. */
bool chat_value_compare(struct chat_value a, struct chat_value b, int *order);

/* Items of an iterable: of a list, characters, keys. NULL when it is none. */
const struct list *chat_value_items(struct arena *a, struct chat_value v);

/* len(); false when there is none. */
bool chat_value_length(struct chat_value v, size_t *n);

/* str(v), what {{ v }} prints. */
struct string chat_value_str(struct arena *a, struct chat_value v);
void chat_value_repr(struct string_builder *b, struct chat_value v);

/* json.dumps() as the filter tojson calls it. indent -1: on one line. False: not serializable, and
 * *what is the kind of the value that is not. */
struct chat_value_json {
    bool ensure_ascii, sort_keys;
    int indent;
    struct string item, colon; /* ", " and ": " */
};
bool chat_value_json(struct string_builder *b, struct chat_value v,
                     const struct chat_value_json *how, const char **what);

/* "a string", "none": for messages. */
const char *chat_value_kind_name(struct chat_value v);

#endif
