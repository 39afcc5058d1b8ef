/* matrix.h - how matrices lie in a card's memory. W[n][k] is packed in one of these layouts:
 *
 * TILED, for bf16 activations and weights of 16, 8 or 4 bits: the order in which a warp's lanes
 * want them for mma.m16n8k16, so that weights go from memory to registers as 16 bytes a lane, each
 * byte once. Rows are cut in tiles of 16, columns in chunks of 64; tile after tile, in a tile chunk
 * after chunk; a chunk of a tile is 4 (bf16) or 2 (8 bits) pieces of 32 lanes x 16 bytes. Lane 4g+t
 * of a 16x16 part holds rows g, g+8, g, g+8 of columns 2t, 2t+1 (first two) and 2t+8, 2t+9; an
 * 8-bit piece holds two such parts, left one first. Padding is 0. `lead` zero columns stand in
 * front, so that blocks of 128 scaled columns begin at packed columns that are multiples of 128.
 * Four e4m3 codes that become two registers share their word bit by bit (number.cuh: e4m3x4_split).
 * Behind the scales of a row of blocks are as many ratios: of the scale before each to its own, the
 * first 1. A scale of 0 has codes of 0, and the value of a neighbour.
 *
 * Codes in groups (kernels/weights/form.h) are TILED too: GROUP8 as int8; of GROUP4 a chunk is one
 * piece of two halves, in each 8 bytes a lane, four a part: what the lane's number i and i + 1 (i even)
 * of the part are stands at bits 2i and 2i + 16. Behind the codes of every chunk lie the numbers of its
 * groups, `form.bytes` of them: factors d and then m [factors][outers][16 rows], scales [groups][16 rows]
 * and minima [groups][16 rows], so that both come in one stream.
 *
 * PLAIN, for everything else: W transposed, [k][n]. ROWS: W as it is, for embed and cuBLAS.
 *
 * Nothing here needs CUDA; kernels and the C code that packs (pack.h) include it. */
#ifndef TANDEM_CARD_MATRIX_H
#define TANDEM_CARD_MATRIX_H

#include <stddef.h>
#include <stdint.h>

enum matrix_layout { MATRIX_TILED, MATRIX_PLAIN, MATRIX_ROWS };

#define MATRIX_TILE  16  /* rows of a tile */
#define MATRIX_CHUNK 64  /* columns of a chunk */
#define MATRIX_BLOCK 128 /* rows and columns of one e4m3 scale */

/* Types of TILED matrices beside those of enum dtype. */
enum { MATRIX_GROUP4 = 16, MATRIX_GROUP8 };
/* What the codes of GROUP4 stand for: the code itself, twice an e2m1, or ggml's curve. */
enum { CODES_LINEAR, CODES_E2M1, CODES_CURVE };

#define MATRIX_FORM 256 /* form.bytes at most */

/* How the numbers of the groups lie in a chunk, all counts 1, 2 or 4. A weight is
 * (d scale) (value - zero), less m min where `less`. */
struct cuda_form {
    uint16_t bytes;         /* behind the codes of a chunk; a multiple of 16 */
    uint8_t factor;         /* of d and m: enum dtype */
    uint8_t outers, groups; /* that d and scale change in a chunk */
    uint8_t scales, mins;   /* are they there? else they count as 1 */
    uint8_t less;           /* is there an m? else a min is an integer zero */
    uint8_t zero;           /* that of all groups; min is added to it */
    uint8_t codes;          /* GROUP4 */
};

struct cuda_matrix {
    const void *data;
    /* e4m3: [block rows][scale_stride], TILED [block rows][2][scale_stride]; int8: [n]; else NULL */
    const float *scale;
    int n, k;
    int type;
    int layout;
    int chunks;            /* TILED: of lead + k columns */
    int lead;              /* columns by which the part begins inside a block */
    int row_lead;          /* rows, likewise */
    int scale_stride;      /* block columns */
    struct cuda_form form; /* GROUP4, GROUP8 */
};

/* One gated MLP. TILED: `up` holds gate and up together, tiles of gate (even) and of up (odd) in
 * turn; gate is then only its scales and shape. */
struct cuda_mlp {
    struct cuda_matrix gate, up, down;
    const float *gate_bias, *up_bias, *down_bias; /* or NULL */
    float limit, alpha;
    const int32_t
        *cuts; /* [n_cuts] ends of the slices of down's columns (ops.h: struct mlp_part) */
    int n_cuts;
};

#endif
