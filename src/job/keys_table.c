/* The table of keys.h. */
#include "job/keys.h"

#include <stddef.h>

_Static_assert(sizeof(enum dtype) == sizeof(int) && sizeof(enum tri) == sizeof(int) &&
                   sizeof(enum exchange_kind) == sizeof(int),
               "KEY_CHOICE fills enums as int");

static const struct choice tri[] = {
    {"auto", TRI_AUTO}, {"true", TRI_TRUE}, {"false", TRI_FALSE}, {NULL, 0}};
static const struct choice special[] = {
    {"auto", TRI_AUTO}, {"control", TRI_TRUE}, {"text", TRI_FALSE}, {NULL, 0}};
static const struct choice exchanges[] = {
    {"auto", EXCHANGE_AUTO}, {"local", EXCHANGE_LOCAL}, {"shared", EXCHANGE_SHARED},
    {"mpi", EXCHANGE_MPI},   {"nccl", EXCHANGE_NCCL},   {NULL, 0},
};
static const struct choice devices[] = {{"cpu", 0}, {"cuda", 0}, {NULL, 0}};
static const struct choice kernels[] = {
    {"auto", 0}, {"plain", 0}, {"avx2", 0}, {"avx512", 0}, {NULL, 0}};
static const struct choice combines[] = {
    {"auto", DTYPE_COUNT}, {"bf16", DTYPE_BF16}, {"f32", DTYPE_F32}, {NULL, 0}};
static const struct choice wide[] = {{"bf16", DTYPE_BF16}, {"f32", DTYPE_F32}, {NULL, 0}};
static const struct choice narrow[] = {
    {"bf16", DTYPE_BF16}, {"f32", DTYPE_F32}, {"fp8", DTYPE_F8E4M3}, {NULL, 0}};
static const struct choice speculations[] = {{"auto", SPECULATE_AUTO},
                                             {"off", SPECULATE_OFF},
                                             {"ngram", SPECULATE_NGRAM},
                                             {"mtp", SPECULATE_MTP},
                                             {NULL, 0}};
static const struct choice truths[] = {{"true", true}, {"false", false}, {NULL, 0}};
static const struct choice own_only[] = {{"false", -1}, {"true", 0}, {NULL, 0}};
static const struct choice weights[] = {
    {"keep", JOB_WEIGHTS_KEEP}, {"int8", JOB_WEIGHTS_INT8}, {"int4", JOB_WEIGHTS_INT4}, {NULL, 0}};
static const struct choice products[] = {
    {"exact", JOB_PRODUCTS_EXACT}, {"int8", JOB_PRODUCTS_INT8}, {NULL, 0}};

static const struct choice seeds[] = {{"row", 0}, {"prompt", 1}, {NULL, 0}};
static const struct choice truncations[] = {
    {"no", TRUNCATE_NO}, {"left", TRUNCATE_LEFT}, {"right", TRUNCATE_RIGHT}, {NULL, 0}};

enum { RANKS_MAX = 65536, ROWS_MAX = 1 << 20 };
#define TOKENS_MAX 0x1p30
#define BYTES_MAX  0x1p50
#define YEAR       31536000.0

#define IN(member)      offsetof(struct job, member)
#define PRESET(text)    .preset = text
#define RANGE(from, to) .min = (from), .max = (to)
#define AUTO(value)     .word = "auto", .word_value = (value)

