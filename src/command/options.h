/* options.h - the options of a subcommand as a table: parsing, --help, the manual and completion all
 * walk it, so none of them can know less than the others.
 *
 * `--name VALUE` or `--name=VALUE`, anywhere among the operands; `--` ends them. Every subcommand also
 * has --help. Pure but for printing; one thread.
 */
#ifndef TANDEM_COMMAND_OPTIONS_H
#define TANDEM_COMMAND_OPTIONS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum option_kind {
    OPTION_FLAG,  /* bool: true when it is there */
    OPTION_TEXT,  /* const char *: points into argv */
    OPTION_TEXTS, /* struct texts: one for every time it is there */
    OPTION_READ,  /* whatever read() makes of the value; offset is that of what it gets */
};

struct texts {
    const char **items; /* mem_new; the caller frees */
    size_t n;
};

struct option_row {
    const char *name;  /* "text", for --text; NULL ends a table */
    const char *value; /* what stands for the value in help: "FIELD"; NULL: a flag */
    const char *what;  /* one sentence */
    enum option_kind kind;
    size_t offset; /* in the struct that is filled */
    int (*read)(void *member, const char *name, const char *value, struct err *e);
};

struct usage {
    const char *name;     /* "import" */
    const char *operands; /* "IN OUT.h5" */
    int least, most;      /* how many operands there may be */
    const char *what;     /* a sentence for the list of subcommands */
    const char *more;     /* paragraphs for its own help; NULL: none */
    const struct option_row *options;
};

/* Fills `into` and moves the operands, in their order, to the end of argv: *operands points at them,
 * NULL-terminated. 0; 1: help was asked for and is printed; -1 with what was wrong and is known. */
int options_parse(const struct usage *u, int argc, char **argv, void *into, char ***operands,
                  struct err *e);

/* Usage line, what it does, its options; within 80 columns. */
void options_help(const struct usage *u, FILE *out);

/* Text in lines of at most `width` columns behind `indent` blanks; the first line begins where the
 * cursor is, at `column`. */
void options_wrap(FILE *out, const char *text, int column, int indent, int width);

#endif
