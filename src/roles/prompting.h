/* prompting.h - from a row of the prompts file to the tokens the model sees, and back to text.
 *
 * Template, chat template, tokenizer and bos token of a job in one place, so that the dry run shows exactly what a
 * run decodes. Opened by every rank that reads prompts (attention ranks, the dry run). Read-only
 * once open.
 */
#ifndef TANDEM_ROLES_PROMPTING_H
#define TANDEM_ROLES_PROMPTING_H

#include "data/prompts.h"
#include "job/job.h"
#include "model/model.h"
#include "roles/conversation.h"
#include "roles/request.h"
#include "format/format.h"
#include "text/template.h"
#include "text/tokenizer.h"

struct prompting {
    struct tokenizer *tokenizer; /* NULL: prompts are token ids and there is no tokenizer file */
    struct template *template;
    struct conversation conversation; /* chat NULL: the prompts are no messages */
    bool control;                     /* control tokens in a prompt are meant */
    bool special;                     /* special tokens stay in the text of a completion */
    const char *reasoning_begin, *reasoning_end; /* of the job */
    int32_t bos;                                 /* put first; -1: none */
    int32_t eos;                                 /* put last; -1: none */
    int32_t vocab;                   /* tokens of the tokenizer; without one, of the model */
    int32_t stop[2 * MODEL_MAX_EOS]; /* tokens of the model that end a completion */
    int n_stop;
    struct formats *formats; /* NULL without a tokenizer */
    json_t *sampling;        /* the job's sampling section, for requests */
};

/* prompts: their kind is asked. Token ids need no tokenizer (one is used for the completions' text
 * when its file exists), messages need a chat template. */
int prompting_open(struct prompting *p, const struct job *job, const struct model *model,
                   const struct prompts *prompts, struct err *e);
void prompting_close(struct prompting *p);

/* The tokens of one row, its continuation included, malloc'd; *from: the first that prompt_logprobs are
 * of: the first of the continuation, or 1, as the first of all follows nothing. Text and continuation are
 * tokenized together; as many tokens as the text alone has (without the spaces at its end) are its own.
 * -1 with the row's own error: empty, not UTF-8, an id outside the vocabulary. */
int prompting_encode(const struct prompting *p, const struct prompt *prompt, int32_t **tokens,
                     size_t *n, size_t *from, struct err *e);

/* What requests of this job share; points into p. */
struct request_context prompting_requests(const struct prompting *p);

#endif
