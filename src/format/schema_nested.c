/* schema_nested.c - arrays and objects of a schema. */
#include "format/regex.h"
#include "format/schema_compiler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int item_at(struct schema_compiler *c, const json_t *prefix, const json_t *items, size_t i,
                   int32_t *rest, int32_t *rule)
{
    const json_t *own = json_array_get(prefix, i);
    char name[40];
    snprintf(name, sizeof name, "prefixItems/%zu", i);
    if (own) {
        *rule = schema_rule_below(c, own, name);
        return *rule < 0 ? -1 : 0;
    }
    if (*rest < 0)
        *rest = items ? schema_rule_below(c, items, "items") : schema_any_value(&c->rules);
    *rule = *rest;
    return *rest < 0 ? -1 : 0;
}

int schema_add_array(struct schema_compiler *c, const json_t *s, int32_t from, int32_t to)
{
    const json_t *prefix = json_object_get(s, "prefixItems"), *items = json_object_get(s, "items");
    long least = 0, most = -1;
    int32_t rest = -1, item, node = grammar_node(c->g), end = grammar_node(c->g);
    if (prefix && !json_is_array(prefix))
        return schema_refuse(c, "prefixItems is not a list");
    if (items && !json_is_object(items) && !json_is_boolean(items))
        return schema_refuse(c, "items of this kind is not supported");
    if (schema_read_count(c, s, "minItems", &least) != 0 ||
        schema_read_count(c, s, "maxItems", &most) != 0)
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
static int32_t member(struct schema_compiler *c, const char *name, int32_t value)
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

static void add_member(struct schema_compiler *c, struct members *m, int32_t rule, bool required)
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
static int add_members(struct schema_compiler *c, const json_t *s, const json_t *more,
                       struct members *m)
{
    json_t *properties = json_object_get(s, "properties"), *value;
    const json_t *list = json_object_get(s, "required"), *item;
    const char *name;
    size_t i;
    json_object_foreach(properties, name, value)
    {
        char place[80];
        snprintf(place, sizeof place, "properties/%.60s", name);
        int32_t rule = schema_rule_below(c, value, place);
        if (rule < 0)
            return -1;
        add_member(c, m, member(c, name, rule), is_required(s, name));
    }
    json_array_foreach(list, i, item)
    {
        if (!json_is_string(item))
            return schema_refuse(c, "required is not a list of names");
        if (json_object_get(properties, json_string_value(item)))
            continue;
        int32_t rule =
            more ? schema_rule_below(c, more, "additionalProperties") : schema_any_value(&c->rules);
        if (rule < 0)
            return -1;
        add_member(c, m, member(c, json_string_value(item), rule), true);
    }
    return 0;
}

/* Keys like the pattern, and their values. */
static int add_pattern(struct schema_compiler *c, const json_t *s, int32_t from, int32_t to)
{
    json_t *patterns = json_object_get(s, "patternProperties"), *value;
    const char *pattern;
    if (json_object_size(patterns) != 1 || json_object_get(s, "properties") ||
        json_object_get(s, "required"))
        return schema_refuse(c, "patternProperties is supported with one pattern, without "
                                "properties and required");
    json_object_foreach(patterns, pattern, value)
    {
        int32_t rule = schema_rule_below(c, value, "patternProperties");
        if (rule < 0)
            return -1;
        struct grammar *g = c->g;
        int32_t item = grammar_rule(g), open = grammar_node(g), end = grammar_node(g),
                key = grammar_node(g), at = grammar_node(g);
        struct grammar_rule r = g->rules[item];
        grammar_bytes(g, r.first, open, '"', '"');
        if (regex_add(g, REGEX_JSON, pattern, open, end, c->e) != 0)
            return err_prefix(c->e, "%s: patternProperties", c->where);
        grammar_bytes(g, end, key, '"', '"');
        grammar_call(g, key, at, schema_colon(&c->rules));
        grammar_call(g, at, r.last, rule);
        schema_list(&c->rules, from, to, '{', '}', item);
    }
    return 0;
}

int schema_add_object(struct schema_compiler *c, const json_t *s, int32_t from, int32_t to)
{
    const json_t *more = json_object_get(s, "additionalProperties"),
                 *properties = json_object_get(s, "properties"),
                 *required = json_object_get(s, "required");
    if (json_object_get(s, "patternProperties"))
        return add_pattern(c, s, from, to);
    if (properties && !json_is_object(properties))
        return schema_refuse(c, "properties is not an object");
    if (required && !json_is_array(required))
        return schema_refuse(c, "required is not a list of names");
    if (json_object_size(properties) == 0 && json_array_size(required) == 0) {
        int32_t value = json_is_false(more) ? -1
                        : more              ? schema_rule_below(c, more, "additionalProperties")
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
