#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CHOICES 5 /* layouts shown */

/* ---- options -------------------------------------------------------------------------------- */

void plan_defaults(struct plan_options *o)
{
    *o = (struct plan_options){.cluster = "h800",
                               .context = 8192,
                               .tpot = 50e-3,
                               .formats = {.weights = 8, .kv = 8, .out = 8, .back = 16}};
}

/* A number with one of two units behind it, or none. */
static int read_number(const char *text, const char *unit, double factor, double *out)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || !(value > 0 && value < 1e15))
        return -1;
    if (strcmp(end, unit) == 0)
        value *= factor;
    else if (*end)
        return -1;
    *out = value;
    return 0;
}

/* Bits of an element. A block of 128 x 128 FP8 values or a row of int8 adds a scale, which is lost
 * in the third digit; 32 int4 values share 16 bits of scale. */
static int read_bits(const char *text, double *bits)
{
    static const struct {
        const char *name;
        double bits;
    } formats[] = {{"f32", 32}, {"bf16", 16}, {"fp8", 8}, {"int8", 8}, {"int4", 4.5}};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(text, formats[i].name) == 0) {
            *bits = formats[i].bits;
            return 0;
        }
    return -1;
}

int plan_set(struct plan_options *o, const char *name, const char *value, struct err *e)
{
    if (strcmp(name, "cluster") == 0) {
        o->cluster = value;
        return 0;
    }
    if (strcmp(name, "context") == 0)
        return read_number(value, "K", 1024, &o->context) == 0
                   ? 0
                   : err_set(e, "--context wants tokens, such as 8192 or 8K, found '%s'", value);
    if (strcmp(name, "tpot") == 0) {
        if (read_number(value, "ms", 1e-3, &o->tpot) == 0 ||
            read_number(value, "s", 1, &o->tpot) == 0)
            return 0;
        return err_set(e, "--tpot wants the time of an output token, such as 50ms, found '%s'",
                       value);
    }
    if (strcmp(name, "kv") == 0)
        return read_bits(value, &o->formats.kv) == 0 && o->formats.kv >= 8
                   ? 0
                   : err_set(e, "--kv wants f32, bf16 or fp8, found '%s'", value);
    return read_bits(value, &o->formats.weights) == 0
               ? 0
               : err_set(e, "--weights wants f32, bf16, fp8, int8 or int4, found '%s'", value);
}

void plan_cards(FILE *out)
{
    fprintf(out, "%-8s %9s %9s %9s %9s %9s %9s\n", "card", "bf16", "8 bits", "memory", "memory",
            "network", "price");
    fprintf(out, "%-8s %9s %9s %9s %9s %9s %9s\n", "", "TFLOP/s", "TFLOP/s", "GB/s", "GB", "GB/s",
            "USD/h");
    for (const char *const *name = card_names(); *name; name++) {
        struct card c;
        card_find(&c, *name);
        fprintf(out, "%-8s %9.0f %9.0f %9.0f %9.0f %9.0f", c.name, c.bf16 / 1e12,
                card_flops(&c, 8) / 1e12, c.bandwidth / 1e9, c.memory / 1e9, c.link / 1e9);
        fprintf(out, c.price > 0 ? " %9.2f\n" : "         -\n", c.price);
    }
}

/* ---- the model ------------------------------------------------------------------------------ */

static int find_model(struct model_shape *s, const char *name, struct err *e)
{
    char directory[4096];
    struct stat st;
    if (stat(name, &st) != 0) {
        if (shape_published(s, name) == 0)
            return 0;
        return err_set(e,
                       "%s: wanted a directory with config.json, or one of step3, deepseek-v3, "
                       "kimi-k2, qwen3-235b, qwen3-32b",
                       name);
    }
    snprintf(directory, sizeof directory, "%s", name);
    char *slash = strrchr(directory, '/');
    if (!S_ISDIR(st.st_mode))
        strcpy(slash ? slash : directory, slash ? "" : ".");
    struct model *m = calloc(1, sizeof *m);
    int status = m ? model_read(m, directory, NULL, e) : err_set(e, "out of memory");
    if (status == 0)
        shape_of_model(s, m, name);
    free(m);
    return status;
}

/* "316 B", "8.01 M": a count in three digits. */
static const char *count_text(double value, char text[16])
{
    static const char units[] = " kMBT";
    int unit = 0;
    for (; value >= 1000 && unit < 4; unit++)
        value /= 1000;
    snprintf(text, 16, "%.*f %c", value >= 100 ? 0 : value >= 10 ? 1 : 2, value, units[unit]);
    return text;
}

static const char *bytes_text(double value, char text[16])
{
    char *unit = strchr(count_text(value, text), 'B');
    if (unit)
        *unit = 'G';
    return text;
}

