#include "text/pattern.h"

#include "base/mem.h"
#include "text/translate.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define JIT_STACK_FIRST (64u << 10)
#define JIT_STACK_MOST  (64u << 20)
#define OLDEST_UNICODE  11 /* see unicode.h */

struct pattern {
    pcre2_code *code;
    char *source; /* what PCRE2 was given */
};

struct pattern_work {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack; /* NULL until PCRE2's own 32 KiB on the C stack were not enough */
};

static int check_library(struct err *e)
{
    char version[64];
    uint32_t unicode = 0;
    pcre2_config(PCRE2_CONFIG_UNICODE, &unicode);
    if (!unicode)
        return err_set(e, "the PCRE2 library was built without Unicode; install one with it");
    pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
    if (atoi(version) < OLDEST_UNICODE)
        return err_set(e,
                       "the PCRE2 library knows Unicode %s; %d.0 or newer is needed (PCRE2 10.32)",
                       version, OLDEST_UNICODE);
    return 0;
}

static int compile(struct pattern **out, char *source, uint32_t options, struct err *e)
{
    *out = NULL;
    if (check_library(e) != 0) {
        free(source);
        return -1;
    }
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context)
        die("out of memory: a PCRE2 context");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code;
    size_t offset;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)source, strlen(source), PCRE2_UTF | options,
                                         &code, &offset, context);
    pcre2_compile_context_free(context);
    if (!compiled) {
        char text[256];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        err_set(
            e, "the pattern does not compile: %s (PCRE2, at byte %zu of its rewritten form %.300s)",
            text, offset, source);
        free(source);
        return -1;
    }
    /* Without a just-in-time compiler pcre2_match() interprets: slower, the same matches. */
    pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
    *out = mem_new(1, sizeof **out);
    **out = (struct pattern){.code = compiled, .source = source};
    return 0;
}

int pattern_compile(struct pattern **out, const char *regex, struct err *e)
{
    *out = NULL;
    char *source = translate_regex(regex, e);
    if (!source)
        return -1;
    return compile(out, source, PCRE2_UCP | PCRE2_MULTILINE, e);
}

int pattern_compile_literal(struct pattern **out, const char *literal, struct err *e)
{
    return compile(out, mem_string(literal), PCRE2_LITERAL, e);
}

void pattern_free(struct pattern *p)
{
    if (!p)
        return;
    pcre2_code_free(p->code);
    free(p->source);
    free(p);
}

const char *pattern_translated(const struct pattern *p)
{
    return p->source;
}

struct pattern_work *pattern_work_new(void)
{
    struct pattern_work *w = mem_zeroed(1, sizeof *w);
    w->match = pcre2_match_data_create(1, NULL);
    w->context = pcre2_match_context_create(NULL);
    if (!w->match || !w->context)
        die("out of memory: PCRE2 match data");
    return w;
}

void pattern_work_free(struct pattern_work *w)
{
    if (!w)
        return;
    pcre2_jit_stack_free(w->stack);
    pcre2_match_context_free(w->context);
    pcre2_match_data_free(w->match);
    free(w);
}

/* Steps one search may take. A long, harmless run of spaces takes some for each of them; a pattern
 * that tries every way to cut a text, (a+)+$, takes twice as many for every byte more: it must end.
 * Counted, not timed: a text is an error on every machine or on none. */
static uint32_t most_steps(size_t bytes)
{
    size_t steps = 10u * 1000 * 1000 + 100 * bytes;
    return steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX;
}

static int match(const struct pattern *p, struct pattern_work *w, const char *text, size_t n,
                 size_t from)
{
    return pcre2_match(p->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, w->match,
                       w->context);
}

int pattern_find(const struct pattern *p, struct pattern_work *w, const char *text, size_t n,
                 size_t from, size_t *start, size_t *end, struct err *e)
{
    pcre2_set_match_limit(w->context, most_steps(n - from));
    int rc = match(p, w, text, n, from);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !w->stack) {
        w->stack = pcre2_jit_stack_create(JIT_STACK_FIRST, JIT_STACK_MOST, NULL);
        if (!w->stack)
            die("out of memory: a stack for PCRE2");
        pcre2_jit_stack_assign(w->context, NULL, w->stack);
        rc = match(p, w, text, n, from);
    }
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    if (rc < 0) {
        char why[256];
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
        return err_set(e, "a split pattern failed on a piece of %zu bytes at byte %zu: %s (PCRE2)",
                       n, from, why);
    }
    const size_t *at = pcre2_get_ovector_pointer(w->match);
    *start = at[0];
    *end = at[1];
    return 1;
}
