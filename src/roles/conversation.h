/* conversation.h - from the messages of a row to the text of its prompt, by the template of the job.
 *
 * The template is chat.template of the job, or the checkpoint's own; its variables are the tokenizer's
 * special tokens, chat.template_kwargs, and those of the row. Any rank; read only once open, any
 * number of threads.
 */
#ifndef TANDEM_ROLES_CONVERSATION_H
#define TANDEM_ROLES_CONVERSATION_H

#include "job/job.h"
#include "chat/chat.h"
#include "text/tokenizer_config.h"

#include <stdint.h>

struct conversation {
    struct chat *chat;
    json_t *variables;  /* what every row is given */
    char *place;        /* where the template stands, for messages */
    const char *system; /* of the job; NULL: none */
    const char *date;
    bool thinks;   /* the template has THINKING_END */
    bool parts;    /* it goes through the parts of a content itself */
    uint64_t hash; /* of the template's text */
};

/* -1: there is no template, or it is not supported. config: of the tokenizer, only read. */
int conversation_open(struct conversation *c, const struct job *job,
                      const struct tokenizer_config *config, struct err *e);
void conversation_close(struct conversation *c);

/* Where prompts are no messages, no key of the job may speak of them. */
int conversation_refuse(const struct job *job, struct err *e);

/* The prompt of a row: JSON text of n bytes, a list of messages ({"role": ..., "content": ...}) or an
 * object with "messages", and perhaps "tools" and "chat_template_kwargs". A content may be a list of
 * texts ({"type": "text", "text": ...}), joined by ends of line where the template has no loop over them. *text and *marks are malloc'd,
 * *bytes long (chat_render()). -1: the row's own error. */
int conversation_text(const struct conversation *c, const char *json, size_t n, char **text,
                      char **marks, size_t *bytes, struct err *e);

#endif
