/* gguf.h - one model in GGUF (versions 2 and 3), mapped: its metadata and its tensors, checked.
 *
 * The format: "GGUF", a version, counts of tensors and metadata; metadata as key, type, value;
 * tensors as name, sizes (the fastest first), type, offset; then the data, from the next multiple of
 * general.alignment on, tensor by tensor without holes. Everything is little-endian. A model may be
 * split into files NAME-00001-of-00005.gguf ...: the first has the metadata, each its own tensors.
 *
 * A file is somebody else's: every length, count, offset, type and number of a part is checked
 * before it is used. Strings point into the mapping and have no NUL behind them. Everything belongs
 * to the struct and lives until gguf_close(). What the names and values mean is not known here
 * (model/gguf_view.h). Any rank; reading needs no lock.
 */
#ifndef TANDEM_DATA_GGUF_H
#define TANDEM_DATA_GGUF_H

#include "base/err.h"
#include "data/checkpoint.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GGUF_NAME_MAX 63 /* bytes of a tensor's name */

struct gguf;

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPES,
};

struct gguf_string {
    const char *text;
    size_t bytes;
};

/* A scalar is an array of one. */
struct gguf_value {
    struct gguf_string key;
    enum gguf_type type; /* of the elements; never GGUF_ARRAY */
    bool array;
    size_t count;
    const uint8_t *data;         /* count elements, at any address; not for strings */
    struct gguf_string *strings; /* [count]; else NULL */
};

/* Opens the file and, when it is the first of several, the others beside it. -1 and a message with
 * file, tensor or key, what was wanted and what was found. */
int gguf_open(struct gguf **out, const char *path, struct err *e);
void gguf_close(struct gguf *g); /* NULL: nothing */

/* The path of the (first) file. */
const char *gguf_path(const struct gguf *g);

/* Does the path end in ".gguf"? */
bool gguf_is_path(const char *path);

/* Tensors of all files in their order. Shapes are reversed: the fastest dimension last, as
 * everywhere else. codec is set, dtype_text is ggml's name of the type ("Q4_K"). */
size_t gguf_count(const struct gguf *g);
const struct tensor *gguf_at(const struct gguf *g, size_t i);

/* Metadata of the first file; NULL: no such key. */
const struct gguf_value *gguf_find(const struct gguf *g, const char *key);

/* Is the value this text? NULL is not. */
bool gguf_is_text(const struct gguf_value *v, const char *text);

/* Element i of a value as a number of the kind; false when it is of another kind or does not fit.
 * Integers come in any integer type, and true and false count as 1 and 0. */
bool gguf_integer(const struct gguf_value *v, size_t i, int64_t *out);
bool gguf_number(const struct gguf_value *v, size_t i, double *out);

/* "u32", "array of string" and so on, for messages. text holds 32 bytes. */
const char *gguf_type_text(const struct gguf_value *v, char text[32]);

/* The number by which tensors name a format; it is one of GGUF. */
uint32_t gguf_type_id(const struct codec *c);

#endif
