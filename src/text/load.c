#include "text/load.h"

#include "base/mem.h"

#include <jansson.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The pattern of ByteLevel with use_regex: GPT-2's. */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

struct loader {
    struct load_parts *parts;
    const char *path;
    struct err *e;
};

/* One message for every wrong value: file, field (printf format), what is wrong there. */
static int wrong(const struct loader *l, const char *what, const char *field, ...)
    __attribute__((format(printf, 3, 4)));

static int wrong(const struct loader *l, const char *what, const char *field, ...)
{
    char name[512];
    va_list args;
    va_start(args, field);
    vsnprintf(name, sizeof name, field, args);
    va_end(args);
    return err_set(l->e, "%s: %s: %s", l->path, name, what);
}

static const char *kind(const json_t *value)
{
    static const char *const names[] = {"an object", "an array", "a string", "an integer",
                                        "a number",  "true",     "false",    "null"};
    return value ? names[json_typeof(value)] : "missing";
}

static int wrong_kind(const struct loader *l, const char *wanted, const json_t *found,
                      const char *field)
{
    char what[256];
    snprintf(what, sizeof what, "wanted %s, found %s", wanted, kind(found));
    return wrong(l, what, "%s", field);
}

/* Every key of an object must be in the list ("a b c"): an unknown one may change the ids. */
static int check_keys(const struct loader *l, json_t *object, const char *field, const char *known)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        size_t n = strlen(key);
        const char *p = known;
        while ((p = strstr(p, key)) && !((p == known || p[-1] == ' ') && (p[n] == ' ' || !p[n])))
            p++;
        if (n == 0 || !p) {
            char what[256];
            snprintf(what, sizeof what, "unknown key \"%.60s\"; supported: %s", key, known);
            return wrong(l, what, "%s", field);
        }
    }
    return 0;
}

/* A boolean at object[key]; missing or null gives `otherwise`, which is -1 when it must be there.
 */
static int read_bool(const struct loader *l, json_t *object, const char *field, const char *key,
                     int otherwise, bool *out)
{
    json_t *value = json_object_get(object, key);
    if (otherwise >= 0 && (!value || json_is_null(value))) {
        *out = otherwise > 0;
        return 0;
    }
    if (!json_is_boolean(value)) {
        char name[128];
        snprintf(name, sizeof name, "%s.%s", field, key);
        return wrong_kind(l, "true or false", value, name);
    }
    *out = json_is_true(value);
    return 0;
}

/* The "type" of an object, or NULL after the error. */
static const char *read_type(const struct loader *l, json_t *object, const char *field)
{
    if (!json_is_object(object)) {
        wrong_kind(l, "an object with a \"type\"", object, field);
        return NULL;
    }
    const char *type = json_string_value(json_object_get(object, "type"));
    if (!type)
        wrong(l, "wanted a string", "%s.type", field);
    return type;
}

static int unsupported_type(const struct loader *l, const char *field, const char *type,
                            const char *supported)
{
    char what[256];
    snprintf(what, sizeof what, "\"%.60s\" is not supported; supported: %s", type, supported);
    return wrong(l, what, "%s.type", field);
}

static int load_vocab(const struct loader *l, json_t *model)
{
    json_t *vocab = json_object_get(model, "vocab"), *value;
    const char *key;
    if (!json_is_object(vocab))
        return wrong_kind(l, "an object of tokens and ids", vocab, "model.vocab");
    json_object_foreach(vocab, key, value)
    {
        if (!json_is_integer(value))
            return wrong(l, "the id is not an integer", "model.vocab[\"%s\"]", key);
        json_int_t id = json_integer_value(value);
        char what[256];
        if (id < 0 || id > VOCAB_ID_MAX) {
            snprintf(what, sizeof what, "the id %lld is not in 0..%d", (long long)id, VOCAB_ID_MAX);
            return wrong(l, what, "model.vocab[\"%s\"]", key);
        }
        const struct vocab_token *other = vocab_get(l->parts->vocab, id);
        if (other) {
            snprintf(what, sizeof what, "the id %lld belongs to \"%.60s\" already", (long long)id,
                     other->text);
            return wrong(l, what, "model.vocab[\"%s\"]", key);
        }
        vocab_put(l->parts->vocab, (int32_t)id, key, strlen(key));
    }
    return 0;
}

