/* main.c - the command line: one subcommand, its options, its exit status.
 *
 * Only `run` starts MPI. Every message for the user goes to stderr with the program's name before
 * it; what was asked for goes to stdout.
 */
#include "base/err.h"
#include "base/mem.h"
#include "roles/check.h"
#include "roles/run.h"

#include <getopt.h>
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
    printf("\nExit status: 0 done, 1 wrong input, 2 failed while running, 75 unfinished: the same "
           "command continues.\n");
    return EXIT_DONE;
}

int main(int argc, char **argv)
{
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
