/* load_value.h - reading values of tokenizer.json, with errors that name file and field. */
#ifndef TANDEM_TEXT_LOAD_VALUE_H
#define TANDEM_TEXT_LOAD_VALUE_H

#include "base/err.h"
#include "text/load.h"

#include <jansson.h>

#include <stdbool.h>

/* What every loading function is given. */
struct loader {
    struct load_parts *parts;
    const char *path;
    struct err *e;
};

/* The message "path: field: what" (field in printf format); returns -1. */
int load_value_wrong(const struct loader *l, const char *what, const char *field, ...)
    __attribute__((format(printf, 3, 4)));

/* The message "path: field: wanted W, found an array"; `found` may be NULL (missing). Returns -1.
 */
int load_value_wrong_kind(const struct loader *l, const char *wanted, const json_t *found,
                          const char *field);

/* 0 when every key of the object is in `known` ("a b c"). An unknown one could change the ids: -1.
 */
int load_value_keys(const struct loader *l, json_t *object, const char *field, const char *known);

/* The boolean object[key]. Missing or null gives `otherwise`; with -1 it must be there. */
int load_value_bool(const struct loader *l, json_t *object, const char *field, const char *key,
                    int otherwise, bool *out);

/* The "type" of an object, or NULL after the error. Lives as long as the object. */
const char *load_value_type(const struct loader *l, json_t *object, const char *field);

/* The message that field.type is not supported and what is; returns -1. */
int load_value_unsupported(const struct loader *l, const char *field, const char *type,
                           const char *supported);

#endif
