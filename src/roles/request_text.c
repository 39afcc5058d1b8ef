#include "roles/request_values.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static size_t spaces(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n && strchr(" \t\r\n", text[i]) && text[i])
        i++;
    return i;
}

/* Does the prompt end with a marker and perhaps white space? Looked for in its last tokens. */
static bool prompt_ends_with(const struct request *r, const struct sequence *q, const char *marker)
{
    char *text = NULL;
    size_t n = 0, length = strlen(marker), few = length + 8;
    few = few < q->n_prompt ? few : q->n_prompt;
    tokenizer_decode(r->context->tokenizer, q->tokens + q->n_prompt - few, few, false, &text, &n);
    while (n > 0 && spaces(text + n - 1, 1))
        n--;
    bool ends = n >= length && memcmp(text + n - length, marker, length) == 0;
    free(text);
    return ends;
}

bool request_prompt_reasons(const struct request *r, const struct sequence *q)
{
    const struct request_context *c = r->context;
    if (c->reasoning_begin)
        return prompt_ends_with(r, q, c->reasoning_begin);
    return !prompt_ends_with(r, q, c->reasoning_end);
}

/* Cuts n bytes of text in two: *from .. *to is the reasoning. False: there is none. */
static bool find_reasoning(const struct request *r, const struct sequence *q, size_t n,
                           size_t *from, size_t *to)
{
    const char *begin = r->context->reasoning_begin, *end = r->context->reasoning_end;
    if (!end || !r->context->tokenizer || n == 0)
        return false;
    size_t at = spaces(r->text, n), length = begin ? strlen(begin) : 0;
    bool begins = length && n - at >= length && memcmp(r->text + at, begin, length) == 0;
    const char *hit = memmem(r->text, n, end, strlen(end));
    *from = begins ? at + length : 0;
    *to = hit ? (size_t)(hit - r->text) : n;
    if (*to < *from) /* it ends before it begins */
        *from = 0;
    return hit || begins || request_prompt_reasons(r, q);
}

/* HDF5's strings end at a NUL, so one that a model writes becomes U+FFFD. */
static char *without_nul(char *text, size_t bytes)
{
    static const char instead[] = "\xef\xbf\xbd";
    size_t nul = 0, used = 0;
    for (size_t i = 0; i < bytes; i++)
        nul += text[i] == 0;
    if (nul == 0)
        return text;
    char *result = mem_new(bytes + 2 * nul + 1, 1);
    for (size_t i = 0; i < bytes; i++) {
        size_t n = text[i] ? 1 : 3;
        memcpy(result + used, text[i] ? text + i : instead, n);
        used += n;
    }
    result[used] = 0;
    free(text);
    return result;
}

static char *valid_text(const char *text, size_t n)
{
    char *out = NULL;
    size_t bytes = 0;
    tokenizer_utf8_lossy(text ? text : "", n, &out, &bytes);
    return without_nul(out, bytes);
}

void request_text(struct request *r, const struct sequence *q, bool ended, char **text,
                  char **reasoning)
{
    size_t n, from, to;
    request_see(r, q);
    n = r->n_text;
    if (ended && r->by_text) {
        n = r->cut + (r->include_stop ? r->cut_length : 0);
    } else if (ended && !r->include_stop && r->context->tokenizer) {
        char *last = NULL; /* a stop token is no text, whatever it spells */
        size_t length = 0;
        tokenizer_decode(r->context->tokenizer, q->tokens + q->n_tokens - 1, 1,
                         !r->context->special, &last, &length);
        n -= length;
        free(last);
    }
    *reasoning = NULL;
    if (!find_reasoning(r, q, n, &from, &to)) {
        *text = valid_text(r->text, n);
        return;
    }
    size_t behind = to < n ? to + strlen(r->context->reasoning_end) : n;
    if (r->follow && to < n && r->format_from > behind) /* it began with the token behind */
        behind = r->format_from < n ? r->format_from : n;
    *reasoning = valid_text(r->text + from, to - from);
    *text = valid_text(r->text + behind, n - behind);
}
