/* main.c - the command line: one subcommand, its options, its exit status.
 *
 * Only `run` starts MPI. Every message for the user goes to stderr with the program's name before
 * it; what was asked for goes to stdout.
 */
#include "base/err.h"
#include "base/mem.h"
#include "data/export.h"
#include "data/import.h"
#include "model/generate.h"
#include "plan/plan.h"
#include "plan/tables.h"
#include "roles/check.h"
#include "roles/run.h"
#include "roles/stop.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef TANDEM_VERSION
#define TANDEM_VERSION "development"
#endif

struct command {
    const char *name, *arguments, *what;
    int (*run)(int argc, char **argv);
};

static int complain(const struct err *e, int status)
{
    fprintf(stderr, "tandem: %s\n", e->text);
    return status;
}

/* ---- run and check -------------------------------------------------------------------------- */

struct job_arguments {
    const char *job;
    const char **overrides;
    size_t n_overrides;
    enum role role;
};

static int parse_role(const char *text, enum role *role, struct err *e)
{
    if (strcmp(text, "attention") == 0)
        *role = ROLE_ATTENTION;
    else if (strcmp(text, "ffn") == 0)
        *role = ROLE_FFN;
    else
        return err_set(e, "--role is attention or ffn, not '%s'", text);
    return 0;
}

static int parse_job_arguments(int argc, char **argv, struct job_arguments *a, struct err *e)
{
    static const struct option options[] = {{"role", required_argument, NULL, 'r'},
                                            {"set", required_argument, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    int option;
    *a = (struct job_arguments){.overrides = mem_new((size_t)argc, sizeof(char *))};
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's')
            a->overrides[a->n_overrides++] = optarg;
        else if (option != 'r')
            return err_set(e, "see `tandem help`");
        else if (parse_role(optarg, &a->role, e) != 0)
            return -1;
    }
    if (argc - optind != 1)
        return err_set(e, "`tandem %s` takes one job file, but %d were given; see `tandem help`",
                       argv[0], argc - optind);
    a->job = argv[optind];
    return 0;
}

static int command_run(int argc, char **argv)
{
    struct comm comm;
    struct job_arguments a;
    struct err e = {{0}};
    stop_on_signals();
    comm_start(&comm, &argc, &argv);
    int status = EXIT_INPUT;
    if (comm_agree(&comm, parse_job_arguments(argc, argv, &a, &e) == 0, &e)) {
        struct run_options options = {a.job, a.overrides, a.n_overrides, a.role};
        status = run_job(&comm, &options);
    }
    free(a.overrides);
    comm_finish(&comm);
    return status;
}

static int command_check(int argc, char **argv)
{
    struct job_arguments a;
    struct err e = {{0}};
    int status = parse_job_arguments(argc, argv, &a, &e);
    if (status == 0)
        status = check_job(a.job, a.overrides, a.n_overrides, stdout, &e);
    free(a.overrides);
    return status == 0 ? EXIT_DONE : complain(&e, EXIT_INPUT);
}

/* ---- import and export ---------------------------------------------------------------------- */

