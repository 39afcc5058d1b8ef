/* llama.c - Llama, and models of its architecture: what its config.json means and what its tensors
 * are called.
 */
#include "model/block.h"
#include "model/fields.h"
#include "model/names.h"

static const char *const model_types[] = {"llama", NULL};

/* Angles that old files store: they follow from the config. */
static const char *const skipped[] = {"model.rotary_emb.", NULL};

static const char *const names[TENSOR_KINDS] = {
    NAMES_MODEL, NAMES_NORMS, NAMES_Q_K_V, NAMES_Q_K_V_BIAS, NAMES_O, NAMES_DENSE,
};

static void read_config(struct model *m, struct config *c)
{
    fields_common(m, c, 1e-6, 2048);
    struct attention_spec *a = fields_grouped_attention(m, c, 1, 10000);
    if (config_bool_or(c, "rope_interleaved", false)) /* GGUF: rows of q and k are in pairs */
        a->attn.pairs = ROPE_NEIGHBORS;
    fields_no_bias(c);
    fields_full_attention(c);
    m->layer[0].ffn.inter = config_size(c, "intermediate_size", 1, DIM_MAX);
    fields_same_layers(m);
}

static void defaults(struct family_sizes *s)
{
    s->kv_heads = 4;
}

static json_t *write_config(const struct family_sizes *s, enum dtype dtype)
{
    json_t *j = fields_write(s, dtype, "LlamaForCausalLM", "llama");
    fields_set_size(j, "num_key_value_heads", s->kv_heads);
    fields_set_size(j, "head_dim", s->head_dim);
    fields_set_size(j, "max_position_embeddings", s->context);
    fields_set_number(j, "rope_theta", s->rope_theta);
    if (s->rope_factor > 1)
        json_object_set_new(j, "rope_scaling",
                            json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor",
                                      s->rope_factor, "low_freq_factor", 1.0, "high_freq_factor",
                                      4.0, "original_max_position_embeddings",
                                      (int)((double)s->context / s->rope_factor)));
    return j;
}

const struct family family_llama = {
    .name = "llama",
    .published = "Llama 2 and 3, SmolLM2, and others of that architecture",
    .model_types = model_types,
    .layer_prefix = "model.layers.",
    .names = names,
    .skipped = skipped,
    .read = read_config,
    .defaults = defaults,
    .moe = fields_moe_none,
    .write = write_config,
};
