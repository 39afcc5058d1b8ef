/* codec.h - the formats in which checkpoints store weight matrices, and the one place where they
 * are read.
 *
 * A codec is one constant table in a file of its own. A dense one gives numbers; a grouped one gives
 * integers and the numbers of their groups, which mean what form.h says. Backends call the weight_*
 * functions below, which serve every codec: they fill their packed form from a part of a matrix, row
 * by row, from several threads.
 *
 * GGUF's formats are those of ggml: rows of blocks, one after the other. AWQ's is AutoAWQ's "gemm",
 * the packed integers are those of compressed-tensors; both keep scales and zero points in tensors
 * of their own. Decoding is exact: bit for bit what gguf-py's dequantize and those libraries'
 * definitions give in f32.
 *
 * Pure functions of mapped memory; any thread. The source must stay mapped while they are called.
 */
#ifndef TANDEM_KERNELS_WEIGHTS_CODEC_H
#define TANDEM_KERNELS_WEIGHTS_CODEC_H

#include "kernels/weights/form.h"

struct codec;

/* A rectangular part of a checkpoint's matrix W[rows][columns], y = W x, in host memory. */
struct weight_part {
    const struct codec *codec;
    const void *data; /* the whole matrix, from its first row */
    size_t stride;    /* columns of the whole matrix; where inputs are stored as rows: see word */
    size_t inputs; /* columns of the whole matrix, where inputs are stored as rows; else not read */

    /* The matrix is every step-th of the stored outputs, from `phase` on; step 0: all. Rows and row0 count
     * the matrix's own. */
    size_t step, phase;

    /* Beside the matrix, NULL where the codec has none. A scale is shared by scale_rows rows and
     * scale_columns columns of the whole matrix; 0: by all. Stride: elements between its rows. */
    const void *scale;
    enum dtype scale_dtype; /* F32, F16, BF16 */
    size_t scale_rows, scale_columns, scale_stride;
    const void *zero; /* packed zero points; NULL: symmetric */
    size_t zero_stride;

    /* Of each of the part's rows, the largest |value| of the whole matrix's row; NULL: `data` has whole
     * rows to find it in. Only looked at for WEIGHT_INT8. */
    const float *most;

    /* The part: outputs and inputs (either may be 0), and where it begins in the whole. */
    size_t n, k, row0, col0;
};

struct codec {
    const char *name; /* as its files call it: "Q4_K", "BF16", "AWQ" */
    /* Columns that are stored together: whole rows are a multiple of it, and codes() reads multiples
     * of it. 1: any. */
    size_t block;
    size_t block_bytes; /* of `data` in one block; 0 when rows do not lie one after the other */
    /* Stored transposed, inputs as rows: bytes of what `stride` counts between them; else 0. */
    size_t word;

    /* How parts are kept when nothing is quantized at load. */
    void (*form)(const struct weight_part *w, struct weight_form *f);

    /* Dense codecs; NULL in grouped ones. Rows are stored ones, columns the whole matrix's. */
    void (*numbers)(const struct weight_part *w, size_t row, size_t first, size_t n, float *to);

    /* Grouped ones; NULL in dense ones. codes: integers of I8, codes 0..15 of I4. group: the numbers
     * of the inner group that column `first` begins. */
    void (*codes)(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to);
    void (*group)(const struct weight_part *w, size_t row, size_t first, struct form_group *g);
};

extern const struct codec codec_f32, codec_bf16, codec_f16, codec_fp8, codec_int8;
extern const struct codec codec_q8_0, codec_q4_0, codec_q4_1, codec_q5_0, codec_q5_1;
extern const struct codec codec_q2_k, codec_q3_k, codec_q4_k, codec_q5_k, codec_q6_k;
extern const struct codec codec_iq4_nl, codec_iq4_xs, codec_mxfp4, codec_mxfp4_apart;
extern const struct codec codec_awq, codec_packed4, codec_packed8;
extern const struct codec codec_turned_f32, codec_turned_bf16, codec_turned_f16;

