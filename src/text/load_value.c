#include "text/load_value.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int load_value_wrong(const struct loader *l, const char *what, const char *field, ...)
{
    char name[512];
    va_list args;
    va_start(args, field);
    vsnprintf(name, sizeof name, field, args);
    va_end(args);
    return err_set(l->e, "%s: %s: %s", l->path, name, what);
}

static const char *kind(const json_t *value)
{
    static const char *const names[] = {"an object", "an array", "a string", "an integer",
                                        "a number",  "true",     "false",    "null"};
    return value ? names[json_typeof(value)] : "missing";
}

int load_value_wrong_kind(const struct loader *l, const char *wanted, const json_t *found,
                          const char *field)
{
    char what[256];
    snprintf(what, sizeof what, "wanted %s, found %s", wanted, kind(found));
    return load_value_wrong(l, what, "%s", field);
}

int load_value_keys(const struct loader *l, json_t *object, const char *field, const char *known)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        size_t n = strlen(key);
        const char *p = known;
        while ((p = strstr(p, key)) && !((p == known || p[-1] == ' ') && (p[n] == ' ' || !p[n])))
            p++;
        if (n == 0 || strchr(key, ' ') || !p) {
            char what[256];
            snprintf(what, sizeof what, "unknown key \"%.60s\"; supported: %s", key, known);
            return load_value_wrong(l, what, "%s", field);
        }
    }
    return 0;
}

int load_value_bool(const struct loader *l, json_t *object, const char *field, const char *key,
                    int otherwise, bool *out)
{
    json_t *value = json_object_get(object, key);
    if (otherwise >= 0 && (!value || json_is_null(value))) {
        *out = otherwise > 0;
        return 0;
    }
    if (!json_is_boolean(value)) {
        char name[128];
        snprintf(name, sizeof name, "%s.%s", field, key);
        return load_value_wrong_kind(l, "true or false", value, name);
    }
    *out = json_is_true(value);
    return 0;
}

const char *load_value_type(const struct loader *l, json_t *object, const char *field)
{
    if (!json_is_object(object)) {
        load_value_wrong_kind(l, "an object with a \"type\"", object, field);
        return NULL;
    }
    const char *type = json_string_value(json_object_get(object, "type"));
    if (!type)
        load_value_wrong(l, "wanted a string", "%s.type", field);
    return type;
}

int load_value_unsupported(const struct loader *l, const char *field, const char *type,
                           const char *supported)
{
    char what[256];
    snprintf(what, sizeof what, "\"%.60s\" is not supported; supported: %s", type, supported);
    return load_value_wrong(l, what, "%s.type", field);
}
