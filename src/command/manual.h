/* manual.h - everything that explains the command line, made from the tables that run it.
 *
 * `tandem help`, the manual page and the completion for bash walk the same usages; the commented job
 * file walks the table of keys (job/keys.h). One process; prints.
 */
#ifndef TANDEM_COMMAND_MANUAL_H
#define TANDEM_COMMAND_MANUAL_H

#include "command/options.h"

/* usages: [n], in the order they are shown. */
void manual_help(const struct usage *const *usages, size_t n, FILE *out);
void manual_page(const struct usage *const *usages, size_t n, const char *version, FILE *out);
void manual_completion(const struct usage *const *usages, size_t n, FILE *out);

/* A job file with every key, its default and what it means: jobs/example.yaml. */
void manual_keys(FILE *out);

#endif
