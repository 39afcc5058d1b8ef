#include "command/commands.h"

#include "base/files.h"
#include "base/mem.h"
#include "data/h5.h"
#include "data/import.h"
#include "job/job.h"
#include "output/export.h"
#include "output/merge.h"
#include "output/output.h"
#include "output/parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- import and export ---------------------------------------------------------------------- */

static int read_format(void *member, const char *name, const char *value, struct err *e)
{
    if (records_format(value, member) != 0)
        return err_set(e, "--%s is jsonl, csv, tsv or text, not '%s'", name, value);
    return 0;
}

static const struct option_row import_rows[] = {
    {"format", "FORMAT",
     "jsonl, csv, tsv or text; else told from the content (tables: from the name)", OPTION_READ,
     AT(import_options, format), read_format},
    {"text", "FIELD", "the prompt; may be a path (body.prompt). Default: text, or prompt",
     OPTION_TEXT, AT(import_options, text_field)},
    {"template", "TEXT", "prompts from several fields: \"{problem}\\n{context}\"", OPTION_TEXT,
     AT(import_options, text_template)},
    {"tokens", "FIELD", "prompts are arrays of token ids", OPTION_TEXT,
     AT(import_options, tokens_field)},
    {"id", "FIELD", "default: id, where there is one", OPTION_TEXT, AT(import_options, id_field)},
    {"max-new-tokens", "FIELD", "a prompt's own limit. Default: max_new_tokens", OPTION_TEXT,
     AT(import_options, limit_field)},
    {"keep", "FIELD,...",
     "fields that are kept beside the prompts, in `columns`. Default: all; \"\": none", OPTION_TEXT,
     AT(import_options, keep)},
    {"strict", NULL, "refuse a record that cannot be used, instead of making it an error row",
     OPTION_FLAG, AT(import_options, strict)},
    {"force", NULL, "replace the file when it exists", OPTION_FLAG, AT(import_options, force)},
    NO_MORE,
};

static int import_main(const struct usage *usage, int argc, char **argv)
{
    struct import_result result;
    struct err e = {{0}};
    struct import_options o = {.notes = stderr};
    char **operands;
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    if (status == 0)
        status = import_prompts(operands[0], operands[1], &o, &result, &e);
    if (status != 0)
        return command_ended(status, &e);
    printf("%s: %zu prompt%s", operands[1], result.rows, result.rows == 1 ? "" : "s");
    if (result.bad)
        printf(", %zu of them will be error rows", result.bad);
    if (result.duplicates)
        printf(", %zu id%s there before", result.duplicates,
               result.duplicates == 1 ? " was" : "s were");
    printf("\n");
    return EXIT_DONE;
}

struct export_command {
    struct export_options options;
    const char *to;
    bool force;
};

static int read_export_format(void *member, const char *name, const char *value, struct err *e)
{
    static const char *const names[] = {
        [EXPORT_JSON] = "jsonl", [EXPORT_CSV] = "csv", [EXPORT_OPENAI] = "openai"};
    for (int i = 0; i < 3; i++)
        if (strcmp(value, names[i]) == 0) {
            *(enum export_format *)member = (enum export_format)i;
            return 0;
        }
    return err_set(e, "--%s is jsonl, csv or openai, not '%s'", name, value);
}

static const struct option_row export_rows[] = {
    {"tokens", NULL, "token ids of every completion", OPTION_FLAG,
     AT(export_command, options.tokens)},
    {"logprobs", NULL, "and their logarithmic probabilities", OPTION_FLAG,
     AT(export_command, options.logprobs)},
    {"format", "FORMAT",
     "jsonl (the default); csv: a table with a line of names; openai: the lines of an OpenAI "
     "batch, a "
     "choice for every sample",
     OPTION_READ, AT(export_command, options.format), read_export_format},
    {"partial", NULL, "what is finished so far of a job that is not", OPTION_FLAG,
     AT(export_command, options.partial)},
    {"to", "FILE", "write here instead of to standard output", OPTION_TEXT, AT(export_command, to)},
    {"force", NULL, "replace that file", OPTION_FLAG, AT(export_command, force)},
    NO_MORE,
};

static int export_stream(const struct export_command *o, const char *from, FILE *out, struct err *e)
{
    if (export_completions(from, out, &o->options, e) != 0)
        return -1;
    return fflush(out) == 0
               ? 0
               : err_set(e, "%s: %s", o->to ? o->to : "standard output", strerror(errno));
}

