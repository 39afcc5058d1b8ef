#include "format/schema.h"

#include "base/mem.h"
#include "format/regex.h"
#include "format/schema_number.h"
#include "format/schema_rules.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MOST 128
#define COUNT_MOST 20000

enum type { OBJECT, ARRAY, STRING, NUMBER, INTEGER, BOOLEAN, NOTHING, TYPES };
static const char *const type_names[] = {"object",  "array",   "string", "number",
                                         "integer", "boolean", "null"};
#define EVERY_TYPE ((1u << TYPES) - 1)

struct compiler {
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

static int add(struct compiler *c, const json_t *s, int32_t from, int32_t to);

static int __attribute__((format(printf, 2, 3))) refuse(struct compiler *c, const char *format, ...)
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
static int32_t rule_for(struct compiler *c, const json_t *s)
{
    int32_t rule = grammar_rule(c->g);
    struct grammar_rule r = c->g->rules[rule];
    return add(c, s, r.first, r.last) == 0 ? rule : -1;
}

/* The same one step further down, which messages then name. */
static int32_t rule_below(struct compiler *c, const json_t *s, const char *name)
{
    size_t n = strlen(c->where);
    snprintf(c->where + n, sizeof c->where - n, "/%.60s", name);
    int32_t rule = rule_for(c, s);
    if (rule >= 0)
        c->where[n] = 0;
    return rule;
}

/* ---- strings and numbers -------------------------------------------------------------------- */

/* A count of 0 or more; the default when it is not there. */
static int read_count(struct compiler *c, const json_t *s, const char *name, long *out)
{
    const json_t *v = json_object_get(s, name);
    double x = json_number_value(v);
    if (!v)
        return 0;
    if (!json_is_number(v) || !(x >= 0) || x != floor(x))
        return refuse(c, "%s is not a whole number of 0 or more", name);
    if (x > COUNT_MOST)
        return refuse(c, "%s is more than %d", name, COUNT_MOST);
    *out = (long)x;
    return 0;
}

static int add_string(struct compiler *c, const json_t *s, int32_t from, int32_t to)
{
    const json_t *pattern = json_object_get(s, "pattern");
    long least = 0, most = -1;
    int32_t open = grammar_node(c->g), end = grammar_node(c->g);
    if (read_count(c, s, "minLength", &least) != 0 || read_count(c, s, "maxLength", &most) != 0)
        return -1;
    if (pattern && (least > 0 || most >= 0))
        return refuse(c, "pattern together with minLength or maxLength is not supported");
    if (pattern && !json_is_string(pattern))
        return refuse(c, "pattern is not a string");
    grammar_bytes(c->g, from, open, '"', '"');
    grammar_bytes(c->g, end, to, '"', '"');
    if (pattern && regex_add(c->g, REGEX_JSON, json_string_value(pattern), open, end, c->e) != 0)
        return err_prefix(c->e, "%s: pattern", c->where);
    if (!pattern && (most < 0 || least <= most))
        schema_letters(&c->rules, open, end, least, most);
    return 0;
}

struct bound {
    bool given, open;
    double value;
};

/* The tighter of the two ways to say it. sign: 1 for a lower bound, -1 for an upper one. */
static int read_bound(struct compiler *c, const json_t *s, const char *name, const char *open,
                      double sign, struct bound *out)
{
    const char *const names[] = {name, open};
    *out = (struct bound){false, false, 0};
    for (int i = 0; i < 2; i++) {
        const json_t *v = json_object_get(s, names[i]);
        double x = json_number_value(v);
        if (!v)
            continue;
        if (!json_is_number(v))
            return refuse(c, "%s is not a number", names[i]);
        if (!out->given || sign * x > sign * out->value || (x == out->value && i == 1))
            *out = (struct bound){true, i == 1, x};
    }
    return 0;
}

static int64_t whole(double x)
{
    return x > 1e15 ? (int64_t)1e15 : x < -1e15 ? (int64_t)-1e15 : (int64_t)x;
}

static int add_number(struct compiler *c, const json_t *s, bool integer, int32_t from, int32_t to)
{
    struct bound low, high;
    if (read_bound(c, s, "minimum", "exclusiveMinimum", 1, &low) != 0 ||
        read_bound(c, s, "maximum", "exclusiveMaximum", -1, &high) != 0)
        return -1;
    if (integer) {
        double a = ceil(low.value), b = floor(high.value);
        int64_t least = low.given ? whole(a + (low.open && a == low.value)) : -SCHEMA_INTEGER_MOST,
                most = high.given ? whole(b - (high.open && b == high.value)) : SCHEMA_INTEGER_MOST;
        if (least <= SCHEMA_INTEGER_MOST && most >= -SCHEMA_INTEGER_MOST)
            schema_integers(c->g, from, to, least, most);
        return 0;
    }
    if (!low.given && !high.given) {
        grammar_call(c->g, from, to, schema_number(&c->rules));
        return 0;
    }
    const struct bound *all[] = {&low, &high};
    for (int i = 0; i < 2; i++)
        if (all[i]->value != floor(all[i]->value) || fabs(all[i]->value) > 1e9)
            return refuse(c,
                          "a bound of %g for numbers that are no integers is not supported "
                          "(whole ones up to 1e9 are)",
                          all[i]->value);
    int64_t a = low.given ? whole(low.value) : -1000000000,
            b = high.given ? whole(high.value) : 1000000000;
    if (a <= b)
        schema_numbers(c->g, from, to, a, low.open, b, high.open);
    return 0;
}

/* ---- arrays and objects --------------------------------------------------------------------- */

static int item_at(struct compiler *c, const json_t *prefix, const json_t *items, size_t i,
                   int32_t *rest, int32_t *rule)
{
    const json_t *own = json_array_get(prefix, i);
    char name[40];
    snprintf(name, sizeof name, "prefixItems/%zu", i);
    if (own) {
        *rule = rule_below(c, own, name);
        return *rule < 0 ? -1 : 0;
    }
    if (*rest < 0)
        *rest = items ? rule_below(c, items, "items") : schema_any_value(&c->rules);
    *rule = *rest;
    return *rest < 0 ? -1 : 0;
}

static int add_array(struct compiler *c, const json_t *s, int32_t from, int32_t to)
{
    const json_t *prefix = json_object_get(s, "prefixItems"), *items = json_object_get(s, "items");
    long least = 0, most = -1;
    int32_t rest = -1, item, node = grammar_node(c->g), end = grammar_node(c->g);
    if (prefix && !json_is_array(prefix))
        return refuse(c, "prefixItems is not a list");
    if (items && !json_is_object(items) && !json_is_boolean(items))
        return refuse(c, "items of this kind is not supported");
    if (read_count(c, s, "minItems", &least) != 0 || read_count(c, s, "maxItems", &most) != 0)
        return -1;
    if (most >= 0 && least > most)
        return 0; /* no array is like that */
    long fixed = (long)json_array_size(prefix), times = most >= 0       ? most
                                                        : least > fixed ? least
                                                                        : fixed;
    grammar_bytes(c->g, from, node, '[', '[');
    grammar_bytes(c->g, end, to, ']', ']');
    for (long i = 0; i < times; i++) {
        int32_t inside = grammar_node(c->g), next = grammar_node(c->g), comma = node;
        if (i >= least)
            grammar_call(c->g, node, end, schema_space(&c->rules));
        if (i > 0) {
            comma = grammar_node(c->g);
            grammar_bytes(c->g, node, comma, ',', ',');
        }
        if (item_at(c, prefix, items, (size_t)i, &rest, &item) != 0)
            return -1;
        grammar_call(c->g, comma, inside, schema_space(&c->rules));
        grammar_call(c->g, inside, next, item);
        node = next;
    }
    grammar_call(c->g, node, end, schema_space(&c->rules));
    if (most >= 0)
        return 0;
    int32_t comma = grammar_node(c->g), inside = grammar_node(c->g), next = grammar_node(c->g);
    if (item_at(c, prefix, items, (size_t)times, &rest, &item) != 0)
        return -1;
    if (times == 0)
        grammar_call(c->g, node, inside, schema_space(&c->rules));
    else
        grammar_bytes(c->g, node, comma, ',', ',');
    grammar_call(c->g, comma, inside, schema_space(&c->rules));
    grammar_call(c->g, inside, next, item);
    grammar_bytes(c->g, next, comma, ',', ',');
    grammar_call(c->g, next, end, schema_space(&c->rules));
    return 0;
}

static bool is_required(const json_t *s, const char *name)
{
    const json_t *list = json_object_get(s, "required"), *item;
    size_t i;
    json_array_foreach(list, i, item) if (json_is_string(item) &&
                                          strcmp(json_string_value(item), name) == 0) return true;
    return false;
}

/* "name": value, as a rule. */
static int32_t member(struct compiler *c, const char *name, int32_t value)
{
    int32_t rule = grammar_rule(c->g), key = grammar_node(c->g), at = grammar_node(c->g);
    struct grammar_rule r = c->g->rules[rule];
    json_t *text = json_string(name);
    char *spelled = json_dumps(text, JSON_ENCODE_ANY);
    grammar_text(c->g, r.first, key, spelled, strlen(spelled));
    grammar_call(c->g, key, at, schema_colon(&c->rules));
    grammar_call(c->g, at, r.last, value);
    free(spelled);
    json_decref(text);
    return rule;
}

/* Nodes of an object under way: before its first member, and behind one. */
struct members {
    int32_t none, some;
};

static void add_member(struct compiler *c, struct members *m, int32_t rule, bool required)
{
    struct grammar *g = c->g;
    struct members next = {grammar_node(g), grammar_node(g)};
    int32_t comma = grammar_node(g), begin = grammar_node(g);
    grammar_call(g, m->none, begin, schema_space(&c->rules));
    grammar_bytes(g, m->some, comma, ',', ',');
    grammar_call(g, comma, begin, schema_space(&c->rules));
    grammar_call(g, begin, next.some, rule);
    if (!required) {
        grammar_empty(g, m->none, next.none);
        grammar_empty(g, m->some, next.some);
    }
    *m = next;
}

/* The properties in their order, then what is required but has no schema of its own. */
static int add_members(struct compiler *c, const json_t *s, const json_t *more, struct members *m)
{
    json_t *properties = json_object_get(s, "properties"), *value;
    const json_t *list = json_object_get(s, "required"), *item;
    const char *name;
    size_t i;
    json_object_foreach(properties, name, value)
    {
        char place[80];
        snprintf(place, sizeof place, "properties/%.60s", name);
        int32_t rule = rule_below(c, value, place);
        if (rule < 0)
            return -1;
        add_member(c, m, member(c, name, rule), is_required(s, name));
    }
    json_array_foreach(list, i, item)
    {
        if (!json_is_string(item))
            return refuse(c, "required is not a list of names");
        if (json_object_get(properties, json_string_value(item)))
            continue;
        int32_t rule =
            more ? rule_below(c, more, "additionalProperties") : schema_any_value(&c->rules);
        if (rule < 0)
            return -1;
        add_member(c, m, member(c, json_string_value(item), rule), true);
    }
    return 0;
}

static int add_object(struct compiler *c, const json_t *s, int32_t from, int32_t to)
{
    const json_t *more = json_object_get(s, "additionalProperties"),
                 *properties = json_object_get(s, "properties"),
                 *required = json_object_get(s, "required");
    if (properties && !json_is_object(properties))
        return refuse(c, "properties is not an object");
    if (required && !json_is_array(required))
        return refuse(c, "required is not a list of names");
    if (json_object_size(properties) == 0 && json_array_size(required) == 0) {
        int32_t value = json_is_false(more) ? -1
                        : more              ? rule_below(c, more, "additionalProperties")
                                            : schema_any_value(&c->rules);
        if (value < 0 && !json_is_false(more))
            return -1;
        schema_list(&c->rules, from, to, '{', '}',
                    value < 0 ? -1 : schema_any_member(&c->rules, value));
        return 0;
    }
    struct members m = {grammar_node(c->g), grammar_node(c->g)};
    int32_t end = grammar_node(c->g);
    grammar_bytes(c->g, from, m.none, '{', '{');
    if (add_members(c, s, more, &m) != 0)
        return -1;
    grammar_call(c->g, m.some, end, schema_space(&c->rules));
    grammar_empty(c->g, m.none, end);
    grammar_bytes(c->g, end, to, '}', '}');
    return 0;
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
    {"readOnly", 0},
    {"writeOnly", 0},
    {"properties", 1u << OBJECT},
    {"required", 1u << OBJECT},
    {"additionalProperties", 1u << OBJECT},
    {"items", 1u << ARRAY},
    {"prefixItems", 1u << ARRAY},
    {"minItems", 1u << ARRAY},
    {"maxItems", 1u << ARRAY},
    {"minLength", 1u << STRING},
    {"maxLength", 1u << STRING},
    {"pattern", 1u << STRING},
    {"minimum", 1u << NUMBER | 1u << INTEGER},
    {"maximum", 1u << NUMBER | 1u << INTEGER},
    {"exclusiveMinimum", 1u << NUMBER | 1u << INTEGER},
    {"exclusiveMaximum", 1u << NUMBER | 1u << INTEGER},
};

/* *about: the types that keywords of it are about; *validates: how many keywords say more than a type. */
static int read_keywords(struct compiler *c, const json_t *s, unsigned *about, int *validates)
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
            return refuse(c, "\"%.60s\" is not supported", name);
        *about |= keywords[i].types;
        *validates += keywords[i].types != 0 || (i > 0 && i < 6);
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
static int read_types(struct compiler *c, const json_t *s, unsigned about, unsigned *types)
{
    const json_t *type = json_object_get(s, "type"), *item;
    size_t i;
    *types = type ? 0 : about ? about : EVERY_TYPE;
    if (json_is_string(type)) {
        int t = type_of(json_string_value(type));
        if (t == TYPES)
            return refuse(c, "type \"%.40s\" is none", json_string_value(type));
        *types = 1u << t;
    } else if (type && !json_is_array(type)) {
        return refuse(c, "type is neither a name nor a list of them");
    }
    json_array_foreach(type, i, item)
    {
        int t = type_of(json_string_value(item));
        if (t == TYPES)
            return refuse(c, "type has something that is none");
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

static void add_literal(struct compiler *c, const json_t *v, unsigned types, int32_t from,
                        int32_t to)
{
    char *text =
        is_type(v, types) ? json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)) : NULL;
    if (text)
        grammar_text(c->g, from, to, text, strlen(text));
    free(text);
}

static int add_types(struct compiler *c, const json_t *s, unsigned types, int32_t from, int32_t to)
{
    int status = 0;
    if (types & 1u << OBJECT)
        status = add_object(c, s, from, to);
    if (status == 0 && types & 1u << ARRAY)
        status = add_array(c, s, from, to);
    if (status == 0 && types & 1u << STRING)
        status = add_string(c, s, from, to);
    if (status == 0 && types & (1u << NUMBER | 1u << INTEGER))
        status = add_number(c, s, !(types & 1u << NUMBER), from, to);
    if (types & 1u << BOOLEAN) {
        grammar_text(c->g, from, to, "true", 4);
        grammar_text(c->g, from, to, "false", 5);
    }
    if (types & 1u << NOTHING)
        grammar_text(c->g, from, to, "null", 4);
    return status;
}

/* "#/$defs/a~1b" in the root; NULL: there is nothing. */
static const json_t *find_pointer(const json_t *at, const char *pointer)
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

static int add_ref(struct compiler *c, const json_t *ref, int32_t from, int32_t to)
{
    const char *pointer = json_string_value(ref);
    const json_t *s = pointer ? find_pointer(c->root, pointer) : NULL;
    if (!s)
        return refuse(c, "$ref \"%.80s\" is nothing in this schema", pointer ? pointer : "");
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

static int add_any_of(struct compiler *c, const json_t *list, const char *name, int32_t from,
                      int32_t to)
{
    const json_t *item;
    size_t i;
    if (!json_is_array(list) || json_array_size(list) == 0)
        return refuse(c, "%s is not a list of schemas", name);
    json_array_foreach(list, i, item)
    {
        char place[40];
        snprintf(place, sizeof place, "%s/%zu", name, i);
        int32_t rule = rule_below(c, item, place);
        if (rule < 0)
            return -1;
        grammar_call(c->g, from, to, rule);
    }
    return 0;
}

static int add_schema(struct compiler *c, const json_t *s, int32_t from, int32_t to)
{
    const json_t *ref = json_object_get(s, "$ref"), *any = json_object_get(s, "anyOf"),
                 *all = json_object_get(s, "allOf"), *list = json_object_get(s, "enum"),
                 *is = json_object_get(s, "const"), *item;
    unsigned about, types;
    int validates;
    size_t i;
    if (read_keywords(c, s, &about, &validates) != 0 || read_types(c, s, about, &types) != 0)
        return -1;
    bool alone = ref || any || all || list || is;
    if (alone && (validates > 1 || ((ref || any || all) && json_object_get(s, "type"))))
        return refuse(c, "enum, const, anyOf, allOf and $ref are supported without others beside "
                         "them");
    if (ref)
        return add_ref(c, ref, from, to);
    if (all && json_array_size(all) != 1)
        return refuse(c, "allOf is supported with one schema only");
    if (any || all)
        return add_any_of(c, any ? any : all, any ? "anyOf" : "allOf", from, to);
    if (list && !json_is_array(list))
        return refuse(c, "enum is not a list");
    json_array_foreach(list, i, item) add_literal(c, item, types, from, to);
    if (is)
        add_literal(c, is, types, from, to);
    return alone ? 0 : add_types(c, s, types, from, to);
}

static int add(struct compiler *c, const json_t *s, int32_t from, int32_t to)
{
    if (json_is_true(s) || (json_is_object(s) && json_object_size(s) == 0)) {
        grammar_call(c->g, from, to, schema_any_value(&c->rules));
        return 0;
    }
    if (json_is_false(s))
        return 0;
    if (!json_is_object(s))
        return refuse(c, "is no schema");
    if (++c->depth > DEPTH_MOST)
        return refuse(c, "schemas too deep in each other");
    int status = add_schema(c, s, from, to);
    c->depth--;
    return status;
}

int schema_add(struct grammar *g, const json_t *schema, int32_t from, int32_t to, struct err *e)
{
    struct compiler c = {.g = g, .root = schema, .rules = schema_rules(g), .where = "#", .e = e};
    int status = add(&c, schema, from, to);
    for (size_t i = 0; i < c.n_refs; i++)
        free(c.refs[i].pointer);
    free(c.refs);
    return status;
}
