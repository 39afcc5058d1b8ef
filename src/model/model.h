/* model.h - the description of a model: what config.json says, in one struct.
 *
 * A model is a list of layers, and a layer is two specs: how it attends, and its FFN. Every family
 * fills the same struct from its own config fields and names its own tensors; nothing above this
 * folder knows a family. Made by every rank at start, read-only after.
 */
#ifndef TANDEM_MODEL_MODEL_H
#define TANDEM_MODEL_MODEL_H

#include "base/err.h"
#include "kernels/ops.h"
#include "model/rope.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_MAX_LAYERS 512
#define MODEL_MAX_EOS    8
#define MODEL_MAX_ROPES  4
#define MODEL_MAX_CACHES 4
#define MODEL_MAX_MTP    16 /* MTP layers, and drafts that they make */

/* Norms of queries and keys, before they turn: of every head by itself, or of all heads as one. */
enum head_norm { HEAD_NORM_NONE, HEAD_NORM_EACH, HEAD_NORM_ALL };

struct attention_spec {
    const struct block *block; /* which mechanism computes it (model/block.h) */
    struct attn_spec attn; /* heads, widths, window, scale, what turns; sinks NULL (block_qkv.c) */
    size_t q_rank;         /* width of the q down-projection; 0: q comes straight from x */
    size_t kv_rank;        /* MLA: width of the latent keys and values */
    size_t nope_dim, head_value_dim; /* MLA: a head's part that does not turn; its value */
    bool kv_split; /* MLA: the checkpoint has KEY_UP and VALUE_UP in the place of KV_UP */
    enum head_norm norm;
    bool head_gate; /* a head's result x sigmoid(g x) */
    bool bias;      /* of q, k and v */
    bool out_bias;  /* of o */
    bool sinks;     /* one a head (struct attn_spec) */
    int rope;       /* the table of angles in model.ropes */
    int cache;      /* by model_finish(): the KV cache in model.caches, and the place in it */
    int cache_layer;
};

struct ffn_spec {
    size_t inter;              /* intermediate size of a routed expert, or of the dense MLP */
    size_t shared_inter;       /* of the shared expert; 0: none */
    struct router_spec router; /* experts 0: a dense layer */
    bool router_bias;          /* a bias that is for the choice only, or as router says */
    bool expert_bias;          /* of gate, up and down of the routed experts */
    float limit, shared_limit; /* of the experts (or the dense MLP), of the shared one; 0: none */
    float alpha;               /* of the experts (struct mlp_part) */
};

struct layer_spec {
    struct attention_spec attention;
    struct ffn_spec ffn;
};

/* MTP layers (multi-token prediction) stand behind the others: each is a decoder layer whose input is
 * made of the hidden state of a token and the embedding of a later one, and guesses one token more.
 * They only make drafts. */
struct mtp_spec {
    size_t
        layers; /* described in layer[model.layers ...]; 0: there are none, or they are skipped */
    bool
        normed; /* hidden states are taken behind the norm that the head has before it, else before */
    bool own_head; /* each has one; else it is lm_head */
};

struct model {
    char family[32]; /* "step3" */
    size_t hidden;   /* H */
    size_t layers;
    /* V: tokens that prompts have and that can be drawn. Embeddings of real models are padded: what
     * is behind the tokenizer's last token is neither loaded nor drawn (roles/inputs.c cuts V). */
    size_t vocab;
    size_t embed_rows; /* vocab_size, of embed_tokens and lm_head: V or more */
    size_t context;    /* longest sequence, prompt and completion together */
    struct layer_spec layer[MODEL_MAX_LAYERS + MODEL_MAX_MTP];
    struct rope_spec ropes[MODEL_MAX_ROPES];
    int n_ropes;
    size_t mtp_layers; /* behind the others in the checkpoint, whether they are used or not */
    struct mtp_spec mtp;
    /* Drafts of a sequence in a step: the i-th is made by layer[layers + i], whose weights are those of
     * MTP layer i, or of the last one, which is used again. Set by model_use_mtp(); 0: none is loaded. */
    size_t drafts;
    bool tied; /* lm_head is embed_tokens */
    float norm_eps;
    float gain_offset; /* added to the gains of all norms: 1 where they are stored around 0 */
    int32_t bos;       /* -1: none */
    int32_t eos[MODEL_MAX_EOS];
    int n_eos;
    char ignored[400]; /* the ignored fields and their values, for people; "": none */
    bool fp8_blocks;   /* linears may be e4m3 with 128x128 block scales (quantization_config) */

