/* Filters and tests. */
#include "chat/run.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool chat_absent(struct chat_value v)
{
    return v.kind == VALUE_UNDEFINED && !v.name;
}

void chat_bind(struct run *r, const struct chat_node *n, const char *what, const char *const *names,
               struct chat_value *out)
{
    size_t room = 0;
    for (size_t i = 0; i < CHAT_ARGUMENTS; i++)
        out[i] = chat_value_undefined(NULL);
    while (room < CHAT_ARGUMENTS && names[room])
        room++;
    for (size_t i = 0; i < n->n; i++) {
        const struct chat_node *argument = n->list[i];
        size_t place = i;
        if (argument->kind == NODE_KEYWORD)
            for (place = 0; place < room; place++)
                if (*names[place] && strcmp(names[place], argument->name) == 0)
                    break;
        if (place >= room)
            chat_fail(r, argument, "%s has no argument %s%s", what,
                      argument->kind == NODE_KEYWORD ? "called " : "more",
                      argument->kind == NODE_KEYWORD ? argument->name : "");
        out[place] = chat_eval(r, argument->kind == NODE_KEYWORD ? argument->a : argument);
    }
}

/* --- one value ----------------------------------------------------------------------------- */

static struct chat_value do_length(struct run *r, const struct chat_node *n, struct chat_value v,
                                   const struct chat_value *a)
{
    size_t length;
    (void)a;
    if (!chat_value_length(v, &length))
        chat_fail(r, n, "%s has no length", chat_value_kind_name(v));
    return chat_value_int((int64_t)length);
}

static struct chat_value do_string(struct run *r, const struct chat_node *n, struct chat_value v,
                                   const struct chat_value *a)
{
    (void)n, (void)a;
    return v.kind == VALUE_STRING ? v : chat_value_string(chat_value_str(r->arena, v));
}

static struct chat_value do_safe(struct run *r, const struct chat_node *n, struct chat_value v,
                                 const struct chat_value *a)
{
    struct chat_value out = do_string(r, n, v, a);
    out.safe = true;
    return out;
}

static struct chat_value do_trim(struct run *r, const struct chat_node *n, struct chat_value v,
                                 const struct chat_value *a)
{
    struct string s = chat_value_str(r->arena, v), chars;
    if (chat_absent(a[0]) || a[0].kind == VALUE_NONE)
        return chat_value_string(chat_strip(s, NULL, true, true));
    chars = chat_want_string(r, n, a[0], "trim");
    return chat_value_string(chat_strip(s, &chars, true, true));
}

static struct chat_value change_case(struct run *r, const struct chat_node *n, struct string s,
                                     size_t from, int (*change)(int))
{
    struct string_builder b = {.arena = r->arena};
    chat_append(&b, s);
    for (size_t i = from; i < b.n; i++) {
        if ((unsigned char)b.s[i] >= 0x80)
            chat_fail(r, n,
                      "upper and lower case of characters that are not ASCII is not supported");
        b.s[i] = (char)change((unsigned char)b.s[i]);
    }
    return chat_value_string(chat_built(&b));
}

static struct chat_value do_upper(struct run *r, const struct chat_node *n, struct chat_value v,
                                  const struct chat_value *a)
{
    (void)a;
    return change_case(r, n, chat_value_str(r->arena, v), 0, toupper);
}

static struct chat_value do_lower(struct run *r, const struct chat_node *n, struct chat_value v,
                                  const struct chat_value *a)
{
    (void)a;
    return change_case(r, n, chat_value_str(r->arena, v), 0, tolower);
}

static struct chat_value do_capitalize(struct run *r, const struct chat_node *n,
                                       struct chat_value v, const struct chat_value *a)
{
    struct chat_value out = do_lower(r, n, v, a);
    if (out.string.n)
        ((char *)(uintptr_t)out.string.s)[0] = (char)toupper((unsigned char)*out.string.s);
    return out;
}

static struct chat_value do_default(struct run *r, const struct chat_node *n, struct chat_value v,
                                    const struct chat_value *a)
{
    (void)r, (void)n;
    bool missing = v.kind == VALUE_UNDEFINED || (chat_value_true(a[1]) && !chat_value_true(v));
    return !missing ? v : chat_absent(a[0]) ? chat_value_text("") : a[0];
}

