/* job.h - what the user asked for: the job file, resolved.
 *
 * The only reader of YAML. Every key is known or an error (`file:line:column: what, and the nearest
 * known key`); defaults are filled in here and nowhere else; jobs/example.yaml names every key with
 * its default and meaning. Paths are relative to the working directory. Every rank reads the job
 * itself; that all have read the same is checked (roles/identity.h). micro_batches is then set to what
 * auto comes to; nothing else changes.
 */
#ifndef TANDEM_JOB_JOB_H
#define TANDEM_JOB_JOB_H

#include "base/dtype.h"
#include "base/err.h"
#include "schedule/placement.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOB_MAX_STOPS 16

/* Guesses at the tokens that come next (schedule/draft.h). */
enum speculation {
    SPECULATE_AUTO, /* ngram or mtp, in steps where it pays (schedule/pace.h), else off */
    SPECULATE_OFF,
    SPECULATE_NGRAM,
    SPECULATE_MTP,
};

enum exchange_kind {
    EXCHANGE_AUTO, /* local when colocated, shared on one host, mpi on several, nccl on GPUs */
    EXCHANGE_LOCAL,
    EXCHANGE_SHARED,
    EXCHANGE_MPI,
    EXCHANGE_NCCL
};
/* As they are in the checkpoint; integers of 8 bits, one scale a row; of 4 bits, in groups of 32. */
enum job_weights { JOB_WEIGHTS_KEEP, JOB_WEIGHTS_INT8, JOB_WEIGHTS_INT4 };

/* Rows as they are; or as integers of 8 bits where weights are integers (kernels/cpu/integer.h). */
enum job_products { JOB_PRODUCTS_EXACT, JOB_PRODUCTS_INT8 };

enum tri { TRI_AUTO, TRI_FALSE, TRI_TRUE };

/* What of a prompt that does not fit the context is left out. */
enum job_truncate { TRUNCATE_NO, TRUNCATE_LEFT, TRUNCATE_RIGHT };

/* A stop token: by id, or by its text in the vocabulary (id is found when the tokenizer is open).
 */
struct job_stop {
    char *text; /* NULL: by id */
    int32_t id;
};

struct job {
    char *path; /* of the job file itself */

    char *model;        /* model: checkpoint directory */
    char *model_ignore; /* model_ignore: JSON list of config fields that count as absent, or NULL */
    bool model_mtp;     /* model_mtp: the model's MTP layers are there to be used; default true */
    /* tokenizer: a tokenizer.json, its directory or a GGUF file; default <model>/tokenizer.json. "none":
     * prompts are token ids and completions have no text. Named: the job says it, so it must be there. */
    char *tokenizer;
    bool tokenizer_named;

    struct {
        char *file;          /* prompts.file */
        char *template_text; /* prompts.template: text with one {prompt}; default "{prompt}" */
        enum tri bos;        /* prompts.bos: put the model's bos token first; auto: as
                                tokenizer_config.json says (add_bos_token), else as the tokenizer's
                                post-processor does; no for token prompts */
        bool eos;         /* prompts.eos: the model's first end token is put last; default false */
        enum tri special; /* prompts.special: false, control tokens in a prompt are text; auto: for
                                messages, not for other prompts */
        uint64_t first;   /* prompts.first: first row, default 0 */
        int64_t count;    /* prompts.count: rows, -1 (default): to the end */
        char *text;       /* prompts.text: a dataset's name; NULL: text, tokens or messages */
        char *part_text;  /* prompts.part: "3/8" or "slurm"; NULL: none. Read as: */
        int part, parts;  /* of these rows part `part` (from 1) of `parts`; 1 of 1: all */
    } prompts;

    struct {
        char *template; /* chat.template: a Jinja file; NULL (auto): the checkpoint's own */
        char *kwargs;   /* chat.template_kwargs: JSON object of variables, or NULL */
        char *system;   /* chat.system: first message of conversations that have none, or NULL */
        char *date;     /* chat.date: what templates are told is today, or NULL */
    } chat;

    struct {
        char *file;            /* output.file */
        char *summary;         /* output.summary: JSON at the end of a run; NULL: none */
        double commit_seconds; /* output.commit_seconds: completions go to disk this often; default
                                  5 */
        bool special_tokens;   /* output.special_tokens: keep them in `text`; default false */
        char *reasoning_begin; /* output.reasoning: the texts around it, or NULL: it is part of */
        char *reasoning_end;   /* `text`; only begin NULL: it begins with the completion */
        double save_minutes;   /* output.save_minutes: and sequences under way; default 10 */
        double patience;       /* output.patience: seconds for which a disk that refuses is tried
                                  again; default 1h */
    } output;

    struct layout
        layout; /* layout.attention, layout.ffn.expert, layout.ffn.tensor, or layout.colocated */
    int cells;  /* layout.cells: so many times the layout, side by side; default 1 */
    int micro_batches;           /* layout.micro_batches: 1..4; 0: auto (roles/engine.h) */
    enum exchange_kind exchange; /* layout.exchange: auto, local, shared, mpi, nccl */
    int nccl_blocks; /* layout.nccl_blocks: of one NCCL kernel at most; 0: as NCCL likes; default 8 */
    int threads;     /* layout.threads per rank; 0: auto (roles/cores.h) */

