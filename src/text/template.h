/* template.h - the prompt template of a job.
 *
 * A template is text with exactly one placeholder {prompt}; {{ and }} stand for literal braces. The
 * whole template may hold special tokens as text ("<|BOT|>user\n{prompt}<|EOT|>"): the tokenizer
 * recognizes them after the prompt was put in. (It recognizes them inside the prompt as well: see
 * tokenizer.h.) Any rank; a parsed template is read only, and may be used from several threads.
 */
#ifndef TANDEM_TEXT_TEMPLATE_H
#define TANDEM_TEXT_TEMPLATE_H

#include "base/err.h"

#include <stddef.h>

struct template;

/* Parses `text` (UTF-8, NUL-terminated; not kept). 0, and *out is the caller's until
 * template_free(). -1 with a message that begins with "column N:", N counted in characters from 1,
 * when a brace stands alone, a placeholder has another name, or {prompt} is missing or there twice;
 * *out is then NULL. The caller puts the place of the template before it (err_prefix). */
int template_parse(const char *text, struct template **out, struct err *e);

/* The template with the `bytes` bytes at `prompt` in place of {prompt}. Nothing inside the prompt
 * is interpreted. The result is malloc'd (the caller frees), *out_bytes long (may be NULL), and has
 * a NUL behind it. */
char *template_apply(const struct template *t, const char *prompt, size_t bytes, size_t *out_bytes);

/* Bytes before the prompt. */
size_t template_before(const struct template *t);

/* NULL is allowed. */
void template_free(struct template *t);

#endif