static struct chat_value do_int(struct run *r, const struct chat_node *n, struct chat_value v,
                                const struct chat_value *a)
{
    struct chat_value otherwise = chat_absent(a[0]) ? chat_value_int(0) : a[0];
    (void)n;
    if (v.kind == VALUE_INT || v.kind == VALUE_BOOL)
        return chat_value_int(v.whole);
    if (v.kind == VALUE_REAL)
        return v.real > -9e18 && v.real < 9e18 ? chat_value_int((int64_t)v.real) : otherwise;
    if (v.kind != VALUE_STRING)
        return otherwise;
    struct string s = chat_strip(v.string, NULL, true, true);
    char *text = arena_string(r->arena, s.s, s.n), *end;
    double real = strtod(text, &end);
    bool whole = *text && text[strspn(text, "+-0123456789")] == 0;
    if (*text == 0 || *end || !(real > -9e18 && real < 9e18))
        return otherwise;
    return chat_value_int(whole ? strtoll(text, NULL, 10) : (int64_t)real);
}

static struct chat_value do_replace(struct run *r, const struct chat_node *n, struct chat_value v,
                                    const struct chat_value *a)
{
    struct string s = chat_value_str(r->arena, v), what = chat_want_string(r, n, a[0], "replace"),
                  by = chat_want_string(r, n, a[1], "replace");
    struct string_builder b = {.arena = r->arena};
    int64_t most = chat_absent(a[2]) || a[2].kind == VALUE_NONE
                       ? INT64_MAX
                       : chat_want_int(r, n, a[2], "replace");
    size_t at = 0, hit;
    if (what.n == 0)
        chat_fail(r, n, "replace wants something to replace, found an empty string");
    while (most-- != 0 && (hit = chat_find(s, what, at)) != SIZE_MAX) {
        chat_append(&b, chat_part(s, at, hit));
        chat_append(&b, by);
        at = hit + what.n;
    }
    chat_append(&b, chat_part(s, at, s.n));
    return chat_value_string(chat_built(&b));
}

static struct chat_value do_tojson(struct run *r, const struct chat_node *n, struct chat_value v,
                                   const struct chat_value *a)
{
    struct string_builder b = {.arena = r->arena};
    struct chat_value_json how = {.ensure_ascii = chat_value_true(a[0]),
                                  .sort_keys = chat_value_true(a[3]),
                                  .indent = -1,
                                  .item = chat_value_text(", ").string,
                                  .colon = chat_value_text(": ").string};
    const char *what = "";
    if (!chat_absent(a[1]) && a[1].kind != VALUE_NONE) {
        how.indent = (int)chat_want_int(r, n, a[1], "indent");
        if (how.indent < 0 || how.indent > 64)
            chat_fail(r, n, "indent wants 0 to 64, found %d", how.indent);
        how.item = chat_value_text(",").string;
    }
    if (!chat_absent(a[2]) && a[2].kind != VALUE_NONE) {
        const struct list *two = chat_want_items(r, n, a[2]);
        if (two->n != 2)
            chat_fail(r, n, "separators wants two strings");
        how.item = chat_want_string(r, n, two->at[0], "separators");
        how.colon = chat_want_string(r, n, two->at[1], "separators");
    }
    if (!chat_value_json(&b, v, &how, &what))
        chat_fail(r, n, "tojson of %s is not possible", what);
    return chat_value_string(chat_built(&b));
}

/* --- sequences ----------------------------------------------------------------------------- */

static struct chat_value do_items(struct run *r, const struct chat_node *n, struct chat_value v,
                                  const struct chat_value *a)
{
    struct chat_value out = chat_value_list(r->arena, VALUE_LIST);
    (void)a;
    if (v.kind == VALUE_UNDEFINED)
        return out;
    if (v.kind != VALUE_DICT)
        chat_fail(r, n, "items wants a dict, found %s", chat_value_kind_name(v));
    for (size_t i = 0; i < v.dict->keys.n; i++) {
        struct chat_value pair = chat_value_list(r->arena, VALUE_TUPLE);
        chat_value_push(r->arena, pair.list, v.dict->keys.at[i]);
        chat_value_push(r->arena, pair.list, v.dict->values.at[i]);
        chat_value_push(r->arena, out.list, pair);
    }
    return out;
}

