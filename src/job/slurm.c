#include "job/slurm.h"

#include "base/mem.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What Slurm says for a letter; NULL: nothing. */
static const char *number(char letter)
{
    const char *name = letter == 'a'   ? "SLURM_ARRAY_TASK_ID"
                       : letter == 'A' ? "SLURM_ARRAY_JOB_ID"
                                       : "SLURM_JOB_ID";
    const char *value = getenv(name);
    return value && *value && strlen(value) <= 20 ? value : NULL;
}

static bool is_valid(int part, int parts)
{
    return part >= 1 && part <= parts;
}

static bool read_part(const char *text, int *part, int *parts)
{
    int end = 0;
    return sscanf(text, "%d/%d%n", part, parts, &end) == 2 && text[end] == 0 &&
           is_valid(*part, *parts);
}

static bool array_part(int *part, int *parts)
{
    const char *id = number('a'), *least = getenv("SLURM_ARRAY_TASK_MIN"),
               *step = getenv("SLURM_ARRAY_TASK_STEP"), *count = getenv("SLURM_ARRAY_TASK_COUNT");
    if (!id || !least || !count)
        return false;
    *parts = atoi(count);
    *part = (atoi(id) - atoi(least)) / (step && atoi(step) > 0 ? atoi(step) : 1) + 1;
    return is_valid(*part, *parts);
}

int slurm_part(const char *text, int *part, int *parts, struct err *e)
{
    *part = *parts = 1;
    if (!text)
        return 0;
    if (strcmp(text, "slurm") != 0)
        return read_part(text, part, parts)
                   ? 0
                   : err_set(e, "prompts.part wants a part of all, such as 3/8, or slurm, or none");
    return array_part(part, parts)
               ? 0
               : err_set(e, "prompts.part is slurm, but this is no task of a Slurm job array "
                            "without holes");
}

int slurm_path(char **path, struct err *e)
{
    char *filled = mem_new(strlen(*path) * 20 + 1, 1), *to = filled;
    for (const char *c = *path; *c; c++) {
        bool letter = *c == '%' && (c[1] == 'a' || c[1] == 'A' || c[1] == 'j');
        if (letter && !number(c[1])) {
            free(filled);
            return err_set(e, "a path has %%%c, but this is no task of a Slurm %s", c[1],
                           c[1] == 'j' ? "job" : "job array");
        }
        if (letter)
            to += sprintf(to, "%s", number(*++c));
        else
            *to++ = *c;
    }
    *to = 0;
    free(*path);
    *path = filled;
    return 0;
}
