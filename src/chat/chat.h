/* chat.h - the chat template of a model: from a conversation to the text of a prompt.
 *
 * A template is a program in the language of Jinja2, in the environment that Hugging Face's
 * apply_chat_template() gives it: trim_blocks, lstrip_blocks, break and continue, tojson without
 * HTML escapes, raise_exception, strftime_now, namespace, {% generation %}. What the templates of
 * published models use is here:
 *
 *   statements  if, for (with if and else), set (also of a block, with filters), macro, filter,
 *               break, continue, generation
 *   operators   + - * / // % ~ == != < <= > >= in, not in, is, and, or, not, a if b else c, slices
 *   filters     capitalize count default dictsort first int items join last length list lower map
 *               reject rejectattr replace safe select selectattr string tojson trim upper
 *   tests       boolean defined divisibleby even false float integer iterable mapping none number
 *               odd sequence string true undefined and the comparisons
 *   methods     strings: capitalize endswith lower lstrip replace rstrip split startswith strip
 *               upper; dicts: get items keys values
 *   functions   namespace dict range raise_exception strftime_now
 *   loop        index index0 revindex revindex0 first last length previtem nextitem
 *
 * Everything else is refused with its name and place, most of it when the template is read. The text
 * equals Jinja2's in every byte. Integers have 64 bits; upper and lower change ASCII only and refuse
 * other characters.
 *
 * What came from a conversation stays text: chat_render() says of every byte of its result whether a
 * message wrote it or the template, so that the tokenizer can refuse to see control tokens in what a
 * user wrote (tokenizer_encode_marked).
 *
 * Any rank; a template is constant after chat_parse(), and may be used from several threads.
 */
#ifndef TANDEM_CHAT_CHAT_H
#define TANDEM_CHAT_CHAT_H

#include "base/err.h"

#include <jansson.h>
#include <stddef.h>

struct chat;

/* Reads a template of n bytes of UTF-8 (copied). 0, and *out is the caller's until chat_free(); -1
 * with "LINE:COLUMN: what", to which the caller adds where the template stands (err_prefix), and
 * *out is NULL. */
int chat_parse(const char *text, size_t n, struct chat **out, struct err *e);
void chat_free(struct chat *c); /* NULL is allowed */

/* What a template is given. All of it belongs to the caller and is only read. */
struct chat_input {
    const json_t *messages;  /* an array of objects */
    const json_t *tools;     /* an array, or NULL: none */
    const json_t *variables; /* an object: bos_token, add_generation_prompt, enable_thinking, ... */
    const char *date;        /* what strftime_now() says: "2026-01-31"; NULL: it is an error */
};

/* *text is malloc'd (the caller frees), *n bytes long, with a NUL behind them; marks[i] is 1 where
 * byte i came from messages or tools. -1: the template refuses the conversation, or a value is not
 * what it takes it for; the message begins with "LINE:COLUMN: ". */
int chat_render(const struct chat *c, const struct chat_input *input, char **text, char **marks,
                size_t *n, struct err *e);

#endif