    /* What follows from the layers, by model_finish(). */
    struct kv_shape caches[MODEL_MAX_CACHES]; /* blocks: 0 */
    int n_caches;
    bool moe[MODEL_MAX_LAYERS + MODEL_MAX_MTP]; /* is layer l a mixture of experts? */
    struct model_most {                         /* the largest of any layer */
        size_t heads, head_dim, q_width, inter, shared_inter, dense_inter, experts, topk;
    } most;
};

/* The tensors a decoder layer or the model has, whatever the family calls them. New ones come last:
 * random checkpoints depend on the numbers. */
enum model_tensor {
    TENSOR_EMBED,
    TENSOR_FINAL_NORM,
    TENSOR_LM_HEAD,
    TENSOR_INPUT_NORM,
    TENSOR_Q_DOWN,
    TENSOR_INTER_NORM, /* of what Q_DOWN gives */
    TENSOR_Q_UP,       /* from it, or from x where there is no Q_DOWN */
    TENSOR_K,
    TENSOR_V,
    TENSOR_O,
    TENSOR_POST_NORM,
    TENSOR_DENSE_GATE,
    TENSOR_DENSE_UP,
    TENSOR_DENSE_DOWN,
    TENSOR_ROUTER,
    TENSOR_EXPERT_GATE,
    TENSOR_EXPERT_UP,
    TENSOR_EXPERT_DOWN,
    TENSOR_SHARED_GATE,
    TENSOR_SHARED_UP,
    TENSOR_SHARED_DOWN,
    TENSOR_Q_NORM,
    TENSOR_K_NORM,
    TENSOR_HEAD_GATE,
    TENSOR_ROUTER_BIAS,
    TENSOR_Q_BIAS,
    TENSOR_K_BIAS,
    TENSOR_V_BIAS,
    TENSOR_KV_DOWN, /* MLA: latent keys and values, and the part of the key that turns */
    TENSOR_KV_NORM,
    TENSOR_KV_UP,           /* MLA: from the latent to the keys and values of every head */
    TENSOR_MTP_EMBED_NORM,  /* of the later token's embedding, */
    TENSOR_MTP_HIDDEN_NORM, /* and of the hidden state; */
    TENSOR_MTP_PROJ,        /* from both, the embedding first, to the layer's input */
    TENSOR_MTP_NORM,        /* before its head */
    TENSOR_MTP_HEAD,
    TENSOR_KEY_UP, /* MLA, for every head a matrix: from what does not turn of a query to the latent */
    TENSOR_VALUE_UP, /* and from the latent to the head's value */
    TENSOR_O_BIAS,
    TENSOR_SINKS,
    TENSOR_EXPERT_GATE_BIAS, /* [experts][..], as the next two */
    TENSOR_EXPERT_UP_BIAS,
    TENSOR_EXPERT_DOWN_BIAS,
    TENSOR_KINDS,
};

/* Reads `<directory>/config.json`, or a GGUF file. Every field that
 * changes the result is known or an error; a missing one is an error unless the family has a
 * default. ignore: an array of fields that count as absent, at the user's own risk (base/config.h), or
 * NULL; one that is not there is an error. Messages name file and field. */
int model_read(struct model *m, const char *directory, const json_t *ignore, struct err *e);

/* The same from the object itself; `file` is what messages call it. */
int model_read_config(struct model *m, const json_t *config, const char *file, const json_t *ignore,
                      struct err *e);

/* Derives caches, moe and most. Layers and ropes are filled. -1: more kinds of caches than there is
 * room for. */
int model_finish(struct model *m, struct err *e);

/* Has the MTP layers make so many drafts: caches, moe and most cover them from now on. Once, after
 * model_finish(); there are MTP layers. */
int model_use_mtp(struct model *m, size_t drafts, struct err *e);

/* MTP layers that are loaded, and the layer that has the weights of `layer`, which may be a draft's. */
size_t model_mtp_loaded(const struct model *m);
size_t model_weights_of(const struct model *m, size_t layer);

struct checkpoint;

/* Are there tensors of MTP layers? Copies of a model often leave them out. */
bool model_has_mtp(const struct model *m, const struct checkpoint *c);

/* Checks the whole checkpoint against the description, in one call, before anything is loaded:
 * every tensor the model needs is there with its shape and a known format (and weight_scale_inv for
 * FP8), and no tensor of the decoder is left over; vision tensors are skipped, and MTP layers when none
 * is described or the checkpoint has none. */
int model_check(const struct model *m, const struct checkpoint *c, struct err *e);

#endif
