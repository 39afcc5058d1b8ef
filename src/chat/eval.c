/* Expressions. */
#include "chat/run.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int64_t chat_want_int(struct run *r, const struct chat_node *n, struct chat_value v,
                      const char *what)
{
    if (v.kind != VALUE_INT && v.kind != VALUE_BOOL)
        chat_fail(r, n, "%s wants an integer, found %s", what, chat_value_kind_name(v));
    return v.whole;
}

struct string chat_want_string(struct run *r, const struct chat_node *n, struct chat_value v,
                               const char *what)
{
    if (v.kind != VALUE_STRING)
        chat_fail(r, n, "%s wants a string, found %s", what, chat_value_kind_name(v));
    return v.string;
}

const struct list *chat_want_items(struct run *r, const struct chat_node *n, struct chat_value v)
{
    const struct list *items = chat_value_items(r->arena, v);
    if (!items)
        chat_fail(r, n, "%s has no items to go through", chat_value_kind_name(v));
    return items;
}

/* Undefined may be printed, tested and gone through, nothing else. */
static void want_defined(struct run *r, const struct chat_node *n, struct chat_value v)
{
    if (v.kind == VALUE_UNDEFINED)
        chat_fail(r, n, "'%s' is undefined", v.name ? v.name : "a value");
}

/* --- operators ----------------------------------------------------------------------------- */

static struct chat_value whole_binary(struct run *r, const struct chat_node *n, char op, int64_t a,
                                      int64_t b)
{
    int64_t out = 0;
    bool overflow = false;
    if ((op == '%' || op == 'f') && b == 0)
        chat_fail(r, n, "a division by zero");
    if (op == '+')
        overflow = __builtin_add_overflow(a, b, &out);
    else if (op == '-')
        overflow = __builtin_sub_overflow(a, b, &out);
    else if (op == '*')
        overflow = __builtin_mul_overflow(a, b, &out);
    else if (b == -1) /* the one quotient that may not fit */
        overflow = op == 'f' && __builtin_sub_overflow((int64_t)0, a, &out);
    else if (op == '%')
        out = a % b + (a % b && (a < 0) != (b < 0) ? b : 0);
    else
        out = a / b - (a % b && (a < 0) != (b < 0));
    if (overflow)
        chat_fail(r, n, "an integer of more than 64 bits");
    return chat_value_int(out);
}

static struct chat_value real_binary(struct run *r, const struct chat_node *n, char op, double a,
                                     double b)
{
    struct chat_value v = {.kind = VALUE_REAL};
    if (strchr("/%f", op) && b == 0)
        chat_fail(r, n, "a division by zero");
    double rest = strchr("%f", op) ? fmod(a, b) : 0;
    if (rest != 0 && (rest < 0) != (b < 0))
        rest += b;
    v.real = op == '+'   ? a + b
             : op == '-' ? a - b
             : op == '*' ? a * b
             : op == '/' ? a / b
             : op == '%' ? rest
                         : floor((a - rest) / b + 0.5);
    return v;
}

static bool is_number(struct chat_value v)
{
    return v.kind == VALUE_INT || v.kind == VALUE_BOOL || v.kind == VALUE_REAL;
}

static struct chat_value join_strings(struct run *r, struct string a, struct string b)
{
    struct string_builder out = {.arena = r->arena};
    chat_append(&out, a);
    chat_append(&out, b);
    return chat_value_string(chat_built(&out));
}

static struct chat_value add_sequences(struct run *r, struct chat_value a, struct chat_value b)
{
    struct chat_value out = chat_value_list(r->arena, a.kind);
    for (size_t i = 0; i < a.list->n; i++)
        chat_value_push(r->arena, out.list, a.list->at[i]);
    for (size_t i = 0; i < b.list->n; i++)
        chat_value_push(r->arena, out.list, b.list->at[i]);
    return out;
}

static struct chat_value repeat(struct run *r, const struct chat_node *n, struct string s,
                                int64_t times)
{
    struct string_builder out = {.arena = r->arena};
    if (times > 1000000 || (times > 0 && s.n > (size_t)(1000000 / times)))
        chat_fail(r, n, "a text repeated to more than 1000000 bytes");
    for (int64_t i = 0; i < times; i++)
        chat_append(&out, s);
    return chat_value_string(chat_built(&out));
}

