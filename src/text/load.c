#include "text/load.h"

#include "base/config.h"
#include "base/files.h"
#include "base/hash.h"
#include "text/load_model.h"
#include "text/load_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The pattern of ByteLevel with use_regex: GPT-2's. */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static int add_regex(const struct loader *l, const char *field, const char *regex, bool literal,
                     enum split_behavior behavior, bool invert)
{
    struct pattern *p;
    int rc = literal ? pattern_compile_literal(&p, regex, l->e) : pattern_compile(&p, regex, l->e);
    if (rc != 0)
        return err_prefix(l->e, "%s: %s.pattern", l->path, field);
    split_add_pattern(l->parts->split, p, behavior, invert);
    return 0;
}

static int load_split(const struct loader *l, json_t *stage, const char *field)
{
    static const char *const behaviors[] = {
        [SPLIT_ISOLATED] = "Isolated",
        [SPLIT_REMOVED] = "Removed",
        [SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
        [SPLIT_CONTIGUOUS] = "Contiguous",
    };
    json_t *pattern = json_object_get(stage, "pattern");
    json_t *regex = json_object_get(pattern, "Regex"), *string = json_object_get(pattern, "String");
    const char *behavior = json_string_value(json_object_get(stage, "behavior"));
    const char *text = json_string_value(regex ? regex : string);
    bool invert;
    if (load_value_keys(l, stage, field, "type pattern behavior invert") != 0 ||
        load_value_bool(l, stage, field, "invert", -1, &invert) != 0)
        return -1;
    if (!text || json_object_size(pattern) != 1)
        return load_value_wrong(l, "wanted {\"Regex\": \"...\"} or {\"String\": \"...\"}",
                                "%s.pattern", field);
    for (size_t i = 0; i < sizeof behaviors / sizeof behaviors[0] && behavior; i++)
        if (strcmp(behavior, behaviors[i]) == 0)
            return add_regex(l, field, text, !regex, (enum split_behavior)i, invert);
    return load_value_wrong(
        l, "wanted one of Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous",
        "%s.behavior", field);
}

static int load_byte_level(const struct loader *l, json_t *stage, const char *field)
{
    bool prefix, use_regex, trim;
    if (load_value_keys(l, stage, field, "type add_prefix_space trim_offsets use_regex") != 0 ||
        load_value_bool(l, stage, field, "add_prefix_space", -1, &prefix) != 0 ||
        load_value_bool(l, stage, field, "trim_offsets", 1, &trim) != 0 ||
        load_value_bool(l, stage, field, "use_regex", 1, &use_regex) != 0)
        return -1;
    if (prefix)
        split_add_prefix_space(l->parts->split);
    return use_regex ? add_regex(l, field, gpt2_pattern, false, SPLIT_ISOLATED, false) : 0;
}

static int load_digits(const struct loader *l, json_t *stage, const char *field)
{
    bool individual;
    if (load_value_keys(l, stage, field, "type individual_digits") != 0 ||
        load_value_bool(l, stage, field, "individual_digits", -1, &individual) != 0)
        return -1;
    return add_regex(l, field, "\\p{N}", false, individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS,
                     false);
}

/* One stage; the last must be ByteLevel, and only the last. */
static int load_stage(const struct loader *l, json_t *stage, const char *field, bool last)
{
    const char *type = load_value_type(l, stage, field);
    if (!type)
        return -1;
    if (last != (strcmp(type, "ByteLevel") == 0))
        return load_value_unsupported(
            l, field, type,
            "Split and Digits, and ByteLevel as the last stage, which must be there");
    if (last)
        return load_byte_level(l, stage, field);
    if (strcmp(type, "Split") == 0)
        return load_split(l, stage, field);
    if (strcmp(type, "Digits") == 0)
        return load_digits(l, stage, field);
    return load_value_unsupported(l, field, type, "Split, Digits, ByteLevel (last)");
}

static int load_pre_tokenizer(const struct loader *l, json_t *value)
{
    l->parts->split = split_new();
    const char *type = load_value_type(l, value, "pre_tokenizer");
    if (!type)
        return -1;
    if (strcmp(type, "Sequence") != 0)
        return load_stage(l, value, "pre_tokenizer", true);
    json_t *stages = json_object_get(value, "pretokenizers"), *stage;
    size_t index, n = json_array_size(stages);
    if (n == 0)
        return load_value_wrong_kind(l, "an array that ends with ByteLevel", stages,
                                     "pre_tokenizer.pretokenizers");
    json_array_foreach(stages, index, stage)
    {
        char field[64];
        snprintf(field, sizeof field, "pre_tokenizer.pretokenizers[%zu]", index);
        if (load_stage(l, stage, field, index + 1 == n) != 0)
            return -1;
    }
    return 0;
}

static int check_normalizer(const struct loader *l, json_t *value)
{
    if (!value || json_is_null(value))
        return 0;
    const char *type = load_value_type(l, value, "normalizer");
    if (!type)
        return -1;
    json_t *list = json_object_get(value, "normalizers");
    if (strcmp(type, "Sequence") != 0 || !json_is_array(list))
        return load_value_unsupported(l, "normalizer", type,
                                      "null, or a Sequence of no normalizers");
    if (json_array_size(list) > 0) {
        type = load_value_type(l, json_array_get(list, 0), "normalizer.normalizers[0]");
        return type ? load_value_unsupported(l, "normalizer.normalizers[0]", type, "none") : -1;
    }
    return 0;
}

/* "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": ...}, ...]: the id of that token. */
static void find_first(const struct loader *l, const json_t *value)
{
    const json_t *piece = json_array_get(json_object_get(value, "single"), 0),
                 *named = json_object_get(json_object_get(piece, "SpecialToken"), "id"),
                 *tokens = json_object_get(value, "special_tokens");
    const char *name = json_string_value(named);
    const json_t *ids = name ? json_object_get(json_object_get(tokens, name), "ids") : NULL;
    if (json_array_size(ids) == 1 && json_is_integer(json_array_get(ids, 0)))
        l->parts->first = (int32_t)json_integer_value(json_array_get(ids, 0));
}

static int check_post_processor(const struct loader *l, json_t *value, const char *field)
{
    static const char supported[] = "null, ByteLevel, TemplateProcessing, a Sequence of these";
    const char *type = load_value_type(l, value, field);
    if (!type)
        return -1;
    if (strcmp(type, "TemplateProcessing") == 0)
        find_first(l, value);
    if (strcmp(type, "ByteLevel") == 0 || strcmp(type, "TemplateProcessing") == 0)
        return 0;
    json_t *list = json_object_get(value, "processors"), *item;
    if (strcmp(type, "Sequence") != 0 || !json_is_array(list) ||
        strcmp(field, "post_processor") != 0)
        return load_value_unsupported(l, field, type, supported);
    size_t index;
    json_array_foreach(list, index, item)
    {
        char name[64];
        snprintf(name, sizeof name, "post_processor.processors[%zu]", index);
        if (check_post_processor(l, item, name) != 0)
            return -1;
    }
    return 0;
}

static int load_root(const struct loader *l, json_t *root)
{
    static const char keys[] = "version truncation padding added_tokens normalizer pre_tokenizer "
                               "post_processor decoder model";
    if (!json_is_object(root))
        return load_value_wrong_kind(l, "an object", root, "the file");
    if (load_value_keys(l, root, "the file", keys) != 0)
        return -1;
    const char *version = json_string_value(json_object_get(root, "version"));
    if (!version || strcmp(version, "1.0") != 0)
        return load_value_wrong(l, "only \"1.0\" is supported", "version");
    static const char *const nulls[] = {"truncation", "padding"};
    for (size_t i = 0; i < 2; i++) {
        json_t *value = json_object_get(root, nulls[i]);
        if (value && !json_is_null(value))
            return load_value_wrong(l, "only null is supported", "%s", nulls[i]);
    }
    if (check_normalizer(l, json_object_get(root, "normalizer")) != 0)
        return -1;
    json_t *post = json_object_get(root, "post_processor");
    if (post && !json_is_null(post) && check_post_processor(l, post, "post_processor") != 0)
        return -1;
    const char *decoder = load_value_type(l, json_object_get(root, "decoder"), "decoder");
    if (!decoder)
        return -1;
    if (strcmp(decoder, "ByteLevel") != 0)
        return load_value_unsupported(l, "decoder", decoder, "ByteLevel");
    if (load_pre_tokenizer(l, json_object_get(root, "pre_tokenizer")) != 0 ||
        load_model(l, json_object_get(root, "model")) != 0)
        return -1;
    return load_model_added(l, json_object_get(root, "added_tokens"));
}

int load_text(struct load_parts *parts, const char *path, const char *text, size_t n, struct err *e)
{
    parts->first = -1;
    json_t *root = config_read_text(path, text, n, e);
    if (!root)
        return -1;
    parts->hash = hash_bytes(HASH_START, text, n);
    struct loader l = {.parts = parts, .path = path, .e = e};
    int rc = load_root(&l, root);
    json_decref(root);
    return rc;
}

int load_file(struct load_parts *parts, const char *path, struct err *e)
{
    size_t n;
    char *text = files_read(path, FILES_BYTES_MAX, &n, e);
    int rc = text ? load_text(parts, path, text, n, e) : -1;
    free(text);
    return rc;
}

void load_free(struct load_parts *parts)
{
    bpe_free(parts->bpe);
    split_free(parts->split);
    added_free(parts->added[0]);
    added_free(parts->added[1]);
    vocab_free(parts->vocab);
}
