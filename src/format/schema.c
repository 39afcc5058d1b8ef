#include "format/schema.h"

#include "base/mem.h"
#include "format/schema_compiler.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MOST 128

enum type { OBJECT, ARRAY, STRING, NUMBER, INTEGER, BOOLEAN, NOTHING, TYPES };
static const char *const type_names[] = {"object",  "array",   "string", "number",
                                         "integer", "boolean", "null"};
#define EVERY_TYPE ((1u << TYPES) - 1)

static int add(struct schema_compiler *c, const json_t *s, int32_t from, int32_t to);

int schema_refuse(struct schema_compiler *c, const char *format, ...)
{
    va_list args;
    char text[256];
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return err_set(c->e, "%s: %s", c->where, text);
}

/* ---- rules ---- */

/* A rule of its own for a schema. */
static int32_t rule_for(struct schema_compiler *c, const json_t *s)
{
    int32_t rule = grammar_rule(c->g);
    struct grammar_rule r = c->g->rules[rule];
    return add(c, s, r.first, r.last) == 0 ? rule : -1;
}

int32_t schema_rule_below(struct schema_compiler *c, const json_t *s, const char *name)
{
    size_t n = strlen(c->where);
    snprintf(c->where + n, sizeof c->where - n, "/%.60s", name);
    int32_t rule = rule_for(c, s);
    if (rule >= 0)
        c->where[n] = 0;
    return rule;
}

/* ---- schemas -------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    unsigned types; /* that it is about; 0: an annotation, or read apart */
} keywords[] = {
    {"type", 0},
    {"enum", 0},
    {"const", 0},
    {"anyOf", 0},
    {"oneOf", 0},
    {"allOf", 0},
    {"$ref", 0},
    {"$defs", 0},
    {"definitions", 0},
    {"title", 0},
    {"description", 0},
    {"default", 0},
    {"examples", 0},
    {"example", 0},
    {"$schema", 0},
    {"$id", 0},
    {"$comment", 0},
    {"deprecated", 0},
    {"discriminator", 0},
    {"readOnly", 0},
    {"writeOnly", 0},
    {"properties", 1u << OBJECT},
    {"required", 1u << OBJECT},
    {"additionalProperties", 1u << OBJECT},
    {"patternProperties", 1u << OBJECT},
    {"items", 1u << ARRAY},
    {"prefixItems", 1u << ARRAY},
    {"minItems", 1u << ARRAY},
    {"maxItems", 1u << ARRAY},
    {"minLength", 1u << STRING},
    {"maxLength", 1u << STRING},
    {"pattern", 1u << STRING},
    {"format", 1u << STRING},
    {"minimum", 1u << NUMBER | 1u << INTEGER},
    {"maximum", 1u << NUMBER | 1u << INTEGER},
    {"exclusiveMinimum", 1u << NUMBER | 1u << INTEGER},
    {"exclusiveMaximum", 1u << NUMBER | 1u << INTEGER},
};

/* *about: the types that keywords of it are about; *validates: how many keywords say more than a type. */
static int read_keywords(struct schema_compiler *c, const json_t *s, unsigned *about,
                         int *validates)
{
    const char *name;
    json_t *value;
    *about = 0;
    *validates = 0;
    json_object_foreach((json_t *)(uintptr_t)s, name, value)
    {
        size_t i = 0, n = sizeof keywords / sizeof *keywords;
        while (i < n && strcmp(keywords[i].name, name) != 0)
            i++;
        if (i == n)
            return schema_refuse(c, "\"%.60s\" is not supported", name);
        *about |= keywords[i].types;
        *validates += keywords[i].types != 0 || (i > 0 && i < 7);
    }
    return 0;
}

static int type_of(const char *name)
{
    int t = 0;
    while (t < TYPES && (!name || strcmp(type_names[t], name) != 0))
        t++;
    return t;
}

