#include "plan/tables.h"

#include "plan/cost.h"

#include <math.h>

/* Figures of the report: three digits (tables 2 to 5), thousandths of a dollar (6, 7). */

#define CONTEXT_8K  8192.0
#define CONTEXT_32K 32768.0

struct table {
    FILE *out;
    int differ;
};

/* Ours and theirs; an asterisk where they differ by more than one unit of their last digit. */
static void number(struct table *t, double ours, double theirs, double unit, const char *format)
{
    char text[32];
    bool same = fabs(ours - theirs) <= 1.001 * unit;
    snprintf(text, sizeof text, format, ours);
    fprintf(t->out, " %8s%c", text, same ? ' ' : '*');
    snprintf(text, sizeof text, format, theirs);
    fprintf(t->out, "%8s", text);
    t->differ += !same;
}

static void digits3(struct table *t, double ours, double theirs)
{
    number(t, ours, theirs, pow(10, floor(log10(theirs)) - 2), "%.2e");
}

/* ---- tables 2 and 3 ------------------------------------------------------------------------- */

struct token_row {
    const char *model;
    double kv_8k, attention_8k, kv_32k, attention_32k, projections, ffn;
};

static const struct token_row token_rows[] = {
    {"step3", 2.56e8, 3.27e10, 1.02e9, 1.31e11, 2.07e10, 5.33e10},
    {"deepseek-v3", 2.88e8, 1.47e11, 1.15e9, 5.89e11, 2.28e10, 4.84e10},
    {"kimi-k2", 2.88e8, 7.37e10, 1.15e9, 2.95e11, 1.23e10, 4.84e10},
    {"qwen3-235b", 7.89e8, 2.52e10, 3.15e9, 1.01e11, 1.34e10, 2.84e10},
    {"qwen3-32b", 1.07e9, 1.72e10, 4.29e9, 6.87e10, 1.21e10, 5.03e10},
};
#define N_TOKEN_ROWS (sizeof token_rows / sizeof *token_rows)

static void table_tokens(struct table *t, int number_of, double context)
{
    struct model_shape s;
    fprintf(t->out, "Table %d: a decoded token at a context of %.0fK, 8-bit KV cache\n%-12s",
            number_of, context / 1024, "");
    fprintf(t->out, " %17s %17s %17s %17s\n%-12s", "KV bytes", "attention FLOP", "projection FLOP",
            "FFN FLOP", "");
    for (int i = 0; i < 4; i++)
        fprintf(t->out, " %8s %8s", "here", "report");
    fputc('\n', t->out);
    for (size_t i = 0; i < N_TOKEN_ROWS; i++) {
        const struct token_row *r = &token_rows[i];
        bool near = context == CONTEXT_8K;
        shape_published(&s, r->model);
        struct token_cost c = cost_token(&s, context, 8);
        fprintf(t->out, "%-12s", r->model);
        digits3(t, c.kv_bytes, near ? r->kv_8k : r->kv_32k);
        digits3(t, c.attention_flops, near ? r->attention_8k : r->attention_32k);
        digits3(t, c.projection_flops, r->projections);
        digits3(t, c.ffn_flops, r->ffn);
        fputc('\n', t->out);
    }
}

/* ---- table 5 -------------------------------------------------------------------------------- */

static const struct {
    const char *card;
    double flop, byte, sparsity;
} unit_rows[] = {{"h800", 2.80e-19, 1.66e-16, .058},
                 {"h20", 7.51e-19, 5.56e-17, .007},
                 {"a800", 6.68e-19, 1.04e-16, .031},
                 {"910b", 6.65e-19, 1.16e-16, .034}};
#define N_UNIT_ROWS (sizeof unit_rows / sizeof *unit_rows)

static void table_units(struct table *t)
{
    struct card c;
    fprintf(t->out,
            "\nTable 5: USD of an operation and of a byte, and roofline (FLOP a byte)\n%-12s %17s "
            "%17s\n",
            "", "USD a FLOP", "USD a byte");
    for (size_t i = 0; i < N_UNIT_ROWS; i++) {
        card_find(&c, unit_rows[i].card);
        fprintf(t->out, "%-12s", c.name);
        digits3(t, c.price / 3600 / card_flops(&c, 8), unit_rows[i].flop);
        digits3(t, c.price / 3600 / c.bandwidth, unit_rows[i].byte);
        fprintf(t->out, "  %5.0f\n", card_flops(&c, 8) / c.bandwidth);
    }
}

/* ---- table 6 -------------------------------------------------------------------------------- */

static const struct {
    const char *model;
    double near[4], far[4], ffn[4]; /* H800, H20, A800, 910B */
} usd_rows[] = {
    {"step3", {.048, .040, .040, .043}, {.176, .114, .120, .133}, {.015, .040, .036, .035}},
    {"deepseek-v3", {.054, .128, .114, .113}, {.197, .460, .409, .407}, {.014, .036, .032, .032}},
    {"kimi-k2", {.051, .065, .057, .057}, {.194, .231, .205, .204}, {.014, .036, .032, .032}},
    {"qwen3-235b", {.135, .054, .091, .101}, {.527, .185, .338, .376}, {.008, .021, .019, .019}},
    {"qwen3-32b", {.181, .069, .120, .133}, {.716, .248, .455, .508}, {.014, .038, .034, .033}},
};
#define N_USD_ROWS (sizeof usd_rows / sizeof *usd_rows)

