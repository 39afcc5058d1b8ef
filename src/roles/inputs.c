#include "roles/inputs.h"

#include "base/mem.h"
#include "base/files.h"
#include "model/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each file once; in the order of the files its tensors follow each other. */
static int stamp_weights(struct inputs *in, struct err *e)
{
    const char *last = NULL;
    for (size_t i = 0; i < checkpoint_count(in->checkpoint); i++) {
        const char *file = checkpoint_at(in->checkpoint, i)->file;
        if (last != file && stamps_add(&in->weights, file, e) != 0)
            return -1;
        last = file;
    }
    return 0;
}

enum weight_keep inputs_keep(const struct job *job)
{
    static const enum weight_keep keep[] = {[JOB_WEIGHTS_KEEP] = WEIGHT_KEEP,
                                            [JOB_WEIGHTS_INT8] = WEIGHT_INT8,
                                            [JOB_WEIGHTS_INT4] = WEIGHT_INT4};
    return keep[job->precision.weights];
}

static int read_model(struct inputs *in, struct err *e)
{
    const char *names = in->job.model_ignore;
    json_t *ignore = names ? json_loads(names, 0, NULL) : NULL;
    int status = model_read(&in->model, in->job.model, ignore, e);
    json_decref(ignore);
    return status;
}

/* Which drafts MTP layers make, if any are wanted. */
static int use_mtp(struct inputs *in, struct err *e)
{
    const struct job *job = &in->job;
    struct model *m = &in->model;
    bool wanted = job->speculate.draft == SPECULATE_MTP, known = m->mtp.layers > 0;
    if (!job->model_mtp || !model_has_mtp(m, in->checkpoint))
        m->mtp.layers = 0;
    if (job->speculate.draft == SPECULATE_AUTO && m->mtp.layers > 0) { /* each of them once */
        size_t each = (size_t)job->speculate.tokens;
        return model_use_mtp(m, each < m->mtp.layers ? each : m->mtp.layers, e);
    }
    if (!wanted)
        return 0;
    if (m->mtp.layers == 0)
        return err_set(e,
                       "%s: speculate.draft: mtp needs a model with MTP layers, but %s; say ngram",
                       job->path,
                       !job->model_mtp ? "model_mtp is false"
                       : known         ? "the checkpoint has no tensors of them"
                       : m->mtp_layers ? "those of this family are not supported"
                                       : "config.json names none");
    if (job->speculate.tokens > MODEL_MAX_MTP)
        return err_set(e, "%s: speculate.tokens is %d; MTP layers make at most %d", job->path,
                       job->speculate.tokens, MODEL_MAX_MTP);
    return model_use_mtp(m, (size_t)job->speculate.tokens, e);
}

static int open_model(struct inputs *in, struct err *e)
{
    if (read_model(in, e) != 0 || checkpoint_open(&in->checkpoint, in->job.model, e) != 0 ||
        use_mtp(in, e) != 0 || model_check(&in->model, in->checkpoint, e) != 0 ||
        stamp_weights(in, e) != 0)
        return -1;
    enum weight_keep keep = inputs_keep(&in->job);
    bool rounded = in->job.precision.products == JOB_PRODUCTS_INT8;
    /* Nor does a slice cut the groups of 32 in which rows become integers. */
    struct tensors_forms forms = tensors_forms(&in->model, in->checkpoint, keep, rounded ? 32 : 1);
    if (rounded && !forms.integers)
        return err_set(e,
                       "%s: precision.products: int8 multiplies weights that are integers, and %s "
                       "has none; leave it out, or make them so by precision.weights: int8 or int4",
                       in->job.path, in->job.model);
    in->job.layout.granule = forms.granule;
    size_t wanted = in->job.schedule.max_context;
    if (wanted > in->model.context)
        return err_set(e, "%s: schedule.max_context is %zu, but the model's context is %zu",
                       in->job.path, wanted, in->model.context);
    in->max_context = wanted ? wanted : in->model.context;
    return 0;
}

static int open_prompts(struct inputs *in, struct err *e)
{
    const struct job *job = &in->job;
    if (stamps_add(&in->prompts_file, job->prompts.file, e) != 0 ||
        prompts_open_as(&in->prompts, job->prompts.file, job->prompts.text, e) != 0)
        return -1;
    uint64_t first;
    struct job whole = *job;
    whole.prompts.parts = 0;
    if (job_rows(&whole, prompts_count(in->prompts), &in->first_of_all, &in->end_of_all, e) != 0)
        return -1;
    in->end_of_all += in->first_of_all;
    if (job_rows(job, prompts_count(in->prompts), &first, &in->n_prompts, e) != 0)
        return -1;
    in->job.prompts.first = first; /* of this part; it is taken */
    in->job.prompts.part = in->job.prompts.parts = 1;
    uint64_t samples = job_decoded(job);
    if (in->n_prompts > INPUTS_MAX_UNITS / samples)
        return err_set(
            e,
            "%s: %llu prompts x %llu samples are too many for one job, which has at most "
            "%llu completions; take a part by prompts.first and prompts.count",
            job->prompts.file, (unsigned long long)in->n_prompts, (unsigned long long)samples,
            (unsigned long long)INPUTS_MAX_UNITS);
    in->units = in->n_prompts * samples;
    if (prompting_open(&in->prompting, job, &in->model, in->prompts, e) != 0)
        return -1;
    in->model.vocab = (size_t)in->prompting.vocab;
    /* Longer prompts cannot fit. They are not tokenized, which takes long, not even read. */
    const struct tokenizer *t = in->prompting.tokenizer;
    size_t longest = t ? tokenizer_longest(t) : 1;
    prompts_limit(in->prompts, mem_mul(longest, in->max_context), in->max_context);
    return 0;
}