/* Is a after b in the order of dictsort, to which upper case is lower case? */
static bool is_after(struct run *r, const struct chat_node *n, struct chat_value a,
                     struct chat_value b)
{
    int order;
    if (a.kind == VALUE_STRING)
        a = change_case(r, n, a.string, 0, tolower);
    if (b.kind == VALUE_STRING)
        b = change_case(r, n, b.string, 0, tolower);
    if (!chat_value_compare(a, b, &order))
        chat_fail(r, n, "dictsort of %s and %s", chat_value_kind_name(a), chat_value_kind_name(b));
    return order > 0;
}

static struct chat_value do_dictsort(struct run *r, const struct chat_node *n, struct chat_value v,
                                     const struct chat_value *a)
{
    struct chat_value out = do_items(r, n, v, a);
    for (size_t i = 1; i < out.list->n; i++) {
        struct chat_value pair = out.list->at[i];
        size_t k = i;
        for (; k > 0 && is_after(r, n, out.list->at[k - 1].list->at[0], pair.list->at[0]); k--)
            out.list->at[k] = out.list->at[k - 1];
        out.list->at[k] = pair;
    }
    return out;
}

static struct chat_value do_list(struct run *r, const struct chat_node *n, struct chat_value v,
                                 const struct chat_value *a)
{
    const struct list *items = chat_want_items(r, n, v);
    struct chat_value out = chat_value_list(r->arena, VALUE_LIST);
    (void)a;
    for (size_t i = 0; i < items->n; i++)
        chat_value_push(r->arena, out.list, items->at[i]);
    return out;
}

static struct chat_value do_first(struct run *r, const struct chat_node *n, struct chat_value v,
                                  const struct chat_value *a)
{
    const struct list *items = chat_want_items(r, n, v);
    (void)a;
    return items->n ? items->at[0] : chat_value_undefined("the first item of nothing");
}

static struct chat_value do_last(struct run *r, const struct chat_node *n, struct chat_value v,
                                 const struct chat_value *a)
{
    const struct list *items = chat_want_items(r, n, v);
    (void)a;
    return items->n ? items->at[items->n - 1] : chat_value_undefined("the last item of nothing");
}

/* The member that "a.b" names, of one item. */
static struct chat_value attribute(struct run *r, const struct chat_node *n, struct chat_value v,
                                   struct chat_value path)
{
    if (path.kind != VALUE_STRING)
        return chat_item(r, n, v, path);
    for (size_t at = 0, dot; at <= path.string.n; at = dot + 1) {
        dot = chat_find(path.string, (struct string){.s = ".", .n = 1}, at);
        if (dot == SIZE_MAX)
            dot = path.string.n;
        v = chat_item(r, n, v, chat_value_string(chat_part(path.string, at, dot)));
    }
    return v;
}

static struct chat_value do_join(struct run *r, const struct chat_node *n, struct chat_value v,
                                 const struct chat_value *a)
{
    const struct list *items = chat_want_items(r, n, v);
    struct string_builder b = {.arena = r->arena};
    for (size_t i = 0; i < items->n; i++) {
        struct chat_value item =
            chat_absent(a[1]) ? items->at[i] : attribute(r, n, items->at[i], a[1]);
        if (item.safe)
            chat_fail(r, n, "joining what the filter 'safe' gave is not supported");
        if (i && !chat_absent(a[0]))
            chat_append(&b, chat_value_str(r->arena, a[0]));
        chat_append(&b, chat_value_str(r->arena, item));
    }
    return chat_value_string(chat_built(&b));
}

/* What map and its like go through: nothing, whatever it is, has no items. */
static const struct list *items_or_none(struct run *r, const struct chat_node *n,
                                        struct chat_value v)
{
    static const struct list nothing = {0};
    return chat_value_true(v) ? chat_want_items(r, n, v) : &nothing;
}

static struct chat_value do_map(struct run *r, const struct chat_node *n, struct chat_value v,
                                const struct chat_value *a)
{
    const struct list *items = items_or_none(r, n, v);
    struct chat_value out = chat_value_list(r->arena, VALUE_LIST);
    struct chat_node filter = {.kind = NODE_FILTER, .at = n->at};
    if (!chat_absent(a[0])) {
        struct string name = chat_want_string(r, n, a[0], "map");
        filter.name = arena_string(r->arena, name.s, name.n);
    }
    for (size_t i = 0; i < items->n; i++) {
        struct chat_value item = filter.name ? chat_filter(r, &filter, items->at[i])
                                             : attribute(r, n, items->at[i], a[1]);
        if (item.kind == VALUE_UNDEFINED && !filter.name && !chat_absent(a[2]))
            item = a[2];
        chat_value_push(r->arena, out.list, item);
    }
    return out;
}

