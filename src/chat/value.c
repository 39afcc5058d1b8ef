#include "chat/value.h"

#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct chat_value chat_value_bool(bool is)
{
    return (struct chat_value){.kind = VALUE_BOOL, .whole = is};
}

struct chat_value chat_value_int(int64_t whole)
{
    return (struct chat_value){.kind = VALUE_INT, .whole = whole};
}

struct chat_value chat_value_string(struct string s)
{
    return (struct chat_value){.kind = VALUE_STRING, .string = s};
}

struct chat_value chat_value_text(const char *text)
{
    return chat_value_string((struct string){.s = text, .n = strlen(text)});
}

struct chat_value chat_value_undefined(const char *name)
{
    return (struct chat_value){.kind = VALUE_UNDEFINED, .name = name};
}

struct chat_value chat_value_list(struct arena *a, enum chat_value_kind kind)
{
    return (struct chat_value){.kind = kind, .list = arena_take(a, 1, sizeof(struct list))};
}

struct chat_value chat_value_dict(struct arena *a, enum chat_value_kind kind)
{
    return (struct chat_value){.kind = kind, .dict = arena_take(a, 1, sizeof(struct dict))};
}

void chat_value_push(struct arena *a, struct list *list, struct chat_value v)
{
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : 8;
        struct chat_value *bigger = arena_take(a, room, sizeof *bigger);
        if (list->n)
            memcpy(bigger, list->at, list->n * sizeof *bigger);
        list->at = bigger;
        list->room = room;
    }
    list->at[list->n++] = v;
}

struct chat_value *chat_value_get(const struct dict *d, struct chat_value key)
{
    for (size_t i = 0; i < d->keys.n; i++)
        if (chat_value_equal(d->keys.at[i], key))
            return &d->values.at[i];
    return NULL;
}

void chat_value_put(struct arena *a, struct dict *d, struct chat_value key, struct chat_value v)
{
    struct chat_value *there = chat_value_get(d, key);
    if (there) {
        *there = v;
        return;
    }
    chat_value_push(a, &d->keys, key);
    chat_value_push(a, &d->values, v);
}

static struct chat_value marked(struct arena *a, const char *text, size_t n, char mark)
{
    struct string s = {.s = arena_string(a, text, n), .n = n};
    if (mark && n) {
        char *marks = arena_take(a, n, 1);
        memset(marks, mark, n);
        s.mark = marks;
    }
    return chat_value_string(s);
}

struct chat_value chat_value_from_json(struct arena *a, const json_t *json, char mark)
{
    struct chat_value v = {.kind = VALUE_NONE};
    const char *key;
    json_t *item;
    size_t i;
    switch (json_typeof(json)) {
    case JSON_STRING:
        return marked(a, json_string_value(json), json_string_length(json), mark);
    case JSON_INTEGER:
        return chat_value_int(json_integer_value(json));
    case JSON_REAL:
        v.kind = VALUE_REAL;
        v.real = json_real_value(json);
        return v;
    case JSON_TRUE:
    case JSON_FALSE:
        return chat_value_bool(json_is_true(json));
    case JSON_ARRAY:
        v = chat_value_list(a, VALUE_LIST);
        json_array_foreach(json, i, item)
            chat_value_push(a, v.list, chat_value_from_json(a, item, mark));
        return v;
    case JSON_OBJECT:
        v = chat_value_dict(a, VALUE_DICT);
        json_object_foreach((json_t *)(uintptr_t)json, key, item) chat_value_put(
            a, v.dict, marked(a, key, strlen(key), mark), chat_value_from_json(a, item, mark));
        return v;
    default:
        return v;
    }
}

bool chat_value_true(struct chat_value v)
{
    switch (v.kind) {
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return false;
    case VALUE_BOOL:
    case VALUE_INT:
        return v.whole != 0;
    case VALUE_REAL:
        return v.real != 0;
    case VALUE_STRING:
        return v.string.n > 0;
    case VALUE_LIST:
    case VALUE_TUPLE:
        return v.list->n > 0;
    case VALUE_DICT:
        return v.dict->keys.n > 0;
    default:
        return true;
    }
}

static bool is_number(struct chat_value v)
{
    return v.kind == VALUE_BOOL || v.kind == VALUE_INT || v.kind == VALUE_REAL;
}