    char *device;    /* device: cpu or cuda */
    bool cublas;     /* cublas: dense projections by cuBLAS; default false: by the backend's own
                     kernels, whose rows do not depend on the batch */
    enum tri graphs; /* graphs: steps on a GPU that repeat are launched as CUDA graphs; auto: where
                        all ranks of a cell are on one host */
    char *kernels;   /* kernels: auto, plain, avx2, avx512 */

    struct {
        enum dtype activations; /* precision.activations: bf16 (default), f32 */
        enum dtype kv_cache;    /* precision.kv_cache: bf16 (default), f32, fp8 */
        enum dtype dispatch;    /* precision.dispatch, rows to the FFN: bf16 (default), f32, fp8 */
        enum dtype
            combine; /* precision.combine, partial sums back: f32, bf16; auto (default): bf16 on
                                   GPUs with bf16 activations, else f32; decided when the job is read */
        enum job_weights weights;   /* precision.weights: keep (default), int8, int4 */
        enum job_products products; /* precision.products: exact (default), int8 (CPUs only) */
    } precision;

    struct {
        int slots; /* schedule.slots: sequences an attention rank decodes at once; default 16 */
        int prefill_chunk;  /* schedule.prefill_chunk: prompt rows per step and rank; default 256 */
        size_t max_context; /* schedule.max_context: longest sequence; 0 (default): the model's */
        size_t kv_memory;   /* schedule.kv_memory: bytes of KV cache per attention rank ("4 GiB");
                               0 (auto): as much as all slots at max_context can use, at most its share
                               of what weights and buffers leave free (roles/engine.h) */
        bool
            share; /* schedule.share: sequences share the KV cache of equal beginnings; default true */
        double
            time_limit; /* schedule.time_limit: stop after this long ("23h50m"), exit 75; 0: none */
        /* schedule.step_timeout: a rank without a sign of life, or at one piece of work in a step,
         * for so long is named and ends the job with status 2; default 10m, 0: never */
        double step_timeout;
    } schedule;

    struct {
        enum speculation draft; /* speculate.draft: off, ngram, mtp, auto (default) */
        int tokens;             /* speculate.tokens: guesses of a sequence in a step; default 4 */
    } speculate;

    struct {
        double temperature; /* sampling.temperature: default 0, greedy */
        int top_k;          /* sampling.top_k: default 0, all */
        double top_p;       /* sampling.top_p: default 1 */
        uint64_t seed;      /* sampling.seed: default 0 */
        int samples;        /* sampling.samples: completions per prompt, default 1 */
        int best_of;        /* sampling.best_of: of so many the best `samples`; 0 (none): all */
        int max_new_tokens; /* sampling.max_new_tokens: default 256 */
        struct job_stop
            stop[JOB_MAX_STOPS]; /* sampling.stop: ids or texts; the model's eos always */
        int n_stop;
        bool ignore_eos; /* sampling.ignore_eos: default false; for measurements */
        /* What the keys of the same names say; definitions are in roles/request.h. */
        double min_p, repetition_penalty, presence_penalty, frequency_penalty;
        int min_tokens, thinking_tokens; /* thinking_tokens -1: no limit */
        int repetition_stop;             /* 0: none */
        int logprobs;                    /* likeliest tokens kept at every place; default 0 */
        int prompt_logprobs; /* likeliest tokens kept at places of the prompt, and the logprobs of
                                its own; -1 (false, default): nothing of it */
        bool include_stop;
        int seed_from;                           /* 0: row, 1: prompt */
        char *logit_bias, *ban, *allow, *format; /* JSON, or NULL */
        char *thinking_end; /* NULL (auto): </think>, where the model knows it */
        enum job_truncate truncate_prompt;
    } sampling;

    bool score; /* score, or `tandem score`: prompts are scored and nothing is generated */

    char *trace;       /* trace: Chrome/Perfetto timeline of every rank; NULL: none */
    char *trace_steps; /* trace_steps: "100-200"; NULL: all. Read as: */
    int64_t trace_first, trace_last;
};

/* Reads and checks a job file. `overrides`: n strings "key.path=value" from the command line
 * (--set), read as YAML scalars after the file; errors in them name "--set" instead of file and
 * line. */
int job_read(struct job *job, const char *path, const char *const *overrides, size_t n,
             struct err *e);
/* The same of a job that is no file; messages call it `name`. */
int job_read_text(struct job *job, const char *name, const char *text, const char *const *overrides,
                  size_t n, struct err *e);
void job_free(struct job *job);

/* Completions that are decoded for a prompt: sampling.best_of, or sampling.samples. */
uint64_t job_decoded(const struct job *job);

/* Which of a prompts file's rows are the job's: the first, and how many. -1: the file has too few
 * for prompts.first. */
int job_rows(const struct job *job, uint64_t rows, uint64_t *first, uint64_t *n, struct err *e);

/* The resolved job, every key, as YAML that job_read() takes again; malloc'd. */
char *job_yaml(const struct job *job);

/* The resolved job, every key, as a JSON object: {"schedule.slots": "16", ...}, sorted; malloc'd. */
char *job_json(const struct job *job);

/* What ends a completion (sampling.stop): texts and ids in the order of the job; a new reference. */
json_t *job_stops(const struct job *job);

/* The keys of it that decide a completion besides model and prompts: sampling, template, bos,
 * context, precision. */
char *job_sampling_json(const struct job *job);

#endif
