#include "data/gguf_part.h"

#include "base/files.h"
#include "base/mem.h"
#include "kernels/weights/codec.h"

#include <stdlib.h>
#include <string.h>

#define MAX_DIMS      4
#define TENSOR_LEAST  32 /* bytes that the shortest description of a tensor takes */
#define VALUE_LEAST   13 /* and the shortest pair of key and value */
#define DEFAULT_ALIGN 32
#define KEY_SHOWN     100

/* ggml's types: which codec reads them, or only their name, to be refused by. */
static const struct {
    uint32_t id;
    const char *name;
    const struct codec *codec;
} types[] = {
    {0, "F32", &codec_f32},
    {1, "F16", &codec_f16},
    {30, "BF16", &codec_bf16},
    {8, "Q8_0", &codec_q8_0},
    {2, "Q4_0", &codec_q4_0},
    {3, "Q4_1", &codec_q4_1},
    {6, "Q5_0", &codec_q5_0},
    {7, "Q5_1", &codec_q5_1},
    {10, "Q2_K", &codec_q2_k},
    {11, "Q3_K", &codec_q3_k},
    {12, "Q4_K", &codec_q4_k},
    {13, "Q5_K", &codec_q5_k},
    {14, "Q6_K", &codec_q6_k},
    {20, "IQ4_NL", &codec_iq4_nl},
    {23, "IQ4_XS", &codec_iq4_xs},
    {39, "MXFP4", &codec_mxfp4},
    {9, "Q8_1", NULL},
    {15, "Q8_K", NULL},
    {16, "IQ2_XXS", NULL},
    {17, "IQ2_XS", NULL},
    {18, "IQ3_XXS", NULL},
    {19, "IQ1_S", NULL},
    {21, "IQ3_S", NULL},
    {22, "IQ2_S", NULL},
    {24, "I8", NULL},
    {25, "I16", NULL},
    {26, "I32", NULL},
    {27, "I64", NULL},
    {28, "F64", NULL},
    {29, "IQ1_M", NULL},
    {34, "TQ1_0", NULL},
    {35, "TQ2_0", NULL},
    {40, "NVFP4", NULL},
};

#define TYPES (sizeof types / sizeof *types)

uint32_t gguf_type_id(const struct codec *c)
{
    for (size_t i = 0; i < TYPES; i++)
        if (types[i].codec == c)
            return types[i].id;
    die("%s is no format of GGUF", c->name);
}

/* What is left to read. */
struct part_reader {
    const struct gguf_part *part;
    size_t at;
    struct err *e;
};

/* ---- numbers and strings --------------------------------------------------------------------- */

static int cut_off(const struct part_reader *r, const char *what, size_t wanted)
{
    return err_set(r->e,
                   "%s: %s at byte %zu needs %zu bytes, and the file has %zu: it is cut off or "
                   "damaged",
                   r->part->file.path, what, r->at, wanted, r->part->file.bytes);
}

/* n bytes, or NULL after the error. */
static const uint8_t *take(struct part_reader *r, const char *what, uint64_t n)
{
    if (n > r->part->file.bytes - r->at) {
        cut_off(r, what, n);
        return NULL;
    }
    const uint8_t *bytes = r->part->file.data + r->at;
    r->at += n;
    return bytes;
}

static int take_u32(struct part_reader *r, const char *what, uint32_t *out)
{
    const uint8_t *b = take(r, what, 4);
    *out = 0;
    if (!b)
        return -1;
    memcpy(out, b, 4);
    return 0;
}

static int take_u64(struct part_reader *r, const char *what, uint64_t *out)
{
    const uint8_t *b = take(r, what, 8);
    *out = 0;
    if (!b)
        return -1;
    memcpy(out, b, 8);
    return 0;
}

static int take_string(struct part_reader *r, const char *what, struct gguf_string *out)
{
    uint64_t n;
    if (take_u64(r, what, &n) != 0)
        return -1;
    out->text = (const char *)take(r, what, n);
    out->bytes = n;
    return out->text ? 0 : -1;
}