static void print_model(const struct plan_options *o, const struct model_shape *s, FILE *out)
{
    const struct formats *f = &o->formats;
    double attention = shape_projections(s) + shape_routers(s), ffn = shape_ffn_stored(s);
    double head = shape_head(s), both = s->tied ? head : 2 * head;
    double active = attention + shape_ffn_active(s) + head;
    struct token_cost c = cost_token(s, o->context, f->kv);
    int experts = 0;
    for (int l = 0; l < s->layers; l++)
        experts += s->layer[l].experts > 0;
    fprintf(out, "Model %s\n", s->name);
    fprintf(out, "  layers           %d, %d of them with experts; hidden %d, vocabulary %d\n",
            s->layers, experts, s->hidden, s->vocab);
    char t[4][16];
    fprintf(out, "  parameters       %s, of which %s work on a token\n",
            count_text(attention + ffn + both, t[0]), count_text(active, t[1]));
    fprintf(out, "  attention ranks  %s: projections %s, routers %s, vocabulary %s\n",
            count_text(attention + both, t[0]), count_text(shape_projections(s), t[1]),
            count_text(shape_routers(s), t[2]), count_text(both, t[3]));
    fprintf(out, "  FFN ranks        %s, %sB at %g bits\n", count_text(ffn, t[0]),
            bytes_text(ffn * f->weights / 8, t[1]), f->weights);
    fprintf(out, "  KV cache         %.0f bytes a token, %sB a sequence of %.0f tokens\n",
            c.kv_bytes / o->context, bytes_text(c.kv_bytes, t[0]), o->context);
    fprintf(out, "\nA decoded token at a context of %.0f\n", o->context);
    fprintf(out, "  attention        %9.3g FLOP, %.3g bytes of KV cache: %.0f FLOP a byte\n",
            c.attention_flops, c.kv_bytes, c.attention_flops / c.kv_bytes);
    fprintf(out, "  projections      %9.3g FLOP\n", c.projection_flops);
    fprintf(out, "  FFN              %9.3g FLOP\n", c.ffn_flops);
    fprintf(out, "  lm_head          %9.3g FLOP\n", 2 * head);
    fprintf(out, "  wire             %9.3g bytes out and %.3g back, for each FFN instance\n",
            s->layers * s->hidden * f->out / 8, s->layers * s->hidden * f->back / 8);
}

/* ---- the cluster ---------------------------------------------------------------------------- */

static void print_card(const char *role, const struct card *c, FILE *out)
{
    fprintf(out, "  %-16s %s: %.0f TFLOP/s (8 bits: %.0f), %.2f TB/s, %.0f GB, link %.0f GB/s\n",
            role, c->name, c->bf16 / 1e12, card_flops(c, 8) / 1e12, c->bandwidth / 1e12,
            c->memory / 1e9, c->link / 1e9);
}

static void print_cluster(const struct plan_options *o, const struct model_shape *s,
                          const struct cluster *c, FILE *out)
{
    double dense = cost_dense_rows(&c->ffn, o->formats.weights), active = shape_sparsity(s);
    struct token_cost t = cost_token(s, o->context, o->formats.kv);
    double intensity = t.attention_flops / t.kv_bytes,
           roof = c->attention.bf16 / c->attention.bandwidth;
    fprintf(out, "\nCluster %s, instances of %d cards\n", c->name, c->per_instance);
    print_card("attention", &c->attention, out);
    print_card("FFN", &c->ffn, out);
    fprintf(out, "  attention needs %.0f FLOP a byte, the card has %.0f: bound by %s\n", intensity,
            roof, intensity > roof ? "products" : "memory");
    fprintf(out, "  FFN products outweigh reading from %.0f rows on in dense layers", dense);
    if (active < 1)
        fprintf(out, ",\n  and from %.0f rows on with experts (%.3f of them at work)",
                dense / active, active);
    fprintf(out,
            "\n  a network of %.0f GB/s an instance allows down to %.3f of the experts at work\n",
            c->ffn.link * c->per_instance / 1e9,
            cost_least_sparsity(&c->ffn, c->ffn.link * c->per_instance, s->hidden, s->layers,
                                o->tpot / 3));
}

static void print_choices(const struct plan_options *o, const struct model_shape *s,
                          const struct cluster *c, FILE *out)
{
    struct plan_choice best[CHOICES];
    int n = cost_search(s, c, &o->formats, o->context, o->tpot, best, CHOICES);
    fprintf(out, "\nLayouts with the most tokens a second and card within %g ms a token (bounds)\n",
            o->tpot * 1e3);
    if (n == 0) {
        fprintf(out, "  none: memory or time do not suffice for a single row\n");
        return;
    }
    fprintf(out, "  %-7s %5s %5s  %-23s %5s %7s %6s %9s\n", "", "micro", "rows",
            "us a layer and stage", "ms", "tokens/", "USD/", "GB a card");
    fprintf(out, "  %-7s %5s %5s  %5s %5s %5s %5s  %5s %7s %6s %4s %4s\n", "layout", "batch", "",
            "attn", "out", "FFN", "back", "token", "s/card", "1M", "attn", "FFN");
    for (int i = 0; i < n; i++) {
        const struct split *p = &best[i].split;
        const struct step_cost *t = &best[i].cost;
        char name[32], usd[16] = "-";
        snprintf(name, sizeof name, "%dA%dF", p->attention, p->ffn);
        if (t->usd > 0)
            snprintf(usd, sizeof usd, "%.3f", t->usd);
        fprintf(out, "  %-7s %5d %5d  %5.0f %5.0f %5.0f %5.0f  %5.1f %7.0f %6s %4.0f %4.0f\n", name,
                p->micro_batches, p->rows, t->attention * 1e6, t->out * 1e6, t->ffn * 1e6,
                t->back * 1e6, t->step * 1e3, t->tokens, usd, t->attention_bytes / 1e9,
                t->ffn_bytes / 1e9);
    }
    fprintf(out,
            "  rows: of one attention card in one micro-batch. Nothing real reaches these bounds;\n"
            "  the report's own 2A2F made 54 %% of its bound (tandem plan --report).\n");
}

int plan_print(const struct plan_options *o, FILE *out, struct err *e)
{
    struct cluster c;
    struct model_shape *s = calloc(1, sizeof *s);
    int status = s ? 0 : err_set(e, "out of memory");
    if (status == 0)
        status = find_model(s, o->model, e);
    if (status == 0)
        status = cluster_read(&c, o->cluster, e);
    if (status == 0) {
        print_model(o, s, out);
        print_cluster(o, s, &c, out);
        print_choices(o, s, &c, out);
    }
    free(s);
    return status;
}