/* What `type` says, or else what the keywords are about, or else every type. */
static int read_types(struct schema_compiler *c, const json_t *s, unsigned about, unsigned *types)
{
    const json_t *type = json_object_get(s, "type"), *item;
    size_t i;
    *types = type ? 0 : about ? about : EVERY_TYPE;
    if (json_is_string(type)) {
        int t = type_of(json_string_value(type));
        if (t == TYPES)
            return schema_refuse(c, "type \"%.40s\" is none", json_string_value(type));
        *types = 1u << t;
    } else if (type && !json_is_array(type)) {
        return schema_refuse(c, "type is neither a name nor a list of them");
    }
    json_array_foreach(type, i, item)
    {
        int t = type_of(json_string_value(item));
        if (t == TYPES)
            return schema_refuse(c, "type has something that is none");
        *types |= 1u << t;
    }
    if (*types & 1u << NUMBER)
        *types &= ~(1u << INTEGER); /* which are numbers */
    return 0;
}

static bool is_type(const json_t *v, unsigned types)
{
    double x = json_number_value(v);
    return (json_is_object(v) && types & 1u << OBJECT) ||
           (json_is_array(v) && types & 1u << ARRAY) ||
           (json_is_string(v) && types & 1u << STRING) ||
           (json_is_number(v) && types & 1u << NUMBER) ||
           (json_is_number(v) && x == floor(x) && types & 1u << INTEGER) ||
           (json_is_boolean(v) && types & 1u << BOOLEAN) ||
           (json_is_null(v) && types & 1u << NOTHING);
}

static void add_literal(struct schema_compiler *c, const json_t *v, unsigned types, int32_t from,
                        int32_t to)
{
    char *text =
        is_type(v, types) ? json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)) : NULL;
    if (text)
        grammar_text(c->g, from, to, text, strlen(text));
    free(text);
}

static int add_types(struct schema_compiler *c, const json_t *s, unsigned types, int32_t from,
                     int32_t to)
{
    int status = 0;
    if (types & 1u << OBJECT)
        status = schema_add_object(c, s, from, to);
    if (status == 0 && types & 1u << ARRAY)
        status = schema_add_array(c, s, from, to);
    if (status == 0 && types & 1u << STRING)
        status = schema_add_string(c, s, from, to);
    if (status == 0 && types & (1u << NUMBER | 1u << INTEGER))
        status = schema_add_number(c, s, !(types & 1u << NUMBER), from, to);
    if (types & 1u << BOOLEAN) {
        grammar_text(c->g, from, to, "true", 4);
        grammar_text(c->g, from, to, "false", 5);
    }
    if (types & 1u << NOTHING)
        grammar_text(c->g, from, to, "null", 4);
    return status;
}

const json_t *schema_find(const json_t *at, const char *pointer)
{
    if (*pointer++ != '#')
        return NULL;
    while (at && *pointer == '/') {
        char name[256];
        size_t n = 0;
        for (pointer++; *pointer && *pointer != '/' && n < sizeof name - 1; pointer++) {
            bool tilde = *pointer == '~' && (pointer[1] == '0' || pointer[1] == '1');
            name[n++] = tilde ? (*++pointer == '0' ? '~' : '/') : *pointer;
        }
        name[n] = 0;
        at = json_is_array(at) ? json_array_get(at, strtoul(name, NULL, 10))
                               : json_object_get(at, name);
    }
    return *pointer ? NULL : at;
}

static int add_ref(struct schema_compiler *c, const json_t *ref, int32_t from, int32_t to)
{
    const char *pointer = json_string_value(ref);
    const json_t *s = pointer ? schema_find(c->root, pointer) : NULL;
    if (!s)
        return schema_refuse(c, "$ref \"%.80s\" is nothing in this schema", pointer ? pointer : "");
    for (size_t i = 0; i < c->n_refs; i++)
        if (strcmp(c->refs[i].pointer, pointer) == 0) {
            grammar_call(c->g, from, to, c->refs[i].rule);
            return 0;
        }
    int32_t rule = grammar_rule(c->g);
    c->refs = mem_resize(c->refs, c->n_refs + 1, sizeof *c->refs);
    c->refs[c->n_refs].pointer = mem_string(pointer);
    c->refs[c->n_refs++].rule = rule;
    grammar_call(c->g, from, to, rule);
    char before[sizeof c->where];
    memcpy(before, c->where, sizeof before);
    snprintf(c->where, sizeof c->where, "%.200s", pointer);
    struct grammar_rule r = c->g->rules[rule];
    if (add(c, s, r.first, r.last) != 0)
        return -1;
    memcpy(c->where, before, sizeof before);
    return 0;
}

