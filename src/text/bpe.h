/* bpe.h - byte-pair merging of one piece of text.
 *
 * A piece begins as one token a byte; then, as long as two neighbors have a merge, the pair with
 * the lowest rank (leftmost of equal ones) becomes one token. (Sennrich, Haddow, Birch 2016, arXiv
 * 1508.07909, on bytes.) The cost is n log n for a piece of n bytes. Building is for one thread;
 * after it a bpe is constant, and any number of threads may encode, each with a bpe_work. Any rank.
 */
#ifndef TANDEM_TEXT_BPE_H
#define TANDEM_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bpe;

/* One merge; its rank is its index. Of two merges of one pair the later counts. */
struct bpe_merge {
    int32_t left, right, into;
};

/* Token ids that grow; zero it, free(ids) in the end. */
struct bpe_ids {
    int32_t *ids;
    size_t n, room;
};

struct bpe_work;

/* bytes[b] is the token of byte b, or -1. unknown is the token for a byte that has none (fuse: for
 * a run of them), or -1: such a byte is dropped. Everything is copied. Fewer than 2^32 - 1 merges.
 */
struct bpe *bpe_new(const int32_t bytes[256], int32_t unknown, bool fuse_unknown,
                    const struct bpe_merge *merges, size_t n);
void bpe_free(struct bpe *b);

/* Says that the piece `text` is token id and needs no merging: always, or only when merging gives
 * just that token (check), as a table of frequent words that costs no lock. text is kept as a
 * pointer and must outlive the bpe. Room for `tokens` of them must have been made once before. */
void bpe_reserve_whole(struct bpe *b, size_t tokens);
void bpe_add_whole(struct bpe *b, const char *text, size_t n, int32_t id, bool check,
                   struct bpe_work *w);

/* The memory of one thread. Never NULL. */
struct bpe_work *bpe_work_new(void);
void bpe_work_free(struct bpe_work *w);

/* Appends the tokens of a piece of n >= 1 bytes (n < 2^31) to *out. */
void bpe_encode(const struct bpe *b, struct bpe_work *w, const char *piece, size_t n,
                struct bpe_ids *out);

void bpe_append(struct bpe_ids *out, int32_t id);

#endif
