/* Statements, variables and macros. */
#include "chat/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };

/* Far more than a conversation needs: a template that goes on for ever must not hold a job. */
#define STEPS_MAX  10000000L
#define BYTES_MAX  ((size_t)512 << 20)
#define MACROS_MAX 200

static enum flow run_block(struct run *r, const struct chat_node *block);

void chat_fail(struct run *r, const struct chat_node *n, const char *format, ...)
{
    char what[1024];
    size_t line, column;
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    chat_source_place(r->text, n->at, &line, &column);
    err_set(r->e, "%zu:%zu: %s", line, column, what);
    longjmp(*r->out, 1);
}

/* --- variables ----------------------------------------------------------------------------- */

struct chat_value chat_lookup(const struct run *r, const char *name)
{
    for (const struct scope *s = r->scope; s; s = s->outer)
        for (size_t i = 0; i < s->n; i++)
            if (strcmp(s->variables[i].name, name) == 0)
                return s->variables[i].value;
    return chat_value_undefined(name);
}

void chat_set(struct run *r, const char *name, struct chat_value v)
{
    struct scope *s = r->scope;
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->variables[i].name, name) == 0) {
            s->variables[i].value = v;
            return;
        }
    if (s->n == s->room) {
        size_t room = s->room ? 2 * s->room : 4;
        struct variable *bigger = arena_take(r->arena, room, sizeof *bigger);
        if (s->n)
            memcpy(bigger, s->variables, s->n * sizeof *bigger);
        s->variables = bigger;
        s->room = room;
    }
    s->variables[s->n++] = (struct variable){name, v};
}

static void assign(struct run *r, const struct chat_node *target, struct chat_value v)
{
    if (target->kind == NODE_NAME) {
        chat_set(r, target->name, v);
    } else if (target->kind == NODE_MEMBER) {
        struct chat_value space = chat_eval(r, target->a);
        if (space.kind != VALUE_NAMESPACE)
            chat_fail(r, target, "only members of a namespace can be set, '%s' is %s",
                      target->a->name, chat_value_kind_name(space));
        chat_value_put(r->arena, space.dict, chat_value_text(target->name), v);
    } else {
        const struct list *items = chat_want_items(r, target, v);
        if (items->n != target->n)
            chat_fail(r, target, "%zu values for %zu names", items->n, target->n);
        for (size_t i = 0; i < target->n; i++)
            assign(r, target->list[i], items->at[i]);
    }
}

/* --- blocks -------------------------------------------------------------------------------- */

static struct scope *enter(struct run *r, struct scope *outer)
{
    struct scope *before = r->scope, *inner = arena_take(r->arena, 1, sizeof *inner);
    inner->outer = outer;
    r->scope = inner;
    return before;
}

/* The text that a block writes, with variables of its own. */
static struct chat_value capture(struct run *r, const struct chat_node *block)
{
    struct string_builder b = {.arena = r->arena}, *to = r->to;
    struct scope *before = enter(r, r->scope);
    r->to = &b;
    run_block(r, block);
    r->to = to;
    r->scope = before;
    return chat_value_string(chat_built(&b));
}

static struct chat_value filters(struct run *r, const struct chat_node *n, struct chat_value v)
{
    return n ? chat_filter(r, n, filters(r, n->a, v)) : v;
}

static enum flow run_for(struct run *r, const struct chat_node *n)
{
    const struct list *all = chat_want_items(r, n->b, chat_eval(r, n->b));
    struct chat_value kept = chat_value_list(r->arena, VALUE_LIST);
    for (size_t i = 0; i < all->n; i++) {
        struct scope *before = enter(r, r->scope);
        if (n->c)
            assign(r, n->a, all->at[i]);
        if (!n->c || chat_value_true(chat_eval(r, n->c)))
            chat_value_push(r->arena, kept.list, all->at[i]);
        r->scope = before;
    }
    for (size_t i = 0; i < kept.list->n; i++) {
        struct loop *loop = arena_take(r->arena, 1, sizeof *loop);
        struct scope *before = enter(r, r->scope);
        *loop = (struct loop){.items = kept.list, .index = i};
        chat_set(r, "loop", (struct chat_value){.kind = VALUE_LOOP, .loop = loop});
        assign(r, n->a, kept.list->at[i]);
        enum flow flow = run_block(r, n->list[0]);
        r->scope = before;
        if (flow == FLOW_BREAK)
            break;
    }
    if (kept.list->n == 0 && n->list[1]) {
        struct scope *before = enter(r, r->scope);
        enum flow flow = run_block(r, n->list[1]);
        r->scope = before;
        return flow;
    }
    return FLOW_ON;
}