static int add_any_of(struct schema_compiler *c, const json_t *list, const char *name, int32_t from,
                      int32_t to)
{
    const json_t *item;
    size_t i;
    if (!json_is_array(list) || json_array_size(list) == 0)
        return schema_refuse(c, "%s is not a list of schemas", name);
    json_array_foreach(list, i, item)
    {
        char place[40];
        snprintf(place, sizeof place, "%s/%zu", name, i);
        int32_t rule = schema_rule_below(c, item, place);
        if (rule < 0)
            return -1;
        grammar_call(c->g, from, to, rule);
    }
    return 0;
}

/* One of them accepts a text, and then no other does. */
static int check_apart(struct schema_compiler *c, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        for (size_t j = 0; j < i; j++)
            if (!schema_apart(c->root, json_array_get(list, j), json_array_get(list, i)))
                return schema_refuse(c,
                                     "oneOf/%zu and oneOf/%zu may both accept a value; supported "
                                     "are types, const and enum that are apart, or required "
                                     "properties with them",
                                     j, i);
    return 0;
}

static int add_schema(struct schema_compiler *c, const json_t *s, int32_t from, int32_t to)
{
    const json_t *ref = json_object_get(s, "$ref"), *any = json_object_get(s, "anyOf"),
                 *one = json_object_get(s, "oneOf"), *all = json_object_get(s, "allOf"),
                 *list = json_object_get(s, "enum"), *is = json_object_get(s, "const"), *item;
    unsigned about, types;
    int validates;
    size_t i;
    if (read_keywords(c, s, &about, &validates) != 0 || read_types(c, s, about, &types) != 0)
        return -1;
    if (all && (json_array_size(all) != 1 || about != 0))
        return schema_add_all(c, s, from, to);
    bool alone = ref || any || one || all || list || is;
    if (alone && (validates > 1 || ((ref || any || one || all) && json_object_get(s, "type"))))
        return schema_refuse(
            c, "enum, const, anyOf, oneOf, allOf and $ref are supported without others beside "
               "them");
    if (ref)
        return add_ref(c, ref, from, to);
    if (one && check_apart(c, one) != 0)
        return -1;
    if (any || one || all)
        return add_any_of(c,
                          any   ? any
                          : one ? one
                                : all,
                          any   ? "anyOf"
                          : one ? "oneOf"
                                : "allOf",
                          from, to);
    if (list && !json_is_array(list))
        return schema_refuse(c, "enum is not a list");
    json_array_foreach(list, i, item) add_literal(c, item, types, from, to);
    if (is)
        add_literal(c, is, types, from, to);
    return alone ? 0 : add_types(c, s, types, from, to);
}

static int add(struct schema_compiler *c, const json_t *s, int32_t from, int32_t to)
{
    if (json_is_true(s) || (json_is_object(s) && json_object_size(s) == 0)) {
        grammar_call(c->g, from, to, schema_any_value(&c->rules));
        return 0;
    }
    if (json_is_false(s))
        return 0;
    if (!json_is_object(s))
        return schema_refuse(c, "is no schema");
    if (++c->depth > DEPTH_MOST)
        return schema_refuse(c, "schemas too deep in each other");
    int status = add_schema(c, s, from, to);
    c->depth--;
    return status;
}

int schema_add(struct grammar *g, const json_t *schema, int32_t from, int32_t to, struct err *e)
{
    struct schema_compiler c = {
        .g = g, .root = schema, .rules = schema_rules(g), .where = "#", .e = e};
    int status = add(&c, schema, from, to);
    for (size_t i = 0; i < c.n_refs; i++)
        free(c.refs[i].pointer);
    free(c.refs);
    return status;
}