/* The id of a part of a merge, -1 after the error. */
static int32_t merge_part(const struct loader *l, size_t index, const char *text, size_t n)
{
    int32_t id = vocab_id(l->parts->vocab, text, n);
    if (id < 0) {
        char what[256];
        snprintf(what, sizeof what, "\"%.*s\" is not in model.vocab", (int)(n < 100 ? n : 100),
                 text);
        wrong(l, what, "model.merges[%zu]", index);
    }
    return id;
}

static int read_merge(const struct loader *l, json_t *value, size_t index, struct bpe_merge *out)
{
    const char *left = NULL, *right = NULL;
    size_t left_n = 0, right_n = 0;
    if (json_is_string(value)) {
        left = json_string_value(value);
        right = strchr(left, ' ');
        if (right && !strchr(right + 1, ' ')) {
            left_n = (size_t)(right - left);
            right++;
        } else {
            right = NULL;
        }
    } else if (json_is_array(value) && json_array_size(value) == 2) {
        left = json_string_value(json_array_get(value, 0));
        right = json_string_value(json_array_get(value, 1));
        left_n = left ? strlen(left) : 0;
    }
    if (!left || !right)
        return wrong(l, "wanted \"left right\" or [\"left\", \"right\"]", "model.merges[%zu]",
                     index);
    right_n = strlen(right);
    char *both = mem_new(left_n + right_n + 1, 1);
    memcpy(both, left, left_n);
    memcpy(both + left_n, right, right_n);
    out->left = merge_part(l, index, left, left_n);
    out->right = out->left < 0 ? -1 : merge_part(l, index, right, right_n);
    out->into = out->right < 0 ? -1 : merge_part(l, index, both, left_n + right_n);
    free(both);
    return out->into < 0 ? -1 : 0;
}

static int read_merges(const struct loader *l, json_t *model, struct bpe_merge **out, size_t *n)
{
    json_t *merges = json_object_get(model, "merges"), *value;
    size_t index;
    *n = 0;
    *out = NULL;
    if (!json_is_array(merges))
        return wrong_kind(l, "an array", merges, "model.merges");
    *out = mem_new(json_array_size(merges), sizeof **out);
    json_array_foreach(merges, index, value)
    {
        /* Old files carry the first line of merges.txt along; the reference skips it. */
        const char *line = json_string_value(value);
        if (line && strncmp(line, "#version", 8) == 0)
            continue;
        if (read_merge(l, value, index, &(*out)[*n]) != 0)
            return -1;
        ++*n;
    }
    return 0;
}

/* Fields of the model that must have their neutral value. */
static int check_model(const struct loader *l, json_t *model)
{
    static const char keys[] =
        "type dropout unk_token continuing_subword_prefix end_of_word_suffix "
        "fuse_unk byte_fallback ignore_merges vocab merges";
    if (!json_is_object(model))
        return wrong_kind(l, "an object", model, "model");
    json_t *type = json_object_get(model, "type"), *dropout = json_object_get(model, "dropout");
    if (type && (!json_is_string(type) || strcmp(json_string_value(type), "BPE") != 0))
        return wrong(l, "only \"BPE\" is supported", "model.type");
    if (check_keys(l, model, "model", keys) != 0)
        return -1;
    if (dropout && !json_is_null(dropout) &&
        !(json_is_number(dropout) && json_number_value(dropout) == 0))
        return wrong(l, "only null is supported: encoding must not be random", "model.dropout");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        json_t *affix = json_object_get(model, affixes[i]);
        if (affix && !json_is_null(affix) &&
            !(json_is_string(affix) && json_string_length(affix) == 0))
            return wrong(l, "only null is supported", "model.%s", affixes[i]);
    }
    bool fallback;
    if (read_bool(l, model, "model", "byte_fallback", 0, &fallback) != 0)
        return -1;
    if (fallback)
        return wrong(l, "only false is supported: the vocabulary must be byte-level",
                     "model.byte_fallback");
    return 0;
}