/* Items for which a test (a[0] and its argument a[1]; absent: truth) gives `wanted`; of their
 * member `path`, if there is one. */
static struct chat_value keep(struct run *r, const struct chat_node *n, struct chat_value v,
                              bool wanted, const struct chat_value *path,
                              const struct chat_value *a)
{
    const struct list *items = items_or_none(r, n, v);
    struct chat_value out = chat_value_list(r->arena, VALUE_LIST);
    struct chat_node given = {.kind = NODE_VALUE, .at = n->at, .value = a[1]}, *list[] = {&given};
    struct chat_node test = {.kind = NODE_TEST, .at = n->at, .list = list, .n = !chat_absent(a[1])};
    if (!chat_absent(a[0])) {
        struct string name = chat_want_string(r, n, a[0], n->name);
        test.name = arena_string(r->arena, name.s, name.n);
    }
    for (size_t i = 0; i < items->n; i++) {
        struct chat_value item = path ? attribute(r, n, items->at[i], *path) : items->at[i];
        if ((test.name ? chat_test(r, &test, item) : chat_value_true(item)) == wanted)
            chat_value_push(r->arena, out.list, items->at[i]);
    }
    return out;
}

static struct chat_value do_select(struct run *r, const struct chat_node *n, struct chat_value v,
                                   const struct chat_value *a)
{
    return keep(r, n, v, true, NULL, a);
}

static struct chat_value do_reject(struct run *r, const struct chat_node *n, struct chat_value v,
                                   const struct chat_value *a)
{
    return keep(r, n, v, false, NULL, a);
}

static struct chat_value do_selectattr(struct run *r, const struct chat_node *n,
                                       struct chat_value v, const struct chat_value *a)
{
    return keep(r, n, v, true, &a[0], a + 1);
}

static struct chat_value do_rejectattr(struct run *r, const struct chat_node *n,
                                       struct chat_value v, const struct chat_value *a)
{
    return keep(r, n, v, false, &a[0], a + 1);
}

static const struct builtin filters[] = {
    {"capitalize", {NULL}, do_capitalize, 0},
    {"count", {NULL}, do_length, 0},
    {"d", {"default_value", "boolean"}, do_default, 0},
    {"default", {"default_value", "boolean"}, do_default, 0},
    {"dictsort", {NULL}, do_dictsort, 0},
    {"first", {NULL}, do_first, 0},
    {"int", {"default"}, do_int, 0},
    {"items", {NULL}, do_items, 0},
    {"join", {"d", "attribute"}, do_join, 0},
    {"last", {NULL}, do_last, 0},
    {"length", {NULL}, do_length, 0},
    {"list", {NULL}, do_list, 0},
    {"lower", {NULL}, do_lower, 0},
    {"map", {"", "attribute", "default"}, do_map, 0},
    {"reject", {"", ""}, do_reject, 0},
    {"rejectattr", {"", "", ""}, do_rejectattr, 0},
    {"replace", {"old", "new", "count"}, do_replace, 0},
    {"safe", {NULL}, do_safe, 0},
    {"select", {"", ""}, do_select, 0},
    {"selectattr", {"", "", ""}, do_selectattr, 0},
    {"string", {NULL}, do_string, 0},
    {"tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, do_tojson, 0},
    {"trim", {"chars"}, do_trim, 0},
    {"upper", {NULL}, do_upper, 0},
};

static const struct builtin *find_filter(const char *name)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (strcmp(filters[i].name, name) == 0)
            return &filters[i];
    return NULL;
}

bool chat_has_filter(const char *name)
{
    return find_filter(name) != NULL;
}

struct chat_value chat_filter(struct run *r, const struct chat_node *n, struct chat_value v)
{
    struct chat_value arguments[CHAT_ARGUMENTS];
    const struct builtin *f = find_filter(n->name);
    if (!f)
        chat_fail(r, n, "the filter '%s' is not supported", n->name);
    chat_bind(r, n, n->name, f->arguments, arguments);
    return f->run(r, n, v, arguments);
}
