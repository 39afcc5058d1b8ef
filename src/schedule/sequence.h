/* sequence.h - one prompt being completed. */
#ifndef TANDEM_SCHEDULE_SEQUENCE_H
#define TANDEM_SCHEDULE_SEQUENCE_H

#include "schedule/blocks.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Blocks of a pool: list[i], for i from `first` to n - 1, holds the tokens from i x KV_BLOCK on. */
struct held_blocks {
    int32_t *list; /* room for all blocks of the sequence at its limit */
    size_t first, n;
};

/* From mem_zeroed(); tokens has room for `limit`. Belongs to the schedule once submitted. It may
 * come with some of its completion (n_tokens > n_prompt): known tokens are computed in chunks,
 * whoever they are from, and only the row of the last one is sampled. */
struct sequence {
    uint64_t unit;   /* prompt x samples + sample */
    int32_t *tokens; /* [n_tokens] prompt, then completion */
    float *logprobs; /* [limit - n_prompt], of the completion */
    /* The likeliest tokens at each of its places, and their logprobs: [limit - n_prompt][top]. */
    int top;
    int32_t *top_tokens;
    float *top_logprobs;
    /* Tokens of the prompt from this one on are scored: the row before each is wanted as well. 0:
     * none. scores [n_prompt - score_from]: whether each is the likeliest, and */
    size_t score_from;
    float *scores; /* its logprob */
    bool *likeliest;
    /* The likeliest tokens at each of their places: [n_prompt - score_from][prompt_top]. */
    int prompt_top;
    int32_t *prompt_tokens;
    float *prompt_logprobs;
    size_t n_prompt;  /* > 0 */
    size_t n_tokens;  /* known so far, < limit when submitted */
    size_t limit;     /* prompt + most new tokens; at most the context */
    size_t n_drafts;  /* guesses at what follows, at tokens + n_tokens (schedule/draft.h), */
    size_t n_guessed; /* those that are there to be used */
    size_t holes;     /* of those computed, tokens that MTP layers have not seen */
    bool prompt_only; /* it ends when its prompt is computed; not looked at here */
    size_t computed;  /* tokens whose K and V are in the cache */
    /* Where they are, in every pool (schedule/pools.h); the schedule's. */
    struct held_blocks kv[KV_POOLS_MAX];
    /* Of its first full blocks: what others may read, or wait for (schedule/prefix.h). Of these, from
     * the first on: in the cache when it came to them, and computed. */
    struct prefix_node **nodes;
    size_t n_nodes, n_shared, n_filled;
    size_t had; /* tokens that were in the cache when it was put back */
    /* Seconds since the epoch. */
    double admitted, first_token;
    struct grams *grams;                 /* what they are guessed from */
    struct sequence *next;               /* in the queue */
    size_t saved;                        /* completion tokens that the journal has */
    char *id;                            /* the prompt's, malloc'd; freed with the sequence */
    struct request *request;             /* how it is drawn (roles/request.h), not looked at here */
    void (*free_request)(void *request); /* called when the sequence is freed; NULL: nothing is */
};

/* NULL is nothing. */
void sequence_free(struct sequence *q);

#endif
