#include "data/safetensors.h"

#include "base/files.h"
#include "base/mem.h"
#include "kernels/weights/codec.h"
#include "data/mapped.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct safetensors {
    struct mapped file;
    const uint8_t *data; /* what the offsets count from */
    size_t data_bytes;
    struct tensor *tensors;
    size_t count;
};

/* Every dtype the format defines, so that the byte count of tensors nobody asks for is checked too.
 */
static const struct {
    const char *text;
    unsigned bits;
    enum dtype dtype; /* DTYPE_COUNT: not read by this program */
} formats[] = {
    {"F32", 32, DTYPE_F32},      {"BF16", 16, DTYPE_BF16},    {"F8_E4M3", 8, DTYPE_F8E4M3},
    {"F16", 16, DTYPE_F16},      {"F64", 64, DTYPE_COUNT},    {"F8_E5M2", 8, DTYPE_COUNT},
    {"F8_E8M0", 8, DTYPE_COUNT}, {"F6_E2M3", 6, DTYPE_COUNT}, {"F6_E3M2", 6, DTYPE_COUNT},
    {"F4", 4, DTYPE_COUNT},      {"BOOL", 8, DTYPE_COUNT},    {"U8", 8, DTYPE_COUNT},
    {"I8", 8, DTYPE_I8},         {"U16", 16, DTYPE_COUNT},    {"I16", 16, DTYPE_COUNT},
    {"U32", 32, DTYPE_COUNT},    {"I32", 32, DTYPE_COUNT},    {"U64", 64, DTYPE_COUNT},
    {"I64", 64, DTYPE_COUNT},    {"C64", 64, DTYPE_COUNT},
};

#define FORMATS (sizeof formats / sizeof *formats)

/* Length of the JSON header; sets where the data is. */
static int read_header_length(struct safetensors *s, size_t *length, struct err *e)
{
    uint64_t n = 0;
    for (int i = 0; i < 8; i++)
        n |= (uint64_t)s->file.data[i] << 8 * i;
    if (files_refuse_pointer(s->file.path, s->file.data, s->file.bytes, e) != 0)
        return -1;
    if (n > SAFETENSORS_HEADER_MAX)
        return err_set(e,
                       "%s: header length %llu is above the format's limit of %u bytes; this is no "
                       "safetensors file, or it is damaged",
                       s->file.path, (unsigned long long)n, SAFETENSORS_HEADER_MAX);
    if (n > s->file.bytes - 8)
        return err_set(e,
                       "%s: header length %llu does not fit the file of %zu bytes; the file is cut "
                       "off or no safetensors file",
                       s->file.path, (unsigned long long)n, s->file.bytes);
    *length = (size_t)n;
    s->data = s->file.data + 8 + n;
    s->data_bytes = s->file.bytes - 8 - (size_t)n;
    return 0;
}

static int bad(const struct safetensors *s, const char *tensor, struct err *e)
{
    return err_prefix(e, "%s: tensor \"%.200s\"", s->file.path, tensor);
}

static int parse_shape(struct tensor *t, const json_t *shape, size_t *elements, struct err *e)
{
    if (!json_is_array(shape))
        return err_set(e, "wanted \"shape\" as an array of sizes, found %s",
                       shape ? "something else" : "none");
    size_t dims = json_array_size(shape);
    if (dims > TENSOR_MAX_DIMS)
        return err_set(e, "has %zu dimensions, at most %d are read", dims, TENSOR_MAX_DIMS);
    *elements = 1;
    t->dims = (int)dims;
    for (size_t i = 0; i < dims; i++) {
        const json_t *size = json_array_get(shape, i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return err_set(e, "shape[%zu] is not a whole number of 0 or more", i);
        t->shape[i] = (size_t)json_integer_value(size);
        if (__builtin_mul_overflow(*elements, t->shape[i], elements))
            return err_set(e, "the product of its shape does not fit 64 bits");
    }
    return 0;
}

static int parse_dtype(struct tensor *t, const json_t *dtype, unsigned *bits, struct err *e)
{
    if (!json_is_string(dtype))
        return err_set(e, "wanted \"dtype\" as a string, found %s",
                       dtype ? "something else" : "none");
    const char *text = json_string_value(dtype);
    t->dtype = DTYPE_COUNT;
    *bits = 0;
    for (size_t i = 0; i < FORMATS; i++) {
        if (strcmp(text, formats[i].text) == 0) {
            t->dtype = formats[i].dtype;
            *bits = formats[i].bits;
        }
    }
    t->known = t->dtype != DTYPE_COUNT;
    t->codec = t->known ? codec_of(t->dtype) : NULL;
    t->dtype_text = mem_string(text);
    return 0;
}

/* bits: of one element; 0 when the dtype is not one of the format's (its size is then taken on
 * trust) */
static int parse_range(struct safetensors *s, struct tensor *t, const json_t *offsets,
                       unsigned bits, size_t elements, struct err *e)
{
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !json_is_integer(json_array_get(offsets, 0)) ||
        !json_is_integer(json_array_get(offsets, 1)))
        return err_set(e, "wanted \"data_offsets\" as [begin, end], two whole numbers");
    json_int_t begin = json_integer_value(json_array_get(offsets, 0));
    json_int_t end = json_integer_value(json_array_get(offsets, 1));
    if (begin < 0 || end < begin)
        return err_set(e, "data_offsets [%lld, %lld] are not a range", (long long)begin,
                       (long long)end);
    if ((uint64_t)end > s->data_bytes)
        return err_set(
            e,
            "data_offsets [%lld, %lld] reach beyond the file, which has %zu bytes of data;"
            " the file is cut off",
            (long long)begin, (long long)end, s->data_bytes);
    t->bytes = (size_t)(end - begin);
    t->data = s->data + begin;
    size_t all_bits;
    if (bits && (__builtin_mul_overflow(elements, (size_t)bits, &all_bits) || all_bits % 8 ||
                 all_bits / 8 != t->bytes))
        return err_set(e,
                       "%zu elements of %s (%u bits each) do not make the %zu bytes of its "
                       "data_offsets",
                       elements, t->dtype_text, bits, t->bytes);
    size_t align = t->known ? dtype_size(t->dtype) : 1;
    if (t->bytes && (size_t)((const uint8_t *)t->data - s->file.data) % align)
        return err_set(e,
                       "its data begins at byte %zu of the file, not at a multiple of its %zu-byte "
                       "element; write the file again with a current safetensors library "
                       "(load_file, then save_file), which aligns the data",
                       (size_t)((const uint8_t *)t->data - s->file.data), align);
    return 0;
}

