/* regex.h - a regular expression as a piece of a grammar (format/grammar.h).
 *
 * What both ECMA 262 and Python read alike: characters, ., classes, \d \w \s and \D \W \S, \n \r \t \f
 * \v \0 \xHH \uHHHH, groups, |, * + ? {m} {m,} {m,n} (lazy ones too: the language is the same), ^ and $
 * where a whole alternative begins and ends. Backreferences, assertions and flags are refused by name.
 * \d, \w and \s are those of ASCII; \D and \W take what is ASCII only, as the two differ beyond it, and
 * [^\d] and its like too; . takes no line end.
 */
#ifndef TANDEM_FORMAT_REGEX_H
#define TANDEM_FORMAT_REGEX_H

#include "format/grammar.h"

enum regex_kind {
    REGEX_WHOLE, /* the whole text is like that */
    REGEX_JSON, /* of what stands inside a JSON string: a part of it is like that, where ^ and $ do not
                    say otherwise; characters are escaped as JSON wants it */
};

/* From node to node. -1: not supported, with the place. */
int regex_add(struct grammar *g, enum regex_kind kind, const char *pattern, int32_t from,
              int32_t to, struct err *e);

/* One character low .. high as it stands inside a JSON string. */
void regex_json_chars(struct grammar *g, int32_t from, int32_t to, uint32_t low, uint32_t high);

#endif
