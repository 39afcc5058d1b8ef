/* block.h - a mechanism of attention: one constant table, in a file of its own.
 *
 * The table names the members of the mechanism's weights, the memory it works in, and the function
 * that runs it. Check, memory plan, load, release and `tandem generate` all walk the members; no
 * list of weights is kept a second time. A new mechanism is one such file.
 */
#ifndef TANDEM_MODEL_BLOCK_H
#define TANDEM_MODEL_BLOCK_H

#include "model/model.h"

/* A size that a tensor's shape is made of. */
enum tensor_dim {
    DIM_VOCAB,
    DIM_HIDDEN,
    DIM_Q_RANK,
    DIM_Q_IN,    /* what Q_UP reads: q_rank, or hidden */
    DIM_Q_WIDTH, /* heads x what a head's query has in the checkpoint */
    DIM_K_WIDTH, /* kv_heads x key_dim */
    DIM_V_WIDTH, /* kv_heads x value_dim */
    DIM_O_WIDTH, /* heads x a head's value */
    DIM_Q_NORM,  /* one head, or all */
    DIM_K_NORM,
    DIM_HEADS,
    DIM_KV_DOWN, /* MLA: latent and turning part */
    DIM_KV_RANK,
    DIM_KV_UP, /* MLA: heads x (nope + value) */
    DIM_NOPE,  /* MLA: a head's part that does not turn */
    DIM_VALUE, /* MLA: a head's value */
    DIM_EXPERTS,
    DIM_INTER,
    DIM_SHARED,
    DIM_MTP_IN, /* an embedding and a hidden state */
};

/* What a tensor is to arithmetic: decides its possible formats, and random weights. */
enum tensor_use {
    USE_TABLE,  /* embedding: numbers, never FP8 */
    USE_GAIN,   /* norm: likewise; model.gain_offset is added */
    USE_BIAS,   /* likewise */
    USE_ROUTER, /* likewise */
    USE_HEAD,   /* lm_head: likewise */
    USE_LINEAR, /* any format of weights */
};

/* What it becomes on the device. */
enum member_as {
    AS_F32,       /* float *: numbers */
    AS_MATRIX,    /* struct weight * */
    AS_TABLE,     /* struct weight *, only gathered from */
    AS_HEADS,     /* struct weight_heads *: a matrix for every head */
    AS_HEAD_KEYS, /* the same of KV_UP: a head's key rows, transposed */
    AS_HEAD_VALUES /* the same of KV_UP: a head's value rows */,
    AS_FFN, /* nothing by itself: experts are packed together (weights.c) */
};

/* Two members of the same tensor stand one after the other: two views of it. */
struct member {
    enum model_tensor tensor;
    enum tensor_use use;
    enum member_as as;
    size_t at; /* where its pointer is in the struct of weights */
    bool (*wanted)(const struct model *m, const struct layer_spec *l); /* NULL: always */
    int dims;
    enum tensor_dim dim[3]; /* of experts: [experts][..][..] */
};

#define BLOCK_BUFFERS 6

/* Everything a mechanism works with for one micro-batch in one layer. */
struct pass {
    const struct backend *backend;
    struct device *device;
    struct stream *stream;
    enum dtype act;
    const struct model *model;
    const struct layer_spec *layer;
    const void *weights; /* the mechanism's struct */
    const float *angles; /* device */
    struct kv *kv;       /* the layer's cache */
    const struct attn_batch *batch;
    void *h;                     /* act [rows][H]: the normed input */
    void *buffer[BLOCK_BUFFERS]; /* as large as bytes() asked for, or larger */
    float *out;                  /* [rows][H]: what the layer adds to the residual stream */
};

struct block {
    const char *name;
    const struct member *members;
    size_t n_members, weights_size;
    /* Bytes of every buffer for `rows` rows; act: bytes of an activation. Unused ones are 0. */
    void (*bytes)(const struct model *m, const struct layer_spec *l, size_t rows, size_t act,
                  size_t bytes[BLOCK_BUFFERS]);
    void (*run)(const struct pass *p);
};

extern const struct block block_qkv, block_mla;

/* ---- all tensors of a model (members.c) ------------------------------------------------------ */

/* What stands beside the mechanism in every layer, and what is there once. */
struct layer_weights {
    float *input_norm, *post_norm; /* device f32 [H] */
    float *router, *router_bias; /* device f32 [experts][H], [experts]; NULL where there is none */
    void *block;                 /* the mechanism's struct */
};

/* What an MTP layer has besides. */
struct mtp_weights {
    float *embed_norm, *hidden_norm, *norm; /* device f32 [H] */
    struct weight *proj;                    /* [H][2H] */
    struct weight *head;                    /* [V][H]; NULL: lm_head */
};

struct model_weights {
    struct weight *embed, *lm_head; /* table; [V][H] */
    float *final_norm;              /* device f32 [H] */
};

struct members {
    const struct member *list;
    size_t n;
};
extern const struct members model_members, layer_members, ffn_members, mtp_members;

/* Calls visit for every tensor of the model in turn; `layer` is 0 for those that are there once. */
typedef void (*member_visit)(void *context, const struct member *member, size_t layer);
void members_visit(const struct model *m, member_visit visit, void *context);
/* The same of its MTP layers. */
void members_visit_mtp(const struct model *m, member_visit visit, void *context);

/* A tensor's shape in a layer; returns how many dimensions. */
int member_shape(const struct model *m, const struct member *member, size_t layer, size_t shape[3]);

#endif