struct chat_value chat_binary(struct run *r, const struct chat_node *n, const char *op,
                              struct chat_value a, struct chat_value b)
{
    if (*op == '~')
        return join_strings(r, chat_value_str(r->arena, a), chat_value_str(r->arena, b));
    want_defined(r, n, a);
    want_defined(r, n, b);
    char kind = strcmp(op, "//") == 0 ? 'f' : *op;
    if (is_number(a) && is_number(b))
        return a.kind == VALUE_REAL || b.kind == VALUE_REAL || kind == '/'
                   ? real_binary(r, n, kind, chat_value_real(a), chat_value_real(b))
                   : whole_binary(r, n, kind, a.whole, b.whole);
    if (kind == '+' && a.kind == VALUE_STRING && b.kind == VALUE_STRING) {
        if (a.safe || b.safe)
            chat_fail(r, n, "'+' on what the filter 'safe' gave is not supported");
        return join_strings(r, a.string, b.string);
    }
    if (kind == '+' && a.kind == b.kind && (a.kind == VALUE_LIST || a.kind == VALUE_TUPLE))
        return add_sequences(r, a, b);
    if (kind == '*' && a.kind == VALUE_STRING && b.kind == VALUE_INT)
        return repeat(r, n, a.string, b.whole);
    chat_fail(r, n, "'%s' is not for %s and %s", op, chat_value_kind_name(a),
              chat_value_kind_name(b));
}

static bool contains(struct run *r, const struct chat_node *n, struct chat_value part,
                     struct chat_value all)
{
    if (all.kind == VALUE_STRING)
        return chat_find(all.string, chat_want_string(r, n, part, "'in' on a string"), 0) !=
               SIZE_MAX;
    const struct list *items = chat_want_items(r, n, all);
    for (size_t i = 0; i < items->n; i++)
        if (chat_value_equal(items->at[i], part))
            return true;
    return false;
}

bool chat_comparison(struct run *r, const struct chat_node *n, const char *op, struct chat_value a,
                     struct chat_value b)
{
    int order = 0;
    if (strcmp(op, "==") == 0)
        return chat_value_equal(a, b);
    if (strcmp(op, "!=") == 0)
        return !chat_value_equal(a, b);
    if (strcmp(op, "in") == 0)
        return contains(r, n, a, b);
    if (strcmp(op, "not in") == 0)
        return !contains(r, n, a, b);
    want_defined(r, n, a);
    want_defined(r, n, b);
    if (!chat_value_compare(a, b, &order))
        chat_fail(r, n, "'%s' is not for %s and %s", op, chat_value_kind_name(a),
                  chat_value_kind_name(b));
    bool equal = op[1] == '=' && order == 0;
    return equal || (*op == '<' ? order < 0 : order > 0);
}

static struct chat_value compare(struct run *r, const struct chat_node *n)
{
    struct chat_value left = chat_eval(r, n->a);
    for (size_t i = 0; i < n->n; i++) {
        struct chat_value right = chat_eval(r, n->list[i]->b);
        if (!chat_comparison(r, n->list[i], n->list[i]->name, left, right))
            return chat_value_bool(false);
        left = right;
    }
    return chat_value_bool(true);
}

/* --- members, items, slices ---------------------------------------------------------------- */

static struct chat_value loop_member(const struct loop *l, const char *name)
{
    size_t i = l->index, n = l->items->n;
    const struct variable members[] = {
        {"index", chat_value_int((int64_t)i + 1)},
        {"index0", chat_value_int((int64_t)i)},
        {"revindex", chat_value_int((int64_t)(n - i))},
        {"revindex0", chat_value_int((int64_t)(n - i) - 1)},
        {"first", chat_value_bool(i == 0)},
        {"last", chat_value_bool(i + 1 == n)},
        {"length", chat_value_int((int64_t)n)},
        {"depth", chat_value_int(1)},
        {"depth0", chat_value_int(0)},
        {"previtem", i ? l->items->at[i - 1] : chat_value_undefined("loop.previtem")},
        {"nextitem", i + 1 < n ? l->items->at[i + 1] : chat_value_undefined("loop.nextitem")},
    };
    for (size_t k = 0; k < sizeof members / sizeof *members; k++)
        if (strcmp(members[k].name, name) == 0)
            return members[k].value;
    return chat_value_undefined(name);
}

