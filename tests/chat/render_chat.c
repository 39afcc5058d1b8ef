/* Renders what standard input says: for compare_jinja.py. One JSON object a line: "parse": a
 * template that the lines after it are for, or "messages", "tools", "variables", "date". Answers
 * with one line: {"text": ..., "marked": the marked bytes}, or {"error": ...}. */
#include "base/mem.h"
#include "chat/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

static json_t *marked_part(const char *text, const char *marks, size_t n)
{
    char *kept = mem_new(n + 1, 1);
    size_t used = 0;
    for (size_t i = 0; i < n; i++)
        if (marks[i])
            kept[used++] = text[i];
    json_t *out = json_stringn_nocheck(kept, used);
    free(kept);
    return out;
}

static json_t *render(const struct chat *chat, const json_t *in)
{
    struct err e = {{0}};
    char *text, *marks;
    size_t n;
    struct chat_input input = {
        .messages = json_object_get(in, "messages"),
        .tools = json_object_get(in, "tools"),
        .variables = json_object_get(in, "variables"),
        .date = json_string_value(json_object_get(in, "date")),
    };
    if (chat_render(chat, &input, &text, &marks, &n, &e) != 0)
        return json_pack("{s:s}", "error", e.text);
    json_t *out = json_object();
    json_object_set_new(out, "text", json_stringn_nocheck(text, n));
    json_object_set_new(out, "marked", marked_part(text, marks, n));
    free(text);
    free(marks);
    return out;
}

int main(void)
{
    struct chat *chat = NULL;
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        struct err e = {{0}};
        json_error_t why;
        json_t *in = json_loads(line, 0, &why), *out = NULL;
        const char *template = json_string_value(json_object_get(in, "parse"));
        if (!in) {
            fprintf(stderr, "%s\n", why.text);
            return 1;
        }
        if (template) {
            chat_free(chat);
            out = chat_parse(template, strlen(template), &chat, &e) == 0
                      ? json_object()
                      : json_pack("{s:s}", "error", e.text);
        } else {
            out = render(chat, in);
        }
        char *answer = json_dumps(out, JSON_COMPACT | JSON_SORT_KEYS);
        puts(answer);
        fflush(stdout);
        free(answer);
        json_decref(out);
        json_decref(in);
    }
    chat_free(chat);
    free(line);
    return 0;
}
