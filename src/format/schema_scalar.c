/* schema_scalar.c - strings and numbers of a schema. */
#include "format/regex.h"
#include "format/schema_compiler.h"
#include "format/schema_number.h"

#include <math.h>

#define COUNT_MOST 20000

int schema_read_count(struct schema_compiler *c, const json_t *s, const char *name, long *out)
{
    const json_t *v = json_object_get(s, name);
    double x = json_number_value(v);
    if (!v)
        return 0;
    if (!json_is_number(v) || !(x >= 0) || x != floor(x))
        return schema_refuse(c, "%s is not a whole number of 0 or more", name);
    if (x > COUNT_MOST)
        return schema_refuse(c, "%s is more than %d", name, COUNT_MOST);
    *out = (long)x;
    return 0;
}

int schema_add_string(struct schema_compiler *c, const json_t *s, int32_t from, int32_t to)
{
    const json_t *pattern = json_object_get(s, "pattern"), *format = json_object_get(s, "format");
    long least = 0, most = -1;
    int32_t open = grammar_node(c->g), end = grammar_node(c->g);
    if (schema_read_count(c, s, "minLength", &least) != 0 ||
        schema_read_count(c, s, "maxLength", &most) != 0)
        return -1;
    if (pattern && (least > 0 || most >= 0))
        return schema_refuse(c, "pattern together with minLength or maxLength is not supported");
    if (format && (pattern || least > 0 || most >= 0))
        return schema_refuse(c, "format together with pattern or lengths is not supported");
    if (pattern && !json_is_string(pattern))
        return schema_refuse(c, "pattern is not a string");
    grammar_bytes(c->g, from, open, '"', '"');
    grammar_bytes(c->g, end, to, '"', '"');
    if (pattern && regex_add(c->g, REGEX_JSON, json_string_value(pattern), open, end, c->e) != 0)
        return err_prefix(c->e, "%s: pattern", c->where);
    if (format)
        return schema_add_format(c, json_string_value(format), open, end);
    if (!pattern && (most < 0 || least <= most))
        schema_letters(&c->rules, open, end, least, most);
    return 0;
}

struct bound {
    bool given, open;
    double value;
};

/* The tighter of the two ways to say it. sign: 1 for a lower bound, -1 for an upper one. */
static int read_bound(struct schema_compiler *c, const json_t *s, const char *name,
                      const char *open, double sign, struct bound *out)
{
    const char *const names[] = {name, open};
    *out = (struct bound){false, false, 0};
    for (int i = 0; i < 2; i++) {
        const json_t *v = json_object_get(s, names[i]);
        double x = json_number_value(v);
        if (!v)
            continue;
        if (!json_is_number(v))
            return schema_refuse(c, "%s is not a number", names[i]);
        if (!out->given || sign * x > sign * out->value || (x == out->value && i == 1))
            *out = (struct bound){true, i == 1, x};
    }
    return 0;
}

static int64_t whole(double x)
{
    return x > 1e15 ? (int64_t)1e15 : x < -1e15 ? (int64_t)-1e15 : (int64_t)x;
}

int schema_add_number(struct schema_compiler *c, const json_t *s, bool integer, int32_t from,
                      int32_t to)
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
            return schema_refuse(c,
                                 "a bound of %g for numbers that are no integers is not supported "
                                 "(whole ones up to 1e9 are)",
                                 all[i]->value);
    int64_t a = low.given ? whole(low.value) : -1000000000,
            b = high.given ? whole(high.value) : 1000000000;
    if (a <= b)
        schema_numbers(c->g, from, to, a, low.open, b, high.open);
    return 0;
}