/* Beside its name until it is whole. HDF5 files are what an export is made from, never what it is. */
static int export_file(const struct export_command *o, const char *from, struct err *e)
{
    struct stat st;
    FILE *device = stat(o->to, &st) == 0 && !S_ISREG(st.st_mode) ? fopen(o->to, "w") : NULL;
    if (device) { /* a pipe, a terminal: no file that could be half written */
        int status = export_stream(o, from, device, e);
        if (fclose(device) != 0 && status == 0)
            status = err_set(e, "%s: %s", o->to, strerror(errno));
        return status;
    }
    h5_quiet();
    if (H5Fis_hdf5(o->to) > 0)
        return err_set(
            e, "%s: is an HDF5 file, which lines of JSON would replace; name another one", o->to);
    if (!o->force && files_exist(o->to))
        return err_set(
            e, "%s: exists already; name another file, or ask for it to be replaced (--force)",
            o->to);
    size_t room = strlen(o->to) + 32;
    char *tmp = mem_new(room, 1);
    snprintf(tmp, room, "%s.%ld.tmp", o->to, (long)getpid());
    FILE *out = fopen(tmp, "wx");
    int status = out ? export_stream(o, from, out, e)
                     : err_set(e, "%s: cannot be written: %s", tmp, strerror(errno));
    if (out && fclose(out) != 0 && status == 0)
        status = err_set(e, "%s: %s", tmp, strerror(errno));
    if (status == 0)
        status = files_publish(tmp, o->to, e);
    if (status != 0 && out)
        unlink(tmp);
    free(tmp);
    return status;
}

static int export_main(const struct usage *usage, int argc, char **argv)
{
    struct err e = {{0}};
    struct export_command o = {.to = NULL};
    char **operands;
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    if (status == 0 && o.options.format == EXPORT_OPENAI &&
        (o.options.tokens || o.options.logprobs))
        status = err_set(&e, "--format openai has neither tokens nor logprobs");
    if (status != 0)
        return command_ended(status, &e);
    status = o.to ? export_file(&o, operands[0], &e) : export_stream(&o, operands[0], stdout, &e);
    return status == 0 ? EXIT_DONE : command_complain(&e, EXIT_INPUT);
}

const struct command command_import = {
    {"import", "IN OUT.h5", 2, 2,
     "prompts from JSON Lines, CSV, TSV or plain text into an HDF5 file",
     "IN may be compressed (gzip; zstd, xz, bzip2 where their programs are); - is standard input. "
     "Paths lead through objects and arrays: "
     "body.messages.0.content.",
     import_rows},
    import_main};

const struct command command_export = {
    {"export", "OUTPUT.h5", 1, 1, "completions as JSON Lines or CSV", NULL, export_rows},
    export_main};

/* ---- merge ---------------------------------------------------------------------------------- */

#define MERGE_MOST 100000 /* operands */

struct merge_command {
    struct texts overrides;
    bool partial;
    const char *to;
};

static const struct option_row merge_rows[] = {
    {"partial", NULL,
     "what is finished so far, of a job or of parts; beside a running job if wanted", OPTION_FLAG,
     AT(merge_command, partial)},
    {"to", "FILE.h5", "write here instead of to OUTPUT.so-far.h5", OPTION_TEXT,
     AT(merge_command, to)},
    {"set", "KEY=VALUE", "change one key of the job, as often as wanted", OPTION_TEXTS,
     AT(merge_command, overrides)},
    NO_MORE,
};

static int merge_partial(const struct merge_command *o, const char *path, struct err *e)
{
    struct job job;
    uint64_t rows = 0, of = 0;
    if (!o->partial)
        return err_set(
            e, "without --partial nothing is left to do: `tandem run` merges a job that "
               "is done; outputs of parts are merged by `tandem merge PART.h5... WHOLE.h5`");
    if (job_read(&job, path, o->overrides.items, o->overrides.n, e) != 0)
        return -1;
    char *to = o->to ? mem_string(o->to) : merge_sibling(job.output.file, "so-far");
    int status = output_merge_partial(job.output.file, to, &rows, &of, e);
    if (status == 0)
        printf("%s: %llu of %llu completions\n", to, (unsigned long long)rows,
               (unsigned long long)of);
    free(to);
    job_free(&job);
    return status;
}

/* Outputs of a job's parts, and last the file they become. */
static int merge_parts(const struct merge_command *o, char **paths, struct err *e)
{
    size_t n = 0;
    uint64_t rows = 0;
    while (paths[n + 1])
        n++;
    if (o->to || o->overrides.n)
        return err_set(
            e, "--to and --set are for a job file; of outputs, the last is the one to make");
    if (parts_merge((const char *const *)paths, n, paths[n], o->partial, &rows, e) != 0)
        return -1;
    printf("%s: %llu completions\n", paths[n], (unsigned long long)rows);
    return 0;
}

static int merge_main(const struct usage *usage, int argc, char **argv)
{
    struct err e = {{0}};
    struct merge_command o = {.to = NULL};
    char **operands;
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    if (status == 0)
        status = operands[1] ? merge_parts(&o, operands, &e) : merge_partial(&o, operands[0], &e);
    free(o.overrides.items);
    return status == 0 ? EXIT_DONE : command_ended(status, &e);
}

const struct command command_merge = {
    {"merge", "JOB.yaml | PART.h5... WHOLE.h5", 1, MERGE_MOST,
     "one output from the outputs of a job's parts; or what a job has finished so far",
     "The outputs of a Slurm array: tandem merge out-*.h5 all.h5. They must be of one job, and all "
     "of it. "
     "Of a job that is not done, --partial makes HDF5 files of what is finished.",
     merge_rows},
    merge_main};
