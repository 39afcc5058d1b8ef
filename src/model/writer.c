#include "model/writer.h"

#include "base/files.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER_ALIGN 8 /* the format asks for it: the data then begins aligned */

void writer_init(struct writer *s, const char *directory)
{
    *s = (struct writer){.directory = directory};
}

void writer_free(struct writer *s)
{
    free(s->tensors);
    s->tensors = NULL;
    s->count = 0;
}

void writer_add_other(struct writer *s, const char *name, const char *type, size_t width, int dims,
                      const size_t *shape, bool joined)
{
    s->tensors = mem_resize(s->tensors, s->count + 1, sizeof *s->tensors);
    struct writer_tensor *t = &s->tensors[s->count++];
    *t = (struct writer_tensor){
        .dtype = DTYPE_COUNT, .type = type, .width = width, .dims = dims, .joined = joined};
    snprintf(t->name, sizeof t->name, "%s", name);
    t->bytes = width;
    for (int i = 0; i < dims; i++) {
        t->shape[i] = shape[i];
        t->bytes = mem_mul(t->bytes, shape[i]);
    }
}

void writer_add(struct writer *s, const char *name, enum dtype dtype, int dims, const size_t *shape,
                bool joined)
{
    static const char *const types[DTYPE_COUNT] = {"F32", "BF16", "F8_E4M3", "I8", "F16", "F64"};
    writer_add_other(s, name, types[dtype], dtype_size(dtype), dims, shape, joined);
    s->tensors[s->count - 1].dtype = dtype;
}

void writer_plan(struct writer *s, size_t file_bytes)
{
    size_t file = 0, used = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct writer_tensor *t = &s->tensors[i];
        bool full = file_bytes && used > 0 && used + t->bytes > file_bytes;
        if (full && !t->joined) {
            file++;
            used = 0;
        }
        t->file = file;
        used += t->bytes;
    }
    s->files = s->count ? file + 1 : 0;
    for (file = 0; file < s->files; file++) {
        size_t at = 0;
        for (size_t width = 8; width > 0; width /= 2)
            for (size_t i = 0; i < s->count; i++) {
                struct writer_tensor *t = &s->tensors[i];
                if (t->file != file || t->width != width)
                    continue;
                t->offset = at;
                at += t->bytes;
            }
    }
}

size_t writer_bytes(const struct writer *s)
{
    size_t bytes = 0;
    for (size_t i = 0; i < s->count; i++)
        bytes += s->tensors[i].bytes;
    return bytes;
}

static void file_name(const struct writer *s, size_t file, char name[64])
{
    if (s->files == 1)
        snprintf(name, 64, "model.safetensors");
    else
        snprintf(name, 64, "model-%05zu-of-%05zu.safetensors", file + 1, s->files);
}

int writer_write(int fd, const void *data, size_t bytes, size_t offset, const char *what,
                 struct err *e)
{
    const char *from = data;
    while (bytes > 0) {
        ssize_t n = pwrite(fd, from, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(e, "%s: cannot be written: %s", what,
                           n < 0 ? strerror(errno) : "no progress");
        from += n;
        bytes -= (size_t)n;
        offset += (size_t)n;
    }
    return 0;
}

static json_t *header_of(const struct writer *s, size_t file)
{
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    for (size_t i = 0; i < s->count; i++) {
        const struct writer_tensor *t = &s->tensors[i];
        if (t->file != file)
            continue;
        json_t *shape = json_array();
        for (int d = 0; d < t->dims; d++)
            json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
        if (t->inner) {
            size_t last = (size_t)t->dims - 1;
            json_array_set_new(shape, last, json_integer((json_int_t)(t->shape[last] / t->inner)));
            json_array_append_new(shape, json_integer((json_int_t)t->inner));
        }
        json_t *entry =
            json_pack("{s:s, s:o, s:[I,I]}", "dtype", t->type, "shape", shape, "data_offsets",
                      (json_int_t)t->offset, (json_int_t)(t->offset + t->bytes));
        if (json_object_set_new(header, t->name, entry) != 0)
            die("out of memory while writing a checkpoint");
    }
    return header;
}

/* Eight bytes of length and the JSON, padded with blanks. Sets where the data begins. */
static int write_header(const struct writer *s, size_t file, int fd, const char *path,
                        size_t *data_begins, struct err *e)
{
    json_t *header = header_of(s, file);
    char *json = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    if (!json)
        die("out of memory while writing %s", path);
    size_t length = strlen(json);
    size_t padded = (length + HEADER_ALIGN - 1) / HEADER_ALIGN * HEADER_ALIGN;
    char *block = mem_new(padded + 8, 1);
    for (size_t i = 0; i < 8; i++)
        block[i] = (char)(uint8_t)((uint64_t)padded >> 8 * i);
    memcpy(block + 8, json, length);
    memset(block + 8 + length, ' ', padded - length);
    int status = writer_write(fd, block, padded + 8, 0, path, e);
    free(block);
    free(json);
    *data_begins = padded + 8;
    return status;
}

int writer_create(struct writer *s, size_t file, struct err *e)
{
    char name[64];
    file_name(s, file, name);
    char *path = files_join(s->directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    size_t begins = 0;
    if (fd < 0) {
        err_set(e, "%s: cannot be created: %s", path, strerror(errno));
    } else if (write_header(s, file, fd, path, &begins, e) != 0) {
        close(fd);
        fd = -1;
    }
    free(path);
    for (size_t i = 0; i < s->count && fd >= 0; i++)
        if (s->tensors[i].file == file)
            s->tensors[i].offset += begins;
    return fd;
}

int writer_write_index(const struct writer *s, struct err *e)
{
    char name[64];
    if (s->files < 2)
        return 0;
    char *path = files_join(s->directory, "model.safetensors.index.json");
    json_t *map = json_object();
    for (size_t i = 0; i < s->count; i++) {
        file_name(s, s->tensors[i].file, name);
        if (json_object_set_new(map, s->tensors[i].name, json_string(name)) != 0)
            die("out of memory while writing %s", path);
    }
    json_t *index = json_pack("{s:{s:I}, s:o}", "metadata", "total_size",
                              (json_int_t)writer_bytes(s), "weight_map", map);
    int status = 0;
    if (json_dump_file(index, path, JSON_INDENT(2)) != 0)
        status = err_set(e, "%s: cannot be written: %s", path, strerror(errno));
    json_decref(index);
    free(path);
    return status;
}
