/* config.h - JSON files of a model: reading one, and typed access to its fields, with errors that name
 * file and field.
 *
 * A reader takes its fields one after the other without looking at errors: the first thing that is
 * wrong is written to `e` and everything after it is ignored. Every field that was asked for, or
 * declared harmless, is remembered, so that config_finish() can report the first one nobody knows.
 * Used while one rank's main thread reads its model; nothing here is kept afterwards.
 */
#ifndef TANDEM_BASE_CONFIG_H
#define TANDEM_BASE_CONFIG_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct config {
    const char *file;     /* path, for messages */
    const char *inside;   /* what stands before field names in messages: "" or "text_config." */
    const json_t *fields; /* borrowed */
    json_t *seen;         /* names asked for; owned */
    struct err *e;        /* empty text: nothing wrong yet */
    /* Fields that count as absent: an array of names as messages write them, "rope_scaling.type";
     * NULL: none. */
    const json_t *ignore;
};

/* The JSON in a file, to be released by json_decref(): any value, no key twice. NULL and a message:
 * "FILE: cannot be ..." or "FILE:line:column: not valid JSON: ...". */
json_t *config_read_file(const char *file, struct err *e);
/* The same from n bytes, which stand in `file` in whatever way. */
json_t *config_read_text(const char *file, const char *text, size_t n, struct err *e);

/* e->text must be empty or hold the error of a config read before. `fields` must be an object and
 * live until config_close(). */
void config_open(struct config *c, const char *file, const char *inside, const json_t *fields,
                 struct err *e);
/* An object inside of it, whose ignored fields are c's; `inside` as above. */
void config_open_inside(struct config *inner, const struct config *c, const char *inside,
                        const json_t *fields);
void config_close(struct config *c);

bool config_failed(const struct config *c);

/* "FILE: INSIDE+FIELD " and the message; kept only when nothing was wrong before. */
void config_wrong(struct config *c, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The value as JSON text, shortened, for messages. text holds `size` bytes. */
const char *config_text(const json_t *value, char *text, size_t size);

/* The value, or NULL when the field is absent, or ignored. JSON's null is a value here. */
const json_t *config_get(struct config *c, const char *field);

/* An integer in [least, most]. The _or forms return `otherwise` when the field is absent; without
 * it an absent field is an error. After an error the result is the nearest harmless number. */
size_t config_size(struct config *c, const char *field, size_t least, size_t most);
size_t config_size_or(struct config *c, const char *field, size_t least, size_t most,
                      size_t otherwise);

/* A finite number with above < number <= most. */
double config_number_or(struct config *c, const char *field, double above, double most,
                        double otherwise);

bool config_bool_or(struct config *c, const char *field, bool otherwise);

/* When the field is there it must equal one of the JSON texts (separated by blanks, no blanks
 * inside); `why` ends the message: what this program can do. */
void config_must_be(struct config *c, const char *field, const char *texts, const char *why);

/* Fields that do not change the result: NULL-terminated list. */
void config_ignore(struct config *c, const char *const *fields);

/* Any field left that nobody asked for is an error. */
void config_finish(struct config *c);

#endif