static int read_unknown(const struct loader *l, json_t *model, int32_t *id)
{
    json_t *unknown = json_object_get(model, "unk_token");
    *id = -1;
    if (!unknown || json_is_null(unknown))
        return 0;
    if (!json_is_string(unknown))
        return wrong_kind(l, "a string or null", unknown, "model.unk_token");
    *id = vocab_id(l->parts->vocab, json_string_value(unknown), json_string_length(unknown));
    return *id < 0 ? wrong(l, "the token is not in model.vocab", "model.unk_token") : 0;
}

static void add_wholes(const struct loader *l, bool ignore_merges)
{
    struct bpe_work *work = bpe_work_new();
    size_t size = vocab_size(l->parts->vocab);
    bpe_reserve_whole(l->parts->bpe, size);
    for (size_t id = 0; id < size; id++) {
        const struct vocab_token *t = vocab_get(l->parts->vocab, (int64_t)id);
        if (t && t->byte_level && t->bytes_n > 0)
            bpe_add_whole(l->parts->bpe, t->bytes, t->bytes_n, (int32_t)id, !ignore_merges, work);
    }
    bpe_work_free(work);
}

static int load_model(const struct loader *l, json_t *model)
{
    int32_t bytes[256], unknown;
    bool fuse, ignore_merges;
    struct bpe_merge *merges;
    size_t n;
    l->parts->vocab = vocab_new();
    if (check_model(l, model) != 0 || load_vocab(l, model) != 0 ||
        read_unknown(l, model, &unknown) != 0 ||
        read_bool(l, model, "model", "fuse_unk", 0, &fuse) != 0 ||
        read_bool(l, model, "model", "ignore_merges", 0, &ignore_merges) != 0)
        return -1;
    if (read_merges(l, model, &merges, &n) != 0) {
        free(merges);
        return -1;
    }
    for (int b = 0; b < 256; b++)
        bytes[b] = vocab_byte_id(l->parts->vocab, (unsigned char)b);
    l->parts->bpe = bpe_new(bytes, unknown, fuse, merges, n);
    free(merges);
    add_wholes(l, ignore_merges);
    return 0;
}

/* Gives an added token its place in the vocabulary; in_model: one that the model has as well. */
static int place_added(const struct loader *l, size_t index, json_int_t id, const char *content,
                       size_t n, size_t model_tokens, bool *seen)
{
    char what[256];
    if (id < 0 || id > VOCAB_ID_MAX) {
        snprintf(what, sizeof what, "%lld is not in 0..%d", (long long)id, VOCAB_ID_MAX);
        return wrong(l, what, "added_tokens[%zu].id", index);
    }
    int32_t known = vocab_id(l->parts->vocab, content, n);
    if (known >= 0 && ((size_t)known >= model_tokens || seen[known]))
        return wrong(l, "the token is listed twice", "added_tokens[%zu] (\"%s\")", index, content);
    if (known >= 0 && known != id) {
        snprintf(what, sizeof what, "%lld, but model.vocab gives \"%.100s\" the id %d",
                 (long long)id, content, known);
        return wrong(l, what, "added_tokens[%zu].id", index);
    }
    const struct vocab_token *other = vocab_get(l->parts->vocab, id);
    if (known < 0 && other) {
        snprintf(what, sizeof what, "%lld belongs to \"%.100s\" already", (long long)id,
                 other->text);
        return wrong(l, what, "added_tokens[%zu].id", index);
    }
    if (known < 0)
        vocab_put(l->parts->vocab, (int32_t)id, content, n);
    if ((size_t)id < model_tokens)
        seen[id] = true;
    return 0;
}

static int load_added(const struct loader *l, json_t *value, size_t index, size_t model_tokens,
                      bool *seen)
{
    static const char keys[] = "id content single_word lstrip rstrip normalized special";
    struct added_token token = {0};
    bool normalized, special;
    char field[64];
    snprintf(field, sizeof field, "added_tokens[%zu]", index);
    if (!json_is_object(value))
        return wrong_kind(l, "an object", value, field);
    json_t *id = json_object_get(value, "id"), *content = json_object_get(value, "content");
    if (check_keys(l, value, field, keys) != 0)
        return -1;
    if (!json_is_integer(id) || !json_is_string(content) || json_string_length(content) == 0)
        return wrong(l, "wanted an \"id\" (an integer) and a \"content\" (a string, not empty)",
                     "%s", field);
    if (read_bool(l, value, field, "single_word", -1, &token.single_word) != 0 ||
        read_bool(l, value, field, "lstrip", -1, &token.lstrip) != 0 ||
        read_bool(l, value, field, "rstrip", -1, &token.rstrip) != 0 ||
        read_bool(l, value, field, "normalized", -1, &normalized) != 0 ||
        read_bool(l, value, field, "special", -1, &special) != 0)
        return -1;
    if (place_added(l, index, json_integer_value(id), json_string_value(content),
                    json_string_length(content), model_tokens, seen) != 0)
        return -1;
    token.id = (int32_t)json_integer_value(id);
    if (special)
        vocab_set_special(l->parts->vocab, token.id);
    const struct vocab_token *stored = vocab_get(l->parts->vocab, token.id);
    token.text = stored->text;
    token.bytes = stored->text_n;
    added_put(l->parts->added[normalized], token);
    return 0;
}

