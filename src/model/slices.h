/* slices.h - matrices that FFN ranks cut across the rows of their file: every byte is read by one rank.
 *
 * Whoever takes some columns of a matrix touches every page of its file, and so does who takes some outputs
 * of AWQ's, which are stored turned. So the ranks that share such a matrix read whole stored rows, each
 * an equal part of them, and hand every other its slice: a rank then has a copy of its slice alone. Ranks of
 * one host would find the pages in memory; those of several hosts would all ask the file system.
 *
 * Not handed over: scales and zero points that stand beside a matrix, at most 4 % of it.
 */
#ifndef TANDEM_MODEL_SLICES_H
#define TANDEM_MODEL_SLICES_H

#include "kernels/weights/codec.h"
#include "schedule/placement.h"

#include <stdbool.h>

struct slices_bytes {
    void *at;
    size_t bytes;
};

/* How ranks hand each other bytes: collective over the FFN ranks `ranks`, give[i] and take[i] are those for
 * and from rank ranks.first + i, of which both sides know how many they are. Of this rank itself: none. */
struct slices_way {
    void (*swap)(void *context, struct span ranks, const struct slices_bytes *give,
                 const struct slices_bytes *take);
    void *context;
};

/* A dimension of matrices, shared out. */
struct slices_share {
    struct span (*of)(size_t width, const struct layout *l, int ffn_rank); /* placement.h */
    size_t width;
    const struct layout *layout;
    struct span ranks; /* the FFN ranks that share it */
    int rank;          /* this one */
};

/* The copies of the matrices of one layer. */
struct slices {
    const struct slices_way *way; /* NULL: every rank reads all rows by itself */
    enum weight_keep keep;
    int threads;
    void **held;
    size_t n;
};

/* What this rank reads of its part, whose columns (else rows) are shared out: the same, or whole stored rows. */
struct weight_part slices_read(const struct slices *s, const struct weight_part *p, bool columns,
                               const struct slices_share *share);

/* Collective over share->ranks, with the same matrix: makes the part one of a copy, where slices_read() is
 * not the part itself. It is good until slices_free(). */
void slices_gather(struct slices *s, struct weight_part *p, bool columns,
                   const struct slices_share *share);

/* Bytes of that copy, for a plan; 0 where it makes none. *passing: what it needs besides until it returns. */
size_t slices_bytes(const struct weight_part *p, bool columns, const struct slices_share *share,
                    size_t *passing);

/* Frees the copies; s can be used again. */
void slices_free(struct slices *s);

#endif
