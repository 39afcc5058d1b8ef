#include "roles/check.h"

#include "base/files.h"
#include "base/host_memory.h"
#include "base/mem.h"
#include "model/generation_config.h"
#include "roles/card.h"
#include "roles/engine.h"
#include "roles/survey.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void print_model(const struct inputs *in, FILE *out)
{
    const struct model *m = &in->model;
    size_t moe = 0;
    for (size_t l = 0; l < m->layers; l++)
        moe += m->moe[l];
    const struct layer_spec *l = &m->layer[m->layers - 1];
    for (size_t i = 0; i < m->layers && l->ffn.router.experts == 0; i++)
        l = m->moe[i] ? &m->layer[i] : l;
    fprintf(out,
            "model       %s: %s, %zu layers (%zu MoE), hidden %zu, up to %zu x %zu heads, "
            "vocabulary %zu%s\n",
            in->job.model, m->family, m->layers, moe, m->hidden, m->most.heads, m->most.head_dim,
            m->vocab, m->vocab < m->embed_rows ? " of a padded one" : "");
    if (*m->ignored)
        fprintf(out, "ignored     %s\n", m->ignored);
    if (moe)
        fprintf(out, "experts     %d, %d per token, intermediate %zu, shared %zu\n",
                l->ffn.router.experts, l->ffn.router.topk, l->ffn.inter, l->ffn.shared_inter);
    fprintf(out, "prompts     %s: %llu row%s, %llu completion%s\n", in->job.prompts.file,
            (unsigned long long)in->n_prompts, in->n_prompts == 1 ? "" : "s",
            (unsigned long long)in->units, in->units == 1 ? "" : "s");
    const struct kept *own = prompts_kept(in->prompts);
    for (size_t i = 0; i < kept_count(own); i++)
        fprintf(out, "%s%s%s", i ? ", " : "columns     ", kept_name(own, i),
                i + 1 < kept_count(own) ? "" : " (copied into the output)\n");
}

/* `in` as on one host whose cores all ranks may use; elsewhere auto may mean more micro-batches. */
static void print_layout(const struct inputs *in, const struct exchange_ops *transport, FILE *out)
{
    const struct layout *l = &in->job.layout;
    fprintf(out, "layout      ");
    if (in->job.cells > 1)
        fprintf(out, "%d cells of ", in->job.cells);
    if (l->colocated)
        fprintf(out, "%d colocated rank%s", l->attention, l->attention == 1 ? "" : "s");
    else
        fprintf(out, "%d attention + %d FFN (%d expert x %d tensor)", l->attention,
                layout_ffn_ranks(l), l->expert, l->tensor);
    fprintf(out, ", %d micro-batch%s, exchange %s, %d slots of %zu tokens\n", in->job.micro_batches,
            in->job.micro_batches == 1 ? "" : "es", transport->name, in->job.schedule.slots,
            in->max_context);
}

static int plan_rank(struct engine *g, const struct inputs *in,
                     const struct exchange_ops *transport, int rank, struct err *e)
{
    struct place place = place_of(&in->job.layout, rank);
    int threads = in->job.threads > 0 ? in->job.threads : 1;
    return engine_plan(g, in, &place, threads, transport, e);
}

/* What all ranks together take of a host's memory, and what is to be said of their weights. */
struct ranks_sum {
    struct engine_tenant all;
    size_t widened;
    struct engine_slow slow;
};

static int sum_ranks(const struct inputs *in, const struct exchange_ops *transport,
                     struct ranks_sum *sum, struct err *e)
{
    *sum = (struct ranks_sum){0};
    for (int rank = 0; rank < layout_ranks(&in->job.layout); rank++) {
        struct engine g;
        int status = plan_rank(&g, in, transport, rank, e);
        if (status == 0) {
            struct engine_tenant one = engine_tenant(&g);
            struct engine_slow slow = engine_slow(&g);
            sum->all.bytes += one.bytes;
            sum->all.caches += one.caches;
            sum->widened += g.memory.widened;
            engine_slow_add(&sum->slow, &slow);
        }
        engine_close(&g);
        if (status != 0)
            return -1;
    }
    return 0;
}

#define KV_TEXT 160

/* The plan of one rank, as it will be allocated. A card's memory is its own. kv: about an attention rank's
 * cache. */
