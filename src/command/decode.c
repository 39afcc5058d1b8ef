#include "command/commands.h"

#include "base/file_cache.h"
#include "base/mem.h"
#include "plan/hardware.h"
#include "roles/check.h"
#include "roles/run.h"
#include "roles/selftest.h"
#include "roles/stop.h"

#include <stdlib.h>
#include <string.h>

/* ---- run ------------------------------------------------------------------------------------ */

struct job_options {
    int max_restarts;
    struct texts overrides;
    enum role role;
    bool retry_errors;
    const char *device, *only; /* of selftest */
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

static int read_count(void *member, const char *name, const char *value, struct err *e)
{
    char *end;
    long count = strtol(value, &end, 10);
    if (end == value || *end || count < 0 || count > 1000000)
        return err_set(e, "--%s is a number, not '%s'", name, value);
    *(int *)member = (int)count;
    return 0;
}

static const struct option_row run_options[] = {
    {"max-restarts", "N",
     "in Slurm: an unfinished job ends with status 2 instead of 75, so that it is not requeued, "
     "when it was "
     "restarted N times, or was restarted and drew no token",
     OPTION_READ, AT(job_options, max_restarts), read_count},
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
struct check_command {
    struct texts overrides;
    struct check_options options;
    const char *card;
    struct card best; /* of auto */
};

static const struct option_row check_rows[] = {
    {"set", "KEY=VALUE", "change one key of the job, as often as wanted", OPTION_TEXTS,
     AT(check_command, overrides)},
    {"quick", NULL, "only the first prompt is made tokens, not all", OPTION_FLAG,
     AT(check_command, options.quick)},
    {"for", "CARD|auto",
     "a job for GPUs, on a host without: as for these cards (`tandem plan --cards`), or the "
     "smallest it fits",
     OPTION_TEXT, AT(check_command, card)},
    NO_MORE,
};

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

/* The setting that makes a job of `run` one of `score`; the last one counts. */
static void set_score(struct texts *overrides)
{
    overrides->items = mem_resize(overrides->items, overrides->n + 1, sizeof *overrides->items);
    overrides->items[overrides->n++] = "score=true";
}

static int run_main(const struct usage *usage, int argc, char **argv)
{
    struct comm comm;
    struct job_options o = {.max_restarts = -1};
    struct err e = {{0}};
    char **operands;
    if (asks_for_help(argc, argv)) /* without starting MPI */
        return command_ended(options_parse(usage, argc, argv, &o, &operands, &e), &e);
    struct run_options options = {.selftest = strcmp(usage->name, "selftest") == 0};
    struct err wrong = {{0}};
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    if (status == 0 && !operands[0]) /* only selftest can do without a job */
        return (int)selftest_alone(o.device, o.only, run_version());
    stop_on_signals();
    file_cache_open();
    if (status == 0) {
        options.job = operands[0];
        if (strcmp(usage->name, "score") == 0)
            set_score(&o.overrides);
        options.overrides = o.overrides.items;
        options.n_overrides = o.overrides.n;
        options.role = o.role;
        options.retry_errors = o.retry_errors;
        options.max_restarts = o.max_restarts;
        if (o.max_restarts >= 0 && stop_restarts() > 0)
            stop_early_status(EXIT_RUN);
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

const struct command command_run = {
    {"run", "JOB.yaml", 1, 1,
     "decode the job's prompts; the same command continues an unfinished job",
     "Started by mpirun or srun with as many ranks as the job's layout has: mpirun -n 2 tandem "
     "run job.yaml. "
     "A colocated layout of one rank needs neither.",
     run_options},
    run_main};

const struct command command_score = {
    {"score", "JOB.yaml", 1, 1,
     "the logprobs of the job's prompts, or of their continuations; nothing is generated",
     "As run, with score: true; sums are in the dataset `score`, the perplexity in the summary.",
     run_options},
    run_main};

/* ---- selftest ------------------------------------------------------------------------------- */

static const struct option_row selftest_rows[] = {
    {"device", "cpu|cuda", "without a job: only devices of this kind", OPTION_TEXT,
     AT(job_options, device)},
    {"only", "OPERATION", "without a job: only this one (ffn, linear, attend, ...)", OPTION_TEXT,
     AT(job_options, only)},
    {"set", "KEY=VALUE", "with a job: change one of its keys, as often as wanted", OPTION_TEXTS,
     AT(job_options, overrides)},
    {"role", "attention|ffn", "with a job: as for run", OPTION_READ, AT(job_options, role),
     read_role},
    NO_MORE,
};

const struct command command_selftest = {
    {"selftest", "[JOB.yaml]", 0, 1,
     "do kernels, and with a job its exchange, give what they should on this machine?",
     "Every operation once, on small random data, against reference code. With a job: in its "
     "shapes, on "
     "its devices, started by mpirun or srun like run; no weights are loaded, nothing is written "
     "but a "
     "note that the device has passed. A job does this by itself on a GPU whose name and driver "
     "are new.",
     selftest_rows},
    run_main};

/* ---- check ---------------------------------------------------------------------------------- */

/* The smallest card on which the job fits; the last error when it fits none. */
static int check_all_cards(const char *path, struct check_command *o, struct err *e)
{
    size_t tried = 0;
    FILE *nowhere = fopen("/dev/null", "w");
    int status = -1;
    while (status != 0 && nowhere) {
        struct card card, best = {.memory = 0};
        for (const char *const *name = card_names(); *name; name++)
            if (card_find(&card, *name) == 0 && card.memory > (double)tried &&
                (best.memory == 0 || card.memory < best.memory))
                best = card;
        if (best.memory == 0)
            break;
        struct check_options quick = o->options;
        quick.quick = true;
        quick.card = best.name;
        tried = quick.card_bytes = (size_t)best.memory;
        *e = (struct err){{0}};
        status = check_job(path, &quick, nowhere, e);
        o->options.card_bytes = tried;
        o->best = best;
        o->options.card = o->best.name;
    }
    if (nowhere)
        fclose(nowhere);
    return status;
}

static int check_for(const char *path, struct check_command *o, struct err *e)
{
    struct card card;
    o->options.card = o->card;
    if (strcmp(o->card, "auto") == 0)
        return check_all_cards(path, o, e);
    if (card_find(&card, o->card) != 0)
        return err_set(
            e, "--for: no card '%s' is known; `tandem plan --cards` shows those that are", o->card);
    o->options.card_bytes = (size_t)card.memory;
    return 0;
}

static int check_main(const struct usage *usage, int argc, char **argv)
{
    struct check_command o = {.card = NULL};
    struct err e = {{0}};
    char **operands;
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    o.options.overrides = o.overrides.items;
    o.options.n_overrides = o.overrides.n;
    if (status == 0 && o.card)
        status = check_for(operands[0], &o, &e);
    if (status == 0)
        status = check_job(operands[0], &o.options, stdout, &e);
    free(o.overrides.items);
    return status == 0 ? EXIT_DONE : command_ended(status, &e);
}

const struct command command_check = {
    {"check", "JOB.yaml", 1, 1,
     "dry run: validate everything; layout, memory, prompts, what is done, the first prompt", NULL,
     check_rows},
    check_main};