static int parse_import(int argc, char **argv, struct import_options *o, struct err *e)
{
    static const struct option options[] = {{"format", required_argument, NULL, 'f'},
                                            {"text", required_argument, NULL, 't'},
                                            {"template", required_argument, NULL, 'T'},
                                            {"tokens", required_argument, NULL, 'k'},
                                            {"id", required_argument, NULL, 'i'},
                                            {"max-new-tokens", required_argument, NULL, 'm'},
                                            {"keep", required_argument, NULL, 'K'},
                                            {"strict", no_argument, NULL, 's'},
                                            {"force", no_argument, NULL, 'F'},
                                            {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        const char **text = option == 't'   ? &o->text_field
                            : option == 'T' ? &o->text_template
                            : option == 'k' ? &o->tokens_field
                            : option == 'i' ? &o->id_field
                            : option == 'm' ? &o->limit_field
                            : option == 'K' ? &o->keep
                                            : NULL;
        if (text)
            *text = optarg;
        o->strict |= option == 's';
        o->force |= option == 'F';
        if (option == 'f' && records_format(optarg, &o->format) != 0)
            return err_set(e, "--format is jsonl, csv, tsv or text, not '%s'", optarg);
        if (option == '?')
            return err_set(e, "see `tandem help`");
    }
    if (argc - optind != 2)
        return err_set(e, "`tandem import` takes the file to read and the HDF5 file to write");
    return 0;
}

static int command_import(int argc, char **argv)
{
    struct import_result result;
    struct err e = {{0}};
    struct import_options o = {.notes = stderr};
    if (parse_import(argc, argv, &o, &e) != 0 ||
        import_prompts(argv[optind], argv[optind + 1], &o, &result, &e) != 0)
        return complain(&e, EXIT_INPUT);
    printf("%s: %zu prompts", argv[optind + 1], result.rows);
    if (result.bad)
        printf(", %zu of them will be error rows", result.bad);
    if (result.duplicates)
        printf(", %zu ids were there before", result.duplicates);
    printf("\n");
    return EXIT_DONE;
}

static int parse_export(int argc, char **argv, struct export_options *o, const char **to,
                        struct err *e)
{
    static const struct option options[] = {
        {"tokens", no_argument, NULL, 't'},   {"logprobs", no_argument, NULL, 'l'},
        {"partial", no_argument, NULL, 'p'},  {"prompts", required_argument, NULL, 'P'},
        {"to", required_argument, NULL, 'o'}, {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        o->tokens |= option == 't';
        o->logprobs |= option == 'l';
        o->partial |= option == 'p';
        if (option == 'P')
            o->prompts = optarg;
        if (option == 'o')
            *to = optarg;
        if (option == '?')
            return err_set(e, "see `tandem help`");
    }
    if (argc - optind != 1)
        return err_set(e, "`tandem export` takes one output file of a job");
    return 0;
}

static int command_export(int argc, char **argv)
{
    struct err e = {{0}};
    const char *to = NULL;
    struct export_options o = {0};
    if (parse_export(argc, argv, &o, &to, &e) != 0)
        return complain(&e, EXIT_INPUT);
    FILE *out = to ? fopen(to, "w") : stdout;
    if (!out) {
        err_set(&e, "%s: cannot be written: %s", to, strerror(errno));
        return complain(&e, EXIT_INPUT);
    }
    int status = export_completions(argv[optind], out, &o, &e);
    if (fflush(out) != 0 && status == 0)
        status = err_set(&e, "%s: %s", to ? to : "standard output", strerror(errno));
    if (to)
        fclose(out);
    return status == 0 ? EXIT_DONE : complain(&e, EXIT_INPUT);
}

/* ---- generate ------------------------------------------------------------------------------- */

/* --tokenizer DIRECTORY, or NAME=VALUE for one of generate_names(); one directory to write. */
static int parse_generate(int argc, char **argv, struct generate_options *o, struct err *e)
{
    for (int i = 1; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (strcmp(argv[i], "--tokenizer") == 0 && i + 1 < argc) {
            o->tokenizer = argv[++i];
        } else if (equals) {
            *equals = 0;
            if (generate_set(o, argv[i], equals + 1, e) != 0)
                return -1;
        } else if (o->directory || argv[i][0] == '-') {
            return err_set(e, "`tandem generate` does not know '%s'; see `tandem help`", argv[i]);
        } else {
            o->directory = argv[i];
        }
    }
    if (!o->directory)
        return err_set(e, "`tandem generate` takes the directory to write");
    return 0;
}

static int command_generate(int argc, char **argv)
{
    struct err e = {{0}};
    struct generate_options o;
    generate_defaults(&o);
    if (parse_generate(argc, argv, &o, &e) != 0 || generate_checkpoint(&o, &e) != 0)
        return complain(&e, EXIT_INPUT);
    printf("%s: %zu parameters, %.2f GB\n", o.directory, generate_parameters(&o),
           (double)generate_bytes(&o) / 1e9);
    return EXIT_DONE;
}

/* ---- plan ----------------------------------------------------------------------------------- */

static int command_plan(int argc, char **argv)
{
    static const struct option options[] = {
        {"cluster", required_argument, NULL, 'o'}, {"context", required_argument, NULL, 'o'},
        {"tpot", required_argument, NULL, 'o'},    {"weights", required_argument, NULL, 'o'},
        {"kv", required_argument, NULL, 'o'},      {"report", no_argument, NULL, 'r'},
        {"cards", no_argument, NULL, 'c'},         {NULL, 0, NULL, 0}};
    struct plan_options o;
    struct err e = {{0}};
    bool only_tables = false;
    int which = 0;
    plan_defaults(&o);
    for (int option; (option = getopt_long(argc, argv, "", options, &which)) != -1;) {
        if (option == '?')
            return complain((err_set(&e, "see `tandem help`"), &e), EXIT_INPUT);
        if (option == 'o' && plan_set(&o, options[which].name, optarg, &e) != 0)
            return complain(&e, EXIT_INPUT);
        if (option == 'r')
            tables_print(stdout);
        if (option == 'c')
            plan_cards(stdout);
        only_tables |= option == 'r' || option == 'c';
    }
    if (only_tables && optind == argc)
        return EXIT_DONE;
    o.model = argv[optind];
    int status =
        argc - optind == 1
            ? plan_print(&o, stdout, &e)
            : err_set(&e, "`tandem plan` takes one model: a directory with config.json, or "
                          "a name such as step3");
    return status == 0 ? EXIT_DONE : complain(&e, EXIT_INPUT);
}

/* ---- help ----------------------------------------------------------------------------------- */

static int command_help(int argc, char **argv);

static int command_version(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("tandem %s\n", TANDEM_VERSION);
    return EXIT_DONE;
}

static const struct command commands[] = {
    {"run", "JOB.yaml [--set KEY=VALUE]... [--role attention|ffn]",
     "decode the job's prompts; started by mpirun or srun. The same command continues",
     command_run},
    {"check", "JOB.yaml [--set KEY=VALUE]...",
     "dry run: validate everything, print layout, memory and the first prompt", command_check},
    {"import",
     "IN OUT.h5 [--format jsonl|csv|tsv|text] [--text FIELD | --template TEXT | --tokens FIELD] "
     "[--id FIELD] [--max-new-tokens FIELD] [--keep FIELD,...] [--strict] [--force]",
     "prompts from JSON Lines, CSV, TSV or plain text, also gzip (- is standard input), into an "
     "HDF5 "
     "file",
     command_import},
    {"export", "OUTPUT.h5 [--tokens] [--logprobs] [--partial] [--prompts FILE.h5] [--to FILE]",
     "completions as JSON Lines; --partial: of a job that is not finished", command_export},
    {"generate", "DIRECTORY [NAME=VALUE]... [--tokenizer DIRECTORY]",
     "a checkpoint with random weights, for measuring", command_generate},
    {"plan",
     "MODEL [--cluster CARD|ATTENTION+FFN|FILE.yaml] [--context 8K] [--tpot 50ms] "
     "[--weights fp8] [--kv fp8] [--report] [--cards]",
     "what a model needs on a cluster, from its config.json alone, and the best layouts; "
     "--report: the tables of the Step-3 report",
     command_plan},
    {"version", "", "print the version", command_version},
    {"help", "", "print this", command_help},
};

static int command_help(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("Tandem decodes prompts with large mixture-of-experts models on MPI clusters.\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        printf("  tandem %s %s\n      %s\n", commands[i].name, commands[i].arguments,
               commands[i].what);
    printf("\nNames for generate:");
    for (const char *const *name = generate_names(); *name; name++)
        printf(" %s", *name);
    printf("\nExit status: 0 done, 1 wrong input, 2 failed while running, 75 unfinished: the same "
           "command continues.\n");
    return EXIT_DONE;
}

/* OpenMP threads wait for their next work by spinning, which takes the core from a rank that could
 * use it. How long they spin is read from the environment before main(), so the program starts
 * itself again with a short spin, unless the user has chosen. */
static void spin_briefly(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || getenv("KMP_BLOCKTIME"))
        return;
    setenv("GOMP_SPINCOUNT", "2000", 1);
    setenv("KMP_BLOCKTIME", "0", 1);
    execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    spin_briefly(argv);
    signal(SIGXFSZ, SIG_IGN); /* a file above its limit is then a failed write, with its name */
    const char *name = argc > 1 ? argv[1] : "help";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0)
        name = "version";
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc > 1 ? argc - 1 : argc, argc > 1 ? argv + 1 : argv);
    fprintf(stderr, "tandem: unknown command '%s'; see `tandem help`\n", name);
    return EXIT_INPUT;
}
