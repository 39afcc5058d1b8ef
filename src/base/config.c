#include "base/config.h"

#include "base/files.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 80 /* bytes of a value that are shown in a message */

json_t *config_read_text(const char *file, const char *text, size_t n, struct err *e)
{
    json_error_t where;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        err_set(e, "%s:%d:%d: not valid JSON: %s", file, where.line, where.column, where.text);
    return root;
}

json_t *config_read_file(const char *file, struct err *e)
{
    size_t n;
    char *text = files_read(file, FILES_BYTES_MAX, &n, e);
    json_t *root = text ? config_read_text(file, text, n, e) : NULL;
    free(text);
    return root;
}

void config_open(struct config *c, const char *file, const char *inside, const json_t *fields,
                 struct err *e)
{
    *c = (struct config){
        .file = file, .inside = inside, .fields = fields, .seen = json_object(), .e = e};
    if (!c->seen)
        die("out of memory while reading %s", file);
}

void config_open_inside(struct config *inner, const struct config *c, const char *inside,
                        const json_t *fields)
{
    config_open(inner, c->file, inside, fields, c->e);
    inner->ignore = c->ignore;
}

void config_close(struct config *c)
{
    json_decref(c->seen);
    c->seen = NULL;
}

bool config_failed(const struct config *c)
{
    return c->e->text[0] != '\0';
}

void config_wrong(struct config *c, const char *field, const char *format, ...)
{
    if (config_failed(c))
        return;
    char message[ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    err_set(c->e, "%s: %s%s %s", c->file, c->inside, field, message);
}

const char *config_text(const json_t *value, char *text, size_t size)
{
    char *all = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
    int n = snprintf(text, size, "%s", all ? all : "?");
    if (n >= (int)size && size > 4)
        memcpy(text + size - 4, "...", 4);
    free(all);
    return text;
}

static bool is_ignored(const struct config *c, const char *field)
{
    size_t before = strlen(c->inside), i;
    const json_t *name;
    json_array_foreach(c->ignore, i, name)
    {
        const char *text = json_string_value(name);
        if (text && strncmp(text, c->inside, before) == 0 && strcmp(text + before, field) == 0)
            return true;
    }
    return false;
}

const json_t *config_get(struct config *c, const char *field)
{
    if (json_object_set_new(c->seen, field, json_true()) != 0)
        die("out of memory while reading %s", c->file);
    return is_ignored(c, field) ? NULL : json_object_get(c->fields, field);
}

static size_t size_of(struct config *c, const char *field, const json_t *value, size_t least,
                      size_t most)
{
    char text[TEXT_MAX];
    if (!json_is_integer(value)) {
        config_wrong(c, field, "must be an integer, not %s", config_text(value, text, sizeof text));
        return least;
    }
    json_int_t n = json_integer_value(value);
    if (n < 0 || (size_t)n < least || (size_t)n > most) {
        config_wrong(c, field, "is %" JSON_INTEGER_FORMAT "; it must be in %zu to %zu", n, least,
                     most);
        return least;
    }
    return (size_t)n;
}

size_t config_size(struct config *c, const char *field, size_t least, size_t most)
{
    const json_t *value = config_get(c, field);
    if (value)
        return size_of(c, field, value, least, most);
    config_wrong(c, field, "is missing: an integer in %zu to %zu", least, most);
    return least;
}

size_t config_size_or(struct config *c, const char *field, size_t least, size_t most,
                      size_t otherwise)
{
    const json_t *value = config_get(c, field);
    return value ? size_of(c, field, value, least, most) : otherwise;
}

double config_number_or(struct config *c, const char *field, double above, double most,
                        double otherwise)
{
    const json_t *value = config_get(c, field);
    if (!value)
        return otherwise;
    double number = json_number_value(value);
    if (json_is_number(value) && number > above && number <= most)
        return number;
    char text[TEXT_MAX];
    config_wrong(c, field, "must be a number above %g and at most %g, not %s", above, most,
                 config_text(value, text, sizeof text));
    return otherwise;
}

bool config_bool_or(struct config *c, const char *field, bool otherwise)
{
    const json_t *value = config_get(c, field);
    if (!value)
        return otherwise;
    char text[TEXT_MAX];
    if (!json_is_boolean(value))
        config_wrong(c, field, "must be true or false, not %s",
                     config_text(value, text, sizeof text));
    return json_is_true(value);
}

void config_must_be(struct config *c, const char *field, const char *texts, const char *why)
{
    const json_t *value = config_get(c, field);
    if (!value)
        return;
    char found[TEXT_MAX];
    size_t length = strlen(config_text(value, found, sizeof found));
    for (const char *t = texts; *t; t += strspn(t, " ")) {
        size_t word = strcspn(t, " ");
        if (word == length && memcmp(t, found, length) == 0)
            return;
        t += word;
    }
    config_wrong(c, field, "is %s, which is not supported: %s", found, why);
}

void config_ignore(struct config *c, const char *const *fields)
{
    for (; *fields; fields++)
        config_get(c, *fields);
}

void config_finish(struct config *c)
{
    const char *field;
    json_t *value;
    /* jansson iterates without changing the object, but has no const form of it */
    json_t *fields = (json_t *)(uintptr_t)c->fields;
    json_object_foreach(fields, field, value)
    {
        char text[TEXT_MAX];
        if (!json_object_get(c->seen, field) && !is_ignored(c, field))
            config_wrong(c, field,
                         "(%s) is unknown: it could change what the model computes, so it is not "
                         "ignored; if it does not, remove it or name it in model_ignore",
                         config_text(value, text, sizeof text));
    }
}