static enum flow run_if(struct run *r, const struct chat_node *n)
{
    for (size_t i = 0; i + 1 < n->n; i += 2)
        if (chat_value_true(chat_eval(r, n->list[i])))
            return run_block(r, n->list[i + 1]);
    return n->n % 2 ? run_block(r, n->list[n->n - 1]) : FLOW_ON;
}

static void define_macro(struct run *r, const struct chat_node *n)
{
    struct callable *c = arena_take(r->arena, 1, sizeof *c);
    *c = (struct callable){.macro = n, .scope = r->scope, .name = n->name};
    chat_set(r, n->name, (struct chat_value){.kind = VALUE_CALL, .call = c});
}

static enum flow run_statement(struct run *r, const struct chat_node *n)
{
    struct scope *before;
    enum flow flow;
    switch (n->kind) {
    case NODE_DATA:
        chat_append(r->to, n->value.string);
        return FLOW_ON;
    case NODE_PRINT:
        chat_append(r->to, chat_value_str(r->arena, chat_eval(r, n->a)));
        return FLOW_ON;
    case NODE_IF:
        return run_if(r, n);
    case NODE_FOR:
        return run_for(r, n);
    case NODE_SET:
        assign(r, n->a, chat_eval(r, n->b));
        return FLOW_ON;
    case NODE_CAPTURE:
        assign(r, n->a, filters(r, n->b, capture(r, n->list[0])));
        return FLOW_ON;
    case NODE_FILTERED:
        chat_append(r->to, chat_value_str(r->arena, filters(r, n->b, capture(r, n->list[0]))));
        return FLOW_ON;
    case NODE_MACRO:
        define_macro(r, n);
        return FLOW_ON;
    case NODE_SCOPE:
        before = enter(r, r->scope);
        flow = run_block(r, n->list[0]);
        r->scope = before;
        return flow;
    case NODE_BREAK:
        return FLOW_BREAK;
    case NODE_CONTINUE:
        return FLOW_CONTINUE;
    default:
        die("chat: statement %d", (int)n->kind);
    }
}

static enum flow run_block(struct run *r, const struct chat_node *block)
{
    for (size_t i = 0; i < block->n; i++) {
        if (++r->steps > STEPS_MAX || r->arena->bytes > BYTES_MAX)
            chat_fail(r, block->list[i], "the template does not come to an end");
        enum flow flow = run_statement(r, block->list[i]);
        if (flow != FLOW_ON)
            return flow;
    }
    return FLOW_ON;
}

void chat_run_tree(struct run *r, const struct chat_node *tree)
{
    run_block(r, tree);
}

/* --- macros -------------------------------------------------------------------------------- */

/* The argument of a parameter, evaluated in the caller's scope; NULL: not given. */
static const struct chat_node *find_argument(const struct chat_node *call, size_t place,
                                             const char *name)
{
    if (place < call->n && call->list[place]->kind != NODE_KEYWORD)
        return call->list[place];
    for (size_t i = 0; i < call->n; i++)
        if (call->list[i]->kind == NODE_KEYWORD && strcmp(call->list[i]->name, name) == 0)
            return call->list[i]->a;
    return NULL;
}

static bool has_parameter(const struct chat_node *macro, const struct chat_node *argument,
                          size_t place)
{
    if (argument->kind != NODE_KEYWORD)
        return place < macro->n;
    for (size_t i = 0; i < macro->n; i++)
        if (strcmp(macro->list[i]->name, argument->name) == 0)
            return true;
    return false;
}

struct chat_value chat_call_macro(struct run *r, const struct chat_node *call,
                                  const struct callable *c)
{
    const struct chat_node *macro = c->macro;
    struct string_builder b = {.arena = r->arena}, *to = r->to;
    for (size_t i = 0; i < call->n; i++)
        if (!has_parameter(macro, call->list[i], i))
            chat_fail(r, call->list[i], "the macro '%s' has no such argument", macro->name);
    if (++r->depth > MACROS_MAX)
        chat_fail(r, call, "more than %d macros inside each other", MACROS_MAX);
    struct chat_value *given = arena_take(r->arena, macro->n + 1, sizeof *given);
    for (size_t i = 0; i < macro->n; i++) {
        const struct chat_node *argument = find_argument(call, i, macro->list[i]->name);
        given[i] = argument ? chat_eval(r, argument) : chat_value_undefined(NULL);
    }
    struct scope *before = enter(r, c->scope);
    for (size_t i = 0; i < macro->n; i++) {
        const struct chat_node *parameter = macro->list[i];
        if (chat_absent(given[i]))
            given[i] =
                parameter->a ? chat_eval(r, parameter->a) : chat_value_undefined(parameter->name);
        chat_set(r, parameter->name, given[i]);
    }
    r->to = &b;
    run_block(r, macro->b);
    r->to = to;
    r->scope = before;
    r->depth--;
    return chat_value_string(chat_built(&b));
}
