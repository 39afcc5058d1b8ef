/* pattern.h - split patterns: written for Oniguruma, matched by PCRE2, with the same result.
 *
 * The regular expressions in tokenizer.json were written for Oniguruma (syntax "Oniguruma", UTF-8).
 * PCRE2 reads most of them, but some constructs mean something else: \s holds U+180E, \w and \h are
 * other sets, {n,m}+ is possessive, \p{Han} includes script extensions, and \p{..} knows the
 * characters of another Unicode version. pattern_compile() therefore rewrites a pattern: sets are
 * spelled out, properties gain the characters of Unicode 16.0 (text/unicode.h), the rest is kept.
 * What it cannot promise to match alike is an error: back references, \b \B \G \K \R \X, POSIX
 * brackets, nested classes and &&, negated sets inside a class, inline flags other than (?i),
 * non-ASCII letters or pairs with a one-character fold (ss, ff, fi, fl, st) under (?i), properties
 * that unicode.h does not list.
 *
 * A pattern is constant after compilation: any number of threads may match with it, each with a
 * pattern_work of its own. PCRE2's just-in-time compiler is used where the library has it. Any
 * rank.
 */
#ifndef TANDEM_TEXT_PATTERN_H
#define TANDEM_TEXT_PATTERN_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct pattern;
struct pattern_work;

/* Compiles a NUL-terminated Oniguruma expression, UTF-8. 0, and *out is the caller's until
 * pattern_free(); -1 and a message that names the construct and its offset in the pattern, *out
 * NULL. */
int pattern_compile(struct pattern **out, const char *regex, struct err *e);

/* The same for a literal string in place of an expression; an empty one matches at every character.
 */
int pattern_compile_literal(struct pattern **out, const char *literal, struct err *e);

/* NULL is allowed. */
void pattern_free(struct pattern *p);

/* What PCRE2 was given, for messages and tests. Lives as long as the pattern. */
const char *pattern_translated(const struct pattern *p);

/* The memory one thread needs for matching; serves every pattern. Never NULL. */
struct pattern_work *pattern_work_new(void);
void pattern_work_free(struct pattern_work *w);

/* The first match in the n bytes at `text` (UTF-8, checked by the caller) that starts at byte
 * offset `from` or later, `from` at a character. Look-behind sees all of text. 1: *start and *end
 * are byte offsets, possibly equal. 0: none. -1: PCRE2 gave up (its match limit), message in e. */
int pattern_find(const struct pattern *p, struct pattern_work *w, const char *text, size_t n,
                 size_t from, size_t *start, size_t *end, struct err *e);

#endif
