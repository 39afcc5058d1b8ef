/* integer.c - x times some outputs of a weight, both as integers: kernels/cpu/integer.h says what it
 * is. */
#include "kernels/cpu/plain/kept.h"

#include <math.h>
#include <string.h>

/* Compiled twice, as in product.c. */
#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__)
#define WITH_FMA __attribute__((target_clones("fma", "default")))
#else
#define WITH_FMA
#endif

void plain_integer_outputs(const struct weight *w, size_t first, int8_t *block)
{
    for (size_t o = 0; o < PLAIN_OUTPUTS && first + o < w->n; o++)
        for (size_t i = 0; i < w->k; i++)
            block[o * w->k + i] = (int8_t)plain_integer(w, first + o, i);
}

/* One run of inputs, which begins at `at` of group x; behind the last input there is nothing to add. */
WITH_FMA static float add_run(const struct form_group *g, bool mins, const int8_t *values, size_t n,
                              const struct integers *x, size_t at, size_t run, float y)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += values[i] * x->code[at + i];
    y = fmaf(g->d * (float)g->scale, x->scale * (float)sum, y);
    if (!mins)
        return y;
    float term = run == INTEGER_GROUP ? x->term_all : x->term[at / run];
    return fmaf(-(g->m * (float)g->min), term, y);
}

void plain_integer_products(const struct weight *w, size_t first, const int8_t *block,
                            const struct integers *x, size_t begin, size_t end,
                            float y[PLAIN_OUTPUTS])
{
    static const struct form_group none;
    size_t run = integer_run(&w->form);
    memset(y, 0, PLAIN_OUTPUTS * sizeof *y);
    /* Whole groups: what is padding in packed weights is so here. */
    size_t stop = (end + INTEGER_GROUP - 1) / INTEGER_GROUP * INTEGER_GROUP;
    for (size_t o = 0; o < PLAIN_OUTPUTS && first + o < w->n; o++)
        for (size_t i = begin; i < stop; i += run) {
            struct form_group g = i < w->k ? plain_group(w, first + o, i) : none;
            size_t left = i < end ? end - i : 0;
            y[o] = add_run(&g, w->form.mins != MINS_NONE, block + o * w->k + i,
                           left < run ? left : run, x + i / INTEGER_GROUP, i % INTEGER_GROUP, run,
                           y[o]);
        }
}
