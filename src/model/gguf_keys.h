/* gguf_keys.h - the metadata of a GGUF file of a model (generate_gguf.c). For generate*.c only. */
#ifndef TANDEM_MODEL_GGUF_KEYS_H
#define TANDEM_MODEL_GGUF_KEYS_H

#include "model/model.h"

/* Bytes that grow; free(data). */
struct gguf_bytes {
    uint8_t *data;
    size_t n, room;
};

void gguf_bytes_add(struct gguf_bytes *b, const void *data, size_t n);
void gguf_bytes_u32(struct gguf_bytes *b, uint32_t x);
void gguf_bytes_u64(struct gguf_bytes *b, uint64_t x);
/* Its length, then the text. */
void gguf_bytes_text(struct gguf_bytes *b, const char *text);

/* Keys and values that make the reader (data/gguf_config.c) describe the same model; arch as
 * general.architecture. Returns how many. */
uint64_t gguf_keys(struct gguf_bytes *b, const struct model *m, const char *arch);

/* How many layers at the front are dense. */
size_t gguf_dense_layers(const struct model *m);

#endif
