/* schema_rules.h - the rules of JSON that all schemas share, each made when it is first needed. For
 * schema.c. What they take is said in schema.h.
 */
#ifndef TANDEM_FORMAT_SCHEMA_RULES_H
#define TANDEM_FORMAT_SCHEMA_RULES_H

#include "format/grammar.h"

/* Numbers of rules of g; -1: not made yet. */
struct schema_rules {
    struct grammar *g;
    int32_t space, colon, letter, string, number, value;
};

struct schema_rules schema_rules(struct grammar *g);

int32_t schema_space(struct schema_rules *c); /* between two tokens of JSON */
int32_t schema_colon(struct schema_rules *c); /* and perhaps a space */
int32_t schema_any_string(struct schema_rules *c);
int32_t schema_number(struct schema_rules *c);
int32_t schema_any_value(struct schema_rules *c);

/* Any key, and a value that a rule takes. */
int32_t schema_any_member(struct schema_rules *c, int32_t value);

/* Characters of a string, least .. most of them; most -1: no end. */
void schema_letters(struct schema_rules *c, int32_t from, int32_t to, long least, long most);

/* What a rule takes, any number of times, with commas, between two brackets; -1: nothing is between. */
void schema_list(struct schema_rules *c, int32_t from, int32_t to, char open, char close,
                 int32_t item);

#endif