static int load_all_added(const struct loader *l, json_t *list)
{
    size_t index, model_tokens = vocab_size(l->parts->vocab);
    json_t *value;
    for (int i = 0; i < 2; i++)
        l->parts->added[i] = added_new();
    if (list && !json_is_null(list) && !json_is_array(list))
        return wrong_kind(l, "an array", list, "added_tokens");
    bool *seen = mem_zeroed(model_tokens, sizeof *seen);
    int rc = 0;
    json_array_foreach(list, index, value)
    {
        rc = load_added(l, value, index, model_tokens, seen);
        if (rc != 0)
            break;
    }
    free(seen);
    for (int i = 0; i < 2 && rc == 0; i++) {
        rc = added_finish(l->parts->added[i], l->e);
        if (rc != 0)
            err_prefix(l->e, "%s: added_tokens: single_word", l->path);
    }
    return rc;
}

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
    if (check_keys(l, stage, field, "type pattern behavior invert") != 0 ||
        read_bool(l, stage, field, "invert", -1, &invert) != 0)
        return -1;
    if (!text || json_object_size(pattern) != 1)
        return wrong(l, "wanted {\"Regex\": \"...\"} or {\"String\": \"...\"}", "%s.pattern",
                     field);
    for (size_t i = 0; i < sizeof behaviors / sizeof behaviors[0] && behavior; i++)
        if (strcmp(behavior, behaviors[i]) == 0)
            return add_regex(l, field, text, !regex, (enum split_behavior)i, invert);
    return wrong(l,
                 "wanted one of Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous",
                 "%s.behavior", field);
}

static int load_byte_level(const struct loader *l, json_t *stage, const char *field)
{
    bool prefix, use_regex, trim;
    if (check_keys(l, stage, field, "type add_prefix_space trim_offsets use_regex") != 0 ||
        read_bool(l, stage, field, "add_prefix_space", -1, &prefix) != 0 ||
        read_bool(l, stage, field, "trim_offsets", 1, &trim) != 0 ||
        read_bool(l, stage, field, "use_regex", 1, &use_regex) != 0)
        return -1;
    if (prefix)
        split_add_prefix_space(l->parts->split);
    return use_regex ? add_regex(l, field, gpt2_pattern, false, SPLIT_ISOLATED, false) : 0;
}

static int load_digits(const struct loader *l, json_t *stage, const char *field)
{
    bool individual;
    if (check_keys(l, stage, field, "type individual_digits") != 0 ||
        read_bool(l, stage, field, "individual_digits", -1, &individual) != 0)
        return -1;
    return add_regex(l, field, "\\p{N}", false, individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS,
                     false);
}

/* One stage; the last must be ByteLevel, and only the last. */
static int load_stage(const struct loader *l, json_t *stage, const char *field, bool last)
{
    const char *type = read_type(l, stage, field);
    if (!type)
        return -1;
    if (last != (strcmp(type, "ByteLevel") == 0))
        return unsupported_type(
            l, field, type,
            "Split and Digits, and ByteLevel as the last stage, which must be there");
    if (last)
        return load_byte_level(l, stage, field);
    if (strcmp(type, "Split") == 0)
        return load_split(l, stage, field);
    if (strcmp(type, "Digits") == 0)
        return load_digits(l, stage, field);
    return unsupported_type(l, field, type, "Split, Digits, ByteLevel (last)");
}