static int parse_tensor(struct safetensors *s, const char *name, const json_t *entry, struct err *e)
{
    struct tensor *t = &s->tensors[s->count++]; /* counted first: close() frees what is in it */
    t->name = mem_string(name);
    t->file = s->file.path;
    if (!json_is_object(entry))
        return err_set(e, "wanted an object with dtype, shape and data_offsets");
    unsigned bits = 0;
    size_t elements = 0;
    if (parse_dtype(t, json_object_get(entry, "dtype"), &bits, e) != 0 ||
        parse_shape(t, json_object_get(entry, "shape"), &elements, e) != 0)
        return -1;
    return parse_range(s, t, json_object_get(entry, "data_offsets"), bits, elements, e);
}

static int parse_header(struct safetensors *s, size_t length, struct err *e)
{
    json_error_t why;
    json_t *root = json_loadb((const char *)s->file.data + 8, length, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return err_set(e, "%s: the header is not valid JSON: %s (byte %d of the header)",
                       s->file.path, why.text, why.position);
    int rc = 0;
    if (!json_is_object(root))
        rc = err_set(e, "%s: the header is JSON, but not an object of tensors", s->file.path);
    else
        s->tensors = mem_zeroed(json_object_size(root), sizeof *s->tensors);
    void *at = rc == 0 ? json_object_iter(root) : NULL;
    for (; at && rc == 0; at = json_object_iter_next(root, at)) {
        const char *name = json_object_iter_key(at);
        if (strcmp(name, "__metadata__") != 0) {
            rc = parse_tensor(s, name, json_object_iter_value(at), e);
            if (rc != 0)
                bad(s, name, e);
        } else if (!json_is_object(json_object_iter_value(at))) {
            rc = err_set(e, "%s: __metadata__ is not an object", s->file.path);
        }
    }
    json_decref(root);
    return rc;
}

static int by_place(const void *left, const void *right)
{
    const struct tensor *a = left, *b = right;
    if (a->data != b->data)
        return (const uint8_t *)a->data < (const uint8_t *)b->data ? -1 : 1;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1
                                   : 1; /* empty tensors before what begins at the same place */
    return strcmp(a->name, b->name);
}

/* The tensors, in order, cover the data exactly. */
static int check_layout(struct safetensors *s, struct err *e)
{
    size_t end = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct tensor *t = &s->tensors[i];
        size_t begin = (size_t)((const uint8_t *)t->data - s->data);
        if (begin < end) {
            err_set(e, "its data at %zu overlaps that of tensor \"%.200s\", which ends at %zu",
                    begin, s->tensors[i - 1].name, end);
            return bad(s, t->name, e);
        }
        if (begin > end) {
            err_set(e,
                    "%zu bytes before its data belong to no tensor (%zu to %zu); the file is "
                    "damaged or was written wrongly",
                    begin - end, end, begin);
            return bad(s, t->name, e);
        }
        end = begin + t->bytes;
    }
    if (end != s->data_bytes)
        return err_set(e,
                       "%s: %zu bytes at the end of the file belong to no tensor; the file is "
                       "damaged or was written wrongly (last tensor: \"%.200s\")",
                       s->file.path, s->data_bytes - end,
                       s->count ? s->tensors[s->count - 1].name : "");
    return 0;
}

int safetensors_open(struct safetensors **out, const char *path, struct err *e)
{
    struct safetensors *s = mem_zeroed(1, sizeof *s);
    size_t length = 0;
    int rc = mapped_open(&s->file, path, 8, e); /* the header's length */
    if (rc == 0)
        rc = read_header_length(s, &length, e);
    if (rc == 0)
        rc = parse_header(s, length, e);
    if (rc == 0) {
        mapped_had_header(&s->file, 8 + length);
        if (s->count > 1)
            qsort(s->tensors, s->count, sizeof *s->tensors, by_place);
        rc = check_layout(s, e);
    }
    if (rc != 0) {
        safetensors_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void safetensors_close(struct safetensors *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->count; i++) {
        free((char *)s->tensors[i].name);
        free((char *)s->tensors[i].dtype_text);
    }
    free(s->tensors);
    mapped_close(&s->file);
    free(s);
}

size_t safetensors_count(const struct safetensors *s)
{
    return s->count;
}

const struct tensor *safetensors_at(const struct safetensors *s, size_t i)
{
    return &s->tensors[i];
}
