/* tokenizer_config.h - what is needed of Hugging Face's tokenizer_config.json and chat_template.jinja.
 */
#ifndef TANDEM_TEXT_TOKENIZER_CONFIG_H
#define TANDEM_TEXT_TOKENIZER_CONFIG_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

struct tokenizer_config {
    int add_bos;         /* add_bos_token: 0 or 1; -1: it says nothing */
    char *template;      /* the chat template; NULL: there is none */
    char *template_path; /* where it stands, for messages */
    json_t *tokens; /* an object: bos_token, eos_token, ... as text; variables of the template */
};

/* Reads the files beside the tokenizer file `tokenizer_path`; what is not there is -1, NULL or an
 * empty object. A chat_template.jinja goes before `chat_template` of tokenizer_config.json, which is a
 * text or a list, of which "default" is taken. 0: *c is the caller's until tokenizer_config_free().
 * -1: a file is there but is not what it should be. Any rank. */
int tokenizer_config_read(const char *tokenizer_path, struct tokenizer_config *c, struct err *e);
/* The same from the content of a tokenizer_config.json; path names its place in messages. */
int tokenizer_config_from(const json_t *root, const char *path, struct tokenizer_config *c,
                          struct err *e);
void tokenizer_config_free(struct tokenizer_config *c);

/* A whole file as text, malloc'd, *n bytes with a NUL behind them. */
char *tokenizer_config_text(const char *path, size_t *n, struct err *e);

#endif
