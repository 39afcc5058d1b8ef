#include "roles/prompting.h"

#include "base/files.h"
#include "base/mem.h"
#include "model/generation_config.h"
#include "data/gguf_view.h"
#include "text/tokenizer_config.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One that is not there yet. What is no token of the tokenizer is never drawn. */
static void add_eos(struct prompting *p, int32_t token)
{
    bool known = token >= p->vocab;
    for (int i = 0; i < p->n_stop; i++)
        known = known || p->stop[i] == token;
    if (!known)
        p->stop[p->n_stop++] = token;
}

/* The end tokens of both files: publishers keep some in one and some in the other. */
static int find_eos(struct prompting *p, const struct job *job, const struct model *model,
                    struct err *e)
{
    int32_t more[MODEL_MAX_EOS];
    int n;
    if (generation_config_eos(model, job->model, more, &n, e) != 0)
        return -1;
    for (int i = 0; i < model->n_eos; i++)
        add_eos(p, model->eos[i]);
    for (int i = 0; i < n; i++)
        add_eos(p, more[i]);
    return 0;
}

static json_t *parsed(const char *text)
{
    return text ? json_loads(text, 0, NULL) : json_null();
}

/* What ends the reasoning: as the job says, or as usual where the vocabulary or the chat template knows
 * that text; NULL: nobody does. */
static const char *thinking_end(const struct prompting *p, const struct job *job,
                                const struct tokenizer_config *config)
{
    if (job->sampling.thinking_end)
        return job->sampling.thinking_end;
    bool known = p->conversation.thinks ||
                 (p->tokenizer && tokenizer_id(p->tokenizer, THINKING_END) >= 0) ||
                 (config->template && strstr(config->template, THINKING_END));
    return known ? THINKING_END : NULL;
}

/* The sampling section by the names of its keys, as rows override it; `end`: thinking_end(). */
static json_t *sampling_json(const struct job *job, const char *end)
{
    char seed[32];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)job->sampling.seed);
    json_t *out = json_pack(
        "{s:f, s:i, s:f, s:f, s:s, s:s, s:i, s:i, s:f, s:f, s:f, s:b, s:b, s:i, s:i, s:i, s:i, "
        "s:s}",
        "temperature", job->sampling.temperature, "top_k", job->sampling.top_k, "top_p",
        job->sampling.top_p, "min_p", job->sampling.min_p, "seed", seed, "seed_from",
        job->sampling.seed_from ? "prompt" : "row", "max_new_tokens", job->sampling.max_new_tokens,
        "min_tokens", job->sampling.min_tokens, "repetition_penalty",
        job->sampling.repetition_penalty, "presence_penalty", job->sampling.presence_penalty,
        "frequency_penalty", job->sampling.frequency_penalty, "ignore_eos",
        job->sampling.ignore_eos, "include_stop", job->sampling.include_stop, "thinking_tokens",
        job->sampling.thinking_tokens, "repetition_stop", job->sampling.repetition_stop, "logprobs",
        job->sampling.logprobs, "prompt_logprobs", job->sampling.prompt_logprobs, "truncate_prompt",
        request_truncations[job->sampling.truncate_prompt]);
    if (!out)
        die("the sampling section is not what it is packed as");
    json_object_set_new(out, "thinking_end", end ? json_string(end) : json_null());
    json_object_set_new(out, "stop", job_stops(job));
    json_object_set_new(out, "logit_bias", parsed(job->sampling.logit_bias));
    json_object_set_new(out, "ban", parsed(job->sampling.ban));
    json_object_set_new(out, "allow", parsed(job->sampling.allow));
    json_object_set_new(out, "format", parsed(job->sampling.format));
    return out;
}

struct request_context prompting_requests(const struct prompting *p)
{
    return (struct request_context){.tokenizer = p->tokenizer,
                                    .formats = p->formats,
                                    .defaults = p->sampling,
                                    .eos = p->stop,
                                    .n_eos = p->n_stop,
                                    .vocab = p->vocab,
                                    .special = p->special,
                                    .reasoning_begin = p->reasoning_begin,
                                    .reasoning_end = p->reasoning_end};
}

/* The job's own values are right before anything is decoded. */
static int find_sampling(struct prompting *p, const struct job *job, const struct model *model,
                         const struct tokenizer_config *config, struct err *e)
{
    if (find_eos(p, job, model, e) != 0)
        return -1;
    if (job->prompts.eos && p->n_stop == 0)
        return err_set(e, "prompts.eos: the model names no end token");
    p->eos = job->prompts.eos ? p->stop[0] : -1;
    p->sampling = sampling_json(job, thinking_end(p, job, config));
    if (p->tokenizer)
        p->formats = formats_new(p->tokenizer, p->vocab);
    struct request_context context = prompting_requests(p);
    struct request *r = request_new(&context, NULL, 0, 0, e);
    if (!r)
        return err_prefix(e, "%s: sampling", job->path);
    request_free(r);
    return 0;
}

