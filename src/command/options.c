#include "command/options.h"

#include "base/mem.h"
#include "job/suggest.h"

#include <stdlib.h>
#include <string.h>

/* ---- parsing -------------------------------------------------------------------------------- */

static const struct option_row *find(const struct usage *u, const char *name, size_t n)
{
    for (const struct option_row *o = u->options; o->name; o++)
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            return o;
    return NULL;
}

static int unknown(const struct usage *u, const char *argument, struct err *e)
{
    const char *known[64];
    size_t n = 0;
    for (const struct option_row *o = u->options; o->name && n < 64; o++)
        known[n++] = o->name;
    char *name = mem_string_n(argument + 2, strcspn(argument + 2, "="));
    const char *near = suggest_nearest(name, known, n);
    err_set(e, "`tandem %s` has no option --%s%s%s%s; see `tandem %s --help`", u->name, name,
            near ? "; was --" : "", near ? near : "", near ? " meant?" : "", u->name);
    free(name);
    return -1;
}

static int take(const struct option_row *o, void *into, const char *value, struct err *e)
{
    void *member = (char *)into + o->offset;
    struct texts *texts = member;
    switch (o->kind) {
    case OPTION_FLAG:
        *(bool *)member = true;
        return 0;
    case OPTION_TEXT:
        *(const char **)member = value;
        return 0;
    case OPTION_TEXTS:
        texts->items = mem_resize(texts->items, texts->n + 1, sizeof *texts->items);
        texts->items[texts->n++] = value;
        return 0;
    case OPTION_READ:
        return o->read(member, o->name, value, e);
    }
    return 0;
}

/* One option at argv[*i]; its value may be the next argument. */
static int take_option(const struct usage *u, char **argv, int argc, int *i, void *into,
                       struct err *e)
{
    const char *argument = argv[*i], *equals = strchr(argument, '=');
    size_t n = equals ? (size_t)(equals - argument - 2) : strlen(argument + 2);
    const struct option_row *o = find(u, argument + 2, n);
    if (!o)
        return unknown(u, argument, e);
    if (!o->value)
        return equals ? err_set(e, "--%s takes no value", o->name) : take(o, into, NULL, e);
    if (!equals && *i + 1 >= argc)
        return err_set(e, "--%s wants a value: --%s %s", o->name, o->name, o->value);
    return take(o, into, equals ? equals + 1 : argv[++*i], e);
}

int options_parse(const struct usage *u, int argc, char **argv, void *into, char ***operands,
                  struct err *e)
{
    char **kept = mem_new((size_t)argc, sizeof *kept);
    int n = 0, status = 0;
    bool ended = false;
    for (int i = 1; i < argc && status == 0; i++) {
        if (!ended && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            options_help(u, stdout);
            status = 1;
        } else if (!ended && strcmp(argv[i], "--") == 0) {
            ended = true;
        } else if (!ended && argv[i][0] == '-' && argv[i][1] == '-') {
            status = take_option(u, argv, argc, &i, into, e);
        } else if (!ended && argv[i][0] == '-' && argv[i][1]) {
            status = err_set(e, "`tandem %s` has no option %s; see `tandem %s --help`", u->name,
                             argv[i], u->name);
        } else {
            kept[n++] = argv[i];
        }
    }
    if (status == 0 && (n < u->least || n > u->most))
        status = err_set(e, "wanted `tandem %s %s`, found %d operand%s; see `tandem %s --help`",
                         u->name, u->operands, n, n == 1 ? "" : "s", u->name);
    *operands = argv + argc - n;
    memcpy(*operands, kept, (size_t)n * sizeof *kept);
    free(kept);
    return status;
}

/* ---- help ----------------------------------------------------------------------------------- */

void options_wrap(FILE *out, const char *text, int column, int indent, int width)
{
    for (bool first = true; *text;) {
        int word = (int)strcspn(text, " \n");
        if (!first && column + 1 + word > width) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
            first = true;
        }
        fprintf(out, "%s%.*s", first ? "" : " ", word, text);
        column += word + !first;
        first = false;
        text += word;
        if (*text == '\n') {
            fprintf(out, "\n%*s", text[1] == '\n' || !text[1] ? 0 : indent, "");
            column = indent;
            first = true;
        }
        text += *text != 0;
    }
    fputc('\n', out);
}

void options_help(const struct usage *u, FILE *out)
{
    fprintf(out, "Usage: tandem %s%s %s\n\n", u->name, u->options->name ? " [OPTION]..." : "",
            u->operands);
    options_wrap(out, u->what, 0, 0, 79);
    if (u->more) {
        fputc('\n', out);
        options_wrap(out, u->more, 0, 0, 79);
    }
    if (u->options->name)
        fputc('\n', out);
    for (const struct option_row *o = u->options; o->name; o++) {
        int n = fprintf(out, "  --%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
        if (n > 26)
            n = fprintf(out, "\n") - 1;
        fprintf(out, "%*s", 28 - n, "");
        options_wrap(out, o->what, 28, 28, 79);
    }
}
