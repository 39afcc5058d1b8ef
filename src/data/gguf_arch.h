/* gguf_arch.h - one architecture of GGUF files: what its metadata mean and what its tensors are called.
 *
 * One constant table an architecture, in a file of its own, which says it in the words of Hugging Face's files;
 * what these mean is the family's business (model/family.h). A new architecture is a new file and a line in
 * gguf_view.c. Internal to data, but for the names, which a writer of such files asks for.
 */
#ifndef TANDEM_DATA_GGUF_ARCH_H
#define TANDEM_DATA_GGUF_ARCH_H

#include "data/gguf_view.h"

/* How tensors there become tensors here. */
enum gguf_change {
    GGUF_AS_IS,
    GGUF_EXPERTS, /* [E][..][..], in pieces for every expert */
    GGUF_QKV,     /* rows of q, then k, then v */
    GGUF_GATE_UP, /* [E][2 I][H]: gate rows first; likewise in pieces */
};

/* gguf: what follows "blk.N."; hf: what follows "model.layers.N."; # stands for the number of an expert. */
struct gguf_rule {
    const char *gguf, *hf;
    enum gguf_change change;
};

/* What several architectures have; NULL names at the end. */
extern const struct gguf_rule
    gguf_every_layer[]; /* norms, output of attention, dense MLP, queries */
extern const struct gguf_rule gguf_keys_values[]; /* projections of both */
extern const struct gguf_rule gguf_head_norms[];
extern const struct gguf_rule gguf_biases[];  /* of q, k and v */
extern const struct gguf_rule gguf_experts[]; /* under mlp, one by one */
extern const struct gguf_rule
    gguf_shared[]; /* expert and bias of the router, as DeepSeek names them */
extern const struct gguf_rule gguf_mtp[]; /* likewise */

#define GGUF_RULES_MAX 8

/* What the functions that read metadata pass on. The first thing that is wrong is kept. */
struct gguf_builder {
    const struct gguf *g;
    const struct gguf_arch *arch;
    json_t *out; /* as config.json */
    char *note;  /* [256] what was repaired, for the user */
    struct err *e;
    bool failed;
};

struct gguf_arch {
    const char *name, *model_type; /* general.architecture, and what config.json calls it */
    bool rope_freqs;               /* may have that tensor; what it holds is put in the config */
    bool row_pairs;                /* rows of q and k that turn together stand side by side */
    /* Control tokens that end a completion beside eos_token_id, by their texts; NULL: those of most models. */
    const char *const *ends;
    const struct gguf_rule
        *rules[GGUF_RULES_MAX];             /* the first that fits counts; NULL behind the last */
    void (*config)(struct gguf_builder *b); /* puts what gguf_view_config() has not put yet */
};

extern const struct gguf_arch gguf_llama, gguf_qwen3, gguf_qwen3moe, gguf_step35, gguf_gpt_oss,
    gguf_deepseek2, gguf_glm4moe, gguf_minimax_m2;

/* Of general.architecture; NULL after the error. */
const struct gguf_arch *gguf_arch_of(const struct gguf *g, struct err *e);

/* Of a config.json's model_type; NULL: there is none. */
const struct gguf_arch *gguf_arch_find(const char *model_type);

/* What a tensor is called there, without "blk.N."; hf: `length` bytes, as in struct gguf_rule, or the whole name
 * of one that is there once. NULL: it has none. */
const char *gguf_arch_name(const struct gguf_arch *arch, const char *hf, size_t length);

/* ---- metadata (gguf_config.c) ---------------------------------------------------------------- */

/* Key "<architecture>.<name>" as an integer of 0 or more; _at: that of a layer where it is a list. absent: what
 * counts when it is not there; below 0: it must be. */
int64_t gguf_integer_key(struct gguf_builder *b, const char *name, int64_t absent);
int64_t gguf_integer_key_at(struct gguf_builder *b, const char *name, size_t layer, int64_t absent);
double gguf_number_key(struct gguf_builder *b, const char *name, double absent);
double gguf_number_key_at(struct gguf_builder *b, const char *name, size_t layer, double absent);

/* Of a key without its "<architecture>.", of a tensor. */
void gguf_wrong(struct gguf_builder *b, const char *name, const char *what);
void gguf_wrong_tensor(struct gguf_builder *b, const char *name, const char *what);

/* A field of config.json; `value` is taken. */
void gguf_put(struct gguf_builder *b, const char *field, json_t *value);
void gguf_put_integer(struct gguf_builder *b, const char *field, int64_t value);
/* One that was put; 0: it was not. */
int64_t gguf_put_before(const struct gguf_builder *b, const char *field);

/* Keys and values of one width, which it returns. */
int64_t gguf_put_head_dim(struct gguf_builder *b);
/* That, and heads of keys and values, and rotation; whole: all of a head must turn. Returns how much does. */
int64_t gguf_put_heads(struct gguf_builder *b, bool whole);
/* Theta and yarn. */
void gguf_put_rope(struct gguf_builder *b);
/* How many experts there are, how many a token gets, and how wide one is, in these fields. */
void gguf_put_experts(struct gguf_builder *b, const char *experts, const char *topk,
                      const char *width);
/* Experts are scored by a sigmoid; absent: the function of files that do not say it (2: a sigmoid). */
void gguf_want_sigmoid(struct gguf_builder *b, int64_t absent);
/* Experts chosen by a sigmoid, in DeepSeek's fields; groups: what counts when the file does not say. */
void gguf_put_sigmoid(struct gguf_builder *b, int64_t groups, int64_t topk_groups);

/* Fills v->config and v->note; then v->tensors. */
int gguf_view_config(struct gguf_view *v, const struct gguf_arch *arch, struct err *e);
int gguf_view_tensors(struct gguf_view *v, const struct gguf_arch *arch, struct err *e);

#endif
