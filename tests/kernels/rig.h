/* rig.h - a device under test: memory with guards around it, inputs, and comparisons.
 *
 * Every device buffer stands between two guards of sentinel bytes; rig_clear() checks them all.
 * Outputs are filled with the same sentinel before the operation: as f32, bf16 and e4m3 it is a
 * NaN, so an element that was not written fails every comparison. Device memory is touched only by
 * upload() and download(), so that the cases run on every backend.
 *
 * Host and device memory handed out lives until rig_clear(), or longer with rig_keep(). A failure
 * prints what was compared and is counted; nothing stops.
 */
#ifndef TANDEM_TESTS_KERNELS_RIG_H
#define TANDEM_TESTS_KERNELS_RIG_H

#include "kernels/device.h"
#include "kernels/ops.h"

struct rig_buffer {
    unsigned char *base;
    size_t bytes; /* without the guards */
};

struct rig {
    const struct backend *backend;
    const struct ops *ops;
    const struct device_ops *dev;
    struct device *d;
    struct stream *s;
    enum dtype act, kv;
    struct device_limits limits;
    bool int8_products;
    uint64_t random; /* state of the generator; any value */
    int failures;
    bool followed;  /* has a download been compared with the first processor's? */
    char what[256]; /* the shape at hand, for messages */
    struct rig_buffer buffers[64];
    int n_buffers, kept_buffers;
    void *host[512];
    int n_host, kept_host;
};

/* Limits that all cases fit into. */
extern const struct device_limits rig_limits;

void rig_open(struct rig *r, const struct backend *b, enum dtype act, enum dtype kv, int threads,
              const struct device_limits *limits);
/* The same, with device_config.int8_products. */
void rig_open_integers(struct rig *r, const struct backend *b, enum dtype act, int threads,
                       const struct device_limits *limits);
/* Clears, closes, and returns the number of failures. */
int rig_close(struct rig *r);
void rig_clear(struct rig *r);
/* The host and device memory handed out so far lives until rig_close(). */
void rig_keep(struct rig *r);

/* Whether cases should leave out repetitions: a GPU that is emulated (QUICK is set, tests/run) takes
 * many times as long as any processor. */
bool rig_slow(const struct backend *b);

/* Whether the GPU is emulated, so that TANDEM_EMU_SHARED chooses which one. */
bool rig_emulated(const struct backend *b);

/* Whether shape i is left out, because the processor is emulated (EMULATED is set, tests/aarch64): then
 * every twelfth is tried, with LONG=1 every fourth. */
bool rig_skips(size_t i);

/* Processors give the same bits: what a case downloads from the first of them is kept, and everything
 * downloaded from another must be equal to it. Between rig_trace_begin(name) and the next one only
 * one case runs; a GPU, or a case that has not run on the first processor, is not compared. */
void rig_trace_begin(const struct backend *b, const char *name);

/* Whether all that this rig has downloaded has been compared so, and is equal: a reference, which the first
 * processor's was compared with, need not be made again. */
bool rig_settled(const struct rig *r);

/* What is tested now; printed before a failure. */
void rig_at(struct rig *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void rig_fail(struct rig *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- host ------------------------------------------------------------------------------------ */

void *rig_host(struct rig *r, size_t count, size_t size);
double rig_uniform(struct rig *r); /* in [0, 1) */
/* n numbers in (-scale, scale) that format t can hold exactly; and their bytes in that format. */
float *rig_values(struct rig *r, enum dtype t, size_t n, double scale);
void *rig_encode(struct rig *r, enum dtype t, const float *values, size_t n);
float *rig_decode(struct rig *r, enum dtype t, const void *from, size_t n);

/* ---- device ---------------------------------------------------------------------------------- */

void *rig_put(struct rig *r, const void *host, size_t bytes);
void *rig_put_values(struct rig *r, enum dtype t, const float *values, size_t n);
void *rig_room(struct rig *r, size_t bytes); /* filled with sentinels */
void *rig_get(struct rig *r, const void *device, size_t bytes);
float *rig_get_values(struct rig *r, enum dtype t, const void *device, size_t n);

/* ---- comparison ------------------------------------------------------------------------------ */

/* 1e-5 for f32, 1e-2 for bf16: relative to the largest number of the row. */
double rig_tolerance(enum dtype t);

/* got and want [rows][width]. In every row |got - want| <= tolerance x size[row]; size NULL: the
 * largest |want| of the row. A NaN in got fails. */
void rig_compare(struct rig *r, const char *name, const float *got, const double *want, size_t rows,
                 size_t width, const double *size, double tolerance);

/* Which of n rows a reference is made for: all while they are few, then the first and last, some on
 * both sides of every 512th, and every 41st. Returns how many; rows has room for RIG_PICKED. */
#define RIG_PICKED 64
int rig_some_rows(int n, int *rows);

void rig_same_bytes(struct rig *r, const char *name, const void *got, const void *want,
                    size_t bytes);

/* ---- weights --------------------------------------------------------------------------------- */

/* A part of a checkpoint tensor that is larger than the part on all sides and NaN there. */
struct rig_weight {
    struct weight_part part;
    double *value; /* [n][k] as it is meant */
};

/* No weight is half way between two steps of int8. row0, col0: where the part begins; for f8e4m3
 * the blocks of 128 count from the tensor's start. */
struct rig_weight rig_weight(struct rig *r, enum dtype t, size_t n, size_t k, size_t row0,
                             size_t col0);

/* Fills w->value: what w->part is computed with. */
void rig_set_values(struct rig *r, struct rig_weight *w, enum weight_keep keep);

/* A part from column col0 on of a matrix in one of the grouped formats: any bytes, but for the highest bit of
 * every exponent. */
struct rig_weight rig_coded(struct rig *r, const struct codec *c, size_t n, size_t k, size_t col0);

/* Integers of 4 or 8 bits in groups of `group` inputs (0: whole rows), scales of `type`, with zero points
 * that stand beside them or symmetric. */
struct rig_weight rig_packed(struct rig *r, int bits, size_t group, enum dtype type, bool zeros,
                             size_t n, size_t k);

/* What a row x [k] is when it is multiplied with integers (kernels/cpu/integer.h): code x scale. */
void rig_round_row(const float *x, size_t k, float *rounded);

/* What INT8 makes of value: steps of max|w| / 127 per row. Else value itself. */
const double *rig_kept(struct rig *r, const struct rig_weight *w, enum weight_keep keep);

/* Attention in which all of a head turns and every token sees all before it. */
struct attn_spec rig_attention(int heads, int kv_heads, int dim);
struct kv_shape rig_cache(const struct attn_spec *spec, size_t layers, size_t blocks);

/* ---- invariance ------------------------------------------------------------------------------ */

/* An operation on rows that can be picked freely. run() takes the given rows of its own host inputs
 * (row -1: a row of NaN where `takes_nan`), in this order, and returns the outputs [n][row_bytes].
 */
struct row_op {
    const char *name;
    const void *inputs;
    size_t row_bytes;
    bool takes_nan;
    unsigned char *(*run)(struct rig *r, const void *inputs, const int *rows, int n);
};

/* Runs op on rows 0..total-1 at once, then alone, in other company, in other places, and with other
 * numbers of threads: each row must come out with the same bits every time. total <= 200. */
void rig_invariance(struct rig *r, const struct row_op *op, int total);

/* A copy of the picked rows of a host matrix of floats; NaN for row -1. */
float *rig_pick(struct rig *r, const float *from, size_t width, const int *rows, int n);

#endif
