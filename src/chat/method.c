/* Methods of strings and dicts, and the functions that templates are given. */
#include "chat/run.h"

#include <string.h>

/* --- strings ------------------------------------------------------------------------------- */

/* startswith and endswith: one string, or a tuple of them. */
static bool has_end(struct run *r, const struct chat_node *n, struct string s,
                    struct chat_value what, bool at_start)
{
    if (what.kind == VALUE_TUPLE) {
        for (size_t i = 0; i < what.list->n; i++)
            if (has_end(r, n, s, what.list->at[i], at_start))
                return true;
        return false;
    }
    struct string w = chat_want_string(r, n, what, n->a->name);
    return w.n <= s.n && memcmp(at_start ? s.s : s.s + s.n - w.n, w.s, w.n) == 0;
}

static struct chat_value str_startswith(struct run *r, const struct chat_node *n,
                                        struct chat_value v, const struct chat_value *a)
{
    return chat_value_bool(has_end(r, n, v.string, a[0], true));
}

static struct chat_value str_endswith(struct run *r, const struct chat_node *n, struct chat_value v,
                                      const struct chat_value *a)
{
    return chat_value_bool(has_end(r, n, v.string, a[0], false));
}

static struct chat_value strip(struct run *r, const struct chat_node *n, struct chat_value v,
                               struct chat_value chars, bool left, bool right)
{
    if (chat_absent(chars) || chars.kind == VALUE_NONE)
        return chat_value_string(chat_strip(v.string, NULL, left, right));
    struct string set = chat_want_string(r, n, chars, "strip");
    return chat_value_string(chat_strip(v.string, &set, left, right));
}

static struct chat_value str_strip(struct run *r, const struct chat_node *n, struct chat_value v,
                                   const struct chat_value *a)
{
    return strip(r, n, v, a[0], true, true);
}

static struct chat_value str_lstrip(struct run *r, const struct chat_node *n, struct chat_value v,
                                    const struct chat_value *a)
{
    return strip(r, n, v, a[0], true, false);
}

static struct chat_value str_rstrip(struct run *r, const struct chat_node *n, struct chat_value v,
                                    const struct chat_value *a)
{
    return strip(r, n, v, a[0], false, true);
}

/* str.split() without a separator: words. */
static void split_words(struct run *r, struct string s, int64_t most, struct list *out)
{
    for (;;) {
        s = chat_strip(s, NULL, true, false);
        if (s.n == 0)
            return;
        if (most-- == 0) {
            chat_value_push(r->arena, out, chat_value_string(chat_strip(s, NULL, false, true)));
            return;
        }
        size_t end = 0;
        while (end < s.n && chat_space_at(s.s + end, s.n - end) == 0)
            end++;
        chat_value_push(r->arena, out, chat_value_string(chat_part(s, 0, end)));
        s = chat_part(s, end, s.n);
    }
}

static struct chat_value str_split(struct run *r, const struct chat_node *n, struct chat_value v,
                                   const struct chat_value *a)
{
    struct chat_value out = chat_value_list(r->arena, VALUE_LIST);
    int64_t most = chat_absent(a[1]) ? -1 : chat_want_int(r, n, a[1], "split");
    if (chat_absent(a[0]) || a[0].kind == VALUE_NONE) {
        split_words(r, v.string, most, out.list);
        return out;
    }
    struct string by = chat_want_string(r, n, a[0], "split");
    if (by.n == 0)
        chat_fail(r, n, "split wants a separator, found an empty string");
    size_t at = 0, hit;
    while (most-- != 0 && (hit = chat_find(v.string, by, at)) != SIZE_MAX) {
        chat_value_push(r->arena, out.list, chat_value_string(chat_part(v.string, at, hit)));
        at = hit + by.n;
    }
    chat_value_push(r->arena, out.list, chat_value_string(chat_part(v.string, at, v.string.n)));
    return out;
}

/* A method that is a filter too. */
static struct chat_value as_filter(struct run *r, const struct chat_node *n, struct chat_value v,
                                   const char *name)
{
    struct chat_node filter = *n;
    filter.name = name;
    return chat_filter(r, &filter, v);
}

static struct chat_value str_replace(struct run *r, const struct chat_node *n, struct chat_value v,
                                     const struct chat_value *a)
{
    (void)a;
    return as_filter(r, n, v, "replace");
}

