/* quantization.c - quantization_config of a config.json. Which tensors are quantized, with how many
 * bits and in which groups, they say themselves (tensors.c, packed.c); here is refused what would
 * mean something else. */
#include "model/fields.h"

#include <stdio.h>
#include <string.h>

static void read_fp8(struct model *m, struct config *q)
{
    static const char *const lists[] = {"ignored_layers", "modules_to_not_convert", NULL};
    if (!json_object_get(q->fields, "weight_block_size"))
        config_wrong(q, "weight_block_size", "is missing: only blocks of [128,128] are supported");
    config_must_be(q, "fmt", "\"e4m3\" \"float8_e4m3fn\" null", "only \"e4m3\"");
    config_must_be(q, "weight_block_size", "[128,128]", "only blocks of [128,128]");
    config_must_be(q, "activation_scheme", "\"dynamic\"", "only \"dynamic\"");
    config_ignore(q, lists);
    m->fp8_blocks = true;
}

static void read_awq(struct config *q)
{
    static const char *const harmless[] = {"group_size", "q_group_size", "modules_to_not_convert",
                                           "do_fuse", NULL};
    config_must_be(q, "bits", "4", "only 4 bits");
    config_must_be(q, "w_bit", "4", "only 4 bits");
    config_must_be(q, "zero_point", "true", "only zero points of their own");
    config_must_be(q, "version", "\"gemm\" \"GEMM\"", "only \"gemm\"");
    config_must_be(q, "backend", "\"autoawq\" null", "only AutoAWQ's own files");
    config_ignore(q, harmless);
}

/* Where it is read (gpt_oss.c) all experts have it, and nothing else. */
static void read_mxfp4(struct config *q)
{
    static const char *const harmless[] = {"modules_to_not_convert", NULL};
    config_must_be(q, "dequantize", "false null", "only false");
    config_ignore(q, harmless);
}

/* An object that must be there. */
static bool open_object(struct config *inner, struct config *c, const char *field,
                        char path[FIELDS_INSIDE])
{
    if (!fields_value(c, field))
        config_wrong(c, field, "must be an object");
    return fields_open_inside(inner, c, field, path);
}

static void read_group_weights(struct config *group)
{
    static const char *const harmless[] = {
        "symmetric",       "group_size",  "block_structure", "observer",
        "observer_kwargs", "scale_dtype", "zp_dtype",        NULL};
    char path[FIELDS_INSIDE];
    struct config w;
    if (!open_object(&w, group, "weights", path))
        return;
    config_must_be(&w, "num_bits", "4 8", "only 4 and 8 bits");
    config_must_be(&w, "type", "\"int\" \"float\"", "only integers and FP8");
    config_must_be(&w, "strategy", "\"group\" \"channel\" \"block\"",
                   "only scales of groups, rows and blocks");
    config_must_be(&w, "actorder", "null \"weight\" \"static\"",
                   "only groups of neighbouring inputs");
    config_must_be(&w, "dynamic", "false null", "only false");
    config_ignore(&w, harmless);
    fields_close_inside(&w);
}

static void read_group(struct config *groups, const char *name)
{
    static const char *const harmless[] = {"targets", "format", NULL};
    static const char why[] = "only null: activations are not quantized";
    char path[FIELDS_INSIDE];
    struct config group;
    if (!open_object(&group, groups, name, path))
        return;
    read_group_weights(&group);
    config_must_be(&group, "input_activations", "null", why);
    config_must_be(&group, "output_activations", "null", why);
    config_ignore(&group, harmless);
    fields_close_inside(&group);
}

static void read_compressed(struct config *q)
{
    static const char *const harmless[] = {"ignore", "quantization_status",
                                           "global_compression_ratio", "version", NULL};
    char path[FIELDS_INSIDE];
    struct config groups;
    config_must_be(q, "format", "\"pack-quantized\" \"int-quantized\" \"float-quantized\"",
                   "only \"pack-quantized\", \"int-quantized\" and \"float-quantized\"");
    config_must_be(q, "kv_cache_scheme", "null", "only null");
    config_must_be(q, "sparsity_config", "null {}", "only null");
    config_must_be(q, "transform_config", "null {}", "only null");
    config_ignore(q, harmless);
    if (!open_object(&groups, q, "config_groups", path))
        return;
    for (void *at = json_object_iter((json_t *)groups.fields); at;
         at = json_object_iter_next((json_t *)groups.fields, at))
        read_group(&groups, json_object_iter_key(at));
    fields_close_inside(&groups);
}

void fields_quantization(struct model *m, struct config *c)
{
    char path[FIELDS_INSIDE];
    struct config q;
    if (!fields_open_inside(&q, c, "quantization_config", path))
        return;
    const char *method = json_string_value(json_object_get(q.fields, "quant_method"));
    config_get(&q, "quant_method");
    if (method && strcmp(method, "fp8") == 0)
        read_fp8(m, &q);
    else if (method && strcmp(method, "awq") == 0)
        read_awq(&q);
    else if (method && strcmp(method, "compressed-tensors") == 0)
        read_compressed(&q);
    else if (method && strcmp(method, "mxfp4") == 0)
        read_mxfp4(&q);
    else
        config_wrong(&q, "quant_method",
                     "is %.40s; only \"fp8\" with blocks of 128x128, \"awq\", "
                     "\"compressed-tensors\" and \"mxfp4\" are supported",
                     method ? method : "missing");
    fields_close_inside(&q);
}
