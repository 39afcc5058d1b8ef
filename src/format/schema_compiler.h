/* schema_compiler.h - what the files of a schema's compiler share. For schema*.c only. */
#ifndef TANDEM_FORMAT_SCHEMA_COMPILER_H
#define TANDEM_FORMAT_SCHEMA_COMPILER_H

#include "format/schema.h"
#include "format/schema_rules.h"

struct schema_compiler {
    struct grammar *g;
    struct schema_rules rules;
    const json_t *root;
    struct {
        char *pointer;
        int32_t rule;
    } * refs;
    size_t n_refs;
    char where[512]; /* of the schema that is read */
    int depth;
    struct err *e;
};

/* -1, and the message behind the place. */
int schema_refuse(struct schema_compiler *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A rule of its own for a schema that stands one step further down, which messages then name; -1: it is
 * not supported. */
int32_t schema_rule_below(struct schema_compiler *c, const json_t *s, const char *name);

/* A count of 0 or more; *out stays when it is not there. */
int schema_read_count(struct schema_compiler *c, const json_t *s, const char *name, long *out);

/* Texts of one type that a schema accepts, from node to node: schema_scalar.c, schema_nested.c. */
int schema_add_string(struct schema_compiler *c, const json_t *s, int32_t from, int32_t to);
int schema_add_number(struct schema_compiler *c, const json_t *s, bool integer, int32_t from,
                      int32_t to);
int schema_add_array(struct schema_compiler *c, const json_t *s, int32_t from, int32_t to);
int schema_add_object(struct schema_compiler *c, const json_t *s, int32_t from, int32_t to);

/* What stands between the quotes of a string of that format. */
int schema_add_format(struct schema_compiler *c, const char *name, int32_t from, int32_t to);

/* allOf of several schemas, and what stands beside it: the object that all of them are about. */
int schema_add_all(struct schema_compiler *c, const json_t *s, int32_t from, int32_t to);

/* Is there no value that both accept, as far as types, const, enum and required properties with them tell?
 * (schema_apart.c) */
bool schema_apart(const json_t *root, const json_t *a, const json_t *b);

/* "#/$defs/a~1b" in the root; NULL: there is nothing. */
const json_t *schema_find(const json_t *root, const char *pointer);

#endif