static int print_rank(const struct inputs *in, const struct exchange_ops *transport, int rank,
                      const struct engine_tenant *all, FILE *out, char kv[KV_TEXT], struct err *e)
{
    struct engine g;
    int status = plan_rank(&g, in, transport, rank, e);
    if (status == 0) {
        struct engine_tenant alone = engine_tenant(&g);
        status = engine_plan_kv(&g, g.backend->device->count ? &alone : all, e);
    }
    const struct place place = g.place;
    if (status == 0)
        fprintf(out, "%4d  %-9s %4d %12.1f %12.1f %12.1f\n", rank, place_role(&place), place.index,
                (double)g.memory.weights / 0x1p20, (double)g.memory.kv / 0x1p20,
                (double)g.memory.buffers / 0x1p20);
    if (status == 0 && place.attention)
        engine_describe_kv(&g, kv, KV_TEXT);
    engine_close(&g);
    return status;
}

static int print_memory(const struct inputs *in, const struct exchange_ops *transport, FILE *out,
                        struct err *e)
{
    double mib = (double)host_memory_free("") / 0x1p20;
    char *table = NULL;
    size_t bytes = 0;
    if (!in->backend->device->count)
        fprintf(out, "memory      %.1f MiB may be used here (free, and allowed by the container)\n",
                mib);
    struct ranks_sum sum;
    char kv[KV_TEXT] = "", more[ENGINE_WIDENED_TEXT], slow[ENGINE_SLOW_TEXT];
    if (sum_ranks(in, transport, &sum, e) != 0)
        return -1;
    FILE *rows = open_memstream(&table, &bytes); /* all of them, or none */
    if (!rows)
        die("out of memory");
    int status = 0;
    for (int rank = 0; rank < layout_ranks(&in->job.layout) && status == 0; rank++)
        status = print_rank(in, transport, rank, &sum.all, rows, kv, e);
    if (fclose(rows) != 0)
        die("out of memory");
    if (status == 0)
        fprintf(out,
                "memory in MiB (all ranks of a cell on one host)\n%4s  %-9s %4s %12s %12s %12s\n%s"
                "KV cache    %s\n",
                "rank", "role", "", "weights", "KV cache", "buffers", table, kv);
    if (status == 0 && *engine_describe_widened(sum.widened, more))
        fprintf(out, "WARNING     %s\n", more);
    if (status == 0 && *engine_describe_slow(&sum.slow, slow))
        fprintf(out, "WARNING     %s\n", slow);
    free(table);
    return status;
}

/* A token's text on one line: bytes that do not print as \xhh. */
static void print_token(const struct prompting *p, int32_t id, FILE *out)
{
    char *text = NULL;
    size_t n = 0;
    fprintf(out, " %d", id);
    if (!p->tokenizer)
        return;
    tokenizer_decode(p->tokenizer, &id, 1, false, &text, &n);
    fputc('\'', out);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < ' ' || (unsigned char)text[i] >= 127)
            fprintf(out, "\\x%02x", (unsigned char)text[i]);
        else
            fputc(text[i], out);
    fputc('\'', out);
    free(text);
}

/* Jobs whose completions all run to their limit are seldom meant so. */
static void print_stops(const struct inputs *in, FILE *out)
{
    const struct prompting *p = &in->prompting;
    fprintf(out, "ends at    ");
    int n_eos = in->job.sampling.ignore_eos ? 0 : p->n_stop, n_stop = in->job.sampling.n_stop;
    for (int i = 0; i < n_eos; i++)
        print_token(p, p->stop[i], out);
    for (int i = 0; i < n_stop; i++)
        if (in->job.sampling.stop[i].text)
            fprintf(out, " \"%s\"", in->job.sampling.stop[i].text);
        else
            print_token(p, in->job.sampling.stop[i].id, out);
    if (n_eos + n_stop == 0)
        fprintf(out, " nothing but max_new_tokens%s",
                in->job.sampling.ignore_eos ? "" : ": the model names no end token");
    fputc('\n', out);
    if (n_eos + n_stop == 0 && !in->job.sampling.ignore_eos)
        fprintf(
            out,
            "WARNING     every completion will have %d tokens; sampling.stop names what ends one\n",
            in->job.sampling.max_new_tokens);
}

/* How the model's publisher would draw, where the job does otherwise: it decides. */
static void print_suggested(const struct job *job, FILE *out)
{
    static const char *const names[] = {"temperature", "top_k", "top_p", "min_p",
                                        "repetition_penalty"};
    const double here[] = {job->sampling.temperature, job->sampling.top_k, job->sampling.top_p,
                           job->sampling.min_p, job->sampling.repetition_penalty};
    double theirs[sizeof here / sizeof *here];
    bool any = false;
    generation_config_numbers(job->model, names, sizeof here / sizeof *here, theirs);
    for (size_t i = 0; i < sizeof here / sizeof *here; i++) {
        if (isnan(theirs[i]) || (float)theirs[i] == (float)here[i])
            continue;
        fprintf(out, "%s%s %g (here %g)",
                any ? ", " : "suggested   by generation_config.json: sampling.", names[i],
                theirs[i], here[i]);
        any = true;
    }
    if (any)
        fputc('\n', out);
}