struct chat_value chat_member(struct run *r, const struct chat_node *n, struct chat_value v,
                              const char *name)
{
    want_defined(r, n, v);
    if (v.kind == VALUE_LOOP) {
        struct chat_value member = loop_member(v.loop, name);
        if (member.kind == VALUE_UNDEFINED && member.name == name)
            chat_fail(r, n, "loop.%s is not supported", name);
        return member;
    }
    struct chat_value method = chat_find_method(r, v, name);
    if (method.kind != VALUE_UNDEFINED)
        return method;
    struct chat_value *there = NULL;
    if (v.kind == VALUE_DICT || v.kind == VALUE_NAMESPACE)
        there = chat_value_get(v.dict, chat_value_text(name));
    return there ? *there : chat_value_undefined(name);
}

struct chat_value chat_item(struct run *r, const struct chat_node *n, struct chat_value v,
                            struct chat_value key)
{
    want_defined(r, n, v);
    if (v.kind == VALUE_DICT) {
        struct chat_value *there = chat_value_get(v.dict, key);
        if (there)
            return *there;
    }
    bool whole = key.kind == VALUE_INT || key.kind == VALUE_BOOL;
    if (whole && (v.kind == VALUE_LIST || v.kind == VALUE_TUPLE || v.kind == VALUE_STRING)) {
        size_t length;
        chat_value_length(v, &length);
        int64_t i = key.whole < 0 ? key.whole + (int64_t)length : key.whole;
        if (i < 0 || i >= (int64_t)length)
            return chat_value_undefined("an item behind the end");
        if (v.kind != VALUE_STRING)
            return v.list->at[i];
        size_t from = chat_character_at(v.string, (size_t)i);
        return chat_value_string(
            chat_part(v.string, from, chat_character_at(v.string, (size_t)i + 1)));
    }
    if (key.kind == VALUE_STRING)
        return chat_member(r, n, v, arena_string(r->arena, key.string.s, key.string.n));
    return chat_value_undefined("an item");
}

/* One end of a slice: an index from the end counts back, and what is outside ends at the border. */
static int64_t slice_end(struct run *r, const struct chat_node *n, int64_t length,
                         int64_t otherwise, int64_t lowest, int64_t highest)
{
    struct chat_value v = n ? chat_eval(r, n) : (struct chat_value){.kind = VALUE_NONE};
    if (v.kind == VALUE_NONE)
        return otherwise;
    int64_t i = chat_want_int(r, n, v, "a slice");
    if (i < 0)
        i += length;
    return i < lowest ? lowest : i > highest ? highest : i;
}

static struct chat_value slice(struct run *r, const struct chat_node *n)
{
    struct chat_value v = chat_eval(r, n->a), out;
    want_defined(r, n, v);
    if (v.kind != VALUE_LIST && v.kind != VALUE_TUPLE && v.kind != VALUE_STRING)
        chat_fail(r, n, "%s cannot be cut into slices", chat_value_kind_name(v));
    const struct list *items = chat_value_items(r->arena, v);
    int64_t length = (int64_t)items->n, step = 1;
    if (n->d)
        step = chat_want_int(r, n->d, chat_eval(r, n->d), "a slice");
    if (step == 0)
        chat_fail(r, n, "a slice with a step of 0");
    step = step > length ? length + 1 : step < -length ? -length - 1 : step;
    int64_t lowest = step > 0 ? 0 : -1, highest = step > 0 ? length : length - 1;
    int64_t from = slice_end(r, n->b, length, step > 0 ? 0 : length - 1, lowest, highest);
    int64_t to = slice_end(r, n->c, length, step > 0 ? length : -1, lowest, highest);
    out = chat_value_list(r->arena, v.kind == VALUE_TUPLE ? VALUE_TUPLE : VALUE_LIST);
    for (int64_t i = from; step > 0 ? i < to : i > to; i += step)
        chat_value_push(r->arena, out.list, items->at[i]);
    if (v.kind != VALUE_STRING)
        return out;
    struct string_builder b = {.arena = r->arena};
    for (size_t i = 0; i < out.list->n; i++)
        chat_append(&b, out.list->at[i].string);
    return chat_value_string(chat_built(&b));
}

/* --- the rest ------------------------------------------------------------------------------ */

