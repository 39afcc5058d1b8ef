/* translate.h - an Oniguruma expression rewritten for PCRE2 (see pattern.h for why and what). */
#ifndef TANDEM_TEXT_TRANSLATE_H
#define TANDEM_TEXT_TRANSLATE_H

#include "base/err.h"

/* The rewritten expression, malloc'd (the caller frees), or NULL and a message that names the
 * construct and its byte offset. Wants PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE and the newline LF.
 * Any thread. */
char *translate_regex(const char *regex, struct err *e);

#endif