static struct chat_value str_upper(struct run *r, const struct chat_node *n, struct chat_value v,
                                   const struct chat_value *a)
{
    (void)a;
    return as_filter(r, n, v, "upper");
}

static struct chat_value str_lower(struct run *r, const struct chat_node *n, struct chat_value v,
                                   const struct chat_value *a)
{
    (void)a;
    return as_filter(r, n, v, "lower");
}

static struct chat_value str_capitalize(struct run *r, const struct chat_node *n,
                                        struct chat_value v, const struct chat_value *a)
{
    (void)a;
    return as_filter(r, n, v, "capitalize");
}

/* --- dicts --------------------------------------------------------------------------------- */

static struct chat_value dict_get(struct run *r, const struct chat_node *n, struct chat_value v,
                                  const struct chat_value *a)
{
    (void)r, (void)n;
    struct chat_value *there = chat_value_get(v.dict, a[0]);
    return there ? *there : chat_absent(a[1]) ? (struct chat_value){.kind = VALUE_NONE} : a[1];
}

static struct chat_value dict_items(struct run *r, const struct chat_node *n, struct chat_value v,
                                    const struct chat_value *a)
{
    (void)a;
    return as_filter(r, n, v, "items");
}

static struct chat_value copy(struct run *r, const struct list *list)
{
    struct chat_value out = chat_value_list(r->arena, VALUE_LIST);
    for (size_t i = 0; i < list->n; i++)
        chat_value_push(r->arena, out.list, list->at[i]);
    return out;
}

static struct chat_value dict_keys(struct run *r, const struct chat_node *n, struct chat_value v,
                                   const struct chat_value *a)
{
    (void)n, (void)a;
    return copy(r, &v.dict->keys);
}

static struct chat_value dict_values(struct run *r, const struct chat_node *n, struct chat_value v,
                                     const struct chat_value *a)
{
    (void)n, (void)a;
    return copy(r, &v.dict->values);
}

/* The sandbox of Hugging Face does not let templates change what they were given. */
static struct chat_value refused(struct run *r, const struct chat_node *n, struct chat_value v,
                                 const struct chat_value *a)
{
    (void)a;
    chat_fail(r, n, "%s cannot be changed by a template: '%s' is refused", chat_value_kind_name(v),
              n->a->name);
}

/* --- functions ----------------------------------------------------------------------------- */

static struct chat_value fn_raise(struct run *r, const struct chat_node *n, struct chat_value v,
                                  const struct chat_value *a)
{
    (void)v;
    struct string s = chat_value_str(r->arena, a[0]);
    chat_fail(r, n, "the template refuses the conversation: %.*s", (int)(s.n < 500 ? s.n : 500),
              s.s);
}

static struct chat_value fn_range(struct run *r, const struct chat_node *n, struct chat_value v,
                                  const struct chat_value *a)
{
    struct chat_value out = chat_value_list(r->arena, VALUE_LIST);
    int64_t from = chat_want_int(r, n, a[0], "range"), to, step = 1;
    (void)v;
    if (chat_absent(a[1])) {
        to = from;
        from = 0;
    } else {
        to = chat_want_int(r, n, a[1], "range");
    }
    if (!chat_absent(a[2]))
        step = chat_want_int(r, n, a[2], "range");
    if (step == 0)
        chat_fail(r, n, "range with a step of 0");
    bool over = false;
    for (int64_t i = from; !over && (step > 0 ? i < to : i > to);
         over = __builtin_add_overflow(i, step, &i)) {
        if (out.list->n == 100000)
            chat_fail(r, n, "range of more than 100000 numbers");
        chat_value_push(r->arena, out.list, chat_value_int(i));
    }
    return out;
}

static struct chat_value fn_strftime(struct run *r, const struct chat_node *n, struct chat_value v,
                                     const struct chat_value *a)
{
    struct string s = chat_want_string(r, n, a[0], "strftime_now");
    char text[256];
    (void)v;
    if (!r->date)
        chat_fail(r, n,
                  "the template asks for today's date; say which with chat.date: 2026-01-31, so "
                  "that the same job gives the same prompts on any day");
    size_t used = strftime(text, sizeof text, arena_string(r->arena, s.s, s.n), r->date);
    return chat_value_string((struct string){.s = arena_string(r->arena, text, used), .n = used});
}

