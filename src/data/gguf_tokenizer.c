/* gguf_tokenizer.c - the tokenizer in a GGUF file as a tokenizer.json. */
#include "data/gguf_view.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- how text is cut before tokens are looked for --------------------------------------------- */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORD_TAIL    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3       CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" WORD_TAIL
#define QWEN2        CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" WORD_TAIL
#define UPPER        "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER        "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define O200K                                                                                      \
    "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+" CONTRACTIONS "?"                              \
    "|[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]+[" LOWER "]*" CONTRACTIONS "?"                             \
    "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* The same, but Chinese characters are apart, and a slash is no end of a line. */
#define KIMI                                                                                       \
    "\\p{Han}+"                                                                                    \
    "|[^\\r\\n\\p{L}\\p{N}]?[" UPPER "&&[^\\p{Han}]]*[" LOWER "&&[^\\p{Han}]]+" CONTRACTIONS "?"   \
    "|[^\\r\\n\\p{L}\\p{N}]?[" UPPER "&&[^\\p{Han}]]+[" LOWER "&&[^\\p{Han}]]*" CONTRACTIONS "?"   \
    "|\\p{N}{1,3}" WORD_TAIL
#define DEEPSEEK_WORDS                                                                             \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"                                        \
    "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"                                                 \
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* tokenizer.ggml.pre: patterns one after the other; gpt2: then GPT-2's own. */
static const struct pre {
    const char *name;
    const char *patterns[3];
    bool gpt2, whole_words;
} pres[] = {
    {"deepseek-v3",
     {"\\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", DEEPSEEK_WORDS},
     false,
     false},
    {"qwen2", {QWEN2}, false, false},
    {"llama-bpe", {LLAMA3}, false, true},
    {"smollm", {"\\p{N}"}, true, false},
    {"gpt-2", {NULL}, true, false},
    {"chatglm-bpe", {LLAMA3}, false, false},
    {"glm4", {LLAMA3}, false, false},
    {"gpt-4o", {O200K}, false, false},
    {"minimax-m2", {O200K}, false, false},
    {"kimi-k2", {KIMI}, false, true},
};

#define PRES (sizeof pres / sizeof *pres)

enum token_type { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

/* What every function here passes on. */
struct maker {
    const struct gguf *g;
    const struct gguf_value *tokens, *types, *merges;
    struct err *e;
};

static int wrong(const struct maker *m, const char *key, const char *what)
{
    return err_set(m->e, "%s: key \"%s\": %s", gguf_path(m->g), key, what);
}

static const struct pre *find_pre(const struct maker *m)
{
    const struct gguf_value *v = gguf_find(m->g, "tokenizer.ggml.pre");
    const char *names[PRES + 1] = {NULL};
    for (size_t i = 0; i < PRES; i++) {
        if (gguf_is_text(v, pres[i].name))
            return &pres[i];
        names[i] = pres[i].name;
    }
    gguf_unknown(m->g, "tokenizer.ggml.pre",
                 "give the model's tokenizer.json (tokenizer: in the job); known are", names, m->e);
    return NULL;
}

static json_t *pre_tokenizer(const struct pre *pre)
{
    json_t *stages = json_array();
    for (size_t i = 0; i < 3 && pre->patterns[i]; i++)
        json_array_append_new(stages, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split",
                                                "pattern", "Regex", pre->patterns[i], "behavior",
                                                "Isolated", "invert", 0));
    json_array_append_new(stages,
                          json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space",
                                    0, "trim_offsets", 1, "use_regex", pre->gpt2));
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", stages);
}

/* ---- tokens and merges ------------------------------------------------------------------------ */

static int64_t type_of(const struct maker *m, size_t i)
{
    int64_t type = NORMAL;
    if (m->types && !gguf_integer(m->types, i, &type))
        type = NORMAL;
    return type;
}

/* Puts token i where tokenizer.json has it: the vocabulary, or the added tokens. */
static int put_token(const struct maker *m, size_t i, json_t *vocab, json_t *added)
{
    const struct gguf_string *s = &m->tokens->strings[i];
    int64_t type = type_of(m, i);
    if (type == UNUSED)
        return 0;
    char what[96];
    json_t *text = memchr(s->text, 0, s->bytes) ? NULL : json_stringn(s->text, s->bytes);
    if (!text || s->bytes == 0) {
        json_decref(text);
        snprintf(what, sizeof what, "token %zu is empty, or no UTF-8, or has a NUL", i);
        return wrong(m, "tokenizer.ggml.tokens", what);
    }
    bool special = type == CONTROL || type == UNKNOWN;
    if (special || type == USER_DEFINED) {
        json_array_append_new(added,
                              json_pack("{s:I, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i,
                                        "content", text, "single_word", 0, "lstrip", 0, "rstrip", 0,
                                        "normalized", 0, "special", special));
        return 0;
    }
    int rc = 0;
    if (json_object_get(vocab, json_string_value(text))) {
        snprintf(what, sizeof what, "token %zu stands there twice", i);
        rc = wrong(m, "tokenizer.ggml.tokens", what);
    } else {
        json_object_set_new(vocab, json_string_value(text), json_integer((json_int_t)i));
    }
    json_decref(text);
    return rc;
}