/* The bos token: that of the tokenizer's post-processor, of the model, or the one that
 * tokenizer_config.json names; -1. */
static int32_t bos_id(const struct prompting *p, const struct model *model,
                      const struct tokenizer_config *config)
{
    if (p->tokenizer && tokenizer_bos(p->tokenizer) >= 0)
        return tokenizer_bos(p->tokenizer);
    const char *text = json_string_value(json_object_get(config->tokens, "bos_token"));
    if (model->bos >= 0 || !text || !p->tokenizer)
        return model->bos;
    return tokenizer_id(p->tokenizer, text);
}

/* A chat template writes the bos token itself. auto: as tokenizer_config.json says; where it says
 * nothing, as the tokenizer's post-processor does. */
static int find_bos(struct prompting *p, const struct job *job, const struct model *model,
                    const struct tokenizer_config *config, enum tri by_kind, struct err *e)
{
    enum tri wanted = job->prompts.bos != TRI_AUTO ? job->prompts.bos : by_kind;
    bool usual = config->add_bos >= 0 ? config->add_bos == 1
                                      : p->tokenizer && tokenizer_bos(p->tokenizer) >= 0;
    bool add = wanted == TRI_TRUE || (wanted == TRI_AUTO && usual);
    int32_t bos = bos_id(p, model, config);
    if (add && bos < 0)
        return err_set(e, "prompts.bos: neither the model's config.json nor tokenizer_config.json "
                          "names a bos token");
    if (add && bos >= p->vocab)
        return err_set(e, "%s: bos_token_id %d is no token of the tokenizer, which has %d",
                       job->model, bos, p->vocab);
    p->bos = add ? bos : -1;
    return 0;
}

#define NAME_ANOTHER "the key `tokenizer` (prompts of token ids need none)"

/* The file is not there; a checkpoint may have its tokenizer in an older form. Returns -1. */
static int say_missing(const char *path, struct err *e)
{
    static const char *const older[] = {"tokenizer.model", "vocab.json", "tiktoken.model"};
    const struct err why = *e;
    char *folder = files_directory(path);
    size_t i = 0, n = sizeof older / sizeof *older;
    for (bool there = false; i < n && !there; i += !there) {
        char *other = files_join(folder, older[i]);
        there = files_exist(other);
        free(other);
    }
    if (i < n)
        err_set(e,
                "%s; %s there is an older form: python3 -c \"from transformers import "
                "AutoTokenizer as T; "
                "T.from_pretrained('%s').save_pretrained('DIRECTORY')\" makes a tokenizer.json of "
                "it, which "
                "the key `tokenizer` names",
                why.text, older[i], folder);
    else
        err_set(e, "%s; name another by " NAME_ANOTHER, why.text);
    free(folder);
    return -1;
}

/* Where tokenizer and chat template are: a tokenizer.json and what is beside it, or a GGUF file, which is opened
 * once for all that is in it. */
struct origin {
    char *path;        /* NULL: there is to be no tokenizer */
    struct gguf *gguf; /* NULL: no such file */
};

/* tokenizer.json of a directory; malloc'd, NULL: there is to be none. */
static char *tokenizer_path(const struct job *job)
{
    if (job->tokenizer_named && strcmp(job->tokenizer, "none") == 0)
        return NULL;
    if (!files_is_directory(job->tokenizer))
        return mem_string(job->tokenizer);
    return files_join(job->tokenizer, "tokenizer.json");
}

static int origin_open(struct origin *o, const struct job *job, struct err *e)
{
    *o = (struct origin){.path = tokenizer_path(job)};
    return o->path && gguf_is_path(o->path) ? gguf_open(&o->gguf, o->path, e) : 0;
}

static void origin_close(struct origin *o)
{
    gguf_close(o->gguf);
    free(o->path);
}

static int open_tokenizer(struct tokenizer **out, const struct origin *o, struct err *e)
{
    if (!o->gguf) {
        bool there = access(o->path, F_OK) == 0;
        if (tokenizer_open(out, o->path, e) == 0)
            return 0;
        return there ? -1 : say_missing(o->path, e);
    }
    if (!gguf_has_tokenizer(o->gguf))
        return err_set(e, "%s: has no tokenizer; name one by " NAME_ANOTHER, o->path);
    char *text = gguf_tokenizer(o->gguf, e);
    int rc = text ? tokenizer_open_text(out, o->path, text, strlen(text), e) : -1;
    free(text);
    return rc;
}