static int shown(const struct gguf_string *s)
{
    return (int)(s->bytes < KEY_SHOWN ? s->bytes : KEY_SHOWN);
}

/* ---- metadata --------------------------------------------------------------------------------- */

static const size_t type_bytes[GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};

static int take_elements(struct part_reader *r, struct gguf_value *v)
{
    /* A string takes at least its length, so that no count can ask for more memory than the file
     * is long. */
    size_t least = type_bytes[v->type];
    if (v->count > (r->part->file.bytes - r->at) / least)
        return err_set(r->e,
                       "%s: key \"%.*s\": %zu elements do not fit the file of %zu bytes: it is cut "
                       "off or damaged",
                       r->part->file.path, shown(&v->key), v->key.text, v->count,
                       r->part->file.bytes);
    if (v->type != GGUF_STRING) {
        v->data = take(r, "a value", v->count * least);
        return 0;
    }
    v->strings = mem_zeroed(v->count, sizeof *v->strings);
    for (size_t i = 0; i < v->count; i++)
        if (take_string(r, "a string", &v->strings[i]) != 0)
            return -1;
    return 0;
}

static int take_value(struct part_reader *r, struct gguf_value *v)
{
    uint32_t type;
    uint64_t count = 1;
    if (take_string(r, "a key", &v->key) != 0 || take_u32(r, "the type of a value", &type) != 0)
        return -1;
    if (v->key.bytes == 0)
        return err_set(r->e, "%s: a key at byte %zu is empty", r->part->file.path, r->at);
    v->array = type == GGUF_ARRAY;
    if (v->array &&
        (take_u32(r, "the type of an array", &type) != 0 || take_u64(r, "an array", &count) != 0))
        return -1;
    if (type >= GGUF_TYPES || type == GGUF_ARRAY)
        return err_set(r->e,
                       "%s: key \"%.*s\" has %s %u; known are 0 to 12, and no arrays of arrays",
                       r->part->file.path, shown(&v->key), v->key.text,
                       v->array ? "elements of type" : "type", type);
    v->type = (enum gguf_type)type;
    v->count = count;
    return take_elements(r, v);
}