static struct chat_value items(struct run *r, const struct chat_node *n)
{
    struct chat_value out =
        chat_value_list(r->arena, n->kind == NODE_LIST ? VALUE_LIST : VALUE_TUPLE);
    for (size_t i = 0; i < n->n; i++)
        chat_value_push(r->arena, out.list, chat_eval(r, n->list[i]));
    return out;
}

static struct chat_value pairs(struct run *r, const struct chat_node *n)
{
    struct chat_value out = chat_value_dict(r->arena, VALUE_DICT);
    for (size_t i = 0; i < n->n; i += 2) {
        struct chat_value key = chat_eval(r, n->list[i]);
        if (key.kind != VALUE_STRING && key.kind != VALUE_INT)
            chat_fail(r, n->list[i], "a key is a string or an integer, found %s",
                      chat_value_kind_name(key));
        chat_value_put(r->arena, out.dict, key, chat_eval(r, n->list[i + 1]));
    }
    return out;
}

static struct chat_value call(struct run *r, const struct chat_node *n)
{
    struct chat_value what = chat_eval(r, n->a);
    if (what.kind == VALUE_UNDEFINED && n->a->kind == NODE_MEMBER)
        chat_fail(r, n->a, "the method '%s' is not supported here", n->a->name);
    if (what.kind != VALUE_CALL)
        chat_fail(r, n, "'%s' is %s and cannot be called", n->a->name ? n->a->name : "a value",
                  chat_value_kind_name(what));
    return what.call->macro ? chat_call_macro(r, n, what.call) : chat_call(r, n, what.call);
}

static struct chat_value sign(struct run *r, const struct chat_node *n)
{
    struct chat_value v = chat_eval(r, n->a);
    if (!is_number(v))
        chat_fail(r, n, "a sign before %s", chat_value_kind_name(v));
    if (v.kind == VALUE_BOOL)
        v.kind = VALUE_INT;
    if (n->kind == NODE_MINUS && v.kind == VALUE_INT)
        v = whole_binary(r, n, '-', 0, v.whole);
    else if (n->kind == NODE_MINUS)
        v.real = -v.real;
    return v;
}

static struct chat_value name(struct run *r, const struct chat_node *n)
{
    struct chat_value v = chat_lookup(r, n->name);
    return v.kind == VALUE_UNDEFINED && v.name == n->name ? chat_find_function(r, n->name) : v;
}

static struct chat_value choose(struct run *r, const struct chat_node *n)
{
    if (chat_value_true(chat_eval(r, n->b)))
        return chat_eval(r, n->a);
    return n->c ? chat_eval(r, n->c) : chat_value_undefined("a value without 'else'");
}

/* a and b, a or b: the operand that decided. */
static struct chat_value logic(struct run *r, const struct chat_node *n)
{
    struct chat_value left = chat_eval(r, n->a);
    return chat_value_true(left) == (n->kind == NODE_OR) ? left : chat_eval(r, n->b);
}

struct chat_value chat_eval(struct run *r, const struct chat_node *n)
{
    r->steps++;
    switch (n->kind) {
    case NODE_VALUE:
        return n->value;
    case NODE_NAME:
        return name(r, n);
    case NODE_LIST:
    case NODE_TUPLE:
        return items(r, n);
    case NODE_DICT:
        return pairs(r, n);
    case NODE_MEMBER:
        return chat_member(r, n, chat_eval(r, n->a), n->name);
    case NODE_ITEM: {
        struct chat_value of = chat_eval(r, n->a);
        return chat_item(r, n, of, chat_eval(r, n->b));
    }
    case NODE_SLICE:
        return slice(r, n);
    case NODE_CALL:
        return call(r, n);
    case NODE_FILTER:
        return chat_filter(r, n, chat_eval(r, n->a));
    case NODE_TEST:
        return chat_value_bool(chat_test(r, n, chat_eval(r, n->a)));
    case NODE_NOT:
        return chat_value_bool(!chat_value_true(chat_eval(r, n->a)));
    case NODE_MINUS:
    case NODE_PLUS:
        return sign(r, n);
    case NODE_AND:
    case NODE_OR:
        return logic(r, n);
    case NODE_CHOICE:
        return choose(r, n);
    case NODE_COMPARE:
        return compare(r, n);
    case NODE_BINARY: {
        struct chat_value left = chat_eval(r, n->a);
        return chat_binary(r, n, n->name, left, chat_eval(r, n->b));
    }
    default:
        die("chat: expression %d", (int)n->kind);
    }
}
