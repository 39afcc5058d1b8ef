#include "output/fields.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const finish_names[] = {"stop", "length", "error", "repetition"};

const char *finish_name(int32_t finish)
{
    return finish >= 0 && finish <= FINISH_REPETITION ? finish_names[finish] : NULL;
}

int32_t finish_number(const char *name)
{
    for (int32_t i = 0; i <= FINISH_REPETITION; i++)
        if (strcmp(finish_names[i], name) == 0)
            return i;
    return -1;
}

#define IN(member)  .offset = offsetof(struct completion, member)
#define ABOUT(u, d) .unit = (u), .description = (d)
#define EXPORTED    .exported = true
#define RAGGED(n, first)                                                                           \
    .ragged = true, .count = offsetof(struct completion, n),                                       \
    .start = offsetof(struct completion, first)
#define WHEN(n) .when = offsetof(struct completion, n)

static const struct field completion_fields[] = {
    {"id", FIELD_STRING, IN(id), EXPORTED,
     ABOUT(NULL, "the prompt's id; its number when the prompts have no ids")},
    {"prompt", FIELD_INT64, IN(prompt), EXPORTED,
     ABOUT(NULL, "row of the prompt in the prompts file")},
    {"sample", FIELD_INT32, IN(sample), EXPORTED, ABOUT(NULL, "which of the prompt's samples")},
    {"text", FIELD_STRING, IN(text), EXPORTED,
     ABOUT(NULL, "the completion, UTF-8; bytes that are no character, and NUL, are U+FFFD")},
    {"reasoning", FIELD_STRING, IN(reasoning), EXPORTED,
     ABOUT(NULL, "the reasoning before the text, where it is split off (output.reasoning)")},
    {"finish", FIELD_FINISH, IN(finish), EXPORTED,
     ABOUT(NULL, "stop: a stop token or text came; length: no more tokens allowed; repetition: the "
                 "same over and over; error: not decoded, see error")},
    {"error", FIELD_STRING, IN(error), EXPORTED,
     ABOUT(NULL, "why the prompt was not decoded; empty otherwise")},
    {"prompt_tokens", FIELD_INT32, IN(n_prompt_tokens), EXPORTED,
     ABOUT("tokens", "tokens of the prompt")},
    {"text_crc32", FIELD_INT64, IN(text_crc32), .derived = true,
     ABOUT(NULL, "CRC-32 of the bytes of text, as zlib's crc32() makes it")},
    {"token_start", FIELD_INT64, IN(token_start), .derived = true,
     ABOUT("tokens", "its first element in the ragged file's tokens and logprobs")},
    {"token_count", FIELD_INT32, IN(n_tokens),
     ABOUT("tokens", "tokens generated, a stop token included")},
    {"rank", FIELD_INT32, IN(rank), ABOUT(NULL, "attention rank that decoded it")},
    {"admitted", FIELD_FLOAT64, IN(admitted),
     ABOUT("s", "when it got a slot; seconds since the Unix epoch")},
    {"first_token", FIELD_FLOAT64, IN(first_token),
     ABOUT("s", "when its first token was there; as admitted")},
    {"last_token", FIELD_FLOAT64, IN(last_token),
     ABOUT("s", "when its last token was there; as admitted")},
    {"scored", FIELD_INT32, IN(n_scored), EXPORTED, WHEN(n_scored),
     ABOUT("tokens", "tokens at the end of the prompt that were scored")},
    {"score", FIELD_FLOAT64, IN(score), EXPORTED, WHEN(n_scored),
     ABOUT(NULL, "the sum of their prompt_logprobs")},
    {"greedy", FIELD_INT32, IN(greedy), EXPORTED, WHEN(n_scored),
     ABOUT(NULL, "1: each of them was the likeliest")},
    {"score_start", FIELD_INT64, IN(score_start), .derived = true,
     ABOUT("tokens", "its first element in the ragged file's prompt_logprobs")},
    {"top_count", FIELD_INT32, IN(n_top),
     ABOUT(NULL, "its elements in top_tokens: a multiple of token_count")},
    {"top_start", FIELD_INT64, IN(top_start), .derived = true,
     ABOUT(NULL, "its first element in the ragged file's top_tokens and top_logprobs")},
    {"prompt_top_count", FIELD_INT32, IN(n_prompt_top),
     ABOUT(NULL, "its elements in prompt_top_tokens: a multiple of scored")},
    {"prompt_top_start", FIELD_INT64, IN(prompt_top_start), .derived = true,
     ABOUT(NULL,
           "its first element in the ragged file's prompt_top_tokens and prompt_top_logprobs")},
    {"tokens", FIELD_INT32, IN(tokens), EXPORTED, RAGGED(n_tokens, token_start),
     ABOUT(NULL, "token ids of all completions, one after the other")},
    {"logprobs", FIELD_FLOAT32, IN(logprobs), EXPORTED, RAGGED(n_tokens, token_start),
     ABOUT(NULL, "natural logarithm of each token's probability at temperature 1")},
    {"top_tokens", FIELD_INT32, IN(top_tokens), EXPORTED, RAGGED(n_top, top_start), WHEN(n_top),
     ABOUT(NULL, "for each token of a completion the likeliest ones at its place, best first")},
    {"top_logprobs", FIELD_FLOAT32, IN(top_logprobs), EXPORTED, RAGGED(n_top, top_start),
     WHEN(n_top), ABOUT(NULL, "as logprobs, of top_tokens")},
    {"prompt_logprobs", FIELD_FLOAT32, IN(prompt_logprobs), EXPORTED, RAGGED(n_scored, score_start),
     WHEN(n_scored), ABOUT(NULL, "as logprobs, of the last `scored` tokens of a prompt")},
    {"prompt_top_tokens", FIELD_INT32, IN(prompt_top_tokens), EXPORTED,
     RAGGED(n_prompt_top, prompt_top_start), WHEN(n_prompt_top),
     ABOUT(NULL, "for each scored token of a prompt the likeliest ones at its place, best first")},
    {"prompt_top_logprobs", FIELD_FLOAT32, IN(prompt_top_logprobs), EXPORTED,
     RAGGED(n_prompt_top, prompt_top_start), WHEN(n_prompt_top),
     ABOUT(NULL, "as logprobs, of prompt_top_tokens")},
};

