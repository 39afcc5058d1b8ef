/* main.c - the command line: one subcommand, its options, its exit status.
 *
 * Only `run` starts MPI. Every message for the user goes to stderr with the program's name before
 * it; what was asked for goes to stdout. A subcommand is a table of its options (command/options.h)
 * and a function.
 */
#include "base/err.h"
#include "base/mem.h"
#include "command/manual.h"
#include "command/options.h"
#include "base/files.h"
#include "data/h5.h"
#include "data/import.h"
#include "kernels/device.h"
#include "job/job.h"
#include "model/generate.h"
#include "output/export.h"
#include "output/merge.h"
#include "output/output.h"
#include "plan/plan.h"
#include "plan/tables.h"
#include "report/report.h"
#include "roles/check.h"
#include "roles/run.h"
#include "roles/stop.h"

#include <errno.h>
#include <hdf5.h>
#include <mpi.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef TANDEM_VERSION
#define TANDEM_VERSION "development"
#endif

struct command {
    struct usage usage;
    int (*run)(const struct usage *usage, int argc, char **argv);
};

static int complain(const struct err *e, int status)
{
    fprintf(stderr, "tandem: %s\n", e->text);
    return status;
}

/* What a subcommand returns when its options were not all it needs: help was printed, or an error. */
static int ended(int parsed, const struct err *e)
{
    return parsed > 0 ? EXIT_DONE : complain(e, EXIT_INPUT);
}

#define AT(type, member) .offset = offsetof(struct type, member)
#define NO_MORE                                                                                    \
    {                                                                                              \
        .name = NULL                                                                               \
    }

/* ---- run and check -------------------------------------------------------------------------- */

struct job_options {
    struct texts overrides;
    enum role role;
    bool retry_errors;
};

static int read_role(void *member, const char *name, const char *value, struct err *e)
{
    enum role *role = member;
    if (strcmp(value, "attention") == 0)
        *role = ROLE_ATTENTION;
    else if (strcmp(value, "ffn") == 0)
        *role = ROLE_FFN;
    else
        return err_set(e, "--%s is attention or ffn, not '%s'", name, value);
    return 0;
}

static const struct option_row run_options[] = {
    {"set", "KEY=VALUE", "change one key of the job, as often as wanted (`tandem keys` names them)",
     OPTION_TEXTS, AT(job_options, overrides)},
    {"role", "attention|ffn",
     "what this rank is, on every rank of an MPMD start or a heterogeneous job; "
     "else attention ranks come first",
     OPTION_READ, AT(job_options, role), read_role},
    {"retry-errors", NULL,
     "of a job that is continued, also decode again the rows that were errors", OPTION_FLAG,
     AT(job_options, retry_errors)},
    NO_MORE,
};
static const struct option_row check_options[] = {
    {"set", "KEY=VALUE", "change one key of the job, as often as wanted", OPTION_TEXTS,
     AT(job_options, overrides)},
    NO_MORE,
};

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static int command_run(const struct usage *usage, int argc, char **argv)
{
    struct comm comm;
    struct job_options o = {.overrides = {NULL, 0}};
    struct err e = {{0}};
    char **operands;
    if (asks_for_help(argc, argv)) /* without starting MPI */
        return ended(options_parse(usage, argc, argv, &o, &operands, &e), &e);
    stop_on_signals();
    struct run_options options = {.job = NULL};
    struct err wrong = {{0}};
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    if (status == 0) {
        options.job = operands[0];
        options.overrides = o.overrides.items;
        options.n_overrides = o.overrides.n;
        options.role = o.role;
        options.retry_errors = o.retry_errors;
        if (probe_job(&options.probe, options.job, options.overrides, options.n_overrides,
                      &wrong) != 0)
            options.wrong = &wrong;
    }
    comm_start(&comm, &argc, &argv);
    status = comm_agree(&comm, status == 0, &e) ? (int)run_job(&comm, &options) : EXIT_INPUT;
    free(o.overrides.items);
    comm_finish(&comm);
    return status;
}

static int command_check(const struct usage *usage, int argc, char **argv)
{
    struct job_options o = {.overrides = {NULL, 0}};
    struct err e = {{0}};
    char **operands;
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    if (status == 0)
        status = check_job(operands[0], o.overrides.items, o.overrides.n, stdout, &e);
    free(o.overrides.items);
    return status == 0 ? EXIT_DONE : ended(status, &e);
}

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

