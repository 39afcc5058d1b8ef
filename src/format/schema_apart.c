/* schema_apart.c - do two schemas accept no value together? What cannot be told counts as no. */
#include "format/schema_compiler.h"

#include <math.h>
#include <string.h>

#define FOLLOW_MOST 16 /* references to references */

static const json_t *resolve(const json_t *root, const json_t *s)
{
    for (int i = 0; i < FOLLOW_MOST; i++) {
        const char *pointer = json_string_value(json_object_get(s, "$ref"));
        if (!pointer)
            return s;
        s = schema_find(root, pointer);
    }
    return NULL;
}

/* "integer" is told from "number" by the value. */
static const char *type_of(const json_t *v)
{
    return json_is_object(v)    ? "object"
           : json_is_array(v)   ? "array"
           : json_is_string(v)  ? "string"
           : json_is_number(v)  ? "number"
           : json_is_boolean(v) ? "boolean"
                                : "null";
}

/* Does the schema's type, a name or a list of them, allow it? Integers are numbers here. */
static bool allows(const json_t *s, const char *type)
{
    const json_t *said = json_object_get(s, "type"), *item;
    size_t i;
    bool found = false;
    if (!said)
        return true;
    if (json_is_string(said))
        found = strcmp(json_string_value(said), type) == 0 ||
                (strcmp(json_string_value(said), "integer") == 0 && strcmp(type, "number") == 0);
    json_array_foreach(said, i, item)
    {
        const char *name = json_string_value(item);
        found = found || (name && (strcmp(name, type) == 0 ||
                                   (strcmp(name, "integer") == 0 && strcmp(type, "number") == 0)));
    }
    return found;
}

/* 1 and 1.0 are one value. */
static bool equal(const json_t *a, const json_t *b)
{
    return json_is_number(a) && json_is_number(b) ? json_number_value(a) == json_number_value(b)
                                                  : json_equal(a, b);
}

/* The values of const or enum, one by one; NULL: no more, and none at all where anything may come. */
static const json_t *value_at(const json_t *s, size_t i)
{
    const json_t *is = json_object_get(s, "const");
    return is ? (i == 0 ? is : NULL) : json_array_get(json_object_get(s, "enum"), i);
}

/* Of values that are listed, on one side at least. */
static bool values_apart(const json_t *listed, const json_t *other)
{
    const json_t *v, *w;
    for (size_t i = 0; (v = value_at(listed, i)); i++) {
        if (!allows(listed, type_of(v)) || !allows(other, type_of(v)))
            continue;
        if (!value_at(other, 0))
            return false;
        for (size_t j = 0; (w = value_at(other, j)); j++)
            if (equal(v, w) || json_is_object(v) || json_is_array(v))
                return false;
    }
    return true;
}

static bool types_apart(const json_t *a, const json_t *b)
{
    static const char *const types[] = {"object", "array", "string", "number", "boolean", "null"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (allows(a, types[i]) && allows(b, types[i]))
            return false;
    return true;
}

static bool requires(const json_t *s, const char *name)
{
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(s, "required"), i, item)
    {
        if (json_is_string(item) && strcmp(json_string_value(item), name) == 0)
            return true;
    }
    return false;
}

/* A property that both require, with values that are apart: that tells objects. */
static bool objects_apart(const json_t *root, const json_t *a, const json_t *b)
{
    json_t *mine = json_object_get(a, "properties"), *value;
    const char *name;
    json_object_foreach(mine, name, value)
    {
        const json_t *other = json_object_get(json_object_get(b, "properties"), name);
        const json_t *p = resolve(root, value), *q = resolve(root, other);
        if (other && requires(a, name) && requires(b, name) && value_at(p, 0) && value_at(q, 0) &&
            values_apart(p, q))
            return true;
    }
    return false;
}

bool schema_apart(const json_t *root, const json_t *a, const json_t *b)
{
    a = resolve(root, a);
    b = resolve(root, b);
    if (!json_is_object(a) || !json_is_object(b))
        return false;
    if (types_apart(a, b) || (value_at(a, 0) && values_apart(a, b)) ||
        (value_at(b, 0) && values_apart(b, a)))
        return true;
    const json_t *only = json_object_get(a, "type"), *too = json_object_get(b, "type");
    bool objects = json_is_string(only) && json_is_string(too) &&
                   strcmp(json_string_value(only), "object") == 0 && json_equal(only, too);
    return objects && objects_apart(root, a, b);
}
