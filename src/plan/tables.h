/* tables.h - the tables of the Step-3 report, computed, beside the figures it prints.
 *
 * `tandem plan --report`: tables 2 and 3 (bytes and operations a token), 5 (unit costs), 6 (cost of
 * a million tokens), 7 (least sparsity) and 8 (tokens per second and card; there ours is a bound).
 * A reader sees at once whether the cost model here is the report's.
 */
#ifndef TANDEM_PLAN_TABLES_H
#define TANDEM_PLAN_TABLES_H

#include <stdio.h>

/* Prints all of them. Returns how many figures differ from the report's by more than one unit of
 * the last digit it prints; figures of table 8, which were measured there, are not counted. */
int tables_print(FILE *out);

#endif