/* The first row; what is wrong with it is shown, not an error: the job would go on. */
static void print_first_prompt(struct inputs *in, FILE *out)
{
    struct prompt prompt;
    struct err e;
    int32_t *tokens = NULL;
    size_t n = 0, from;
    if (in->n_prompts == 0)
        return;
    if (prompts_read(in->prompts, (size_t)in->job.prompts.first, &prompt, &e) != 0) {
        fprintf(out, "first prompt cannot be read: %s\n", e.text);
        return;
    }
    if (prompting_encode(&in->prompting, &prompt, &tokens, &n, &from, &e) != 0) {
        fprintf(out, "first prompt gives an error row: %s\n", e.text);
    } else {
        fprintf(out, "first prompt, %zu token%s:", n, n == 1 ? "" : "s");
        for (size_t i = 0; i < n; i++)
            print_token(&in->prompting, tokens[i], out);
        fputc('\n', out);
    }
    free(tokens);
    prompt_free(&prompt);
}

/* ---- all of it ------------------------------------------------------------------------------ */

static const struct exchange_ops *transport_of(const struct inputs *in,
                                               const struct check_options *o, struct err *e)
{
    const struct exchange_ops *transport = engine_transport(&in->job, true, e);
    return !transport && o->card && !*e->text ? exchange_find("mpi") : transport;
}

static int open_job(struct inputs *in, const char *path, const struct check_options *o,
                    struct err *e)
{
    const struct backend *card = o->card ? card_backend(o->card_bytes) : NULL;
    if (inputs_open_alone(in, path, o->overrides, o->n_overrides, card, e) != 0)
        return -1;
    if (!card || strcmp(in->job.device, "cuda") == 0)
        return 0;
    inputs_close(in);
    return err_set(e, "--for is for jobs with device: cuda; %s is for the CPU", path);
}

static void print_notes(const struct inputs *in, FILE *out)
{
    const struct job *job = &in->job;
    if (!files_ends_with(job->output.file, ".h5") && !files_ends_with(job->output.file, ".hdf5"))
        fprintf(out,
                "note        %s will be an HDF5 file, whatever its name; `tandem export` makes "
                "JSON Lines or CSV of it\n",
                job->output.file);
    if (job->prompts.count > 0 && (uint64_t)job->prompts.count > in->n_prompts)
        fprintf(out, "note        prompts.count is %lld, but there %s %llu row%s\n",
                (long long)job->prompts.count, in->n_prompts == 1 ? "is" : "are",
                (unsigned long long)in->n_prompts, in->n_prompts == 1 ? "" : "s");
    if (job->sampling.min_tokens > job->sampling.max_new_tokens)
        fprintf(
            out,
            "WARNING     sampling.min_tokens is %d, max_new_tokens %d: nothing but length ends a "
            "completion\n",
            job->sampling.min_tokens, job->sampling.max_new_tokens);
    inputs_doubts(in, "note        ", out);
}

static int print_all(struct inputs *in, const struct check_options *o, FILE *out, struct err *e)
{
    int elsewhere = engine_micro_batches(&in->job, false, true);
    in->job.micro_batches = engine_micro_batches(&in->job, true, true);
    if (in->job.graphs == TRI_AUTO)
        in->job.graphs = TRI_TRUE;
    const struct exchange_ops *transport = transport_of(in, o, e);
    uint64_t most = in->units * (uint64_t)in->job.sampling.max_new_tokens;
    if (!transport)
        return -1;
    print_model(in, out);
    print_layout(in, transport, out);
    if (elsewhere != in->job.micro_batches)
        fprintf(out,
                "            %d micro-batches where attention and FFN ranks have cores of "
                "their own\n",
                elsewhere);
    if (o->card)
        fprintf(out, "device      as on %s, %.0f GB a card: sizes are about right\n", o->card,
                (double)o->card_bytes / 1e9);
    if (print_memory(in, transport, out, e) != 0)
        return -1;
    print_stops(in, out);
    print_suggested(&in->job, out);
    print_notes(in, out);
    if (!o->quick && survey_prompts(in, out, &most, e) != 0)
        return -1;
    if (survey_output(in, out, e) != 0)
        return -1;
    survey_disk(in, most, out);
    print_first_prompt(in, out);
    return 0;
}

int check_job(const char *job_path, const struct check_options *o, FILE *out, struct err *e)
{
    struct inputs in;
    if (open_job(&in, job_path, o, e) != 0)
        return -1;
    int status = print_all(&in, o, out, e);
    inputs_close(&in);
    return status;
}
