#include "output/best.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>

void best_open(struct best *b, struct journals *js)
{
    *b = (struct best){.js = js,
                       .samples = (uint64_t)js->header.samples,
                       .kept = (uint64_t)js->header.kept,
                       .prompt = UINT64_MAX};
    if (!js->header.identity) /* there is no journal, and no unit */
        b->samples = b->kept = 1;
    b->unit = mem_new(b->samples, sizeof *b->unit);
    b->mean = mem_new(b->samples, sizeof *b->mean);
}

void best_close(struct best *b)
{
    free(b->unit);
    free(b->mean);
    *b = (struct best){0};
}

uint64_t best_rows(const struct best *b)
{
    return b->js->units / b->samples * b->kept;
}

/* Is everything of the prompt decoded? */
static bool is_whole(const struct best *b, uint64_t prompt)
{
    for (uint64_t s = 0; s < b->samples; s++)
        if (!b->js->places[prompt * b->samples + s])
            return false;
    return true;
}

uint64_t best_count(const struct best *b)
{
    uint64_t rows = 0;
    if (b->kept == b->samples)
        return b->js->n_done;
    for (uint64_t prompt = 0; prompt < b->js->units / b->samples; prompt++)
        rows += is_whole(b, prompt) ? b->kept : 0;
    return rows;
}

static int mean_of(struct best *b, uint64_t unit, double *mean, struct err *e)
{
    struct completion c;
    double sum = 0;
    if (journals_completion(b->js, unit, &c, e) != 0)
        return -1;
    for (uint32_t i = 0; i < c.n_tokens; i++)
        sum += (double)c.logprobs[i];
    *mean = c.finish == FINISH_ERROR ? -INFINITY : c.n_tokens ? sum / c.n_tokens : -1e300;
    table_free(&completion_table, &c);
    return 0;
}

/* Puts the samples of the prompt in order; they are few. */
static int rank(struct best *b, uint64_t prompt, struct err *e)
{
    b->prompt = UINT64_MAX;
    for (uint64_t s = 0; s < b->samples; s++) {
        uint64_t unit = prompt * b->samples + s, at = s;
        double mean;
        if (mean_of(b, unit, &mean, e) != 0)
            return -1;
        for (; at > 0 && mean > b->mean[at - 1]; at--) {
            b->unit[at] = b->unit[at - 1];
            b->mean[at] = b->mean[at - 1];
        }
        b->unit[at] = unit;
        b->mean[at] = mean;
    }
    b->prompt = prompt;
    return 0;
}

int best_completion(struct best *b, uint64_t row, struct completion *out, struct err *e)
{
    uint64_t prompt = row / b->kept, unit = row;
    if (b->kept == b->samples ? !b->js->places[row] : !is_whole(b, prompt))
        return 0;
    if (b->kept < b->samples) {
        if (prompt != b->prompt && rank(b, prompt, e) != 0)
            return -1;
        unit = b->unit[row % b->kept];
    }
    if (journals_completion(b->js, unit, out, e) != 0)
        return -1;
    if (b->kept < b->samples)
        out->sample = (int32_t)(row % b->kept);
    return 1;
}
