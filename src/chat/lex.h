/* lex.h - the tokens of a chat template, with Jinja's rules for white space.
 *
 * As Jinja2 cuts a template with trim_blocks and lstrip_blocks on: text between tags is one token
 * with its white space already removed, so that nothing after this file knows of it. Line ends
 * become "\n", one at the end of the template is dropped. Part of chat/chat.h.
 */
#ifndef TANDEM_CHAT_LEX_H
#define TANDEM_CHAT_LEX_H

#include "base/err.h"
#include "text/arena.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

enum token_kind {
    TOKEN_END,
    TOKEN_DATA, /* text between tags */
    TOKEN_PRINT_BEGIN,
    TOKEN_PRINT_END,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING, /* escapes resolved */
    TOKEN_INTEGER,
    TOKEN_REAL,
    TOKEN_OPERATOR, /* text is the operator: "+", "==" */
};

struct token {
    enum token_kind kind;
    size_t at; /* byte of the source, for messages */
    const char *text;
    size_t n;
    int64_t whole;
    double real;
};

/* A template on its way from text to tree. Whatever is taken lives in the arena, so an error may
 * leave from any depth by a jump. */
struct chat_source {
    const char *text; /* line ends are "\n" */
    size_t n;
    struct arena *arena;
    struct err *e;
    jmp_buf *out; /* where an error goes, the message being set */
    struct token *tokens;
    size_t n_tokens, room, at;
};

/* "LINE:COLUMN: " of a byte of the text, then the message (printf format); does not return. Columns
 * are characters, counted from 1. */
_Noreturn void chat_source_fail(struct chat_source *s, size_t at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Line and column of a byte of a text. */
void chat_source_place(const char *text, size_t at, size_t *line, size_t *column);

/* Fills tokens; the last is TOKEN_END. Leaves by s->out when the text is no template. */
void chat_lex(struct chat_source *s);

#endif
