#include "command/manual.h"

#include "job/keys.h"

#include <string.h>

static const char *const statuses[][2] = {
    {"0", "done"},
    {"1", "job, checkpoint, prompts or command line are wrong; the message says what to do"},
    {"2", "something broke while running (a rank, the file system); the same command continues"},
    {"75", "stopped by a signal or a time limit; the same command continues"},
};

void manual_help(const struct usage *const *usages, size_t n, FILE *out)
{
    fprintf(
        out,
        "Tandem decodes prompts in bulk with large mixture-of-experts models on MPI clusters.\n\n");
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "  tandem %-10s ", usages[i]->name);
        options_wrap(out, usages[i]->what, 20, 20, 79);
    }
    fprintf(out, "\n`tandem COMMAND --help` explains a command. Exit status:\n");
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        fprintf(out, "  %-3s ", statuses[i][0]);
        options_wrap(out, statuses[i][1], 6, 6, 79);
    }
}

/* ---- manual page ---------------------------------------------------------------------------- */

/* Backslashes, hyphens and leading dots mean something to roff. */
static void roff(FILE *out, const char *text)
{
    for (const char *c = text; *c; c++) {
        if (*c == '\\' || *c == '-')
            fprintf(out, "\\%c", *c == '\\' ? 'e' : '-');
        else if ((*c == '.' || *c == '\'') && (c == text || c[-1] == '\n'))
            fprintf(out, "\\&%c", *c);
        else
            fputc(*c, out);
    }
}

static void page_command(const struct usage *u, FILE *out)
{
    fprintf(out, ".SS tandem %s ", u->name);
    roff(out, u->operands);
    fprintf(out, "\n");
    roff(out, u->what);
    fprintf(out, "\n");
    if (u->more) {
        fprintf(out, ".PP\n");
        roff(out, u->more);
        fprintf(out, "\n");
    }
    for (const struct option_row *o = u->options; o->name; o++) {
        fprintf(out, ".TP\n\\fB\\-\\-");
        roff(out, o->name);
        fprintf(out, "\\fR");
        if (o->value) {
            fprintf(out, " \\fI");
            roff(out, o->value);
            fprintf(out, "\\fR");
        }
        fprintf(out, "\n");
        roff(out, o->what);
        fprintf(out, "\n");
    }
}

static void page_keys(FILE *out)
{
    for (size_t i = 0; i < keys_count; i++) {
        char path[64];
        const struct key *k = &keys[i];
        fprintf(out, ".TP\n\\fB");
        roff(out, keys_path(k, path, sizeof path));
        fprintf(out, "\\fR");
        if (k->preset) {
            fprintf(out, ": ");
            roff(out, *k->preset ? k->preset : "\"\"");
        }
        fprintf(out, "\n");
        roff(out, k->help ? k->help : "");
        fprintf(out, "\n");
    }
}

void manual_page(const struct usage *const *usages, size_t n, const char *version, FILE *out)
{
    fprintf(out, ".TH TANDEM 1 \"\" \"tandem ");
    roff(out, version);
    fprintf(out, "\" \"User Commands\"\n.SH NAME\ntandem \\- batch decoder for "
                 "mixture\\-of\\-experts language "
                 "models\n.SH SYNOPSIS\n");
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "%s.B tandem %s\n", i ? ".br\n" : "", usages[i]->name);
        roff(out, usages[i]->operands);
        fprintf(out, "\n");
    }
    fprintf(out, ".SH DESCRIPTION\nTandem decodes prompts in bulk with large "
                 "mixture\\-of\\-experts language "
                 "models, on MPI clusters and on workstations. Attention with its KV cache and the "
                 "experts run on "
                 "two groups of ranks that work in tandem on micro\\-batches. Prompts come from an "
                 "HDF5 file, "
                 "completions go to one; an unfinished job is continued by the same command.\n.SH "
                 "COMMANDS\n");
    for (size_t i = 0; i < n; i++)
        page_command(usages[i], out);
    fprintf(out, ".SH KEYS OF A JOB FILE\nWith their defaults.\n");
    page_keys(out);
    fprintf(out, ".SH EXIT STATUS\n");
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        fprintf(out, ".TP\n.B %s\n", statuses[i][0]);
        roff(out, statuses[i][1]);
        fprintf(out, "\n");
    }
}