/* Prompts of token ids take what is there, but what was named must be. */
static bool wants_tokenizer(const struct job *job, const struct origin *o, bool tokens)
{
    if (!o->path)
        return false;
    if (!tokens || job->tokenizer_named)
        return true;
    return o->gguf ? gguf_has_tokenizer(o->gguf) : access(o->path, F_OK) == 0;
}

static int read_config(const struct origin *o, struct tokenizer_config *config, struct err *e)
{
    if (!o->path) {
        *config = (struct tokenizer_config){.add_bos = -1, .tokens = json_object()};
        return 0;
    }
    if (!o->gguf)
        return tokenizer_config_read(o->path, config, e);
    json_t *root = gguf_tokenizer_config(o->gguf);
    int rc = tokenizer_config_from(root, o->path, config, e);
    json_decref(root);
    return rc;
}

static int open_parts(struct prompting *p, const struct job *job, const struct model *model,
                      const struct tokenizer_config *config, const struct prompts *prompts,
                      const struct origin *from, struct err *e)
{
    bool tokens = prompts_are_tokens(prompts), messages = prompts_are_messages(prompts);
    if (!tokens && !from->path)
        return err_set(e, "tokenizer: none, but the prompts are %s; name one, or give token ids",
                       messages ? "messages" : "texts");
    if (wants_tokenizer(job, from, tokens)) {
        if (open_tokenizer(&p->tokenizer, from, e) != 0)
            return -1;
        if (tokenizer_size(p->tokenizer) > model->vocab)
            return err_set(e, "%s has %zu tokens, but the model's vocabulary has %zu", from->path,
                           tokenizer_size(p->tokenizer), model->vocab);
        p->vocab = (int32_t)tokenizer_size(p->tokenizer);
    }
    if (messages && conversation_open(&p->conversation, job, config, e) != 0)
        return -1;
    if (!messages && conversation_refuse(job, e) != 0)
        return -1;
    if (template_parse(job->prompts.template_text, &p->template, e) != 0)
        return err_prefix(e, "prompts.template");
    if (find_bos(p, job, model, config, tokens || messages ? TRI_FALSE : TRI_AUTO, e) != 0)
        return -1;
    p->control = job->prompts.special == TRI_AUTO ? !messages : job->prompts.special == TRI_TRUE;
    p->special = job->output.special_tokens;
    p->reasoning_begin = job->output.reasoning_begin;
    p->reasoning_end = job->output.reasoning_end;
    return find_sampling(p, job, model, config, e);
}

int prompting_open(struct prompting *p, const struct job *job, const struct model *model,
                   const struct prompts *prompts, struct err *e)
{
    struct tokenizer_config config;
    *p = (struct prompting){.bos = -1, .eos = -1, .vocab = (int32_t)model->vocab};
    struct origin from;
    int status = origin_open(&from, job, e);
    if (status == 0)
        status = read_config(&from, &config, e);
    if (status == 0) {
        status = open_parts(p, job, model, &config, prompts, &from, e);
        tokenizer_config_free(&config);
    }
    origin_close(&from);
    if (status == 0)
        return 0;
    prompting_close(p);
    return -1;
}

void prompting_close(struct prompting *p)
{
    formats_free(p->formats);
    tokenizer_close(p->tokenizer);
    template_free(p->template);
    conversation_close(&p->conversation);
    json_decref(p->sampling);
    *p = (struct prompting){0};
}

static int fill_template(const struct prompting *p, const struct prompt *prompt, char **text,
                         char **marks, size_t *bytes)
{
    *text = template_apply(p->template, prompt->text, prompt->text_bytes, bytes);
    *marks = mem_zeroed(*bytes + 1, 1);
    memset(*marks + template_before(p->template), 1, prompt->text_bytes);
    return 0;
}

static int check_text(const char *what, const char *text, size_t n, struct err *e)
{
    size_t bad;
    if (n == 0)
        return err_set(e, "the %s is empty", what);
    if (utf8_check(text, n, &bad) != 0)
        return err_set(e, "the %s is not valid UTF-8: byte %zu of %zu", what, bad + 1, n);
    return 0;
}

/* A text and, for each of its bytes, whether control tokens are none there. */
struct marked {
    char *text, *marks;
    size_t bytes;
};

static int encode_marked(const struct prompting *p, const struct marked *m, size_t bytes,
                         int32_t **tokens, size_t *n, struct err *e)
{
    return tokenizer_encode_marked(p->tokenizer, m->text, p->control ? NULL : m->marks, bytes,
                                   tokens, n, e);
}