const struct key keys[] = {
    {"", "model", KEY_TEXT, IN(model), .about = "the checkpoint directory", .example = "input/demo",
     .help = "checkpoint: config.json, *.safetensors, tokenizer.json"},
    {"", "tokenizer", KEY_TEXT, IN(tokenizer), PRESET("auto"), AUTO(0),
     .help = "a tokenizer.json or its directory; auto: the one in the checkpoint; none: prompts "
             "are token ids"},

    {"", "model_ignore", KEY_JSON, IN(model_ignore), PRESET("none"), .word = "none", .max = 1,
     .help =
         "config.json's fields that count as absent, at your own risk: [name, rope_scaling.name]"},
    {"", "model_mtp", KEY_BOOL, IN(model_mtp), PRESET("true"), .choices = truths,
     .help = "false: layers for multi-token prediction (MTP) are passed over, whatever they are"},

    {"prompts", "file", KEY_TEXT, IN(prompts.file), .about = "the HDF5 file with the prompts",
     .example = "input/prompts.h5",
     .help = "HDF5 with `text`, or `tokens` and `offsets`; perhaps `id`"},
    {"prompts", "text", KEY_TEXT, IN(prompts.text), PRESET("auto"), .word = "auto",
     .help = "the dataset that has them, as train/prompt: strings, or lists of token ids"},
    {"prompts", "template", KEY_TEXT, IN(prompts.template_text), PRESET("{prompt}"),
     .example = "\"{prompt}\"", .help = "put around every prompt; {{ and }} are braces"},
    {"prompts", "bos", KEY_CHOICE, IN(prompts.bos), PRESET("auto"), .choices = tri,
     .help = "begin with the model's bos token: true, false, or auto: as tokenizer_config.json "
             "says, else tokenizer.json, and not for prompts given as tokens"},
    {"prompts", "eos", KEY_BOOL, IN(prompts.eos), PRESET("false"), .choices = truths,
     .help = "true: end with the model's end token, the first that it names (for scoring)"},
    {"prompts", "first", KEY_UINT64, IN(prompts.first), PRESET("0"), RANGE(0, 0x1p53),
     .help = "first row of the file to decode"},
    {"prompts", "count", KEY_INT64, IN(prompts.count), PRESET("all"), RANGE(1, 0x1p53),
     .word = "all", .word_value = -1, .help = "how many rows: a number, or all up to the end"},
    {"prompts", "part", KEY_TEXT, IN(prompts.part_text), PRESET("none"), .word = "none",
     .help = "one part of these rows, as 3/8; slurm: this task's of a job array"},

    {"prompts", "special", KEY_CHOICE, IN(prompts.special), PRESET("auto"), .choices = special,
     .help = "control tokens that a prompt spells: control, they are meant; text, they are not; "
             "auto: text in messages, control in other prompts"},

    {"chat", "template", KEY_TEXT, IN(chat.template), PRESET("auto"), .word = "auto",
     .help = "for prompts that are messages: a file in the language of Jinja; auto: the "
             "checkpoint's own"},
    {"chat", "template_kwargs", KEY_JSON, IN(chat.kwargs), PRESET("none"), .word = "none",
     .help = "variables of the template: {enable_thinking: false}"},
    {"chat", "system", KEY_TEXT, IN(chat.system), PRESET("none"), .word = "none",
     .help = "first message of conversations that begin without one"},
    {"chat", "date", KEY_TEXT, IN(chat.date), PRESET("none"), .word = "none",
     .help = "today, for templates that ask: 2026-01-31"},

    {"output", "file", KEY_TEXT, IN(output.file), .about = "the HDF5 file to write",
     .example = "output/example.h5",
     .help = "what completions are merged into; example.tokens.h5, example.steps.h5 and, while the "
             "job runs, example.h5.partial/ stand beside it"},
    {"output", "commit_seconds", KEY_SECONDS, IN(output.commit_seconds), PRESET("5 s"),
     RANGE(0.01, 86400), .help = "how often finished completions go to disk"},
    {"output", "save_minutes", KEY_REAL, IN(output.save_minutes), PRESET("10"), RANGE(0.001, 1e6),
     .help = "how often sequences under way go to disk too; at every stop they do"},
    {"output", "patience", KEY_SECONDS, IN(output.patience), PRESET("1h"), RANGE(1, YEAR),
     .help = "how long a disk that refuses (full, quota, NFS) is tried again; then exit status 75"},

    {"output", "summary", KEY_TEXT, IN(output.summary), PRESET("none"), .word = "none",
     .help = "a file for the summary of every run, as JSON: counts, speed, where the time went"},
    {"output", "special_tokens", KEY_BOOL, IN(output.special_tokens), PRESET("false"),
     .choices = truths, .help = "true: special tokens stay in `text`"},
    {"output.reasoning", "begin", KEY_TEXT, IN(output.reasoning_begin), PRESET("none"),
     .word = "none",
     .help = "what begins the reasoning of a model (\"<think>\"), in the prompt or the completion"},
    {"output.reasoning", "end", KEY_TEXT, IN(output.reasoning_end), PRESET("none"), .word = "none",
     .help = "what ends it (\"</think>\"): what stands before is in `reasoning`, `text` begins "
             "behind it"},

    {"layout", "cells", KEY_INT, IN(cells), PRESET("1"), RANGE(1, RANKS_MAX),
     .help = "replicas of the layout that decode side by side, each in step with itself alone"},
    {"layout", "attention", KEY_INT, IN(layout.attention), PRESET("1"), RANGE(1, RANKS_MAX),
     .help = "attention ranks: each decodes sequences of its own"},
    {"layout.ffn", "expert", KEY_INT, IN(layout.expert), PRESET("1"), RANGE(1, RANKS_MAX),
     .help = "FFN instances: the experts are divided among them"},
    {"layout.ffn", "tensor", KEY_INT, IN(layout.tensor), PRESET("1"), RANGE(1, RANKS_MAX),
     .help = "ranks of an instance: each expert is cut into as many slices"},
    {"layout", "colocated", KEY_BOOL, IN(layout.colocated), PRESET("false"), .choices = truths,
     .help = "true: no FFN ranks, every attention rank holds a whole FFN too"},
    {"layout", "micro_batches", KEY_INT, IN(micro_batches), PRESET("auto"),
     RANGE(1, MICRO_BATCHES_MAX), AUTO(0),
     .help = "1 to 4 parts of a step that overlap; auto: 1 when colocated or when attention and "
             "FFN ranks share cores, 3 between GPUs of several hosts, else 2"},
    {"layout", "exchange", KEY_CHOICE, IN(exchange), PRESET("auto"), .choices = exchanges,
     .help = "how rows travel: local (colocated), shared (memory of one host), mpi, nccl (between "
             "GPUs); auto: the best that the ranks can use"},
    {"layout", "nccl_blocks", KEY_INT, IN(nccl_blocks), PRESET("8"), RANGE(1, 64), AUTO(0),
     .help =
         "nccl: the most blocks of one transfer's kernel, each of which takes a processor of the "
         "GPU from the kernels that compute; auto: as NCCL likes"},
    {"layout", "threads", KEY_INT, IN(threads), PRESET("auto"), RANGE(1, 4096), AUTO(0),
     .help = "threads of a rank; auto: its share of the cores it may run on, among the ranks of "
             "its role"},

    {"", "device", KEY_NAME, IN(device), PRESET("cpu"), .choices = devices, .help = "cpu or cuda"},
    {"", "cublas", KEY_BOOL, IN(cublas), PRESET("false"), .choices = truths,
     .help = "device cuda: dense projections by cuBLAS instead of own kernels"},
    {"", "graphs", KEY_CHOICE, IN(graphs), PRESET("auto"), .choices = tri,
     .help =
         "device cuda: steps that repeat are launched as CUDA graphs; auto: where all ranks of a "
         "cell are on one host (between hosts NCCL calls the host from inside a graph, once for "
         "every transfer)"},
    {"", "kernels", KEY_NAME, IN(kernels), PRESET("auto"), .choices = kernels,
     .help = "of the CPU: plain, avx2, avx512; auto: the fastest it has"},

    {"precision", "activations", KEY_CHOICE, IN(precision.activations), PRESET("bf16"),
     .choices = wide, .help = "bf16 or f32"},
    {"precision", "kv_cache", KEY_CHOICE, IN(precision.kv_cache), PRESET("bf16"), .choices = narrow,
     .help = "bf16, f32 or fp8"},
    {"precision", "dispatch", KEY_CHOICE, IN(precision.dispatch), PRESET("bf16"), .choices = narrow,
     .help = "rows on their way to the FFN ranks: bf16, f32 or fp8"},
    {"precision", "combine", KEY_CHOICE, IN(precision.combine), PRESET("auto"), .choices = combines,
     .help =
         "partial sums on their way back: f32 (exact sums, the same however the FFN is split) or "
         "bf16; auto: bf16 on GPUs with bf16 activations, else f32"},
    {"precision", "weights", KEY_CHOICE, IN(precision.weights), PRESET("keep"), .choices = weights,
     .help = "keep: as in the checkpoint; int8, int4: quantized while they are read"},
    {"precision", "products", KEY_CHOICE, IN(precision.products), PRESET("exact"),
     .choices = products,
     .help = "exact: rows are multiplied as they are; int8: where weights are integers of 8 or 4 "
             "bits, rows are rounded to 8 bits too, in groups of 32 (device cpu): faster with 4 "
             "bits, and with 8 from 4 (AVX2) or 8 rows (AVX-512) on"},

    {"schedule", "slots", KEY_INT, IN(schedule.slots), PRESET("16"), RANGE(1, ROWS_MAX),
     .help = "sequences an attention rank decodes at once"},
    {"schedule", "prefill_chunk", KEY_INT, IN(schedule.prefill_chunk), PRESET("256"),
     RANGE(1, ROWS_MAX), .help = "prompt tokens an attention rank takes into one step"},
    {"schedule", "max_context", KEY_COUNT, IN(schedule.max_context), PRESET("auto"),
     RANGE(2, TOKENS_MAX), AUTO(0),
     .help = "longest sequence, prompt and completion; auto: the model's"},
    {"schedule", "kv_memory", KEY_SIZE, IN(schedule.kv_memory), PRESET("auto"), RANGE(1, BYTES_MAX),
     AUTO(0),
     .help = "KV cache of an attention rank (\"4 GiB\"); auto: what all slots can use at "
             "max_context, at most what weights leave free"},
    {"schedule", "share", KEY_BOOL, IN(schedule.share), PRESET("true"), .choices = truths,
     .help = "prompts that begin alike are read once; false only costs time"},
    {"schedule", "time_limit", KEY_SECONDS, IN(schedule.time_limit), PRESET("none"), RANGE(1, YEAR),
     .word = "none",
     .help = "stop after this long (\"23h50m\"), with exit status 75: the same command continues"},
    {"schedule", "step_timeout", KEY_SECONDS, IN(schedule.step_timeout), PRESET("10m"),
     RANGE(1, YEAR), .word = "none",
     .help =
         "a rank without a sign of life for so long, or a step that hangs, ends the job; what is "
         "finished stays"},

    {"speculate", "draft", KEY_CHOICE, IN(speculate.draft), PRESET("auto"), .choices = speculations,
     .help =
         "several tokens of a sequence in a step, where guesses at them come true; no completion "
         "changes. ngram: what followed its last tokens before; mtp: what the model's own MTP "
         "layers say; auto: one of them, where it pays; off"},
    {"speculate", "tokens", KEY_INT, IN(speculate.tokens), PRESET("4"), RANGE(1, 64),
     .help = "guesses at most, of a sequence in a step"},

    {"sampling", "temperature", KEY_REAL, IN(sampling.temperature), PRESET("0"), RANGE(0, 1000),
     .help = "0: always the likeliest token"},
    {"sampling", "top_k", KEY_INT, IN(sampling.top_k), PRESET("all"), RANGE(1, TOKENS_MAX),
     .word = "all", .help = "draw from the k likeliest tokens; all: from the vocabulary"},
    {"sampling", "top_p", KEY_REAL, IN(sampling.top_p), PRESET("1"), RANGE(1e-6, 1),
     .help = "draw from the likeliest tokens that have this much probability"},
    {"sampling", "seed", KEY_UINT64, IN(sampling.seed), PRESET("0"),
     .help = "of the random numbers: another seed, other samples"},
    {"sampling", "samples", KEY_INT, IN(sampling.samples), PRESET("1"), RANGE(1, ROWS_MAX),
     .help = "completions for every prompt"},
    {"sampling", "best_of", KEY_INT, IN(sampling.best_of), PRESET("none"), RANGE(1, ROWS_MAX),
     .word = "none",
     .help = "decode so many for every prompt and keep the `samples` whose tokens have the highest "
             "mean logprob, the best first"},
    {"sampling", "max_new_tokens", KEY_INT, IN(sampling.max_new_tokens), PRESET("256"),
     RANGE(0, TOKENS_MAX), .help = "a prompt's own max_new_tokens in the file goes first"},
    {"sampling", "stop", KEY_STOPS, IN(sampling.stop), PRESET("none"), .word = "none",
     .example = "[]",
     .help = "tokens that end a completion, by id or text: [5, \"<|end|>\"]; the model's own end "
             "token always does"},
    {"sampling", "min_p", KEY_REAL, IN(sampling.min_p), PRESET("0"), RANGE(0, 1),
     .help = "draw from tokens that are at least so likely, relative to the likeliest"},
    {"sampling", "min_tokens", KEY_INT, IN(sampling.min_tokens), PRESET("0"), RANGE(0, TOKENS_MAX),
     .help = "nothing ends a completion before so many tokens"},
    {"sampling", "include_stop", KEY_BOOL, IN(sampling.include_stop), PRESET("false"),
     .choices = truths, .help = "true: the text that stopped a completion stays in `text`"},
    {"sampling", "repetition_penalty", KEY_REAL, IN(sampling.repetition_penalty), PRESET("1"),
     RANGE(0.01, 100), .help = "for tokens of prompt and completion; 1: none"},
    {"sampling", "presence_penalty", KEY_REAL, IN(sampling.presence_penalty), PRESET("0"),
     RANGE(-100, 100), .help = "for tokens that the completion has"},
    {"sampling", "frequency_penalty", KEY_REAL, IN(sampling.frequency_penalty), PRESET("0"),
     RANGE(-100, 100), .help = "for each time that the completion has the token"},
    {"sampling", "logit_bias", KEY_JSON, IN(sampling.logit_bias), PRESET("none"), .word = "none",
     .help = "added to the logits of tokens, by id or text: {5: 1.5, \" noun\": -2}"},
    {"sampling", "ban", KEY_JSON, IN(sampling.ban), PRESET("none"), .word = "none", .max = 1,
     .help = "tokens and texts that must not come: [5, \"as an AI\"]"},
    {"sampling", "allow", KEY_JSON, IN(sampling.allow), PRESET("none"), .word = "none", .max = 1,
     .help = "only these tokens may come, by id or text"},
    {"sampling", "format", KEY_JSON, IN(sampling.format), PRESET("none"), .word = "none",
     .help = "what completions must be: {regex: text}, {choice: [texts]} or {json_schema: schema}"},
    {"sampling", "seed_from", KEY_CHOICE, IN(sampling.seed_from), PRESET("row"), .choices = seeds,
     .help = "what chance depends on besides the seed: the row, or the prompt (equal prompts then "
             "have equal completions)"},
    {"sampling", "thinking_tokens", KEY_INT, IN(sampling.thinking_tokens), PRESET("none"),
     RANGE(0, TOKENS_MAX), .word = "none", .word_value = -1,
     .help = "after so many tokens without it, thinking_end is forced"},
    {"sampling", "thinking_end", KEY_TEXT, IN(sampling.thinking_end), PRESET("auto"),
     .word = "auto",
     .help = "what ends the reasoning of a model; auto: </think>, if vocabulary or "
             "chat template know it"},
    {"sampling", "truncate_prompt", KEY_CHOICE, IN(sampling.truncate_prompt), PRESET("no"),
     .choices = truncations,
     .help = "a prompt that does not fit loses its left or right end, so that max_new_tokens can "
             "follow; no: it is an error row"},
    {"sampling", "repetition_stop", KEY_INT, IN(sampling.repetition_stop), PRESET("none"),
     RANGE(8, 65536), .word = "none",
     .help = "a completion ends when its last so many tokens are a run of at most a quarter as "
             "many, over and over; `finish` is then repetition"},
    {"sampling", "logprobs", KEY_INT, IN(sampling.logprobs), PRESET("0"), RANGE(0, 64),
     .help = "so many of the likeliest tokens are kept for every token of a completion"},
    {"sampling", "prompt_logprobs", KEY_INT, IN(sampling.prompt_logprobs), PRESET("false"),
     RANGE(0, 64), .choices = own_only,
     .help = "true (or 0): also the logprobs of the prompt's own tokens, or of its `continuation` "
             "alone; k: and the k likeliest tokens at each of their places"},
    {"sampling", "ignore_eos", KEY_BOOL, IN(sampling.ignore_eos), PRESET("false"),
     .choices = truths, .help = "true: nothing ends a completion early; for measurements"},

    {"", "score", KEY_BOOL, IN(score), PRESET("false"), .choices = truths,
     .help = "true, as `tandem score` does: prompt_logprobs, and nothing is generated"},
    {"", "trace", KEY_TEXT, IN(trace), PRESET("none"), .word = "none",
     .help = "a file for the timeline of every rank (open it in Perfetto)"},
    {"", "trace_steps", KEY_TEXT, IN(trace_steps), PRESET("all"), .word = "all",
     .help = "only these steps are in it: 100-200, counted from 0"},
};
const size_t keys_count = sizeof keys / sizeof *keys;
