#include "chat/chat.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "chat/run.h"

#include <stdlib.h>
#include <string.h>

struct chat {
    struct arena arena;
    struct chat_source source;
    const struct chat_node *tree;
};

int chat_parse(const char *text, size_t n, struct chat **out, struct err *e)
{
    struct chat *c = mem_zeroed(1, sizeof *c);
    jmp_buf failed;
    size_t bad;
    *out = NULL;
    c->source =
        (struct chat_source){.text = text, .n = n, .arena = &c->arena, .e = e, .out = &failed};
    if (setjmp(failed) != 0) {
        chat_free(c);
        return -1;
    }
    if (utf8_check(text, n, &bad) != 0)
        chat_source_fail(&c->source, bad, "the template is not UTF-8");
    if (memchr(text, 0, n))
        chat_source_fail(&c->source, strlen(text), "a NUL byte in the template");
    chat_lex(&c->source);
    c->tree = chat_parse_tree(&c->source);
    c->source.out = NULL;
    c->source.e = NULL;
    *out = c;
    return 0;
}

void chat_free(struct chat *c)
{
    if (!c)
        return;
    arena_free(&c->arena);
    free(c);
}

static int read_date(const char *text, struct tm *date, struct err *e)
{
    *date = (struct tm){0};
    const char *end = strptime(text, "%Y-%m-%d", date);
    if (!end || *end)
        return err_set(e, "the date '%s' is not written as 2026-01-31", text);
    date->tm_isdst = -1;
    return 0;
}

static void set_variables(struct run *r, const struct chat_input *input)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)input->variables, name, value) chat_set(
        r, arena_string(r->arena, name, strlen(name)), chat_value_from_json(r->arena, value, 0));
    chat_set(r, "messages", chat_value_from_json(r->arena, input->messages, 1));
    chat_set(r, "tools",
             input->tools ? chat_value_from_json(r->arena, input->tools, 1)
                          : (struct chat_value){.kind = VALUE_NONE});
}

int chat_render(const struct chat *c, const struct chat_input *input, char **text, char **marks,
                size_t *n, struct err *e)
{
    struct arena arena = {0};
    struct scope top = {0}, globals = {0};
    struct string_builder b = {.arena = &arena};
    struct tm date;
    jmp_buf failed;
    *text = *marks = NULL;
    *n = 0;
    if (input->date && read_date(input->date, &date, e) != 0)
        return -1;
    struct run r = {.arena = &arena,
                    .text = c->source.text,
                    .e = e,
                    .out = &failed,
                    .scope = &globals,
                    .to = &b,
                    .date = input->date ? &date : NULL};
    if (setjmp(failed) != 0) {
        arena_free(&arena);
        return -1;
    }
    set_variables(&r, input);
    top.outer = &globals;
    r.scope = &top;
    chat_run_tree(&r, c->tree);
    *text = mem_string_n(b.n ? b.s : "", b.n);
    *marks = mem_zeroed(b.n + 1, 1);
    if (b.n)
        memcpy(*marks, b.mark, b.n);
    *n = b.n;
    arena_free(&arena);
    return 0;
}
