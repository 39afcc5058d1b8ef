/* commands.h - the subcommands: each a table of its options (options.h) and a function, in the file of
 * its kind.
 *
 * Every message for the user goes to stderr with the program's name before it; what was asked for goes
 * to stdout. The function gets the subcommand's name as argv[0] and returns the exit status.
 */
#ifndef TANDEM_COMMAND_COMMANDS_H
#define TANDEM_COMMAND_COMMANDS_H

#include "base/err.h"
#include "command/options.h"

struct command {
    struct usage usage;
    int (*run)(const struct usage *usage, int argc, char **argv);
};

extern const struct command command_run, command_score, command_check,
    command_selftest;                                                      /* decode.c */
extern const struct command command_import, command_export, command_merge; /* files.c */
extern const struct command command_status, command_report, command_generate, command_plan,
    command_bench; /* cluster.c */

/* Says what is wrong; returns status. */
int command_complain(const struct err *e, int status);

/* What a subcommand returns when its options were not all it needs: help was printed, or an error. */
int command_ended(int parsed, const struct err *e);

/* For rows of a table of options. */
#define AT(type, member) .offset = offsetof(struct type, member)
#define NO_MORE                                                                                    \
    {                                                                                              \
        .name = NULL                                                                               \
    }

#endif
