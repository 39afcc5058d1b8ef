/* main.c - the command line: one subcommand, its options, its exit status.
 *
 * Only `run` starts MPI. The subcommands are in command/commands.h; those that explain the others are
 * here.
 */
#include "base/err.h"
#include "command/commands.h"
#include "command/manual.h"
#include "exchange/exchange.h"
#include "job/suggest.h"
#include "kernels/device.h"
#include "model/generate.h"

#include <hdf5.h>
#include <jansson.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <yaml.h>
#include <zlib.h>

#ifdef __clang__
#define COMPILER __VERSION__ /* it says clang itself */
#else
#define COMPILER "gcc " __VERSION__
#endif

#ifndef TANDEM_VERSION
#define TANDEM_VERSION "development"
#endif

int command_complain(const struct err *e, int status)
{
    fprintf(stderr, "tandem: %s\n", e->text);
    return status;
}

int command_ended(int parsed, const struct err *e)
{
    return parsed > 0 ? EXIT_DONE : command_complain(e, EXIT_INPUT);
}

/* ---- what explains itself ------------------------------------------------------------------- */

static const struct option_row no_options[] = {NO_MORE};

static int keys_main(const struct usage *usage, int argc, char **argv);
static int version_main(const struct usage *usage, int argc, char **argv);
static int help_main(const struct usage *usage, int argc, char **argv);

static const struct command command_keys = {
    {"keys", "", 0, 0, "every key of a job file with its default and meaning, as a job file", NULL,
     no_options},
    keys_main};
static const struct command command_version = {
    {"version", "", 0, 0, "the version, and what is built in", NULL, no_options}, version_main};
static const struct command command_help = {
    {"help", "[COMMAND|man|bash]", 0, 1,
     "this list; of a command; the manual page; completion for bash", NULL, no_options},
    help_main};

static const struct command *const commands[] = {
    &command_run,    &command_score,    &command_check,  &command_selftest, &command_import,
    &command_export, &command_merge,    &command_status, &command_report,   &command_plan,
    &command_bench,  &command_generate, &command_keys,   &command_version,  &command_help,
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, commands[i]->usage.name) == 0)
            return commands[i];
    return NULL;
}

static int keys_main(const struct usage *usage, int argc, char **argv)
{
    struct err e;
    char **operands;
    int status = options_parse(usage, argc, argv, NULL, &operands, &e);
    if (status != 0)
        return command_ended(status, &e);
    manual_keys(stdout);
    return EXIT_DONE;
}

static int version_main(const struct usage *usage, int argc, char **argv)
{
    struct err e;
    char **operands;
    int status = options_parse(usage, argc, argv, NULL, &operands, &e);
    if (status != 0)
        return command_ended(status, &e);
    char mpi[MPI_MAX_LIBRARY_VERSION_STRING];
    int n;
    unsigned hdf5[3];
    MPI_Get_library_version(mpi, &n);
    H5get_libversion(&hdf5[0], &hdf5[1], &hdf5[2]);
    printf("tandem %s\nkernels:", TANDEM_VERSION);
    for (const struct backend *const *b = backend_all(); *b; b++)
        printf(" %s%s", (*b)->name, (*b)->usable(&e) == 0 ? "" : " (not on this machine)");
    printf("\nexchange:");
    for (const struct exchange_ops *const *x = exchange_all; *x; x++)
        printf(" %s", (*x)->name);
    printf("\nMPI:     %.*s\nHDF5:    %u.%u.%u\n", (int)strcspn(mpi, ",\n"), mpi, hdf5[0], hdf5[1],
           hdf5[2]);
    printf("others:  libyaml %s, jansson %s, zlib %s, compiled by %s\n", yaml_get_version_string(),
           JANSSON_VERSION, zlibVersion(), COMPILER);
    return EXIT_DONE;
}

static int help_main(const struct usage *usage, int argc, char **argv)
{
    struct err e;
    char **operands;
    const struct usage *usages[N_COMMANDS];
    int status = options_parse(usage, argc, argv, NULL, &operands, &e);
    if (status != 0)
        return command_ended(status, &e);
    for (size_t i = 0; i < N_COMMANDS; i++)
        usages[i] = &commands[i]->usage;
    const char *what = operands[0] ? operands[0] : "";
    const struct command *one = find_command(what);
    if (one) {
        options_help(&one->usage, stdout);
        if (one == &command_generate) {
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
    const char *known[N_COMMANDS], *near;
    for (size_t i = 0; i < N_COMMANDS; i++)
        known[i] = commands[i]->usage.name;
    near = suggest_nearest(name, known, N_COMMANDS);
    fprintf(stderr, "tandem: unknown command '%s'%s%s%s; see `tandem help`\n", name,
            near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    return EXIT_INPUT;
}
