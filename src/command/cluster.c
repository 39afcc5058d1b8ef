#include "command/commands.h"

#include "job/value.h"
#include "model/generate.h"
#include "plan/plan.h"
#include "plan/tables.h"
#include "report/report.h"
#include "report/status.h"
#include "roles/bench.h"
#include "roles/measure.h"

#include <stdlib.h>
#include <string.h>

/* ---- report --------------------------------------------------------------------------------- */

struct report_command {
    const char *html, *card;
    bool measure;
};

static const struct option_row report_rows[] = {
    {"html", "FILE.html", "one page with charts instead, for a browser; replaces the file",
     OPTION_TEXT, AT(report_command, html)},
    {"measure", NULL,
     "hold the time of every role against the roofs of this machine, which are measured (a second)",
     OPTION_FLAG, AT(report_command, measure)},
    {"card", "CARD",
     "against those of a card (tandem plan --cards). Default: the job's own, if known", OPTION_TEXT,
     AT(report_command, card)},
    NO_MORE,
};

static int report_main(const struct usage *usage, int argc, char **argv)
{
    struct err e = {{0}};
    struct report_command o = {.html = NULL};
    struct stats s;
    struct roofline r;
    char **operands;
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    if (status == 0)
        status = stats_read(&s, operands[0], &e);
    if (status != 0)
        return command_ended(status, &e);
    status = roofline_read(&r, &s, o.measure, o.card, &e);
    if (status == 0 && o.html)
        status = report_file(&s, &r, o.html, &e);
    else if (status == 0)
        report_text(&s, &r, stdout);
    stats_free(&s);
    return status == 0 ? EXIT_DONE : command_complain(&e, EXIT_INPUT);
}

const struct command command_report = {
    {"report", "OUTPUT.h5", 1, 1, "lengths, speed over time, failures, and where the time went",
     NULL, report_rows},
    report_main};

/* ---- status --------------------------------------------------------------------------------- */

static const struct option_row status_rows[] = {NO_MORE};

static int status_main(const struct usage *usage, int argc, char **argv)
{
    struct err e = {{0}};
    char **operands;
    int status = options_parse(usage, argc, argv, NULL, &operands, &e);
    if (status == 0)
        status = status_print(operands[0], stdout, &e);
    return status == 0 ? EXIT_DONE : command_ended(status, &e);
}

const struct command command_status = {
    {"status", "OUTPUT.h5", 1, 1,
     "how far a job is that may be running: progress, and what its ranks do", NULL, status_rows},
    status_main};

/* ---- generate ------------------------------------------------------------------------------- */

static const struct option_row generate_rows[] = {
    {"tokenizer", "DIRECTORY",
     "a tokenizer that is copied beside the weights; prompts of token ids need none", OPTION_TEXT,
     AT(generate_options, tokenizer)},
    NO_MORE,
};

static int generate_main(const struct usage *usage, int argc, char **argv)
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
        return command_ended(status, &e);
    size_t moe = 0;
    for (size_t l = 0; l < o.model.layers; l++)
        moe += o.model.moe[l];
    printf("%s: %zu parameters, %.2f GB, %zu layers (%zu MoE)\n", o.directory,
           generate_parameters(&o), (double)generate_bytes(&o) / 1e9, o.model.layers, moe);
    return EXIT_DONE;
}

const struct command command_generate = {
    {"generate", "DIRECTORY|FILE.gguf [NAME=VALUE]...", 1, 64,
     "a checkpoint with random weights, for measuring",
     "Settings: family=step3, step3p5, qwen3_moe, qwen3, llama, deepseek_v3, "
     "glm4_moe, minimax_m2, gpt_oss; dtype=f32, bf16, fp8, awq, int4, int8, for gpt_oss mxfp4, "
     "and in GGUF f16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs, "
     "mxfp4; "
     "sizes: hidden, layers, vocab, context, heads, kv_heads, head_dim, dense, experts, topk, "
     "expert, "
     "shared, moe_layers=1-4,7, window; of MLA q_rank, kv_rank, nope_dim, rope_dim, value_dim; "
     "groups, "
     "topk_groups, renormalize, tied, limit, rope_theta, rope_factor, mtp, eos; seed, file_mb, "
     "threads. unused=ignore: what the family has no use for is no error.",
     generate_rows},
    generate_main};