/* namespace(a=1), dict(a=1): any names. */
static struct chat_value pairs(struct run *r, const struct chat_node *call,
                               enum chat_value_kind kind)
{
    struct chat_value out = chat_value_dict(r->arena, kind);
    for (size_t i = 0; i < call->n; i++) {
        const struct chat_node *argument = call->list[i];
        if (argument->kind == NODE_KEYWORD) {
            chat_value_put(r->arena, out.dict, chat_value_text(argument->name),
                           chat_eval(r, argument->a));
            continue;
        }
        struct chat_value given = chat_eval(r, argument);
        if (given.kind != VALUE_DICT)
            chat_fail(r, argument, "wanted a dict, found %s", chat_value_kind_name(given));
        for (size_t k = 0; k < given.dict->keys.n; k++)
            chat_value_put(r->arena, out.dict, given.dict->keys.at[k], given.dict->values.at[k]);
    }
    return out;
}

/* --- the table ----------------------------------------------------------------------------- */

static const struct builtin builtins[] = {
    {"capitalize", {NULL}, str_capitalize, VALUE_STRING},
    {"endswith", {""}, str_endswith, VALUE_STRING},
    {"lower", {NULL}, str_lower, VALUE_STRING},
    {"lstrip", {""}, str_lstrip, VALUE_STRING},
    {"replace", {"", "", "count"}, str_replace, VALUE_STRING},
    {"rstrip", {""}, str_rstrip, VALUE_STRING},
    {"split", {"sep", "maxsplit"}, str_split, VALUE_STRING},
    {"startswith", {""}, str_startswith, VALUE_STRING},
    {"strip", {""}, str_strip, VALUE_STRING},
    {"upper", {NULL}, str_upper, VALUE_STRING},
    {"get", {"", ""}, dict_get, VALUE_DICT},
    {"items", {NULL}, dict_items, VALUE_DICT},
    {"keys", {NULL}, dict_keys, VALUE_DICT},
    {"values", {NULL}, dict_values, VALUE_DICT},
    {"pop", {"", ""}, refused, VALUE_DICT},
    {"update", {""}, refused, VALUE_DICT},
    {"setdefault", {"", ""}, refused, VALUE_DICT},
    {"append", {""}, refused, VALUE_LIST},
    {"extend", {""}, refused, VALUE_LIST},
    {"insert", {"", ""}, refused, VALUE_LIST},
    {"pop", {""}, refused, VALUE_LIST},
    {"raise_exception", {""}, fn_raise, VALUE_UNDEFINED},
    {"range", {"", "", ""}, fn_range, VALUE_UNDEFINED},
    {"strftime_now", {""}, fn_strftime, VALUE_UNDEFINED},
    {"namespace", {NULL}, NULL, VALUE_UNDEFINED},
    {"dict", {NULL}, NULL, VALUE_UNDEFINED},
};

static const struct builtin *find(enum chat_value_kind of, const char *name)
{
    for (size_t i = 0; i < sizeof builtins / sizeof *builtins; i++)
        if (builtins[i].of == of && strcmp(builtins[i].name, name) == 0)
            return &builtins[i];
    return NULL;
}

static struct chat_value callable(struct run *r, struct chat_value self, enum chat_value_kind of,
                                  const char *name)
{
    if (!find(of, name))
        return chat_value_undefined(name);
    struct callable *c = arena_take(r->arena, 1, sizeof *c);
    *c = (struct callable){.name = name, .self = self};
    return (struct chat_value){.kind = VALUE_CALL, .call = c};
}

struct chat_value chat_find_method(struct run *r, struct chat_value self, const char *name)
{
    if (self.kind != VALUE_STRING && self.kind != VALUE_DICT && self.kind != VALUE_LIST)
        return chat_value_undefined(name);
    return callable(r, self, self.kind, name);
}

struct chat_value chat_find_function(struct run *r, const char *name)
{
    return callable(r, chat_value_undefined(name), VALUE_UNDEFINED, name);
}

struct chat_value chat_call(struct run *r, const struct chat_node *call, const struct callable *c)
{
    struct chat_value arguments[CHAT_ARGUMENTS];
    const struct builtin *b = find(c->self.kind, c->name);
    if (!b->run)
        return pairs(r, call, *b->name == 'n' ? VALUE_NAMESPACE : VALUE_DICT);
    chat_bind(r, call, b->name, b->arguments, arguments);
    return b->run(r, call, c->self, arguments);
}
