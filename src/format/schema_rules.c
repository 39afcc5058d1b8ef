#include "format/schema_rules.h"

#include "format/schema_number.h"

struct schema_rules schema_rules(struct grammar *g)
{
    return (struct schema_rules){g, -1, -1, -1, -1, -1, -1};
}

/* Nothing, a space, or a line end with up to 40 spaces. */
int32_t schema_space(struct schema_rules *c)
{
    if (c->space >= 0)
        return c->space;
    c->space = grammar_rule(c->g);
    struct grammar_rule r = c->g->rules[c->space];
    int32_t node = grammar_node(c->g);
    grammar_empty(c->g, r.first, r.last);
    grammar_bytes(c->g, r.first, r.last, ' ', ' ');
    grammar_bytes(c->g, r.first, node, '\n', '\n');
    for (int i = 0; i < 40; i++) {
        int32_t next = grammar_node(c->g);
        grammar_empty(c->g, node, r.last);
        grammar_bytes(c->g, node, next, ' ', ' ');
        node = next;
    }
    grammar_empty(c->g, node, r.last);
    return c->space;
}

int32_t schema_colon(struct schema_rules *c)
{
    if (c->colon >= 0)
        return c->colon;
    c->colon = grammar_rule(c->g);
    struct grammar_rule r = c->g->rules[c->colon];
    int32_t node = grammar_node(c->g);
    grammar_bytes(c->g, r.first, node, ':', ':');
    grammar_empty(c->g, node, r.last);
    grammar_bytes(c->g, node, r.last, ' ', ' ');
    return c->colon;
}

/* \uHHHH but for halves of pairs. */
static void add_escaped(struct grammar *g, int32_t from, int32_t to)
{
    static const char hex[] = "0123456789abcdefABCDEF";
    int32_t u = grammar_node(g), any = grammar_node(g), d = grammar_node(g), two = grammar_node(g),
            three = grammar_node(g);
    grammar_bytes(g, from, u, 'u', 'u');
    for (const char *h = hex; *h; h++) {
        bool half = *h == 'd' || *h == 'D';
        grammar_bytes(g, u, half ? d : any, (uint8_t)*h, (uint8_t)*h);
        grammar_bytes(g, any, two, (uint8_t)*h, (uint8_t)*h);
        if (*h < '8') /* after a d: 0 .. 7 */
            grammar_bytes(g, d, two, (uint8_t)*h, (uint8_t)*h);
        grammar_bytes(g, two, three, (uint8_t)*h, (uint8_t)*h);
        grammar_bytes(g, three, to, (uint8_t)*h, (uint8_t)*h);
    }
}

/* One character of a string. */
static int32_t schema_letter(struct schema_rules *c)
{
    if (c->letter >= 0)
        return c->letter;
    c->letter = grammar_rule(c->g);
    struct grammar_rule r = c->g->rules[c->letter];
    int32_t escape = grammar_node(c->g);
    grammar_chars(c->g, r.first, r.last, 0x20, '!');
    grammar_chars(c->g, r.first, r.last, '#', '[');
    grammar_chars(c->g, r.first, r.last, ']', 0x10ffff);
    grammar_bytes(c->g, r.first, escape, '\\', '\\');
    for (const char *k = "\"\\/bfnrt"; *k; k++)
        grammar_bytes(c->g, escape, r.last, (uint8_t)*k, (uint8_t)*k);
    add_escaped(c->g, escape, r.last);
    return c->letter;
}

/* Letters, least .. most of them; most -1: no end. */
void schema_letters(struct schema_rules *c, int32_t from, int32_t to, long least, long most)
{
    for (long i = 0; i < least || i < most; i++) {
        int32_t next = grammar_node(c->g);
        if (i >= least)
            grammar_empty(c->g, from, to);
        grammar_call(c->g, from, next, schema_letter(c));
        from = next;
    }
    grammar_empty(c->g, from, to);
    if (most < 0) {
        int32_t node = grammar_node(c->g);
        grammar_empty(c->g, from, node);
        grammar_call(c->g, node, node, schema_letter(c));
        grammar_empty(c->g, node, to);
    }
}

int32_t schema_any_string(struct schema_rules *c)
{
    if (c->string >= 0)
        return c->string;
    c->string = grammar_rule(c->g);
    struct grammar_rule r = c->g->rules[c->string];
    int32_t open = grammar_node(c->g), end = grammar_node(c->g);
    grammar_bytes(c->g, r.first, open, '"', '"');
    schema_letters(c, open, end, 0, -1);
    grammar_bytes(c->g, end, r.last, '"', '"');
    return c->string;
}

int32_t schema_number(struct schema_rules *c)
{
    if (c->number >= 0)
        return c->number;
    c->number = grammar_rule(c->g);
    struct grammar_rule r = c->g->rules[c->number];
    schema_any_number(c->g, r.first, r.last);
    return c->number;
}

/* ( item (, item)* )? between two brackets; item -1: nothing. */
void schema_list(struct schema_rules *c, int32_t from, int32_t to, char open, char close,
                 int32_t item)
{
    struct grammar *g = c->g;
    int32_t begin = grammar_node(g), inside = grammar_node(g), more = grammar_node(g),
            again = grammar_node(g), end = grammar_node(g);
    grammar_bytes(g, from, begin, (uint8_t)open, (uint8_t)open);
    grammar_bytes(g, begin, to, (uint8_t)close, (uint8_t)close);
    if (item < 0)
        return;
    grammar_call(g, begin, inside, schema_space(c));
    grammar_call(g, inside, more, item);
    grammar_bytes(g, more, again, ',', ',');
    grammar_call(g, again, inside, schema_space(c));
    grammar_call(g, more, end, schema_space(c));
    grammar_bytes(g, end, to, (uint8_t)close, (uint8_t)close);
}

/* key: value, with any key. */
int32_t schema_any_member(struct schema_rules *c, int32_t value)
{
    int32_t rule = grammar_rule(c->g), key = grammar_node(c->g), at = grammar_node(c->g);
    struct grammar_rule r = c->g->rules[rule];
    grammar_call(c->g, r.first, key, schema_any_string(c));
    grammar_call(c->g, key, at, schema_colon(c));
    grammar_call(c->g, at, r.last, value);
    return rule;
}

int32_t schema_any_value(struct schema_rules *c)
{
    if (c->value >= 0)
        return c->value;
    c->value = grammar_rule(c->g);
    struct grammar_rule r = c->g->rules[c->value];
    grammar_call(c->g, r.first, r.last, schema_any_string(c));
    grammar_call(c->g, r.first, r.last, schema_number(c));
    grammar_text(c->g, r.first, r.last, "true", 4);
    grammar_text(c->g, r.first, r.last, "false", 5);
    grammar_text(c->g, r.first, r.last, "null", 4);
    schema_list(c, r.first, r.last, '[', ']', c->value);
    schema_list(c, r.first, r.last, '{', '}', schema_any_member(c, c->value));
    return c->value;
}
