/* fields.h - what the output is made of: the one table of what a completion has, and its siblings.
 *
 * A table describes the members of a struct: name, type, place, whether the value is ragged (a
 * pointer to `count` elements), unit and description. Journal, final file, export and the test of
 * the README walk it. A new value of a completion is a member, one line in fields.c, and the line
 * that fills the member.
 *
 * Rows of all three tables are freed with table_free(). Any rank, any thread.
 */
#ifndef TANDEM_OUTPUT_FIELDS_H
#define TANDEM_OUTPUT_FIELDS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum finish {
    FINISH_STOP,       /* a stop token was produced (it is not part of the completion's text) */
    FINISH_LENGTH,     /* max_new_tokens or the model's context is used up */
    FINISH_ERROR,      /* the prompt could not be decoded; `error` says why */
    FINISH_REPETITION, /* it said the same over and over (sampling.repetition_stop) */
};

/* "stop", "length", "error", "repetition"; NULL for another number. */
const char *finish_name(int32_t finish);
/* The number of a name, or -1. */
int32_t finish_number(const char *name);

/* One finished unit: one (prompt, sample). unit = prompt of the job x samples + sample: the order of
 * the output. */
struct completion {
    uint64_t unit;
    char *id;       /* the prompt's id */
    int64_t prompt; /* row of the prompts file */
    int32_t sample;
    char *text;      /* UTF-8 without NUL (HDF5 would end there); "" when there is no tokenizer */
    char *reasoning; /* what was split off before it (output.reasoning); NULL is the same as "" */
    int32_t finish;  /* enum finish */
    char *error;     /* FINISH_ERROR: why; else NULL, which is the same as "" */
    uint32_t n_tokens, n_prompt_tokens;
    int64_t token_start; /* only in the final file: its first token in the ragged file, */
    int64_t text_crc32;  /* and the CRC-32 of `text` */
    int32_t rank;        /* attention rank that decoded it */
    double admitted, first_token, last_token; /* seconds since the Unix epoch; 0: never */
    int32_t *tokens; /* [n_tokens], the stop token included when there was one */
    float *logprobs; /* [n_tokens] log softmax at temperature 1 */
    /* The likeliest tokens at the places of the completion (sampling.logprobs): n_top / n_tokens for
     * each, the likeliest first. */
    uint32_t n_top;
    int64_t top_start; /* as token_start */
    int32_t *top_tokens;
    float *top_logprobs;
    /* The last n_scored tokens of the prompt (sampling.prompt_logprobs): of each the logprob, the sum
     * of these, and whether each was the likeliest. */
    uint32_t n_scored;
    int64_t score_start;
    double score;
    int32_t greedy;
    float *prompt_logprobs;
    /* The likeliest tokens at their places: n_prompt_top / n_scored for each. */
    uint32_t n_prompt_top;
    int64_t prompt_top_start;
    int32_t *prompt_top_tokens;
    float *prompt_top_logprobs;
};

/* The beginning of a completion that is not finished, or its continuation: tokens begin .. begin +
 * n_tokens - 1. */
struct piece {
    uint64_t unit;
    uint32_t begin, n_tokens;
    double admitted, first_token;
    int32_t *tokens;
    float *logprobs;
    uint32_t n_top; /* as of a completion */
    int32_t *top_tokens;
    float *top_logprobs;
};

/* What one rank did in one second (with `trace`: in one step); times in seconds. Or, where layer is not
 * -1, how many rows of its cell chose an expert until `time`, since the last row about it; then all
 * other numbers are 0, so that sums over a column stay what they are. */
struct timing {
    double time; /* when it began, since the epoch */
    int32_t rank, steps;
    int64_t rows;
    float attention, ffn, exchange, wait, total, longest;
    double bytes, operations; /* that it had to read and to make at least (roles/work.h) */
    int32_t layer, expert;
    int64_t chosen;
};

enum field_type {
    FIELD_STRING,
    FIELD_FINISH,
    FIELD_INT32,
    FIELD_INT64,
    FIELD_FLOAT32,
    FIELD_FLOAT64
};

struct field {
    const char *name;
    enum field_type type;
    size_t offset;
    bool ragged; /* the member is a pointer to elements: as many as the uint32_t at `count` says; */
    size_t count; /* in the final file from the element on that the int64_t at `start` says */
    size_t start;
    size_t when;   /* exported only when the uint32_t there is not 0; 0: always */
    bool derived;  /* made when the final file is written; not in the journal */
    bool exported; /* part of a line of `tandem export`: the same in every run */
    const char *unit, *description;
};

struct table {
    const struct field *fields;
    size_t n, row_bytes;
};

extern const struct table completion_table, piece_table, timing_table;

/* Bytes that grow; zero-initialized is empty. */
struct bytes {
    char *data;
    size_t used, room;
};

void bytes_add(struct bytes *b, const void *from, size_t n);

/* Appends the row as bytes / reads it back: every member of the table that is not derived, in its
 * order; strings and ragged values with their counts. -1: the bytes are no row; the row is then
 * empty. Strings and arrays of a row that was read are malloc'd. */
void table_pack(const struct table *t, const void *row, struct bytes *to);
int table_unpack(const struct table *t, const void *from, size_t n, void *row);

void table_free(const struct table *t, void *row);

/* How many elements a ragged value of the row has. */
uint32_t field_count(const struct field *f, const void *row);

/* Names and types of what table_pack() writes: equal texts, readable bytes. malloc'd. */
char *table_signature(const struct table *t);

#endif
