#include "text/load_model.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int load_vocab(const struct loader *l, json_t *model)
{
    json_t *vocab = json_object_get(model, "vocab"), *value;
    const char *key;
    if (!json_is_object(vocab))
        return load_value_wrong_kind(l, "an object of tokens and ids", vocab, "model.vocab");
    json_object_foreach(vocab, key, value)
    {
        if (!json_is_integer(value))
            return load_value_wrong(l, "the id is not an integer", "model.vocab[\"%s\"]", key);
        json_int_t id = json_integer_value(value);
        char what[256];
        if (id < 0 || id > VOCAB_ID_MAX) {
            snprintf(what, sizeof what, "the id %lld is not in 0..%d", (long long)id, VOCAB_ID_MAX);
            return load_value_wrong(l, what, "model.vocab[\"%s\"]", key);
        }
        const struct vocab_token *other = vocab_get(l->parts->vocab, id);
        if (other) {
            snprintf(what, sizeof what, "the id %lld belongs to \"%.60s\" already", (long long)id,
                     other->text);
            return load_value_wrong(l, what, "model.vocab[\"%s\"]", key);
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
        load_value_wrong(l, what, "model.merges[%zu]", index);
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
        return load_value_wrong(l, "wanted \"left right\" or [\"left\", \"right\"]",
                                "model.merges[%zu]", index);
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
        return load_value_wrong_kind(l, "an array", merges, "model.merges");
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
        return load_value_wrong_kind(l, "an object", model, "model");
    json_t *type = json_object_get(model, "type"), *dropout = json_object_get(model, "dropout");
    if (type && (!json_is_string(type) || strcmp(json_string_value(type), "BPE") != 0))
        return load_value_wrong(l, "only \"BPE\" is supported", "model.type");
    if (load_value_keys(l, model, "model", keys) != 0)
        return -1;
    if (dropout && !json_is_null(dropout) &&
        !(json_is_number(dropout) && json_number_value(dropout) == 0))
        return load_value_wrong(l, "only null is supported: encoding must not be random",
                                "model.dropout");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        json_t *affix = json_object_get(model, affixes[i]);
        if (affix && !json_is_null(affix) &&
            !(json_is_string(affix) && json_string_length(affix) == 0))
            return load_value_wrong(l, "only null is supported", "model.%s", affixes[i]);
    }
    bool fallback;
    if (load_value_bool(l, model, "model", "byte_fallback", 0, &fallback) != 0)
        return -1;
    if (fallback)
        return load_value_wrong(l, "only false is supported: the vocabulary must be byte-level",
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
        return load_value_wrong_kind(l, "a string or null", unknown, "model.unk_token");
    *id = vocab_id(l->parts->vocab, json_string_value(unknown), json_string_length(unknown));
    return *id < 0 ? load_value_wrong(l, "the token is not in model.vocab", "model.unk_token") : 0;
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

int load_model(const struct loader *l, json_t *model)
{
    int32_t bytes[256], unknown;
    bool fuse, ignore_merges;
    struct bpe_merge *merges;
    size_t n;
    l->parts->vocab = vocab_new();
    if (check_model(l, model) != 0 || load_vocab(l, model) != 0 ||
        read_unknown(l, model, &unknown) != 0 ||
        load_value_bool(l, model, "model", "fuse_unk", 0, &fuse) != 0 ||
        load_value_bool(l, model, "model", "ignore_merges", 0, &ignore_merges) != 0)
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
        return load_value_wrong(l, what, "added_tokens[%zu].id", index);
    }
    int32_t known = vocab_id(l->parts->vocab, content, n);
    if (known >= 0 && ((size_t)known >= model_tokens || seen[known]))
        return load_value_wrong(l, "the token is listed twice", "added_tokens[%zu] (\"%s\")", index,
                                content);
    if (known >= 0 && known != id) {
        snprintf(what, sizeof what, "%lld, but model.vocab gives \"%.100s\" the id %d",
                 (long long)id, content, known);
        return load_value_wrong(l, what, "added_tokens[%zu].id", index);
    }
    const struct vocab_token *other = vocab_get(l->parts->vocab, id);
    if (known < 0 && other) {
        snprintf(what, sizeof what, "%lld belongs to \"%.100s\" already", (long long)id,
                 other->text);
        return load_value_wrong(l, what, "added_tokens[%zu].id", index);
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
        return load_value_wrong_kind(l, "an object", value, field);
    json_t *id = json_object_get(value, "id"), *content = json_object_get(value, "content");
    if (load_value_keys(l, value, field, keys) != 0)
        return -1;
    if (!json_is_integer(id) || !json_is_string(content) || json_string_length(content) == 0)
        return load_value_wrong(
            l, "wanted an \"id\" (an integer) and a \"content\" (a string, not empty)", "%s",
            field);
    if (load_value_bool(l, value, field, "single_word", -1, &token.single_word) != 0 ||
        load_value_bool(l, value, field, "lstrip", -1, &token.lstrip) != 0 ||
        load_value_bool(l, value, field, "rstrip", -1, &token.rstrip) != 0 ||
        load_value_bool(l, value, field, "normalized", -1, &normalized) != 0 ||
        load_value_bool(l, value, field, "special", -1, &special) != 0)
        return -1;
    if (place_added(l, index, json_integer_value(id), json_string_value(content),
                    json_string_length(content), model_tokens, seen) != 0)
        return -1;
    token.id = (int32_t)json_integer_value(id);
    token.special = special;
    if (special)
        vocab_set_special(l->parts->vocab, token.id);
    const struct vocab_token *stored = vocab_get(l->parts->vocab, token.id);
    token.text = stored->text;
    token.bytes = stored->text_n;
    added_put(l->parts->added[normalized], token);
    return 0;
}

int load_model_added(const struct loader *l, json_t *list)
{
    size_t index, model_tokens = vocab_size(l->parts->vocab);
    json_t *value;
    for (int i = 0; i < 2; i++)
        l->parts->added[i] = added_new();
    if (list && !json_is_null(list) && !json_is_array(list))
        return load_value_wrong_kind(l, "an array", list, "added_tokens");
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