static int compare_keys(const void *left, const void *right)
{
    const struct gguf_string *a = &((const struct gguf_value *)left)->key;
    const struct gguf_string *b = &((const struct gguf_value *)right)->key;
    int order = memcmp(a->text, b->text, a->bytes < b->bytes ? a->bytes : b->bytes);
    return order ? order : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

static int take_values(struct part_reader *r, struct gguf_part *p, uint64_t count)
{
    if (count > (p->file.bytes - r->at) / VALUE_LEAST)
        return err_set(r->e, "%s: %llu keys do not fit the file of %zu bytes: it is damaged",
                       p->file.path, (unsigned long long)count, p->file.bytes);
    p->values = mem_zeroed(count, sizeof *p->values);
    while (p->n_values < count)
        if (take_value(r, &p->values[p->n_values++]) != 0)
            return -1;
    if (count > 1)
        qsort(p->values, count, sizeof *p->values, compare_keys);
    for (size_t i = 1; i < count; i++)
        if (compare_keys(&p->values[i - 1], &p->values[i]) == 0)
            return err_set(r->e, "%s: key \"%.*s\" stands there twice", p->file.path,
                           shown(&p->values[i].key), p->values[i].key.text);
    return 0;
}

const struct gguf_value *gguf_part_find(const struct gguf_part *p, const char *key)
{
    struct gguf_value wanted = {.key = {key, strlen(key)}};
    return p->n_values ? bsearch(&wanted, p->values, p->n_values, sizeof wanted, compare_keys)
                       : NULL;
}

/* ---- tensors ---------------------------------------------------------------------------------- */

static int bad_tensor(const struct part_reader *r, const struct tensor *t)
{
    return err_prefix(r->e, "%s: tensor \"%.*s\"", r->part->file.path, GGUF_NAME_MAX, t->name);
}

static int take_name(struct part_reader *r, struct tensor *t)
{
    struct gguf_string name;
    t->name = t->dtype_text = "";
    t->file = r->part->file.path;
    if (take_string(r, "the name of a tensor", &name) != 0)
        return -1;
    if (name.bytes == 0 || name.bytes > GGUF_NAME_MAX || memchr(name.text, 0, name.bytes))
        return err_set(
            r->e,
            "%s: the name of a tensor before byte %zu has %zu bytes or a NUL; wanted 1 to "
            "%d bytes of text",
            r->part->file.path, r->at, name.bytes, GGUF_NAME_MAX);
    t->name = mem_string_n(name.text, name.bytes);
    return 0;
}

/* Sizes, the fastest first in the file; elements: their product. */
static int take_shape(struct part_reader *r, struct tensor *t, size_t *elements)
{
    uint32_t dims;
    if (take_u32(r, "the dimensions of a tensor", &dims) != 0)
        return -1;
    if (dims > MAX_DIMS)
        return err_set(r->e, "has %u dimensions, at most %d are known", dims, MAX_DIMS);
    t->dims = (int)dims;
    *elements = 1;
    for (uint32_t i = 0; i < dims; i++) {
        uint64_t size;
        if (take_u64(r, "a size of a tensor", &size) != 0)
            return -1;
        if (size == 0 || __builtin_mul_overflow(*elements, size, elements))
            return err_set(r->e, "size %u is %llu; wanted 1 or more, and a product of 64 bits", i,
                           (unsigned long long)size);
        t->shape[dims - 1 - i] = size;
    }
    return 0;
}

static int set_type(struct part_reader *r, struct tensor *t, uint32_t type)
{
    for (size_t i = 0; i < TYPES; i++) {
        if (types[i].id != type)
            continue;
        t->dtype_text = types[i].name;
        t->codec = types[i].codec;
        if (!t->codec)
            return err_set(
                r->e,
                "is of type %s, which is not supported; supported: F32 F16 BF16 Q8_0 Q4_0 "
                "Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4",
                types[i].name);
        t->known = true;
        t->dtype = type == 0    ? DTYPE_F32
                   : type == 1  ? DTYPE_F16
                   : type == 30 ? DTYPE_BF16
                                : DTYPE_COUNT;
        return 0;
    }
    return err_set(r->e, "has the unknown type %u", type);
}

/* offset: where its data begins in the data of the file. */
static int take_tensor(struct part_reader *r, struct tensor *t, uint64_t *offset)
{
    size_t elements = 0;
    uint32_t type;
    if (take_shape(r, t, &elements) != 0 || take_u32(r, "the type of a tensor", &type) != 0 ||
        take_u64(r, "the offset of a tensor", offset) != 0 || set_type(r, t, type) != 0)
        return -1;
    size_t columns = t->dims ? t->shape[t->dims - 1] : 1;
    if (columns % t->codec->block)
        return err_set(r->e, "has rows of %zu numbers; %s wants multiples of %zu", columns,
                       t->dtype_text, t->codec->block);
    if (__builtin_mul_overflow(elements / t->codec->block, t->codec->block_bytes, &t->bytes))
        return err_set(r->e, "has %zu numbers, more than 64 bits can count", elements);
    return 0;
}

static int take_tensors(struct part_reader *r, struct gguf_part *p, uint64_t count,
                        uint64_t *offsets)
{
    while (p->n_tensors < count) {
        struct tensor *t = &p->tensors[p->n_tensors];
        p->n_tensors++; /* counted first: close() frees the name */
        if (take_name(r, t) != 0)
            return -1;
        if (take_tensor(r, t, &offsets[p->n_tensors - 1]) != 0)
            return bad_tensor(r, t);
    }
    return 0;
}

static int alignment_of(const struct part_reader *r, size_t *align)
{
    const struct gguf_value *v = gguf_part_find(r->part, "general.alignment");
    int64_t n = DEFAULT_ALIGN;
    if (v && (v->array || !gguf_integer(v, 0, &n) || n < 1 || n > 1 << 20 || (n & (n - 1))))
        return err_set(r->e, "%s: general.alignment is not a power of two up to %d",
                       r->part->file.path, 1 << 20);
    *align = (size_t)n;
    return 0;
}

/* Points the tensors at their data, which follows that of the tensor before. */
static int place_tensors(struct part_reader *r, struct gguf_part *p, const uint64_t *offsets)
{
    size_t align = 1, expected = 0;
    if (alignment_of(r, &align) != 0)
        return -1;
    size_t base = (r->at + align - 1) / align * align;
    for (size_t i = 0; i < p->n_tensors; i++) {
        struct tensor *t = &p->tensors[i];
        if (offsets[i] != expected) {
            err_set(r->e, "its data begins at %llu; wanted %zu, behind the tensor before",
                    (unsigned long long)offsets[i], expected);
            return bad_tensor(r, t);
        }
        size_t end;
        if (__builtin_add_overflow(expected, t->bytes, &end) || base > p->file.bytes ||
            end > p->file.bytes - base) {
            err_set(r->e, "its %zu bytes at %zu reach beyond the file of %zu bytes: it is cut off",
                    t->bytes, base + expected, p->file.bytes);
            return bad_tensor(r, t);
        }
        t->data = p->file.data + base + expected;
        size_t unit = t->known && t->dtype != DTYPE_COUNT ? dtype_size(t->dtype) : 1;
        if ((base + expected) % unit) {
            err_set(r->e, "its data begins at byte %zu, not at a multiple of its %zu-byte number",
                    base + expected, unit);
            return bad_tensor(r, t);
        }
        expected = (end + align - 1) / align * align;
    }
    return 0;
}

/* ---- the file --------------------------------------------------------------------------------- */

static int check_head(struct part_reader *r)
{
    uint32_t version;
    const uint8_t *magic = take(r, "the head", 4);
    if (files_refuse_pointer(r->part->file.path, r->part->file.data, r->part->file.bytes, r->e) !=
        0)
        return -1;
    if (memcmp(magic, "GGUF", 4) != 0)
        return err_set(r->e, "%s: is no GGUF file: it begins with %02x %02x %02x %02x",
                       r->part->file.path, magic[0], magic[1], magic[2], magic[3]);
    take_u32(r, "the version", &version);
    if (version && (version & 0xffff) == 0)
        return err_set(r->e, "%s: is a big-endian GGUF file; only little-endian ones are read",
                       r->part->file.path);
    if (version < 2 || version > 3)
        return err_set(r->e, "%s: is GGUF version %u; versions 2 and 3 are read",
                       r->part->file.path, version);
    return 0;
}

static int read_part(struct gguf_part *p, struct err *e)
{
    struct part_reader r = {p, 0, e};
    uint64_t tensors, values;
    if (check_head(&r) != 0 || take_u64(&r, "the number of tensors", &tensors) != 0 ||
        take_u64(&r, "the number of keys", &values) != 0 || take_values(&r, p, values) != 0)
        return -1;
    if (tensors > (p->file.bytes - r.at) / TENSOR_LEAST + 1)
        return err_set(e, "%s: %llu tensors do not fit the file of %zu bytes: it is damaged",
                       p->file.path, (unsigned long long)tensors, p->file.bytes);
    p->tensors = mem_zeroed(tensors, sizeof *p->tensors);
    uint64_t *offsets = mem_zeroed(tensors, sizeof *offsets);
    int rc = take_tensors(&r, p, tensors, offsets);
    if (rc == 0)
        rc = place_tensors(&r, p, offsets);
    free(offsets);
    if (rc == 0)
        mapped_had_header(&p->file, r.at);
    return rc;
}

int gguf_part_open(struct gguf_part *p, const char *path, struct err *e)
{
    return mapped_open(&p->file, path, 24, e) != 0 ? -1
                                                   : read_part(p, e); /* magic, version, counts */
}

void gguf_part_close(struct gguf_part *p)
{
    for (size_t i = 0; i < p->n_values; i++)
        free(p->values[i].strings);
    for (size_t i = 0; i < p->n_tensors; i++)
        if (p->tensors[i].name && *p->tensors[i].name)
            free((char *)p->tensors[i].name);
    free(p->values);
    free(p->tensors);
    mapped_close(&p->file);
}
