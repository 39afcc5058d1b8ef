/* model.h - the description of a model: what config.json says, in one struct.
 *
 * Every family (Step-3 today) fills the same struct from its own config fields and names its own
 * tensors; nothing above this folder knows a family. Made by every rank at start, read-only after.
 */
#ifndef TANDEM_MODEL_MODEL_H
#define TANDEM_MODEL_MODEL_H

#include "base/err.h"
#include "kernels/ops.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_MAX_LAYERS 512
#define MODEL_MAX_EOS    8

enum attention_kind {
    ATTENTION_MFA, /* q = Wq norm(Wqd x), one shared K and V head (paper section 4) */
};

struct model {
    char family[32]; /* "step3" */
    enum attention_kind attention;
    size_t hidden; /* H */
    size_t layers;
    size_t vocab;   /* V */
    size_t context; /* longest sequence, prompt and completion together */
    size_t heads, kv_heads, head_dim;
    size_t q_rank; /* width of the q down-projection (share_q_dim) */
    size_t dense_inter, expert_inter, shared_inter; /* intermediate sizes; shared_inter 0: none */
    struct router_spec router;                      /* experts and topk included */
    struct attn_spec attn;
    bool moe[MODEL_MAX_LAYERS]; /* is layer l a mixture of experts? */
    bool tied;                  /* lm_head is embed_tokens */
    float norm_eps;
    double rope_theta;
    int32_t bos; /* -1: none */
    int32_t eos[MODEL_MAX_EOS];
    int n_eos;
    bool fp8_blocks; /* linears are e4m3 with 128x128 block scales (quantization_config) */
};

/* The tensors a decoder layer or the model has, whatever the family calls them. */
enum model_tensor {
    TENSOR_EMBED,
    TENSOR_FINAL_NORM,
    TENSOR_LM_HEAD,
    TENSOR_INPUT_NORM,
    TENSOR_Q_DOWN,
    TENSOR_INTER_NORM,
    TENSOR_Q_UP,
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
    TENSOR_EXPERT_DOWN, /* [experts][..][..] */
    TENSOR_SHARED_GATE,
    TENSOR_SHARED_UP,
    TENSOR_SHARED_DOWN,
    TENSOR_KINDS,
};

/* Reads `<directory>/config.json`. Every field that changes the result is known or an error; a
 * missing one is an error unless the family has a default. Messages name file and field. */
int model_read(struct model *m, const char *directory, struct err *e);

struct checkpoint;
struct tensor;

/* Checks the whole checkpoint against the description, in one call, before anything is loaded:
 * every tensor the model needs is there with its shape and a known dtype (and weight_scale_inv for
 * FP8), and no tensor of the decoder is left over; vision tensors are skipped. */
int model_check(const struct model *m, const struct checkpoint *c, struct err *e);

/* The tensor of that kind; layer is ignored for the model's own. Only after model_check(). scale
 * (may be NULL) is set to its weight_scale_inv tensor or NULL. */
const struct tensor *model_tensor(const struct model *m, const struct checkpoint *c,
                                  enum model_tensor kind, size_t layer,
                                  const struct tensor **scale);

#endif
