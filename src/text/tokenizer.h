/* tokenizer.h - text to token ids and back, exactly as Hugging Face `tokenizers` does it.
 *
 * A tokenizer is read from a tokenizer.json of the kind that DeepSeek-V3, Step-3, Qwen, Llama 3 and
 * GPT-2 have: byte-level BPE. Ids equal those of tokenizers 0.23 with encode(text,
 * add_special_tokens=False).
 *
 *     struct tokenizer *t;
 *     if (tokenizer_open(&t, "model/tokenizer.json", &e) != 0)
 *         return -1;
 *     int32_t *ids;
 *     size_t n;
 *     if (tokenizer_encode(t, text, strlen(text), &ids, &n, &e) != 0) ...
 *     free(ids);
 *     tokenizer_close(t);
 *
 * Special tokens. The file's post_processor is not run: nothing is put before or behind the text.
 * The job says what stands there (its template, tokenizer_bos(), bos and eos of config.json). Added tokens are
 * recognized wherever their text stands, also inside a user's prompt, and also special ones: a
 * prompt that contains "<|EOT|>" contains that token. A caller that does not want this marks the text
 * (tokenizer_encode_marked).
 *
 * Streams. A token may end inside a character (a Chinese character or an emoji often is two or
 * three tokens), so text is made from all tokens of a completion at once, never token by token.
 *
 * Ranks and threads. Any rank; a tokenizer is constant after tokenizer_open(), and every function
 * but tokenizer_close() may be called from several threads at once. With 128,000 tokens it takes
 * about 20 MB, and 50 MB while it is loaded.
 *
 * What is supported (anything else is an error that names the file and the field):
 *   model           BPE; vocab, merges ("a b" or ["a", "b"]), ignore_merges, unk_token,
 *                   fuse_unk; byte_fallback false, dropout null or 0, no affixes of subwords
 *   normalizer      null, or a Sequence of none
 *   pre_tokenizer   ByteLevel, or a Sequence that ends with it, of Split (pattern Regex or
 *                   String, every behavior, invert), Digits, ByteLevel (add_prefix_space,
 *                   use_regex)
 *   decoder         ByteLevel
 *   post_processor  null, ByteLevel, TemplateProcessing, a Sequence of these: see above
 *   added_tokens    all flags; a token has the id the file gives it
 *   truncation, padding  null
 *
 * Split patterns are Oniguruma's; which of its constructs can be matched is in text/pattern.h.
 * Characters have the properties of Unicode 16.0, provided that PCRE2 has the tables of Unicode 14
 * to 16; with tables of 11 to 13 or 17 a few characters that were reclassified, or assigned later,
 * may differ.
 */
#ifndef TANDEM_TEXT_TOKENIZER_H
#define TANDEM_TEXT_TOKENIZER_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

/* Reads the tokenizer.json at `path`. 0: *out is the caller's until tokenizer_close(). -1: *out is
 * NULL, and the message begins with the path; a JSON error has path:line:column, a wrong or
 * unsupported value the name of its field, as in "tokenizer.json: model.merges[17]: ...". */
int tokenizer_open(struct tokenizer **out, const char *path, struct err *e);

/* The same from the n bytes of a tokenizer.json at `text` (not kept), wherever they come from; path
 * names the place in messages. */
int tokenizer_open_text(struct tokenizer **out, const char *path, const char *text, size_t n,
                        struct err *e);

/* NULL is allowed. */
void tokenizer_close(struct tokenizer *t);

/* The ids of `bytes` bytes of UTF-8 at `text` (may hold NULs; fewer than 2^31). 0: *ids is
 * malloc'd, never NULL, the caller frees it; *n of them, 0 for an empty text. -1: *ids is NULL and
 * *n is 0; the text is not UTF-8 (the message has the byte offset) or too long, or a split pattern
 * failed. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, int32_t **ids,
                     size_t *n, struct err *e);

/* The same, but special tokens are text as any other where marks[i] is 1 (bytes that a user wrote, of
 * which chat/chat.h keeps count); 0 elsewhere. Added tokens that are not special ("<think>" in many
 * vocabularies) are seen everywhere. marks NULL: all 0. */
int tokenizer_encode_marked(const struct tokenizer *t, const char *text, const char *marks,
                            size_t bytes, int32_t **ids, size_t *n, struct err *e);

/* The bytes that n ids stand for: *text is malloc'd, never NULL, the caller frees it; it has *bytes
 * bytes and a NUL behind them that is not counted. They are exactly what the tokens say, and may
 * not be UTF-8 when a completion ends inside a character (then see tokenizer_utf8_lossy). Ids
 * without a token are skipped, as the reference does; so are special tokens with skip_special.
 * Returns 0: it cannot fail. */
int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                     char **text, size_t *bytes);

/* A copy of text with every invalid sequence replaced by U+FFFD, as Python's
 * decode(errors="replace") and the reference's decode() do; for JSON and HDF5, which hold UTF-8
 * only. *out is malloc'd (the caller frees), has *out_bytes bytes and a NUL behind them. */
void tokenizer_utf8_lossy(const char *text, size_t bytes, char **out, size_t *out_bytes);

/* The id of a token written as in tokenizer.json ("Ġthe", "<|EOT|>"); -1 when there is none. */
int32_t tokenizer_id(const struct tokenizer *t, const char *token);

/* The other way; NULL when no token has the id (also below tokenizer_size(): ids may have gaps).
 * Lives as long as the tokenizer. */
const char *tokenizer_token(const struct tokenizer *t, int32_t id);

/* True for an added token that the file marks as special. False for ids without a token. */
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);

/* The token that the file's post-processor puts before a text; -1: none. */
int32_t tokenizer_bos(const struct tokenizer *t);

/* The largest id and one, added tokens included. At most the model's vocab_size in a sane
 * checkpoint, often less: models pad their embeddings. */
size_t tokenizer_size(const struct tokenizer *t);

/* Bytes of the longest token: n tokens stand for at most n times as many. */
size_t tokenizer_longest(const struct tokenizer *t);

/* FNV-1a (64 bits) of the file's bytes: the same file, the same number, on every machine. */
uint64_t tokenizer_hash(const struct tokenizer *t);

#endif
