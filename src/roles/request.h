/* request.h - everything that decides one completion besides model and prompt.
 *
 * The job's sampling section, overridden by the columns of the prompts file, resolved for one unit:
 * how its tokens are drawn, which may be drawn, and what ends it. A request also keeps what it has
 * seen of its sequence (counts of tokens, text), which follows from the tokens alone: a completion
 * that is continued after a kill goes on exactly. Belongs to one attention rank; one thread.
 *
 * Definitions, those of vLLM unless it says otherwise:
 *   logit_bias            added to the logits first
 *   repetition_penalty r  of tokens of prompt and completion: l > 0 ? l / r : l x r
 *   frequency_penalty f   l -= f x times the token is in the completion
 *   presence_penalty p    l -= p for tokens that are in the completion
 *   ban                   ids and texts that must not come; of a text of several tokens the last one,
 *                         where the others stand before it
 *   allow                 only these tokens can be drawn
 *   min_tokens            until then no token and no text ends the completion
 *   stop                  ends it; the text is cut before it (include_stop: behind it)
 *   format                the completion is what a regular expression, a choice or a JSON schema says;
 *                         it ends only when it is whole (format/format.h). With output.reasoning it is
 *                         about what follows the reasoning, from the token behind the one that ends
 *                         it; no end token comes before
 *   thinking_tokens       after so many tokens without the end of the reasoning, it is forced
 *   repetition_stop n     ends it when its last n tokens are a run of at most n / 4 over and over
 */
#ifndef TANDEM_ROLES_REQUEST_H
#define TANDEM_ROLES_REQUEST_H

#include "base/err.h"
#include "job/job.h"
#include "kernels/ops.h"
#include "schedule/sequence.h"
#include "text/tokenizer.h"

#include <jansson.h>
#include <stdbool.h>

/* What ends the reasoning, where the model knows it and nobody says. */
#define THINKING_END "</think>"

/* What all requests of a job share. */
struct request_context {
    const struct tokenizer *tokenizer; /* NULL: texts cannot be used */
    struct formats *formats;           /* likewise */
    const json_t *defaults;            /* of the job: its sampling section, by names of keys */
    const int32_t *eos;
    int n_eos;
    int32_t vocab;
    bool special;                                /* special tokens are part of the text */
    const char *reasoning_begin, *reasoning_end; /* output.reasoning; NULL: none */
};

struct request;

/* Resolves one unit: prompt is its row, sample which of its samples. overrides: an object of values that
 * go before the job's, or NULL. NULL: the message says which value is not what it should be. */
struct request *request_new(const struct request_context *c, const json_t *overrides,
                            uint64_t prompt, uint32_t sample, struct err *e);
void request_free(void *request); /* NULL is allowed */

int request_max_new_tokens(const struct request *r);

/* How many of the likeliest tokens are kept at every place of the completion, and of the prompt, which
 * is scored then; -1: it is not. */
int request_logprobs(const struct request *r);
int request_prompt_logprobs(const struct request *r);

/* What becomes of a prompt that does not fit; names: by number. */
enum job_truncate request_truncate(const struct request *r);
extern const char *const request_truncations[3];

/* May its logits have to be changed before they are sampled? */
bool request_changes(const struct request *r);

/* What the tokens behind those of q have to be, as far as that is known without waiting: the end of a
 * reasoning that is too long, what a format leaves no choice for. Writes up to `most` of them; *sure: so
 * many of them can be no others. Returns how many. */
int request_forced(struct request *r, const struct sequence *q, int32_t *tokens, int most,
                   int *sure);

/* Before request_change() for rows of guesses: the first n of q->tokens + q->n_tokens are in the step. What a
 * format says behind each of them is worked out beside it. */
void request_guess(struct request *r, const struct sequence *q, int n);

/* As sampling takes it (ops.h): CPUs count subnormal numbers as 0, GPUs do not. */
float request_temperature(double asked);

/* How the token of q with the index `at` is drawn (its next one, or one behind guesses). */
struct sample_params request_params(struct request *r, const struct sequence *q, size_t at);

/* What must be changed in the logits of a micro-batch's sampled rows. Grows; belongs to the caller. */
struct logit_changes {
    struct logit_edit *edits;
    int n_edits, room_edits;
    int32_t *rows;  /* [n_masks] rows that are masked */
    uint32_t *bits; /* [n_masks][words] */
    int n_masks, room_masks;
    size_t words;
};

/* Adds what the token with the index n, drawn in sampled row `row`, needs. Those before it are known, or
 * guesses (n > q->n_tokens), of which request_guess() was told: then it is as if they had been drawn. */
void request_change(struct request *r, const struct sequence *q, size_t n, int row,
                    struct logit_changes *out);
void logit_changes_free(struct logit_changes *c);

enum request_end { REQUEST_GOES_ON, REQUEST_STOPS, REQUEST_REPEATS };

/* Looks at the token that was just appended to q: does the completion end here? */
enum request_end request_ends(struct request *r, const struct sequence *q);

/* The text of the completion as it is shown, and the reasoning split off before it; valid UTF-8,
 * malloc'd. ended: by a stop. */
void request_text(struct request *r, const struct sequence *q, bool ended, char **text,
                  char **reasoning);

#endif