static void usd_line(struct table *t, const char *model, const char *what, double context,
                     const double *theirs)
{
    struct model_shape s;
    struct card c;
    shape_published(&s, model);
    struct token_cost cost = cost_token(&s, context, 8);
    fprintf(t->out, "%-12s%-9s", model, what);
    for (size_t i = 0; i < N_UNIT_ROWS; i++) {
        card_find(&c, unit_rows[i].card);
        double usd = what[0] == 'F' ? cost_ffn_usd(&cost, &c) : cost_attention_usd(&cost, &c);
        char text[32];
        bool same = fabs(usd * 1e6 - theirs[i]) <= 1.001e-3;
        snprintf(text, sizeof text, "%.3f", usd * 1e6);
        fprintf(t->out, "  %6s%c%6.3f", text, same ? ' ' : '*', theirs[i]);
        t->differ += !same;
    }
    fputc('\n', t->out);
}

static void table_usd(struct table *t)
{
    fprintf(t->out,
            "\nTable 6: USD for a million tokens, here and in the report\n%-21s  %13s  %13s  %13s  "
            "%13s\n",
            "", "H800", "H20", "A800", "910B");
    for (size_t i = 0; i < N_USD_ROWS; i++) {
        usd_line(t, usd_rows[i].model, "attn 8K", CONTEXT_8K, usd_rows[i].near);
        usd_line(t, usd_rows[i].model, "attn 32K", CONTEXT_32K, usd_rows[i].far);
        usd_line(t, usd_rows[i].model, "FFN", CONTEXT_8K, usd_rows[i].ffn);
    }
}

/* ---- table 7 -------------------------------------------------------------------------------- */

static void table_sparsity(struct table *t)
{
    struct model_shape s;
    struct card c;
    shape_published(&s, "step3");
    fprintf(
        t->out,
        "\nTable 7: least active share of experts a network allows (hidden 7168, 61 layers, stage\n"
        "16.6 ms of which two thirds carry rows); rows that make its FFN bound by products\n");
    for (size_t i = 0; i < N_UNIT_ROWS; i++) {
        card_find(&c, unit_rows[i].card);
        /* The report divides 3 x H x rows by the stage and 2/3 x 16.6 ms = 11.1 ms is its constant. */
        double least = cost_least_sparsity(&c, 8 * c.link, s.hidden, s.layers, 1.5 * 11.1e-3);
        fprintf(t->out, "%-12s", c.name);
        number(t, least, unit_rows[i].sparsity, 1e-3, "%.3f");
        fprintf(t->out, "   dense %4.0f rows, step3 %5.0f\n", cost_dense_rows(&c, 8),
                cost_dense_rows(&c, 8) / shape_sparsity(&s));
    }
}

/* ---- table 8 -------------------------------------------------------------------------------- */

/* Batches as the report's text gives them: 2A2F 3 x 128 rows a card, 3A2F 3 x 84; those of 4A2F
 * follow from its rate and 50 ms. */
static const struct {
    const char *what;
    double context, kv;
    struct split split;
    double tokens;
} rate_rows[] = {
    {"3A2F, bf16 KV", 4096, 16, {3, 2, 3, 84}, 3321},
    {"2A2F, 8-bit KV", 4096, 8, {2, 2, 3, 128}, 4039},
    {"4A2F, 8-bit KV", 8192, 8, {4, 2, 3, 64}, 2643},
};

static void table_rates(struct table *t)
{
    struct model_shape s;
    struct cluster c = {.per_instance = 8};
    card_find(&c.attention, "h800");
    c.ffn = c.attention;
    shape_published(&s, "step3");
    fprintf(t->out, "\nTable 8: Step-3 on H800, tokens a second and card: the bound of its batch, "
                    "measured there\n");
    for (size_t i = 0; i < sizeof rate_rows / sizeof *rate_rows; i++) {
        struct formats f = {.weights = 8, .kv = rate_rows[i].kv, .out = 8, .back = 16};
        struct step_cost b = cost_step(&s, &c, &f, &rate_rows[i].split, rate_rows[i].context);
        double cards = (rate_rows[i].split.attention + rate_rows[i].split.ffn) * 8.0;
        double batch = 3.0 * rate_rows[i].split.rows * rate_rows[i].split.attention * 8;
        fprintf(
            t->out,
            "%-16s context %.0fK  bound %6.0f in %4.1f ms   report %4.0f in %4.1f ms   %2.0f %%\n",
            rate_rows[i].what, rate_rows[i].context / 1024, b.tokens, b.step * 1e3,
            rate_rows[i].tokens, batch / cards / rate_rows[i].tokens * 1e3,
            rate_rows[i].tokens / b.tokens * 100);
    }
}

int tables_print(FILE *out)
{
    struct table t = {out, 0};
    table_tokens(&t, 2, CONTEXT_8K);
    fputc('\n', out);
    table_tokens(&t, 3, CONTEXT_32K);
    table_units(&t);
    table_usd(&t);
    table_sparsity(&t);
    table_rates(&t);
    fprintf(out,
            "\n%d figures differ from the report's by more than a unit of their last digit (*)\n",
            t.differ);
    return t.differ;
}
