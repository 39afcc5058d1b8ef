/* panel.h - how packed numbers lie in memory, and the kernels that multiply them.
 *
 * A weight matrix W[N][K] is cut into panels of 32 outputs; a panel holds its inputs in groups of
 * 4 bytes, so that one vector instruction takes a group of 16 outputs at once:
 *
 *   f32   [K][32]            one input at a time
 *   bf16  [K/2][32][2]       pairs of inputs: the operand of VDPBF16PS
 *   fp8   [K/2][64 bytes]    pairs again, but in the order in which unpacking two permuted halves
 *                            gives outputs 0..15 and 16..31 (code_place)
 *   g8    as fp8             integers of a grouped form (kernels/weights/form.h); where they are looked
 *                            up like FP8 (struct isa: sizes) sign and magnitude, 0x80 being -128
 *   g4    [K/4][64 bytes]    codes of one, four inputs: of outputs 0..15 in the low halves of bytes, of
 *                            16..31 in the high ones (four_place)
 *   q8    [K/4][32][4]       the integers of g8 and the codes of g4 for products of integers
 *   q4    [K/8][32][4 bytes] (kernels/cpu/integer.h): of eight inputs four are in the low halves
 *
 * N is padded to 32, K to 16 (q8, q4: 32), with zeros (codes of 0: the rows are padded too). Scales of FP8:
 * [panel][block of 128 inputs][2], one for outputs 0..15 and one for 16..31 (half a panel never crosses a block
 * row); of grouped forms as scales.h says.
 * A part of a matrix that begins within a run (form_run; of FP8 a block of 128 columns) gets zeros in
 * front (k_before), so that runs stay whole. Rows stay as exact as they come, but for q8 and q4.
 *
 * q8 and q4 add as integer.h says; of the others an output is one chain of multiply-adds, each
 * rounded once, over its inputs in the order 1, 0, 3, 2, 5, 4, ...: of each pair the second first,
 * as VDPBF16PS takes them. With FP8 scales and of g8 and g4 every run is such a chain from 0, and the
 * output is the chain of scale x run; where g8 and g4 have minima, of -min x the sum of the run's inputs,
 * too. FP8 differs from g8 in that a scale is shared by outputs as well.
 *
 * Rows x are copied to rows of X_ROW bytes, in chunks of X_CHUNK: [chunk][row][X_ROW]. The fixed
 * distance lets a kernel reach all its rows from one pointer; 64 bytes of padding keep the rows out
 * of each other's cache sets. A row of integers is its groups (struct integers), 2 bytes an input.
 * Where weights have minima, sums of its inputs follow a row, in chunks of their own: of 32 each where
 * runs are so long, else of 16 (x_sum). A longer run adds them up in order.
 */
#ifndef TANDEM_KERNELS_CPU_FAST_PANEL_H
#define TANDEM_KERNELS_CPU_FAST_PANEL_H

#include "base/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PANEL    32
#define K_ALIGN  16   /* inputs are padded to a multiple */
#define X_CHUNK  1024 /* bytes of a row in one chunk */
#define X_ROW    (X_CHUNK + 64)
#define F8_BLOCK 128 /* inputs (and outputs) that share one FP8 scale */

enum w_format { W_F32, W_BF16, W_F8, W_G8, W_G4, W_Q8, W_Q4, W_FORMATS };
enum x_format { X_F32, X_BF16, X_INTEGERS, X_FORMATS };

/* Bytes of one number (g4, q4: of two). */
static inline size_t w_size(enum w_format f)
{
    return f == W_F32 ? 4 : f == W_BF16 ? 2 : 1;
}

/* Bytes of one input of a panel. */
static inline size_t w_input(enum w_format f)
{
    return f == W_G4 || f == W_Q4 ? PANEL / 2 : PANEL * w_size(f);
}

static inline size_t x_size(enum x_format f)
{
    return f == X_F32 ? 4 : 2;
}

