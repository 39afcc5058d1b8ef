/* placement.h - which rank is what and holds what: pure functions of the layout, the same on every
 * rank.
 *
 * The ranks of a layout are numbered with the attention ranks first: rank r < attention is attention
 * rank r, the others are FFN ranks in order. In a colocated layout every rank has both roles.
 *
 * FFN ranks are numbered f = p x tensor + t: instance p of `expert` instances holds a contiguous
 * range of the routed experts, rank t of `tensor` ranks inside it holds a slice of their
 * intermediate dimension. The shared expert and dense MLPs are sliced over all expert x tensor
 * ranks. (Paper section 7.1: TP only, EP only, and TP+EP hybrid.)
 */
#ifndef TANDEM_SCHEDULE_PLACEMENT_H
#define TANDEM_SCHEDULE_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>

#define MICRO_BATCHES_MAX 4

struct layout {
    int attention;  /* attention ranks */
    int expert;     /* FFN instances */
    int tensor;     /* ranks of an instance */
    bool colocated; /* every rank has both roles: attention ranks, each with a whole FFN */
    size_t granule; /* groups of packed weights, which no slice cuts; 0: none */
};

/* A half-open range [first, first + count). */
struct span {
    size_t first, count;
};

/* expert x tensor; 1 when colocated. */
int layout_ffn_ranks(const struct layout *l);

/* FFN instances, each of which answers with one partial sum a row; 1 when colocated. */
int layout_instances(const struct layout *l);

/* attention + FFN ranks. */
int layout_ranks(const struct layout *l);

/* Who a rank is: made once (roles/comm.h in a run) and passed on to everything that asks. */
struct place {
    struct layout layout;
    bool attention, ffn; /* its roles; both when colocated */
    int index;           /* among the ranks of its role */
    int rank;            /* among the ranks of the layout */
    int host;            /* number of its host: equal for ranks that share memory */
    int host_rank;       /* among the ranks of its host: its GPU */
    int host_ranks;      /* ranks that share its host's cores and memory */
    bool shared_cores; /* a rank of the other role may run on a core of this one (roles/cores.h) */
};

/* The place of rank `rank` of a layout whose ranks are all on one host. */
struct place place_of(const struct layout *l, int rank);

/* "attention", "ffn" or "colocated": the roles in words. */
const char *place_role(const struct place *p);

/* Part `part` of `parts` of `width` items, as even as possible in multiples of `granule` (the last
 * part takes what is left over); parts may be empty. Earlier parts are never smaller by more than a
 * granule. */
struct span placement_slice(size_t width, int parts, int part, size_t granule);

/* The slices of an intermediate dimension, which are summed up apart (kernels/exact.h): a power of two
 * of them, at places that hang on width and `least` alone. At least 4 where there is so much to cut,
 * more as long as each has 256 columns. Cut in multiples of 128 (the block of FP8 scales), in narrow
 * models of 32 or 16; always of `least`. Returns how many; cut(s) ends slice s - 1. */
#define PLACEMENT_SLICES_MAX 64
int placement_slices(size_t width, size_t least);
size_t placement_cut(size_t width, size_t least, int slice);

/* The ends of the slices that lie in `mine`, counted from its first column; the last is mine.count.
 * Returns how many, 0 for none. */
size_t placement_cuts(size_t width, size_t least, struct span mine,
                      size_t cuts[PLACEMENT_SLICES_MAX + 1]);

/* Whether `parts` ranks, sharing out a dimension of this width, have whole slices. Sums then do not
 * depend on how many they are. */
bool placement_whole(size_t width, int parts, size_t least);

/* The multiple in which a dimension is cut for `parts` ranks: that of the slices when each rank gets
 * whole ones. Else 128 when every part still gets some, else 32, else 16; always a multiple of `least`
 * (0: any). Some parts may then get nothing. */
size_t placement_granule(size_t width, int parts, size_t least);

/* The experts of instance p. */
struct span placement_experts(size_t experts, const struct layout *l, int ffn_rank);

/* The slice of a routed expert's intermediate dimension on this FFN rank. */
struct span placement_expert_inter(size_t inter, const struct layout *l, int ffn_rank);

/* The slice of the shared expert's or a dense MLP's intermediate dimension on this FFN rank. */
struct span placement_shared_inter(size_t inter, const struct layout *l, int ffn_rank);

#endif