/* ---- plan ----------------------------------------------------------------------------------- */

struct plan_command {
    struct plan_options options;
    struct texts overrides;
    double tokens;
    bool report, cards, measure;
};

static int read_tokens(void *member, const char *name, const char *value, struct err *e)
{
    char *end;
    double tokens = strtod(value, &end);
    if (end == value || *end || !(tokens >= 1 && tokens < 1e9))
        return err_set(e, "--%s wants how many tokens a completion has, found '%s'", name, value);
    *(double *)member = tokens;
    return 0;
}

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
    {"measure", NULL,
     "MODEL is a job: its tokens a second on this machine, from times measured here, in its own "
     "layout and in the five best; on a machine that does nothing else",
     OPTION_FLAG, AT(plan_command, measure)},
    {"tokens", "N", "with --measure: of a completion, on average. Default: as the job allows",
     OPTION_READ, AT(plan_command, tokens), read_tokens},
    {"set", "KEY=VALUE", "with --measure: change one key of the job, as often as wanted",
     OPTION_TEXTS, AT(plan_command, overrides)},
    NO_MORE,
};

static int plan_main(const struct usage *usage, int argc, char **argv)
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
    if (status == 0 && o.measure && operands[0]) {
        const struct measure_options m = {operands[0], o.overrides.items, o.overrides.n, o.tokens};
        status = measure_job(&m, stdout, &e);
    } else if (status == 0 && operands[0])
        status = plan_print(&o.options, stdout, &e);
    else if (status == 0 && !o.report && !o.cards)
        status = err_set(
            &e, "wanted a model: a directory with config.json, or a name such as step3; see "
                "`tandem plan --help`");
    free(o.overrides.items);
    return status == 0 ? EXIT_DONE : command_ended(status, &e);
}

const struct command command_plan = {
    {"plan", "[MODEL]", 0, 1,
     "what a model needs on a cluster, from its config.json alone, and the best layouts",
     "MODEL is a directory with config.json, or one of step3, deepseek-v3, kimi-k2, qwen3-235b, "
     "qwen3-32b.",
     plan_rows},
    plan_main};

/* ---- bench ---------------------------------------------------------------------------------- */

struct bench_command {
    struct texts overrides;
    double seconds;
    bool json;
};

static int read_seconds(void *member, const char *name, const char *value, struct err *e)
{
    double seconds;
    if (!value_real(value, &seconds) || !(seconds >= 1 && seconds <= 3600))
        return err_set(e, "--%s wants 1 to 3600 seconds, found '%s'", name, value);
    *(double *)member = seconds;
    return 0;
}

static const struct option_row bench_table[] = {
    {"seconds", "N", "for all measurements; loading the model comes on top. Default: 50",
     OPTION_READ, AT(bench_command, seconds), read_seconds},
    {"json", NULL, "one JSON object instead of tables", OPTION_FLAG, AT(bench_command, json)},
    {"set", "KEY=VALUE", "change one key of the job, as often as wanted", OPTION_TEXTS,
     AT(bench_command, overrides)},
    NO_MORE,
};

static int bench_main(const struct usage *usage, int argc, char **argv)
{
    struct bench_command o = {.seconds = 50};
    struct err e = {{0}};
    char **operands;
    int status = options_parse(usage, argc, argv, &o, &operands, &e);
    if (status != 0)
        return command_ended(status, &e);
    const struct bench_options b = {operands[0], o.overrides.items, o.overrides.n, o.seconds,
                                    o.json};
    status = bench_run(&b, stdout, &e);
    free(o.overrides.items);
    return status == 0 ? EXIT_DONE : command_complain(&e, EXIT_INPUT);
}

const struct command command_bench = {
    {"bench", "MODEL|JOB.yaml", 1, 1,
     "how fast this machine decodes a model: shares of its limits, tokens/s, the layout to use",
     "MODEL is a checkpoint's directory or a GGUF file. Every operation of a decode step is held "
     "against what this machine can read and multiply, then whole steps are timed over batch and "
     "context; layouts are forecast as by `tandem plan --measure`, for the prompts of a job or for "
     "made-up ones. On a machine that does nothing else: whether it was quiet is said.",
     bench_table},
    bench_main};