/* ---- completion ----------------------------------------------------------------------------- */

void manual_completion(const struct usage *const *usages, size_t n, FILE *out)
{
    fprintf(out, "# bash completion for tandem\n_tandem() {\n    local "
                 "current=${COMP_WORDS[COMP_CWORD]} words=\n");
    fprintf(out, "    case ${COMP_WORDS[COMP_CWORD - 1]} in\n    --set)\n        "
                 "COMPREPLY=($(compgen -S = -W '");
    for (size_t i = 0; i < keys_count; i++) {
        char path[64];
        fprintf(out, "%s%s", i ? " " : "", keys_path(&keys[i], path, sizeof path));
    }
    fprintf(out, "' -- \"$current\"))\n        compopt -o nospace\n        return ;;\n    esac\n");
    fprintf(out, "    if [ \"$COMP_CWORD\" = 1 ]; then\n        COMPREPLY=($(compgen -W '");
    for (size_t i = 0; i < n; i++)
        fprintf(out, "%s%s", i ? " " : "", usages[i]->name);
    fprintf(out, "' -- \"$current\"))\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "    %s) words='--help", usages[i]->name);
        for (const struct option_row *o = usages[i]->options; o->name; o++)
            fprintf(out, " --%s", o->name);
        fprintf(out, "' ;;\n");
    }
    fprintf(out, "    esac\n    case $current in\n    -*) COMPREPLY=($(compgen -W \"$words\" -- "
                 "\"$current\")) ;;\n"
                 "    *) COMPREPLY=($(compgen -f -- \"$current\")) ;;\n    esac\n}\n"
                 "complete -o filenames -F _tandem tandem\n");
}

/* ---- the commented job file ----------------------------------------------------------------- */

#define COMMENT 34 /* column where comments begin */

static void key_line(const struct key *k, int indent, FILE *out)
{
    const char *value = k->example ? k->example : k->preset ? k->preset : "";
    int n = fprintf(out, "%*s%s: %s", indent, "", k->name, value);
    if (k->help) {
        if (n >= COMMENT) /* too long to stand beside */
            n = fprintf(out, "\n") - 1;
        fprintf(out, "%*s", COMMENT - n, "");
        /* options_wrap cannot repeat the sign of a comment: lines are cut here. */
        for (const char *text = k->help; *text;) {
            size_t room = 100 - COMMENT - 2, cut = strlen(text);
            if (cut > room)
                for (cut = room; text[cut] != ' '; cut--)
                    ;
            fprintf(out, "# %.*s\n", (int)cut, text);
            text += cut + (text[cut] == ' ');
            if (*text)
                fprintf(out, "%*s", COMMENT, "");
        }
        return;
    }
    fputc('\n', out);
}

/* Opens the sections of a key that the key before was not in; returns the key's indentation. */
static int open_section(const char *section, const char *before, FILE *out)
{
    int indent = 0;
    for (const char *at = section; *at; indent += 2) {
        size_t end = (size_t)(at - section) + strcspn(at, ".");
        bool open = strncmp(before, section, end) == 0 && (before[end] == 0 || before[end] == '.');
        if (!open && indent == 0)
            fputc('\n', out);
        if (!open)
            fprintf(out, "%*s%.*s:\n", indent, "", (int)strcspn(at, "."), at);
        at += strcspn(at, ".");
        at += *at == '.';
    }
    return indent;
}

void manual_keys(FILE *out)
{
    const char *before = "";
    fprintf(out, "# Every key of a job file, with its default and its meaning (tandem keys). Only "
                 "model, prompts.file\n"
                 "# and output.file must be given. Paths are relative to the directory the job is "
                 "started in. One\n"
                 "# key can be changed on the command line:  tandem run jobs/example.yaml --set "
                 "schedule.slots=64\n\n");
    for (size_t i = 0; i < keys_count; i++) {
        const struct key *k = &keys[i];
        if (!*k->section && *before)
            fputc('\n', out);
        key_line(k, open_section(k->section, before, out), out);
        before = k->section;
    }
}