/* Puts the continuation behind the text; *own: how many tokens are the text's. */
static int append_continuation(const struct prompting *p, const struct prompt *prompt,
                               struct marked *m, size_t *own, struct err *e)
{
    size_t bytes = m->bytes, more = prompt->continuation_bytes;
    int32_t *tokens;
    if (check_text("continuation", prompt->continuation, more, e) != 0)
        return -1;
    while (bytes > 0 && m->text[bytes - 1] && strchr(" \t\r\n", m->text[bytes - 1]))
        bytes--;
    if (encode_marked(p, m, bytes, &tokens, own, e) != 0)
        return -1;
    free(tokens);
    m->text = mem_resize(m->text, m->bytes + more + 1, 1);
    m->marks = mem_resize(m->marks, m->bytes + more + 1, 1);
    memcpy(m->text + m->bytes, prompt->continuation, more + 1);
    memset(m->marks + m->bytes, 1, more);
    m->bytes += more;
    return 0;
}

static int encode_text(const struct prompting *p, const struct prompt *prompt, int32_t **tokens,
                       size_t *n, size_t *own, struct err *e)
{
    struct marked m = {0};
    if (check_text("prompt", prompt->text, prompt->text_bytes, e) != 0)
        return -1;
    int status = prompt->messages
                     ? conversation_text(&p->conversation, prompt->text, prompt->text_bytes,
                                         &m.text, &m.marks, &m.bytes, e)
                     : fill_template(p, prompt, &m.text, &m.marks, &m.bytes);
    if (status == 0 && prompt->continuation)
        status = append_continuation(p, prompt, &m, own, e);
    if (status == 0)
        status = encode_marked(p, &m, m.bytes, tokens, n, e);
    free(m.text);
    free(m.marks);
    if (status != 0 || *n > 0 || p->bos >= 0)
        return status;
    free(*tokens);
    *tokens = NULL;
    return err_set(e, "the prompt has no tokens: the tokenizer makes none of its %zu bytes",
                   prompt->text_bytes);
}

static int copy_tokens(const struct prompting *p, const struct prompt *prompt, int32_t **tokens,
                       size_t *n, size_t *own, struct err *e)
{
    int32_t *more = NULL;
    size_t n_more = 0;
    if (prompt->n_tokens == 0)
        return err_set(e, "the prompt is empty");
    for (size_t i = 0; i < prompt->n_tokens; i++)
        if (prompt->tokens[i] < 0 || prompt->tokens[i] >= p->vocab)
            return err_set(e, "token %zu of the prompt is %d, but the vocabulary has %d tokens",
                           i + 1, prompt->tokens[i], p->vocab);
    if (prompt->continuation && !p->tokenizer)
        return err_set(e, "the continuation is text, but there is no tokenizer");
    if (prompt->continuation &&
        tokenizer_encode(p->tokenizer, prompt->continuation, prompt->continuation_bytes, &more,
                         &n_more, e) != 0)
        return -1;
    *own = prompt->n_tokens;
    *n = prompt->n_tokens + n_more;
    *tokens = mem_new(*n, sizeof **tokens);
    memcpy(*tokens, prompt->tokens, prompt->n_tokens * sizeof **tokens);
    if (n_more)
        memcpy(*tokens + *own, more, n_more * sizeof **tokens);
    free(more);
    return 0;
}

static void put_around(const struct prompting *p, int32_t **tokens, size_t *n, size_t *own)
{
    bool bos = p->bos >= 0 && (*n == 0 || (*tokens)[0] != p->bos); /* not a second one */
    *tokens = mem_resize(*tokens, *n + 2, sizeof **tokens);
    if (bos) {
        memmove(*tokens + 1, *tokens, *n * sizeof **tokens);
        (*tokens)[0] = p->bos;
        (*n)++;
        (*own)++;
    }
    if (p->eos >= 0)
        (*tokens)[(*n)++] = p->eos;
}

int prompting_encode(const struct prompting *p, const struct prompt *prompt, int32_t **tokens,
                     size_t *n, size_t *from, struct err *e)
{
    size_t own = 0;
    int status = prompt->text ? encode_text(p, prompt, tokens, n, &own, e)
                              : copy_tokens(p, prompt, tokens, n, &own, e);
    if (status != 0)
        return status;
    bool nothing = prompt->continuation && own >= *n;
    put_around(p, tokens, n, &own);
    *from = prompt->continuation && own > 1 ? own : 1;
    if (!nothing)
        return 0;
    free(*tokens);
    *tokens = NULL;
    return err_set(e, "the continuation has no tokens of its own");
}
