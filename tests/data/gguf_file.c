#include "tests/data/gguf_file.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void gguf_bytes_add(struct gguf_bytes *b, const void *data, size_t n)
{
    if (b->n + n > b->room) {
        b->room = 2 * (b->n + n) + 64;
        b->data = mem_resize(b->data, b->room, 1);
    }
    if (n)
        memcpy(b->data + b->n, data, n);
    b->n += n;
}

static void add_u32(struct gguf_bytes *b, uint32_t value)
{
    gguf_bytes_add(b, &value, 4);
}

static void add_u64(struct gguf_bytes *b, uint64_t value)
{
    gguf_bytes_add(b, &value, 8);
}

static void add_text(struct gguf_bytes *b, const char *text)
{
    add_u64(b, strlen(text));
    gguf_bytes_add(b, text, strlen(text));
}

void gguf_file_raw(struct gguf_file *f, const char *key, uint32_t type, const void *value, size_t n)
{
    add_text(&f->kv, key);
    add_u32(&f->kv, type);
    gguf_bytes_add(&f->kv, value, n);
    f->values++;
}

void gguf_file_text(struct gguf_file *f, const char *key, const char *value)
{
    gguf_file_raw(f, key, 8, NULL, 0);
    add_text(&f->kv, value);
}

void gguf_file_u32(struct gguf_file *f, const char *key, uint32_t value)
{
    gguf_file_raw(f, key, 4, &value, 4);
}

void gguf_file_f32(struct gguf_file *f, const char *key, float value)
{
    gguf_file_raw(f, key, 6, &value, 4);
}

void gguf_file_texts(struct gguf_file *f, const char *key, const char *const *values, size_t n)
{
    gguf_file_raw(f, key, 9, NULL, 0);
    add_u32(&f->kv, 8);
    add_u64(&f->kv, n);
    for (size_t i = 0; i < n; i++)
        add_text(&f->kv, values[i]);
}

void gguf_file_i32s(struct gguf_file *f, const char *key, const int32_t *values, size_t n)
{
    gguf_file_raw(f, key, 9, NULL, 0);
    add_u32(&f->kv, 5);
    add_u64(&f->kv, n);
    gguf_bytes_add(&f->kv, values, n * sizeof *values);
}

static void pad(struct gguf_bytes *b, size_t before, size_t align)
{
    static const uint8_t zero[1];
    while ((before + b->n) % align)
        gguf_bytes_add(b, zero, 1);
}

static size_t align_of(const struct gguf_file *f)
{
    return f->align ? f->align : 32;
}

void gguf_file_tensor(struct gguf_file *f, const char *name, uint32_t dims, const uint64_t *sizes,
                      uint32_t type, const void *data, size_t bytes)
{
    pad(&f->data, 0, align_of(f));
    add_text(&f->infos, name);
    add_u32(&f->infos, dims);
    for (uint32_t i = 0; i < dims; i++)
        add_u64(&f->infos, sizes[i]);
    add_u32(&f->infos, type);
    add_u64(&f->infos, f->data.n);
    gguf_bytes_add(&f->data, data, bytes);
    f->tensors++;
}

uint8_t *gguf_file_bytes(struct gguf_file *f, size_t *n)
{
    struct gguf_bytes all = {0};
    gguf_bytes_add(&all, "GGUF", 4);
    add_u32(&all, f->version ? f->version : 3);
    add_u64(&all, f->tensors + (uint64_t)f->wrong_tensors);
    add_u64(&all, f->values + (uint64_t)f->wrong_values);
    gguf_bytes_add(&all, f->kv.data, f->kv.n);
    gguf_bytes_add(&all, f->infos.data, f->infos.n);
    pad(&all, 0, align_of(f));
    pad(&f->data, 0, align_of(f));
    gguf_bytes_add(&all, f->data.data, f->data.n);
    free(f->kv.data);
    free(f->infos.data);
    free(f->data.data);
    *f = (struct gguf_file){0};
    *n = all.n;
    return all.data;
}

void gguf_file_write(struct gguf_file *f, const char *path)
{
    size_t n;
    uint8_t *bytes = gguf_file_bytes(f, &n);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, n, file) != n || fclose(file) != 0)
        die("%s cannot be written", path);
    free(bytes);
}