/* All of them, NULL at the end. */
const struct codec *const *codec_all(void);

/* That of numbers, integers and FP8 as safetensors has them. */
const struct codec *codec_of(enum dtype t);

/* That of the same with inputs as rows, [inputs][outputs]; NULL: there is none. */
const struct codec *codec_turned(enum dtype t);

/* How weights are kept. KEEP: in the form their codec names, at about their own size. INT8: one f32
 * scale a row of the whole matrix, steps of max|w| / 127. INT4: groups of 32 inputs, from their smallest to their largest
 * value in 15 steps; d and m in F16. Both are rounded to the nearest, made at load (job: weights). */
enum weight_keep { WEIGHT_KEEP, WEIGHT_INT8, WEIGHT_INT4 };

/* The form of a part. A part that begins inside a group is kept in F32. */
struct weight_form weight_form(const struct weight_part *w, enum weight_keep keep);

/* Row 0 .. n - 1 of the part as f32 [k]. */
void weight_row(const struct weight_part *w, size_t row, float *to);

/* The same row as `keep` will have it: what a backend computes with that has no panels for the form. */
void weight_row_kept(const struct weight_part *w, enum weight_keep keep, size_t row, float *to);

/* The same row for a grouped form that weight_form() gave: codes [k] and groups
 * [form_groups(k, f->inner)]. scratch: f32 [k]. */
void weight_row_grouped(const struct weight_part *w, enum weight_keep keep,
                        const struct weight_form *f, size_t row, int8_t *codes,
                        struct form_group *groups, float *scratch);

/* The same row's codes for FORM_F8, and the scale of 128 x 128 that covers an element of it. */
void weight_row_f8(const struct weight_part *w, size_t row, uint8_t *codes);
float weight_scale(const struct weight_part *w, size_t row, size_t column);

/* Rows and columns that a part may be cut at without leaving its form: a multiple of it. */
size_t weight_granule(const struct weight_part *w);

/* How a matrix lies in `data`: stored rows, one after the other, of units of whole bytes. Where inputs are rows
 * it is turned; else a stored row is an output, or `step` of them. */
struct weight_stored {
    size_t row_bytes;
    size_t unit, unit_bytes; /* a unit's columns (outputs when turned), and its bytes */
    bool turned;
};

struct weight_stored weight_stored(const struct weight_part *w);

/* Bytes of `data` that `rows` whole rows of the matrix take. */
size_t weight_data_bytes(const struct weight_part *w, size_t rows);

/* ---- for the codecs' own files --------------------------------------------------------------- */

/* The block that holds (row, column) of the whole matrix. */
static inline const uint8_t *codec_block(const struct weight_part *w, size_t row, size_t column)
{
    size_t block = w->codec->block;
    return (const uint8_t *)w->data +
           (row * (w->stride / block) + column / block) * w->codec->block_bytes;
}

/* Little-endian f16 at any address. */
static inline float codec_f16_at(const uint8_t *at)
{
    return f32_from_f16((f16_t)(at[0] | at[1] << 8));
}

static inline uint32_t codec_u32_at(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* 16 bytes: value j in the low half of byte j, value j + 16 in its high half. */
static inline void codec_nibbles(const uint8_t *qs, int8_t to[32])
{
    for (int j = 0; j < 16; j++) {
        to[j] = (int8_t)(qs[j] & 15);
        to[j + 16] = (int8_t)(qs[j] >> 4);
    }
}

/* Number `at` of an array of f32, f16 or bf16. */
float codec_number(const void *array, enum dtype t, size_t at);

/* The scale beside a matrix that covers (row, column) of the whole. */
float codec_scale(const struct weight_part *w, size_t row, size_t column);

/* Codes that are their own values, 0..15. */
extern const int8_t codec_identity[16];
/* 4 bits around zero: code - 8. */
extern const int8_t codec_centered[16];
/* The curve of IQ4_NL and IQ4_XS. */
extern const int8_t codec_curve[16];

#endif
