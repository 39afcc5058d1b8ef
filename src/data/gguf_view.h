/* gguf_view.h - a GGUF model as the Hugging Face checkpoint it was made from.
 *
 * GGUF has names, metadata and a tokenizer of its own for the same model. This view gives them back
 * as config.json, tokenizer.json and tokenizer_config.json would say them, and the tensors under
 * their names there, so that nothing above knows where a model came from. Stacked experts and fused
 * projections are listed one by one; no byte is copied. What conversion changed is said in the
 * config: llama's q and k have their rows in pairs (rope_interleaved), step35's norms hold the 1
 * that is elsewhere added to them (norm_gains_stored_whole), llama3's scaling is a list of factors.
 *
 * Architectures: a file each (gguf_arch.h). Tensors or keys of them that would change the result and are not known
 * are refused by name.
 *
 * Everything belongs to the view and lives until it is closed. Any rank.
 */
#ifndef TANDEM_DATA_GGUF_VIEW_H
#define TANDEM_DATA_GGUF_VIEW_H

#include "data/gguf.h"

#include <jansson.h>

struct gguf_view {
    struct gguf *file;
    json_t *config;         /* as config.json */
    struct tensor *tensors; /* in the order of the file */
    size_t count, room;
    char note[256]; /* what was repaired, for the user; empty: nothing */
};

int gguf_view_open(struct gguf_view **out, const char *path, struct err *e);
void gguf_view_close(struct gguf_view *v); /* NULL: nothing */

/* Has the file one? Random weights have none. */
bool gguf_has_tokenizer(const struct gguf *g);

/* The model's tokenizer as the text of a tokenizer.json; malloc'd, NULL after the error. */
char *gguf_tokenizer(const struct gguf *g, struct err *e);

/* add_bos_token, bos_token, eos_token and chat_template as in tokenizer_config.json; a new
 * reference. Fields the file does not have are left out. */
json_t *gguf_tokenizer_config(const struct gguf *g);

/* The error that the text of a key is none of `names`, NULL at the end; said: words before their list. Returns
 * -1. */
int gguf_unknown(const struct gguf *g, const char *key, const char *said, const char *const *names,
                 struct err *e);

/* The tensor of that name in the file, or NULL. */
const struct tensor *gguf_tensor(const struct gguf *g, const char *name);

#endif