static inline size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Bytes of one row of k numbers, all its chunks. */
static inline size_t x_chunks(enum x_format f, size_t k)
{
    return (k * x_size(f) + X_CHUNK - 1) / X_CHUNK;
}

/* Where input `parity` (0 or 1) of a pair stands among its 64 bytes of codes, for output 0..31. */
static inline size_t code_place(size_t output, size_t parity)
{
    return output % 16 / 4 * 16 + output / 16 * 8 + output % 4 * 2 + parity;
}

/* Where input 0..3 stands among the 64 bytes of g4, for output 0..31: the byte; output / 16: its half. */
static inline size_t four_place(size_t output, size_t input)
{
    return output % 16 * 4 + input % 2 * 2 + input / 2;
}

/* Where (output 0..31, input) stands in a panel, in elements. */
static inline size_t panel_place(enum w_format f, size_t output, size_t input)
{
    switch (f) {
    case W_F32:
        return input * PANEL + output;
    case W_BF16:
        return input / 2 * 2 * PANEL + output * 2 + input % 2;
    case W_Q8:
        return input / 4 * 4 * PANEL + output * 4 + input % 4;
    default:
        return input / 2 * 2 * PANEL + code_place(output, input % 2);
    }
}

/* How a grouped form keeps its scales (scales.h). */
struct scales {
    enum dtype factor; /* of d and m */
    size_t groups;     /* that share them */
    bool mins;         /* is there something to subtract? */
    bool own_min;      /* m is not d */
    bool scale, min;   /* bytes of each group */
};

/* What the codes of a grouped form mean, the same for all panels of a matrix. */
struct grouped {
    size_t inputs;        /* of a run: 16, 32, 64 or 128 */
    bool mins;            /* is there something to subtract? */
    const int8_t *values; /* g4, q4: [16]; else NULL */
    struct scales scales; /* their groups are the runs */
    bool least;           /* g8: is any -128? */
};

/* The sums that follow a row of k inputs are of so many each. */
static inline size_t x_unit(const struct grouped *g)
{
    return g->inputs == 32 ? 32 : 16;
}

/* Chunks of these sums. */
static inline size_t x_sum_chunks(size_t k)
{
    return ((k + 15) / 16 * sizeof(float) + X_CHUNK - 1) / X_CHUNK;
}

/* Where sum `i` of the row at x is. */
static inline size_t x_sum(enum x_format f, size_t chunk, size_t k, size_t i)
{
    size_t at = i * sizeof(float);
    return (x_chunks(f, k) + at / X_CHUNK) * chunk + at % X_CHUNK;
}

/* c = x W^T for one panel, over its inputs from .. k - 1. */
struct panel {
    const uint8_t *w;
    const uint8_t *next; /* what will be read after this panel: fetched ahead; any address */
    /* fp8: [blocks][2], or NULL for none; g8 to q4: scales.h */
    const float *scale;
    const struct grouped *grouped; /* g8 to q4 */
    const uint8_t *x;              /* row 0 of chunk 0 */
    size_t chunk;                  /* bytes between chunks */
    size_t inputs;                 /* of a whole row, padded */
    size_t rows, from, k;          /* from even; g4, and where there are minima: a multiple of 16 */
    bool more;                     /* c holds the sums of the inputs before `from` */
    bool scattered;                /* `next` mostly lies elsewhere, as blocks of the KV cache do */
    float *c;                      /* [rows][32] */
};
typedef void panel_fn(const struct panel *p);

/* c += x W^T (first: c = x W^T), where W lies in `parts` pieces of part_k inputs (the last may be shorter) and x in
 * one chunk. For values of the KV cache: W = 32 columns of some blocks. */
struct parts {
    const uint8_t *const *w; /* [parts] */
    size_t offset;           /* bytes into each */
    size_t part_k, k;        /* k even */
    const uint8_t *next;     /* as above */
    const uint8_t *x;
    size_t rows;
    bool first; /* c holds nothing yet */
    float *c;   /* [rows][32] */
};
typedef void parts_fn(const struct parts *p);

#endif
