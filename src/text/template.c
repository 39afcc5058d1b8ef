#include "text/template.h"

#include "base/mem.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char placeholder[] = "{prompt}";

struct template
{
    size_t before, after; /* bytes of `text` before and behind the placeholder */
    char *text;           /* both, braces resolved, without the placeholder */
};

/* Columns are characters: what an editor shows. */
static size_t column(const char *text, const char *at)
{
    size_t n = 1;
    for (; text < at; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static int wrong_brace(const char *text, const char *at, struct err *e)
{
    size_t where = column(text, at);
    if (*at == '}')
        return err_set(e, "column %zu: a '}' stands alone; write }} for a literal brace", where);
    size_t inside = strcspn(at + 1, "{}"), line = strcspn(at + 1, "{}\r\n");
    if (at[1 + inside] == '}')
        return err_set(
            e,
            "column %zu: unknown placeholder \"{%.*s}\"; a template has {prompt} only, and "
            "{{ and }} are literal braces",
            where, (int)(line < 60 ? line : 60), at + 1); /* a message is one line */
    return err_set(e, "column %zu: a '{' is not closed; write {{ for a literal brace", where);
}

int template_parse(const char *text, struct template **out, struct err *e)
{
    *out = NULL;
    struct template *t = mem_zeroed(1, sizeof *t);
    t->text = mem_new(strlen(text) + 1, 1);
    size_t used = 0;
    const char *found = NULL;
    for (const char *p = text; *p;) {
        if ((*p == '{' || *p == '}') && p[1] == *p) {
            t->text[used++] = *p;
            p += 2;
        } else if (strncmp(p, placeholder, sizeof placeholder - 1) == 0 && !found) {
            found = p;
            t->before = used;
            p += sizeof placeholder - 1;
        } else if (*p == '{' || *p == '}') {
            if (strncmp(p, placeholder, sizeof placeholder - 1) == 0)
                err_set(
                    e,
                    "column %zu: a second {prompt}; the first is at column %zu, and one is wanted",
                    column(text, p), column(text, found));
            else
                wrong_brace(text, p, e);
            template_free(t);
            return -1;
        } else {
            t->text[used++] = *p++;
        }
    }
    if (!found) {
        template_free(t);
        return err_set(e, "column %zu: the template ends without {prompt}; it must be there once",
                       column(text, text + strlen(text)));
    }
    t->after = used - t->before;
    *out = t;
    return 0;
}

char *template_apply(const struct template *t, const char *prompt, size_t bytes, size_t *out_bytes)
{
    size_t total = t->before + bytes + t->after;
    char *text = mem_new(total + 1, 1);
    memcpy(text, t->text, t->before);
    if (bytes)
        memcpy(text + t->before, prompt, bytes);
    memcpy(text + t->before + bytes, t->text + t->before, t->after);
    text[total] = 0;
    if (out_bytes)
        *out_bytes = total;
    return text;
}

size_t template_before(const struct template *t)
{
    return t->before;
}

void template_free(struct template *t)
{
    if (!t)
        return;
    free(t->text);
    free(t);
}