static int load_pre_tokenizer(const struct loader *l, json_t *value)
{
    l->parts->split = split_new();
    const char *type = read_type(l, value, "pre_tokenizer");
    if (!type)
        return -1;
    if (strcmp(type, "Sequence") != 0)
        return load_stage(l, value, "pre_tokenizer", true);
    json_t *stages = json_object_get(value, "pretokenizers"), *stage;
    size_t index, n = json_array_size(stages);
    if (n == 0)
        return wrong_kind(l, "an array that ends with ByteLevel", stages,
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
    const char *type = read_type(l, value, "normalizer");
    if (!type)
        return -1;
    json_t *list = json_object_get(value, "normalizers");
    if (strcmp(type, "Sequence") != 0 || !json_is_array(list))
        return unsupported_type(l, "normalizer", type, "null, or a Sequence of no normalizers");
    if (json_array_size(list) > 0) {
        type = read_type(l, json_array_get(list, 0), "normalizer.normalizers[0]");
        return type ? unsupported_type(l, "normalizer.normalizers[0]", type, "none") : -1;
    }
    return 0;
}

static int check_post_processor(const struct loader *l, json_t *value, const char *field)
{
    static const char supported[] = "null, ByteLevel, TemplateProcessing, a Sequence of these";
    const char *type = read_type(l, value, field);
    if (!type)
        return -1;
    if (strcmp(type, "ByteLevel") == 0 || strcmp(type, "TemplateProcessing") == 0)
        return 0;
    json_t *list = json_object_get(value, "processors"), *item;
    if (strcmp(type, "Sequence") != 0 || !json_is_array(list) ||
        strcmp(field, "post_processor") != 0)
        return unsupported_type(l, field, type, supported);
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
        return wrong_kind(l, "an object", root, "the file");
    if (check_keys(l, root, "the file", keys) != 0)
        return -1;
    const char *version = json_string_value(json_object_get(root, "version"));
    if (!version || strcmp(version, "1.0") != 0)
        return wrong(l, "only \"1.0\" is supported", "version");
    static const char *const nulls[] = {"truncation", "padding"};
    for (size_t i = 0; i < 2; i++) {
        json_t *value = json_object_get(root, nulls[i]);
        if (value && !json_is_null(value))
            return wrong(l, "only null is supported", "%s", nulls[i]);
    }
    if (check_normalizer(l, json_object_get(root, "normalizer")) != 0)
        return -1;
    json_t *post = json_object_get(root, "post_processor");
    if (post && !json_is_null(post) && check_post_processor(l, post, "post_processor") != 0)
        return -1;
    const char *decoder = read_type(l, json_object_get(root, "decoder"), "decoder");
    if (!decoder)
        return -1;
    if (strcmp(decoder, "ByteLevel") != 0)
        return unsupported_type(l, "decoder", decoder, "ByteLevel");
    if (load_pre_tokenizer(l, json_object_get(root, "pre_tokenizer")) != 0 ||
        load_model(l, json_object_get(root, "model")) != 0)
        return -1;
    return load_all_added(l, json_object_get(root, "added_tokens"));
}

static int read_file(const char *path, char **out, size_t *n, struct err *e)
{
    *out = NULL;
    *n = 0;
    FILE *f = fopen(path, "rb");
    if (!f)
        return err_set(e, "%s: cannot be opened: %s", path, strerror(errno));
    size_t room = 1u << 20, got;
    char *text = mem_new(room, 1);
    while ((got = fread(text + *n, 1, room - *n, f)) > 0) {
        *n += got;
        if (*n == room) {
            room *= 2;
            text = mem_resize(text, room, 1);
        }
    }
    int failed = ferror(f) ? errno : 0;
    fclose(f);
    if (failed) {
        free(text);
        return err_set(e, "%s: cannot be read: %s", path, strerror(failed));
    }
    *out = text;
    return 0;
}

int load_file(struct load_parts *parts, const char *path, struct err *e)
{
    char *text;
    size_t n;
    if (read_file(path, &text, &n, e) != 0)
        return -1;
    parts->hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        parts->hash = (parts->hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    json_error_t where;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    free(text);
    if (!root)
        return err_set(e, "%s:%d:%d: not JSON: %s", path, where.line, where.column, where.text);
    struct loader l = {.parts = parts, .path = path, .e = e};
    int rc = load_root(&l, root);
    json_decref(root);
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
