/* generate.h - `tandem generate`: a checkpoint with random weights.
 *
 * For measuring without downloading hundreds of gigabytes, and for tests. The result is a Hugging
 * Face directory like any other: config.json, safetensors files (with an index when there are
 * several), and the tokenizer of another directory if asked for. What such a model writes is
 * nonsense, but its activations are finite and of ordinary size and its logits have a clear first.
 *
 * The weights are a pure function of shape, seed and dtype: the same files on every machine, with
 * any number of threads and any file size. Written in strips, so memory stays below some 20 MB for
 * each thread. One process; not part of a job.
 */
#ifndef TANDEM_MODEL_GENERATE_H
#define TANDEM_MODEL_GENERATE_H

#include "base/dtype.h"
#include "base/err.h"
#include "model/family.h"
#include "model/generate_packed.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GENERATE_SETTINGS 40 /* room for all of them */

struct generate_options {
    /* Made when missing (its parent must exist); has no config.json yet. A name that ends in .gguf: one
     * GGUF file, which is not there. */
    const char *directory;
    const char *tokenizer;          /* directory whose tokenizer files are copied; NULL: none */
    struct family_sizes model;      /* the shape, and the family it is for */
    bool chosen[GENERATE_SETTINGS]; /* by generate_set(), in the order of generate_names() */
    bool ignore_unused;             /* settings that the family has no use for are no error */
    enum dtype dtype; /* linears: f32, bf16, or fp8 with 128x128 block scales (the rest bf16) */
    const struct codec *blocks; /* GGUF: the format of linears, in place of dtype; NULL: dtype */
    enum packing
        packing; /* linears whose sizes allow it, MXFP4: experts; dtype is that of the rest */
    uint64_t seed;
    size_t file_bytes; /* a file is not made larger than this, unless by a single tensor */
    int threads;       /* 0: as many as OpenMP would take */
};

/* A middle-sized Step-3: hidden 2048, 6 layers of which 1 to 4 have 48 experts (top 3, intermediate
 * 1024, one shared expert of 1024), dense intermediate 4096, 64 heads of 256, q rank 512, 4096
 * tokens of vocabulary, context 4096; bf16, 1.56e9 parameters (3.1 GB), seed 1, files of 1 GiB. */
void generate_defaults(struct generate_options *o);

/* One setting by name, as on the command line: family (a name of family_all(); what nobody chose becomes
 * what is usual in it), hidden, layers, vocab, context, heads, kv_heads, head_dim,
 * q_rank, kv_rank, nope_dim, rope_dim, value_dim, window, dense, experts, topk, expert, shared (0:
 * none), groups, topk_groups, moe_layers ("1-4,7"), renormalize, tied (true, false), limit,
 * rope_theta, rope_factor, eos, dtype (f32, bf16, fp8; awq, int4, int8: packed, the rest bf16; mxfp4: experts of
 * gpt_oss, whose default it is in safetensors; of GGUF f16 and q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k
 * iq4_nl iq4_xs mxfp4), seed, file_mb, threads, unused (error, ignore: see generate_used()). moe_layers that
 * are not set are the family's. Returns -1 for an unknown name or a value that is none. `tokenizer` and
 * `directory` are set directly. */
int generate_set(struct generate_options *o, const char *name, const char *value, struct err *e);

/* All names that generate_set() knows, NULL at the end. */
const char *const *generate_names(void);

/* Is every setting that generate_set() got found again in `m`, the model that comes of them? Or does the
 * family have nothing of the kind, as llama has no window? Values that say what the family does anyway (0,
 * false, a rope_factor or groups of 1; of renormalize the one that `m` has) always pass, and with ignore_unused
 * everything does, so that one list of settings can serve several families. */
int generate_used(const struct generate_options *o, const struct model *m, struct err *e);

/* Parameters and bytes on disk of what generate_checkpoint() would write. */
size_t generate_parameters(const struct generate_options *o);
size_t generate_bytes(const struct generate_options *o);

/* Writes the checkpoint; config.json comes last, so that half a checkpoint is none. Errors: a shape
 * that no model has, settings without a use, a directory that holds a model already, no space, what the system says. */
int generate_checkpoint(const struct generate_options *o, struct err *e);

#endif
