/* schema_merge.c - allOf of several objects as one object. */
#include "format/schema_compiler.h"

#include <stdio.h>
#include <string.h>

/* What is merged, and what says nothing. */
static const char *const merged[] = {"type", "properties", "required", "additionalProperties"};
static const char *const silent[] = {"allOf",         "title",   "description", "default",
                                     "$defs",         "$schema", "definitions", "examples",
                                     "discriminator", "$id",     "$comment"};

static bool is_one_of(const char *name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static int put_properties(struct schema_compiler *c, const json_t *from, json_t *to)
{
    json_t *properties = json_object_get(to, "properties"), *value;
    const char *name;
    json_object_foreach((json_t *)(uintptr_t)from, name, value)
    {
        const json_t *there = json_object_get(properties, name);
        if (there && !json_equal(there, value))
            return schema_refuse(c, "the schemas of allOf differ in property \"%.60s\"", name);
        json_object_set(properties, name, value);
    }
    return 0;
}

static int put_part(struct schema_compiler *c, const json_t *part, json_t *to, int depth);

static int put_all(struct schema_compiler *c, const json_t *list, json_t *to, int depth)
{
    const json_t *item;
    size_t i;
    if (list && !json_is_array(list))
        return schema_refuse(c, "allOf is not a list of schemas");
    json_array_foreach(list, i, item) if (put_part(c, item, to, depth + 1) != 0) return -1;
    return 0;
}

/* Adds one schema, or what it refers to. */
static int put_part(struct schema_compiler *c, const json_t *part, json_t *to, int depth)
{
    const json_t *ref = json_object_get(part, "$ref");
    const char *name, *type = json_string_value(json_object_get(part, "type"));
    json_t *value;
    if (depth > 20)
        return schema_refuse(c, "allOf refers to itself");
    if (ref && json_object_size(part) == 1 && json_is_string(ref)) {
        const json_t *found = schema_find(c->root, json_string_value(ref));
        return found ? put_part(c, found, to, depth + 1)
                     : schema_refuse(c, "$ref \"%.80s\" is nothing in this schema",
                                     json_string_value(ref));
    }
    if (!json_is_object(part) ||
        (json_object_get(part, "type") && (!type || strcmp(type, "object") != 0)))
        return schema_refuse(c, "allOf is supported with one schema, or with objects");
    json_object_foreach((json_t *)(uintptr_t)part, name, value)
    {
        bool more = strcmp(name, "additionalProperties") == 0;
        if (!is_one_of(name, merged, sizeof merged / sizeof *merged) &&
            !is_one_of(name, silent, sizeof silent / sizeof *silent))
            return schema_refuse(
                c, "\"%.60s\" together with allOf of several schemas is not supported", name);
        if (more && !json_is_true(value))
            return schema_refuse(
                c, "additionalProperties in allOf of several schemas is not supported");
    }
    const json_t *properties = json_object_get(part, "properties");
    if (properties && !json_is_object(properties))
        return schema_refuse(c, "properties is not an object");
    if (put_properties(c, properties, to) != 0)
        return -1;
    const json_t *required = json_object_get(part, "required");
    if (required && !json_is_array(required))
        return schema_refuse(c, "required is not a list of names");
    json_array_extend(json_object_get(to, "required"), (json_t *)(uintptr_t)required);
    return put_all(c, json_object_get(part, "allOf"), to, depth);
}

int schema_add_all(struct schema_compiler *c, const json_t *s, int32_t from, int32_t to)
{
    json_t *whole = json_pack("{s:s, s:{}, s:[]}", "type", "object", "properties", "required");
    int status = put_part(c, s, whole, 0);
    if (status == 0)
        status = schema_add_object(c, whole, from, to);
    json_decref(whole);
    return status;
}
