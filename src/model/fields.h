/* fields.h - fields of config.json that several families share, and writing them back.
 *
 * As config.h: the first thing that is wrong is kept, everything after it is ignored.
 */
#ifndef TANDEM_MODEL_FIELDS_H
#define TANDEM_MODEL_FIELDS_H

#include "base/config.h"
#include "model/family.h"

#define DIM_MAX     (1u << 20) /* any one size, heads x head_dim included: far above any model */
#define CONTEXT_MAX (1u << 24)
#define VOCAB_MAX   (1u << 24)
#define EXPERTS_MAX 1024 /* what the kernels have room for when they choose */

/* The field's value when it is there and not null. */
const json_t *fields_value(struct config *c, const char *field);

/* The object of that field as a config of its own; false when it is absent, null or wrong (an error then).
 * inside: the text that its messages begin with, which lives until fields_close_inside(). */
#define FIELDS_INSIDE 96
bool fields_open_inside(struct config *inner, struct config *c, const char *field,
                        char inside[FIELDS_INSIDE]);
void fields_close_inside(struct config *inner);

/* Which layers of a random model have experts (family.h, moe): none, all, all but the first. */
bool fields_moe_none(const struct family_sizes *s, size_t layer);
bool fields_moe_all(const struct family_sizes *s, size_t layer);
bool fields_moe_later(const struct family_sizes *s, size_t layer);

/* True or false; absent or null: otherwise. */
bool fields_bool(struct config *c, const char *field, bool otherwise);

/* hidden_size, num_hidden_layers, vocab_size, rms_norm_eps. */
void fields_sizes(struct model *m, struct config *c, double eps);

/* What config.json of every family has: sizes, context, tokens, quantization, layers that draft,
 * tying, and what is harmless. eps, context: when the file does not say. */
void fields_common(struct model *m, struct config *c, double eps, size_t context);

/* bos_token_id and eos_token_id (a token or a list): only fill what is not filled yet. vocab must be
 * known. */
void fields_tokens(struct model *m, struct config *c);

/* quantization_config: FP8 with blocks of 128 x 128, AWQ, compressed-tensors, or none. Which tensors
 * are quantized they say themselves, so lists of modules left out are not needed. */
void fields_quantization(struct model *m, struct config *c);

/* rope_theta, rope_scaling and rope_parameters, with plain rotation, llama3 or yarn. share: of a
 * head's dim numbers, when no field says partial_rotary_factor. */
void fields_rope(struct rope_spec *r, struct config *c, size_t dim, double share, double theta);
/* The two halves of it, for families with rules of their own. */
void fields_rope_scaling(struct rope_spec *r, struct config *c, const char *field, size_t dim);
struct rope_spec fields_plain_rope(size_t dim, double theta);

/* The layers that a string like "4,5,6" or a list names. */
void fields_layers(struct config *c, const char *field, const json_t *value, size_t layers,
                   bool named[MODEL_MAX_LAYERS]);

/* num_attention_heads, num_key_value_heads and head_dim (hidden / heads when absent), checked
 * against each other; scale D^-0.5, all of a head turns. */
void fields_heads(struct attention_spec *a, struct config *c, size_t hidden,
                  const char *kv_heads_field);

/* Grouped queries in layer 0: heads, and the one table of angles; share and theta as above. */
struct attention_spec *fields_grouped_attention(struct model *m, struct config *c, double share,
                                                double theta);

/* Every token sees all before it, in every layer, whatever field says so. */
void fields_full_attention(struct config *c);
/* Projections have no bias. */
void fields_no_bias(struct config *c);

/* All layers become as layer 0 is. */
void fields_same_layers(struct model *m);

/* A router's experts and topk by these names. */
void fields_experts(struct router_spec *r, struct config *c, const char *experts, const char *topk);

/* DeepSeek's experts: a sigmoid with a bias that only chooses, groups, a shared expert; in all layers
 * but the first ones (`dense` of them when no field says), which have layer 0's dense MLP. The
 * attention of layer 0 becomes that of all. */
void fields_sigmoid_experts(struct model *m, struct config *c, size_t dense);

/* Fields without a say in what a text decoder computes, and those that mean the default. */
void fields_harmless(struct config *c);

/* ---- writing -------------------------------------------------------------------------------- */

/* What every config.json has: architecture, model_type, sizes, tokens, dtype, quantization. */
json_t *fields_write(const struct family_sizes *s, enum dtype dtype, const char *architecture,
                     const char *model_type);
void fields_set_size(json_t *j, const char *field, size_t n);
void fields_set_number(json_t *j, const char *field, double x);
void fields_set_bool(json_t *j, const char *field, bool yes);
void fields_set_text(json_t *j, const char *field, const char *text);

/* How many shared experts are as wide as `shared` together, for families that count them. */
size_t fields_shared_experts(const struct family_sizes *s);

/* The short decimal that stands for the float: 1e-05, not 9.99999974737875e-06. */
double fields_decimal(float f);

#endif