int inputs_read_job(struct inputs *in, const char *job_path, const char *const *overrides, size_t n,
                    struct err *e)
{
    *in = (struct inputs){0};
    return job_read(&in->job, job_path, overrides, n, e);
}

int inputs_open(struct inputs *in, bool with_prompts, struct err *e)
{
    if (open_model(in, e) != 0)
        return -1;
    return with_prompts ? open_prompts(in, e) : 0;
}

int inputs_may_write(const struct job *job, struct err *e)
{
    if (files_may_create(job->output.file, e) != 0)
        return err_prefix(e, "%s: output.file", job->path);
    if (job->trace && files_may_create(job->trace, e) != 0)
        return err_prefix(e, "%s: trace", job->path);
    if (job->output.summary && files_may_create(job->output.summary, e) != 0)
        return err_prefix(e, "%s: output.summary", job->path);
    return 0;
}

int inputs_open_alone(struct inputs *in, const char *job_path, const char *const *overrides,
                      size_t n, const struct backend *backend, struct err *e)
{
    int status = inputs_read_job(in, job_path, overrides, n, e);
    if (status == 0)
        status = inputs_may_write(&in->job, e);
    if (status == 0)
        status = probe_prompts(&in->probe, &in->job, &probe_limits, e);
    if (status == 0) {
        in->backend = backend ? backend : backend_find(in->job.device, in->job.kernels, e);
        status = in->backend ? inputs_open(in, true, e) : err_prefix(e, "%s", in->job.path);
    }
    if (status != 0)
        inputs_close(in);
    return status;
}

/* A YAML scalar in single quotes; malloc'd. */
static char *quoted(const char *text)
{
    char *to = mem_new(2 * strlen(text) + 3, 1), *at = to;
    *at++ = '\'';
    for (; *text; *at++ = *text++)
        if (*text == '\'')
            *at++ = '\'';
    *at++ = '\'';
    *at = 0;
    return to;
}

int inputs_open_model(struct inputs *in, const char *model, const char *const *overrides, size_t n,
                      struct err *e)
{
    static const char form[] =
        "model: %s\ntokenizer: none\nprompts: {file: none.h5}\n"
        "output: {file: never.h5}\nlayout: {attention: 1, colocated: true}\n";
    char *name = quoted(model);
    size_t room = sizeof form + strlen(name);
    char *text = mem_new(room, 1);
    snprintf(text, room, form, name);
    *in = (struct inputs){0};
    int status = job_read_text(&in->job, model, text, overrides, n, e);
    if (status == 0) {
        in->backend = backend_find(in->job.device, in->job.kernels, e);
        status = in->backend ? open_model(in, e) : -1;
    }
    if (status != 0)
        inputs_close(in);
    free(name);
    free(text);
    return status;
}

void inputs_close(struct inputs *in)
{
    prompting_close(&in->prompting);
    prompts_close(in->prompts);
    checkpoint_close(in->checkpoint);
    stamps_free(&in->weights);
    stamps_free(&in->prompts_file);
    job_free(&in->job);
    *in = (struct inputs){0};
}

static int all_same(const struct stamps *s, struct err *e)
{
    int fault;
    for (size_t i = 0; i < s->n; i++)
        if (stamps_check(s, i, &fault, e) != 0 && fault == 0)
            return -1;
    return 0;
}

int inputs_same_weights(const struct inputs *in, struct err *e)
{
    return all_same(&in->weights, e);
}

int inputs_same_prompts(const struct inputs *in, struct err *e)
{
    return all_same(&in->prompts_file, e);
}

void inputs_doubts(const struct inputs *in, const char *prefix, FILE *out)
{
    const struct job *job = &in->job;
    int instances = layout_instances(&job->layout), experts = (int)in->model.most.experts;
    if (job_decoded(job) > 1 && job->sampling.temperature == 0)
        fprintf(out,
                "%ssampling.temperature is 0, so all samples of a prompt are equal, unless the "
                "prompts file has temperatures of its own\n",
                prefix);
    if (experts > 0 && instances > experts)
        fprintf(out,
                "%slayout.ffn.expert is %d, but a layer has %d experts: the ranks of %d of them "
                "hold none\n",
                prefix, instances, experts, instances - experts);
    if (strcmp(job->device, "cuda") == 0 && job->precision.activations == DTYPE_F32 &&
        job->precision.weights != JOB_WEIGHTS_INT8 &&
        tensors_forms(&in->model, in->checkpoint, inputs_keep(job), 1).integers)
        fprintf(out,
                "%sweights of 4 and 8 bits in groups are kept as f32 on a GPU, at 4 to 8 times "
                "their size, since "
                "precision.activations is f32; with bf16 they stay as they are\n",
                prefix);
}