static int command_import(const struct usage *usage, int argc, char **argv)
{
    struct import_result result;
    struct err e = {{0}};
    struct import_options o = {.notes = stderr};
    char **operands;
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    if (status == 0)
        status = import_prompts(operands[0], operands[1], &o, &result, &e);
    if (status != 0)
        return ended(status, &e);
    printf("%s: %zu prompts", operands[1], result.rows);
    if (result.bad)
        printf(", %zu of them will be error rows", result.bad);
    if (result.duplicates)
        printf(", %zu ids were there before", result.duplicates);
    printf("\n");
    return EXIT_DONE;
}

struct export_command {
    struct export_options options;
    const char *to;
};

static const struct option_row export_rows[] = {
    {"tokens", NULL, "token ids of every completion", OPTION_FLAG,
     AT(export_command, options.tokens)},
    {"logprobs", NULL, "and their logarithmic probabilities", OPTION_FLAG,
     AT(export_command, options.logprobs)},
    {"partial", NULL, "what is finished so far of a job that is not", OPTION_FLAG,
     AT(export_command, options.partial)},
    {"to", "FILE", "write here instead of to standard output", OPTION_TEXT, AT(export_command, to)},
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

static int command_export(const struct usage *usage, int argc, char **argv)
{
    struct err e = {{0}};
    struct export_command o = {.to = NULL};
    char **operands;
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    if (status != 0)
        return ended(status, &e);
    status = o.to ? export_file(&o, operands[0], &e) : export_stream(&o, operands[0], stdout, &e);
    return status == 0 ? EXIT_DONE : complain(&e, EXIT_INPUT);
}

/* ---- merge ---------------------------------------------------------------------------------- */

struct merge_command {
    struct texts overrides;
    bool partial;
    const char *to;
};

static const struct option_row merge_rows[] = {
    {"partial", NULL, "what is finished so far, beside a running job if wanted", OPTION_FLAG,
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
        return err_set(e, "without --partial nothing is left to do: `tandem run` merges a job that "
                          "is done");
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

static int command_merge(const struct usage *usage, int argc, char **argv)
{
    struct err e = {{0}};
    struct merge_command o = {.to = NULL};
    char **operands;
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    if (status == 0)
        status = merge_partial(&o, operands[0], &e);
    free(o.overrides.items);
    return status == 0 ? EXIT_DONE : ended(status, &e);
}

/* ---- report --------------------------------------------------------------------------------- */

struct report_command {
    const char *html;
};

static const struct option_row report_rows[] = {
    {"html", "FILE.html", "one page with charts instead, for a browser; replaces the file",
     OPTION_TEXT, AT(report_command, html)},
    NO_MORE,
};

static int command_report(const struct usage *usage, int argc, char **argv)
{
    struct err e = {{0}};
    struct report_command o = {.html = NULL};
    struct stats s;
    char **operands;
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    if (status == 0)
        status = stats_read(&s, operands[0], &e);
    if (status != 0)
        return ended(status, &e);
    if (o.html)
        status = report_file(&s, o.html, &e);
    else
        report_text(&s, stdout);
    stats_free(&s);
    return status == 0 ? EXIT_DONE : complain(&e, EXIT_INPUT);
}

/* ---- generate ------------------------------------------------------------------------------- */

static const struct option_row generate_rows[] = {
    {"tokenizer", "DIRECTORY",
     "a tokenizer that is copied beside the weights; prompts of token ids need none", OPTION_TEXT,
     AT(generate_options, tokenizer)},
    NO_MORE,
};

static int command_generate(const struct usage *usage, int argc, char **argv)
{
    struct err e = {{0}};
    struct generate_options o;
    char **operands;
    generate_defaults(&o);
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    for (char **pair = operands + 1; status == 0 && *pair; pair++) {
        char *equals = strchr(*pair, '=');
        if (!equals) {
            status =
                err_set(&e, "wanted NAME=VALUE, found '%s'; see `tandem generate --help`", *pair);
            break;
        }
        *equals = 0;
        status = generate_set(&o, *pair, equals + 1, &e);
    }
    if (status == 0) {
        o.directory = operands[0];
        status = generate_checkpoint(&o, &e);
    }
    if (status != 0)
        return ended(status, &e);
    printf("%s: %zu parameters, %.2f GB\n", o.directory, generate_parameters(&o),
           (double)generate_bytes(&o) / 1e9);
    return EXIT_DONE;
}

/* ---- plan ----------------------------------------------------------------------------------- */

struct plan_command {
    struct plan_options options;
    bool report, cards;
};

static int read_plan(void *member, const char *name, const char *value, struct err *e)
{
    return plan_set(member, name, value, e);
}

#define PLAN(name, value, what)                                                                    \
    {                                                                                              \
        name, value, what, OPTION_READ, AT(plan_command, options), read_plan                       \
    }

static const struct option_row plan_rows[] = {
    PLAN("cluster", "CLUSTER", "a card, ATTENTION+FFN (h20+h800), or a YAML file. Default: h800"),
    PLAN("context", "TOKENS", "of every sequence. Default: 8K"),
    PLAN("tpot", "TIME", "the longest time per output token. Default: 50ms"),
    PLAN("weights", "FORMAT", "f32, bf16, fp8, int8 or int4. Default: fp8"),
    PLAN("kv", "FORMAT", "of the KV cache: f32, bf16 or fp8. Default: fp8"),
    {"report", NULL, "the tables of the Step-3 report, beside its figures", OPTION_FLAG,
     AT(plan_command, report)},
    {"cards", NULL, "the cards that are known", OPTION_FLAG, AT(plan_command, cards)},
    NO_MORE,
};

static int command_plan(const struct usage *usage, int argc, char **argv)
{
    struct plan_command o = {.report = false};
    struct err e = {{0}};
    char **operands;
    plan_defaults(&o.options);
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    if (status == 0 && o.report)
        tables_print(stdout);
    if (status == 0 && o.cards)
        plan_cards(stdout);
    o.options.model = operands[0];
    if (status == 0 && operands[0])
        status = plan_print(&o.options, stdout, &e);
    else if (status == 0 && !o.report && !o.cards)
        status = err_set(
            &e, "wanted a model: a directory with config.json, or a name such as step3; see "
                "`tandem plan --help`");
    return status == 0 ? EXIT_DONE : ended(status, &e);
}

/* ---- what explains itself ------------------------------------------------------------------- */

static const struct option_row no_options[] = {NO_MORE};

static int command_keys(const struct usage *usage, int argc, char **argv);
static int command_version(const struct usage *usage, int argc, char **argv);
static int command_help(const struct usage *usage, int argc, char **argv);

static const struct command commands[] = {
    {{"run", "JOB.yaml", 1, 1,
      "decode the job's prompts; the same command continues an unfinished job",
      "Started by mpirun or srun with as many ranks as the job's layout has: mpirun -n 2 tandem "
      "run job.yaml. "
      "A colocated layout of one rank needs neither.",
      run_options},
     command_run},
    {{"check", "JOB.yaml", 1, 1,
      "dry run: validate everything, print layout, memory and the first prompt", NULL,
      check_options},
     command_check},
    {{"import", "IN OUT.h5", 2, 2,
      "prompts from JSON Lines, CSV, TSV or plain text into an HDF5 file",
      "IN may be compressed by gzip; - is standard input. Paths lead through objects and arrays: "
      "body.messages.0.content.",
      import_rows},
     command_import},
    {{"export", "OUTPUT.h5", 1, 1, "completions as JSON Lines", NULL, export_rows}, command_export},
    {{"merge", "JOB.yaml", 1, 1, "HDF5 files of what a job that is not done has finished so far",
      NULL, merge_rows},
     command_merge},
    {{"report", "OUTPUT.h5", 1, 1, "lengths, speed over time, failures, and where the time went",
      NULL, report_rows},
     command_report},
    {{"plan", "[MODEL]", 0, 1,
      "what a model needs on a cluster, from its config.json alone, and the best layouts",
      "MODEL is a directory with config.json, or one of step3, deepseek-v3, kimi-k2, qwen3-235b, "
      "qwen3-32b.",
      plan_rows},
     command_plan},
    {{"generate", "DIRECTORY [NAME=VALUE]...", 1, 64,
      "a checkpoint with random weights, for measuring", NULL, generate_rows},
     command_generate},
    {{"keys", "", 0, 0, "every key of a job file with its default and meaning, as a job file", NULL,
      no_options},
     command_keys},
    {{"version", "", 0, 0, "the version, and what is built in", NULL, no_options}, command_version},
    {{"help", "[COMMAND|man|bash]", 0, 1,
      "this list; of a command; the manual page; completion for bash", NULL, no_options},
     command_help},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, commands[i].usage.name) == 0)
            return &commands[i];
    return NULL;
}

static int command_keys(const struct usage *usage, int argc, char **argv)
{
    struct err e;
    char **operands;
    int status = options_parse(usage, argc, argv, NULL, &operands, &e);
    if (status != 0)
        return ended(status, &e);
    manual_keys(stdout);
    return EXIT_DONE;
}

static int command_version(const struct usage *usage, int argc, char **argv)
{
    struct err e;
    char **operands;
    int status = options_parse(usage, argc, argv, NULL, &operands, &e);
    if (status != 0)
        return ended(status, &e);
    char mpi[MPI_MAX_LIBRARY_VERSION_STRING];
    int n;
    unsigned hdf5[3];
    MPI_Get_library_version(mpi, &n);
    H5get_libversion(&hdf5[0], &hdf5[1], &hdf5[2]);
    printf("tandem %s\nkernels:", TANDEM_VERSION);
    for (const struct backend *const *b = backend_all(); *b; b++)
        printf(" %s%s", (*b)->name, (*b)->usable(&e) == 0 ? "" : " (not on this machine)");
    printf("\nMPI:     %.*s\nHDF5:    %u.%u.%u\n", (int)strcspn(mpi, ",\n"), mpi, hdf5[0], hdf5[1],
           hdf5[2]);
    return EXIT_DONE;
}

static int command_help(const struct usage *usage, int argc, char **argv)
{
    struct err e;
    char **operands;
    const struct usage *usages[N_COMMANDS];
    int status = options_parse(usage, argc, argv, NULL, &operands, &e);
    if (status != 0)
        return ended(status, &e);
    for (size_t i = 0; i < N_COMMANDS; i++)
        usages[i] = &commands[i].usage;
    const char *what = operands[0] ? operands[0] : "";
    const struct command *one = find_command(what);
    if (one) {
        options_help(&one->usage, stdout);
        if (one->run == command_generate) {
            printf("\nNames:");
            for (const char *const *name = generate_names(); *name; name++)
                printf(" %s", *name);
            printf("\n");
        }
    } else if (strcmp(what, "man") == 0) {
        manual_page(usages, N_COMMANDS, TANDEM_VERSION, stdout);
    } else if (strcmp(what, "bash") == 0) {
        manual_completion(usages, N_COMMANDS, stdout);
    } else {
        manual_help(usages, N_COMMANDS, stdout);
    }
    return EXIT_DONE;
}

/* ---- main ----------------------------------------------------------------------------------- */

/* OpenMP threads wait for their next work by spinning, which takes the core from a rank that could
 * use it. How long they spin is read from the environment before main(), so the program starts
 * itself again with a short spin, unless the user has chosen. By its own path: ps, top and Slurm show
 * the name of what was started. */
static void spin_briefly(char **argv)
{
    char path[4096];
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || getenv("KMP_BLOCKTIME"))
        return;
    setenv("GOMP_SPINCOUNT", "2000", 1);
    setenv("KMP_BLOCKTIME", "0", 1);
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n > 0) {
        path[n] = 0;
        execv(path, argv);
    }
    execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    spin_briefly(argv);
    prctl(PR_SET_NAME, "tandem");
    signal(SIGXFSZ, SIG_IGN); /* a file above its limit is then a failed write, with its name */
    const char *name = argc > 1 ? argv[1] : "help";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        name = "version";
    const struct command *c = find_command(name);
    if (c)
        return c->run(&c->usage, argc > 1 ? argc - 1 : argc, argc > 1 ? argv + 1 : argv);
    fprintf(stderr, "tandem: unknown command '%s'; see `tandem help`\n", name);
    return EXIT_INPUT;
}
