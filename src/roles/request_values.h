/* request_values.h - what a request holds, for request*.c only: request_values.c reads it from JSON,
 * request_seen.c follows its sequence, request_change.c says what that does to the next logits,
 * request_format.c what its format does, request_text.c what is shown of it.
 */
#ifndef TANDEM_ROLES_REQUEST_VALUES_H
#define TANDEM_ROLES_REQUEST_VALUES_H

#include "roles/request.h"
#include "format/format.h"

struct token_run {
    int32_t *tokens;
    size_t n;
};

struct token_bias {
    int32_t token;
    float value; /* -INFINITY: banned */
};

struct token_count {
    bool used;
    int32_t token;
    uint32_t completion; /* times in the completion; 0: in the prompt only */
    uint32_t edit;       /* its place among the edits of the row that is changed now */
};

struct stop_text {
    char *text; /* not empty */
};

/* Where a completion with a format is: in the reasoning, which is free, or in what the format is about. */
enum format_phase {
    PHASE_UNKNOWN,
    PHASE_MAY_OPEN, /* the first token may begin the reasoning, or the format */
    PHASE_OPENING,  /* it began the reasoning, whose marker has more tokens */
    PHASE_REASONING,
    PHASE_FORMAT,
};

struct format_place {
    enum format_phase phase;
    size_t opened; /* tokens of think_begin that have come */
    int fed;       /* guesses that the format was told */
};

struct request {
    const struct request_context *context;
    float temperature, top_p, min_p;
    int top_k;
    uint64_t seed, prompt; /* prompt: its row, or (by_prompt) a hash of its tokens */
    uint32_t sample;
    bool by_prompt, hashed;
    int max_new_tokens, min_tokens, thinking_tokens; /* thinking_tokens -1: no limit */
    float repetition, presence, frequency;
    int repetition_stop;           /* 0: none */
    int logprobs, prompt_logprobs; /* prompt_logprobs -1: none */
    enum job_truncate truncate;
    int32_t *stop_ids;
    int n_stop_ids;
    struct stop_text *stops;
    int n_stops;
    bool include_stop;
    struct token_bias *biases;
    int n_biases;
    struct token_run *bans; /* of several tokens */
    int n_bans;
    uint32_t *allow;                         /* bits of the vocabulary; NULL: all */
    struct token_run think_begin, think_end; /* think_begin: of a format's reasoning; else empty */
    struct follow *follow;                   /* of the format; NULL: none */

    /* What was seen of the sequence. */
    size_t seen;                /* tokens */
    struct token_count *counts; /* a table of n_counts in room_counts places, a power of two */
    size_t n_counts, room_counts;
    int *same; /* [repetition_stop / 4] so many tokens at the end equal those i + 1 before them */
    bool repeats; /* at the last token */
    struct format_place place;
    struct format_place *ahead; /* [room_ahead] behind 1, 2, ... guesses */
    int room_ahead;
    size_t format_from; /* in the text: where the format's part begins */
    char *text;
    size_t n_text, text_from; /* no stop begins before text_from */
    bool by_token, by_text;   /* how it ended; by_text: at cut */
    size_t cut, cut_length;
};

/* Fills r from the values of a sampling section; what is missing stays as it is. -1: "temperature: wants ..., found ...". */
int request_read(struct request *r, const json_t *values, struct err *e);

bool request_has_penalties(const struct request *r);

/* The place of a token in the table, which is not empty: its own, or a free one. */
struct token_count *request_find_count(const struct request *r, int32_t token);

/* How often the token is in the completion, as far as it was seen. */
uint32_t request_count(const struct request *r, int32_t token);

/* Takes notice of the tokens of q that are new to it. */
void request_see(struct request *r, const struct sequence *q);

/* ---- the format (request_format.c); only where there is one ---------------------------------- */

/* Decides the phase that the prompt leaves. */
void request_format_begin(struct request *r, const struct sequence *q);

/* Takes notice of one token of the completion; r->text has it, from `before` on. */
void request_format_see(struct request *r, int32_t token, size_t before);

/* The place of the token with the index n, which is q's next one, or behind guesses. */
const struct format_place *request_format_place(const struct request *r, const struct sequence *q,
                                                size_t n);

/* Not in the reasoning: bits of the tokens that may come there. */
void request_format_mask(struct request *r, const struct sequence *q, size_t n, uint32_t *bits,
                         size_t words);

/* Appends what the token says to r->text (request_seen.c). */
void request_add_text(struct request *r, int32_t token);

bool request_is_eos(const struct request_context *c, int32_t token);

/* Has the prompt begun the reasoning, as many chat templates do (request_text.c)? Without a text that
 * begins it: has it not ended it? */
bool request_prompt_reasons(const struct request *r, const struct sequence *q);

#endif
