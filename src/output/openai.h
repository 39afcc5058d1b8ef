/* openai.h - completions as the lines of an OpenAI batch's output: one a prompt, a choice for each of its
 * samples, as /v1/chat/completions answers; where the prompts were no messages, as /v1/completions does. For
 * export.c; one thread.
 */
#ifndef TANDEM_OUTPUT_OPENAI_H
#define TANDEM_OUTPUT_OPENAI_H

#include "output/fields.h"

#include <jansson.h>
#include <stdio.h>

struct openai {
    FILE *out;
    const char *model; /* its name, or NULL; outlives this */
    bool texts;        /* the prompts were no messages */
    json_t *line;      /* of the prompt whose samples come now; NULL: none */
    int64_t prompt;
};

/* The next completion, in the order of the output. One that failed is the error of its prompt's line. */
void openai_put(struct openai *o, const struct completion *c);

/* Behind the last one. */
void openai_end(struct openai *o);

#endif