#undef IN
#undef RAGGED
#define IN(member) .offset = offsetof(struct piece, member)
#define RAGGED(n)  .ragged = true, .count = offsetof(struct piece, n)

static const struct field piece_fields[] = {
    {"begin", FIELD_INT32, IN(begin)},
    {"count", FIELD_INT32, IN(n_tokens)},
    {"top_count", FIELD_INT32, IN(n_top)},
    {"admitted", FIELD_FLOAT64, IN(admitted)},
    {"first_token", FIELD_FLOAT64, IN(first_token)},
    {"tokens", FIELD_INT32, IN(tokens), RAGGED(n_tokens)},
    {"logprobs", FIELD_FLOAT32, IN(logprobs), RAGGED(n_tokens)},
    {"top_tokens", FIELD_INT32, IN(top_tokens), RAGGED(n_top)},
    {"top_logprobs", FIELD_FLOAT32, IN(top_logprobs), RAGGED(n_top)},
};

#undef IN
#define IN(member) .offset = offsetof(struct timing, member)

static const struct field timing_fields[] = {
    {"time", FIELD_FLOAT64, IN(time),
     ABOUT("s", "when the first of these steps began; seconds since the Unix epoch")},
    {"rank", FIELD_INT32, IN(rank), ABOUT(NULL, "rank in the world")},
    {"steps", FIELD_INT32, IN(steps), ABOUT("steps", "steps in this second")},
    {"rows", FIELD_INT64, IN(rows), ABOUT("rows", "rows this rank worked on")},
    {"attention", FIELD_FLOAT32, IN(attention), ABOUT("s", "computing as an attention rank")},
    {"ffn", FIELD_FLOAT32, IN(ffn), ABOUT("s", "computing as an FFN rank")},
    {"exchange", FIELD_FLOAT32, IN(exchange),
     ABOUT("s", "packing, posting and unpacking messages")},
    {"wait", FIELD_FLOAT32, IN(wait), ABOUT("s", "waiting for the other role with nothing to do")},
    {"total", FIELD_FLOAT32, IN(total), ABOUT("s", "all of it, from contract to contract")},
    {"longest", FIELD_FLOAT32, IN(longest), ABOUT("s", "the longest of the steps")},
    {"bytes", FIELD_FLOAT64, IN(bytes),
     ABOUT("bytes", "of weights and caches that it had to read at least")},
    {"operations", FIELD_FLOAT64, IN(operations),
     ABOUT("FLOP", "that its products and attention take")},
    {"layer", FIELD_INT32, IN(layer),
     ABOUT(NULL, "-1; or this row is about an expert of the layer")},
    {"expert", FIELD_INT32, IN(expert), ABOUT(NULL, "-1, or its number")},
    {"chosen", FIELD_INT64, IN(chosen),
     ABOUT("rows", "rows whose token went to it, since the last row about it")},
};

