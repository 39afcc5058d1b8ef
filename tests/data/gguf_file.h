/* gguf_file.h - writes GGUF files for tests, right ones and wrong ones.
 *
 *     struct gguf_file f = {0};
 *     gguf_file_text(&f, "general.architecture", "llama");
 *     gguf_file_tensor(&f, "token_embd.weight", 2, (const uint64_t[]){32, 4}, 0, data, bytes);
 *     gguf_file_write(&f, path);        also frees
 */
#ifndef TANDEM_TESTS_DATA_GGUF_FILE_H
#define TANDEM_TESTS_DATA_GGUF_FILE_H

#include <stddef.h>
#include <stdint.h>

struct gguf_bytes {
    uint8_t *data;
    size_t n, room;
};

struct gguf_file {
    uint32_t version; /* 0: 3 */
    uint64_t values, tensors;
    struct gguf_bytes kv, infos, data;
    size_t align; /* 0: 32; say it in general.alignment as well */
    /* added to what is written, to be wrong */
    int64_t wrong_values, wrong_tensors;
};

void gguf_bytes_add(struct gguf_bytes *b, const void *data, size_t n);
void gguf_file_text(struct gguf_file *f, const char *key, const char *value);
void gguf_file_u32(struct gguf_file *f, const char *key, uint32_t value);
void gguf_file_f32(struct gguf_file *f, const char *key, float value);
/* Any type and bytes. */
void gguf_file_raw(struct gguf_file *f, const char *key, uint32_t type, const void *value,
                   size_t n);
void gguf_file_texts(struct gguf_file *f, const char *key, const char *const *values, size_t n);
void gguf_file_i32s(struct gguf_file *f, const char *key, const int32_t *values, size_t n);
/* sizes: the fastest first. */
void gguf_file_tensor(struct gguf_file *f, const char *name, uint32_t dims, const uint64_t *sizes,
                      uint32_t type, const void *data, size_t bytes);
/* The whole file in memory, malloc'd; frees what f has. */
uint8_t *gguf_file_bytes(struct gguf_file *f, size_t *n);
void gguf_file_write(struct gguf_file *f, const char *path);

#endif
