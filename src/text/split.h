/* split.h - the pre-tokenizer: text becomes pieces, and tokens are looked for inside one piece
 * only.
 *
 * Stages run in order, each on every piece of the stage before, as a pre_tokenizer "Sequence" does.
 * A stage sees its piece alone: look-ahead and look-behind end at the piece's ends. The splits and
 * their behaviors are those of Hugging Face tokenizers (SplitDelimiterBehavior; Split, Digits,
 * ByteLevel). Constant after it was built: any number of threads may run it, each with a
 * split_work. Any rank.
 */
#ifndef TANDEM_TEXT_SPLIT_H
#define TANDEM_TEXT_SPLIT_H

#include "text/pattern.h"

#include <stdbool.h>
#include <stddef.h>

/* What becomes of the matches of a pattern, and of the text between them. */
enum split_behavior {
    SPLIT_ISOLATED,             /* every match is a piece, and so is what stands between */
    SPLIT_REMOVED,              /* matches are dropped */
    SPLIT_MERGED_WITH_PREVIOUS, /* a match is joined to the text before it */
    SPLIT_MERGED_WITH_NEXT,     /* ... behind it */
    SPLIT_CONTIGUOUS,           /* adjacent matches are one piece */
};

struct split;
struct split_work;

/* No stages: the text is one piece. The caller's until split_free() (NULL is allowed). */
struct split *split_new(void);
void split_free(struct split *s);

/* Adds a stage that splits by a pattern, which now belongs to the split. `invert`: the text between
 * the matches counts as matches, and the other way round. */
void split_add_pattern(struct split *s, struct pattern *p, enum split_behavior behavior,
                       bool invert);

/* Adds a stage that puts a space before every piece that does not begin with one. At most once. */
void split_add_prefix_space(struct split *s);

/* Is called with every piece in the order of the text; never with an empty one. The piece lives
 * until the function returns. A value other than 0 ends split_run(). */
typedef int (*split_piece)(void *arg, const char *piece, size_t n, struct err *e);

/* The memory of one thread. Never NULL. */
struct split_work *split_work_new(void);
void split_work_free(struct split_work *w);

/* Splits the n bytes of UTF-8 at `text` (checked by the caller; n may be 0: no piece). 0, or what
 * `piece` returned, or -1 with a message when a pattern failed. */
int split_run(const struct split *s, struct split_work *w, const char *text, size_t n,
              split_piece piece, void *arg, struct err *e);

#endif