#define TABLE(fields, row)                                                                         \
    {                                                                                              \
        fields, sizeof fields / sizeof *fields, sizeof(row)                                        \
    }

const struct table completion_table = TABLE(completion_fields, struct completion),
                   piece_table = TABLE(piece_fields, struct piece),
                   timing_table = TABLE(timing_fields, struct timing);

static size_t element_bytes(const struct field *f)
{
    return f->type == FIELD_INT64 || f->type == FIELD_FLOAT64 ? 8 : 4;
}

void bytes_add(struct bytes *b, const void *from, size_t n)
{
    if (b->used + n > b->room) {
        b->room = b->room * 2 > b->used + n ? b->room * 2 : b->used + n + 4096;
        b->data = mem_resize(b->data, b->room, 1);
    }
    if (n)
        memcpy(b->data + b->used, from, n);
    b->used += n;
}

uint32_t field_count(const struct field *f, const void *row)
{
    uint32_t n;
    memcpy(&n, (const char *)row + f->count, sizeof n);
    return n;
}

static void *pointer_at(const void *row, const struct field *f)
{
    void *p;
    memcpy(&p, (const char *)row + f->offset, sizeof p);
    return p;
}

void table_pack(const struct table *t, const void *row, struct bytes *to)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->fields[i];
        if (f->derived)
            continue;
        if (f->ragged) {
            bytes_add(to, pointer_at(row, f), field_count(f, row) * element_bytes(f));
        } else if (f->type == FIELD_STRING) {
            const char *s = pointer_at(row, f);
            uint64_t n = s ? strlen(s) : 0;
            bytes_add(to, &n, sizeof n);
            bytes_add(to, s, n);
        } else {
            bytes_add(to, (const char *)row + f->offset, element_bytes(f));
        }
    }
}

/* Takes n bytes into malloc'd memory with a NUL behind them. NULL: there are fewer. */
static void *take(const char **from, size_t *left, uint64_t n)
{
    if (n > *left)
        return NULL;
    char *copy = mem_new((size_t)n + 1, 1);
    if (n)
        memcpy(copy, *from, (size_t)n);
    copy[n] = 0;
    *from += n;
    *left -= (size_t)n;
    return copy;
}

static bool unpack_field(const struct field *f, const char **from, size_t *left, char *row)
{
    if (f->ragged || f->type == FIELD_STRING) {
        uint64_t n = f->ragged ? (uint64_t)field_count(f, row) * element_bytes(f) : 0;
        if (!f->ragged) {
            if (*left < sizeof n)
                return false;
            memcpy(&n, *from, sizeof n);
            *from += sizeof n;
            *left -= sizeof n;
        }
        void *copy = take(from, left, n);
        memcpy(row + f->offset, &copy, sizeof copy);
        return copy && (f->ragged || strlen(copy) == n);
    }
    size_t n = element_bytes(f);
    if (n > *left)
        return false;
    memcpy(row + f->offset, *from, n);
    *from += n;
    *left -= n;
    return f->type != FIELD_FINISH || finish_name(*(int32_t *)(void *)(row + f->offset));
}

int table_unpack(const struct table *t, const void *from, size_t n, void *row)
{
    const char *at = from;
    memset(row, 0, t->row_bytes);
    for (size_t i = 0; i < t->n; i++) {
        if (t->fields[i].derived || unpack_field(&t->fields[i], &at, &n, row))
            continue;
        table_free(t, row);
        return -1;
    }
    if (n == 0)
        return 0;
    table_free(t, row);
    return -1;
}

void table_free(const struct table *t, void *row)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->fields[i];
        if (f->ragged || f->type == FIELD_STRING) {
            free(pointer_at(row, f));
            memset((char *)row + f->offset, 0, sizeof(void *));
        }
    }
}

char *table_signature(const struct table *t)
{
    struct bytes b = {0};
    for (size_t i = 0; i < t->n; i++) {
        char text[80];
        if (t->fields[i].derived)
            continue;
        int n = snprintf(text, sizeof text, "%s%s:%d%s", b.used ? " " : "", t->fields[i].name,
                         (int)t->fields[i].type, t->fields[i].ragged ? "*" : "");
        bytes_add(&b, text, (size_t)n);
    }
    bytes_add(&b, "", 1);
    return b.data;
}