static int put_merges(const struct maker *m, json_t *merges)
{
    for (size_t i = 0; i < m->merges->count; i++) {
        const struct gguf_string *s = &m->merges->strings[i];
        json_t *text = json_stringn(s->text, s->bytes);
        if (!text) {
            char what[64];
            snprintf(what, sizeof what, "merge %zu is no UTF-8", i);
            return wrong(m, "tokenizer.ggml.merges", what);
        }
        json_array_append_new(merges, text);
    }
    return 0;
}

static int find_parts(struct maker *m)
{
    if (!gguf_is_text(gguf_find(m->g, "tokenizer.ggml.model"), "gpt2"))
        return wrong(m, "tokenizer.ggml.model", "only \"gpt2\", byte-level BPE, is supported");
    m->tokens = gguf_find(m->g, "tokenizer.ggml.tokens");
    m->types = gguf_find(m->g, "tokenizer.ggml.token_type");
    m->merges = gguf_find(m->g, "tokenizer.ggml.merges");
    if (!m->tokens || m->tokens->type != GGUF_STRING)
        return wrong(m, "tokenizer.ggml.tokens", "wanted a list of strings");
    if (!m->merges || m->merges->type != GGUF_STRING)
        return wrong(m, "tokenizer.ggml.merges", "wanted a list of strings");
    if (m->types && m->types->count != m->tokens->count)
        return wrong(m, "tokenizer.ggml.token_type", "has not one entry for every token");
    return 0;
}

bool gguf_has_tokenizer(const struct gguf *g)
{
    const struct gguf_value *model = gguf_find(g, "tokenizer.ggml.model");
    return model && !gguf_is_text(model, "none");
}

char *gguf_tokenizer(const struct gguf *g, struct err *e)
{
    struct maker m = {.g = g, .e = e};
    const struct pre *pre;
    if (find_parts(&m) != 0 || !(pre = find_pre(&m)))
        return NULL;
    json_t *vocab = json_object(), *added = json_array(), *merges = json_array();
    json_t *root = json_pack("{s:s, s:n, s:n, s:o, s:n, s:o, s:n, s:{s:s}, s:{s:s, s:b, s:o, s:o}}",
                             "version", "1.0", "truncation", "padding", "added_tokens", added,
                             "normalizer", "pre_tokenizer", pre_tokenizer(pre), "post_processor",
                             "decoder", "type", "ByteLevel", "model", "type", "BPE",
                             "ignore_merges", pre->whole_words, "vocab", vocab, "merges", merges);
    int rc = 0;
    for (size_t i = 0; i < m.tokens->count && rc == 0; i++)
        rc = put_token(&m, i, vocab, added);
    if (rc == 0)
        rc = put_merges(&m, merges);
    char *text = rc == 0 ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

/* ---- tokenizer_config.json -------------------------------------------------------------------- */

static void put_token_text(const struct gguf *g, json_t *out, const char *field, const char *key)
{
    const struct gguf_value *tokens = gguf_find(g, "tokenizer.ggml.tokens"), *v = gguf_find(g, key);
    int64_t id;
    if (!v || !tokens || tokens->type != GGUF_STRING || !gguf_integer(v, 0, &id) || id < 0 ||
        (size_t)id >= tokens->count)
        return;
    json_t *text = json_stringn(tokens->strings[id].text, tokens->strings[id].bytes);
    if (text)
        json_object_set_new(out, field, text);
}

json_t *gguf_tokenizer_config(const struct gguf *g)
{
    json_t *out = json_object();
    const struct gguf_value *bos = gguf_find(g, "tokenizer.ggml.add_bos_token");
    const struct gguf_value *chat = gguf_find(g, "tokenizer.chat_template");
    int64_t yes;
    if (bos && gguf_integer(bos, 0, &yes))
        json_object_set_new(out, "add_bos_token", json_boolean(yes));
    put_token_text(g, out, "bos_token", "tokenizer.ggml.bos_token_id");
    put_token_text(g, out, "eos_token", "tokenizer.ggml.eos_token_id");
    if (chat && chat->type == GGUF_STRING && chat->count == 1) {
        json_t *text = json_stringn(chat->strings[0].text, chat->strings[0].bytes);
        if (text)
            json_object_set_new(out, "chat_template", text);
    }
    return out;
}