double chat_value_real(struct chat_value v)
{
    return v.kind == VALUE_REAL ? v.real : (double)v.whole;
}

static bool equal_dicts(const struct dict *a, const struct dict *b)
{
    if (a->keys.n != b->keys.n)
        return false;
    for (size_t i = 0; i < a->keys.n; i++) {
        struct chat_value *other = chat_value_get(b, a->keys.at[i]);
        if (!other || !chat_value_equal(a->values.at[i], *other))
            return false;
    }
    return true;
}

bool chat_value_equal(struct chat_value a, struct chat_value b)
{
    if (is_number(a) && is_number(b))
        return a.kind == VALUE_REAL || b.kind == VALUE_REAL
                   ? chat_value_real(a) == chat_value_real(b)
                   : a.whole == b.whole;
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return true;
    case VALUE_STRING:
        return chat_string_compare(a.string, b.string) == 0;
    case VALUE_LIST:
    case VALUE_TUPLE:
        if (a.list->n != b.list->n)
            return false;
        for (size_t i = 0; i < a.list->n; i++)
            if (!chat_value_equal(a.list->at[i], b.list->at[i]))
                return false;
        return true;
    case VALUE_DICT:
        return equal_dicts(a.dict, b.dict);
    default:
        return a.list == b.list; /* the same thing, by address */
    }
}

bool chat_value_compare(struct chat_value a, struct chat_value b, int *order)
{
    if (is_number(a) && is_number(b)) {
        double x = chat_value_real(a), y = chat_value_real(b);
        *order = a.kind != VALUE_REAL && b.kind != VALUE_REAL
                     ? (a.whole > b.whole) - (a.whole < b.whole)
                     : (x > y) - (x < y);
        return true;
    }
    if (a.kind == VALUE_STRING && b.kind == VALUE_STRING) {
        *order = chat_string_compare(a.string, b.string);
        return true;
    }
    if (a.kind != b.kind || (a.kind != VALUE_LIST && a.kind != VALUE_TUPLE))
        return false;
    for (size_t i = 0; i < a.list->n && i < b.list->n; i++)
        if (!chat_value_equal(a.list->at[i], b.list->at[i]))
            return chat_value_compare(a.list->at[i], b.list->at[i], order);
    *order = (a.list->n > b.list->n) - (a.list->n < b.list->n);
    return true;
}

const struct list *chat_value_items(struct arena *a, struct chat_value v)
{
    static const struct list nothing = {0};
    struct chat_value out;
    switch (v.kind) {
    case VALUE_UNDEFINED:
        return &nothing;
    case VALUE_LIST:
    case VALUE_TUPLE:
        return v.list;
    case VALUE_DICT:
        return &v.dict->keys;
    case VALUE_STRING:
        out = chat_value_list(a, VALUE_LIST);
        for (size_t at = 0, next; at < v.string.n; at = next) {
            next = at + 1;
            while (next < v.string.n && ((unsigned char)v.string.s[next] & 0xc0) == 0x80)
                next++;
            chat_value_push(a, out.list, chat_value_string(chat_part(v.string, at, next)));
        }
        return out.list;
    default:
        return NULL;
    }
}

bool chat_value_length(struct chat_value v, size_t *n)
{
    *n = 0;
    if (v.kind == VALUE_STRING)
        *n = chat_characters(v.string);
    else if (v.kind == VALUE_LIST || v.kind == VALUE_TUPLE)
        *n = v.list->n;
    else if (v.kind == VALUE_DICT)
        *n = v.dict->keys.n;
    else if (v.kind == VALUE_LOOP)
        *n = v.loop->items->n;
    else
        return v.kind == VALUE_UNDEFINED;
    return true;
}

const char *chat_value_kind_name(struct chat_value v)
{
    static const char *const names[] = {
        [VALUE_UNDEFINED] = "undefined", [VALUE_NONE] = "none",
        [VALUE_BOOL] = "a truth value",  [VALUE_INT] = "an integer",
        [VALUE_REAL] = "a number",       [VALUE_STRING] = "a string",
        [VALUE_LIST] = "a list",         [VALUE_TUPLE] = "a tuple",
        [VALUE_DICT] = "a dict",         [VALUE_NAMESPACE] = "a namespace",
        [VALUE_LOOP] = "the loop",       [VALUE_CALL] = "a function",
    };
    return names[v.kind];
}
