/* lengths.h - how many tokens prompts and completions of a job have, as far as a forecast needs it. */
#ifndef TANDEM_ROLES_LENGTHS_H
#define TANDEM_ROLES_LENGTHS_H

#include "plan/forecast.h"
#include "roles/inputs.h"

struct lengths {
    uint32_t *prompt, *completion; /* [n] */
    size_t n;
    double context; /* mean of a token's */
};

/* Of the job's prompts, all of which are tokenized; tokens: of a completion, 0: as many as the job allows.
 * -1: no prompt can be decoded. lengths_free() either way. */
int lengths_read(struct lengths *l, const struct inputs *in, double tokens, struct err *e);

/* n equal ones, where there are no prompts. */
void lengths_make(struct lengths *l, size_t n, uint32_t prompt, uint32_t completion);
void lengths_free(struct lengths *l);

#endif
