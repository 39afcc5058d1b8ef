/* schema_number.h - numbers within bounds as pieces of a grammar. For schema.c. */
#ifndef TANDEM_FORMAT_SCHEMA_NUMBER_H
#define TANDEM_FORMAT_SCHEMA_NUMBER_H

#include "format/grammar.h"

#define SCHEMA_INTEGER_MOST 999999999999999 /* larger bounds are as if it were this */

/* The integers low .. high in decimal; none when low > high. */
void schema_integers(struct grammar *g, int32_t from, int32_t to, int64_t low, int64_t high);

/* Numbers between whole bounds, which themselves are left out where `open`: the integers, and what has
 * digits behind a point. */
void schema_numbers(struct grammar *g, int32_t from, int32_t to, int64_t low, bool low_open,
                    int64_t high, bool high_open);

/* Any number of JSON, of so many digits as schema.h says. */
void schema_any_number(struct grammar *g, int32_t from, int32_t to);

#endif
