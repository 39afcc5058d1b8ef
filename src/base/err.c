#include "base/err.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    int rank; /* -1: not known yet */
    char role[32];
    char host[64];
    _Atomic long step; /* -1: not in a step */
    void (*abort_all)(int);
} context = {.rank = -1, .step = -1};

/* A name out of somebody's file may hold what moves a terminal's cursor, renames its window or ends
 * our line. All such bytes become '?', and so does what is not UTF-8: an error row needs that. Only
 * our own lists go on in a next line, which begins with two blanks. */
static void clean(char *text)
{
    for (size_t n = strlen(text), length; n; text += length, n -= length) {
        uint32_t code;
        bool good = utf8_read(text, n, &code, &length);
        bool control = good && (code < ' ' || (code >= 0x7f && code < 0xa0));
        bool next_line = good && code == '\n' && strncmp(text + 1, "  ", 2) == 0;
        if (!good || (control && !next_line))
            memset(text, '?', length);
    }
}

int err_clean(struct err *e)
{
    clean(e->text);
    return -1;
}

int err_set(struct err *e, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    return err_clean(e);
}

int err_prefix(struct err *e, const char *format, ...)
{
    char text[2 * ERR_TEXT_MAX + 2];
    va_list args;
    va_start(args, format);
    vsnprintf(text, ERR_TEXT_MAX, format, args);
    va_end(args);
    size_t used = strlen(text), old = strlen(e->text);
    memcpy(text + used, ": ", 2);
    memcpy(text + used + 2, e->text, old);
    size_t kept = used + 2 + old < sizeof e->text ? used + 2 + old : sizeof e->text - 1;
    memcpy(e->text, text, kept);
    e->text[kept] = 0;
    return err_clean(e);
}

void die_context_rank(int rank, const char *role, int role_index)
{
    context.rank = rank;
    snprintf(context.role, sizeof context.role, "%s %d", role, role_index);
    if (gethostname(context.host, sizeof context.host - 1) != 0)
        snprintf(context.host, sizeof context.host, "unknown");
}

void die_context_step(long step)
{
    context.step = step;
}

long die_step(void)
{
    return context.step;
}

void die_context_abort(void (*abort_all)(int status))
{
    context.abort_all = abort_all;
}

/* One write, so that the lines of several dying ranks do not mix. */
void die(const char *format, ...)
{
    char line[ERR_TEXT_MAX + 256];
    int n = snprintf(line, sizeof line, "tandem: ");
    if (context.rank >= 0)
        n += snprintf(line + n, sizeof line - (size_t)n, "rank %d (%s, host %s): ", context.rank,
                      context.role, context.host);
    if (context.step >= 0)
        n += snprintf(line + n, sizeof line - (size_t)n, "step %ld: ", die_step());
    va_list args;
    va_start(args, format);
    int room = (int)sizeof line - n - 1;
    int wrote = vsnprintf(line + n, (size_t)room, format, args);
    va_end(args);
    clean(line + n);
    n += wrote < room ? wrote : room - 1;
    line[n++] = '\n';
    fflush(stdout);
    if (write(STDERR_FILENO, line, (size_t)n) < 0)
        fputs(line, stderr);
    if (context.abort_all)
        context.abort_all(EXIT_RUN);
    exit(EXIT_RUN);
}
