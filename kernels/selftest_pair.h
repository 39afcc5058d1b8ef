/* selftest_pair.h - two devices that do the same: the plain one, which is right by definition, and one
 * under test. Private to the self-test (selftest.h).
 *
 * A check makes its inputs on the host, gives them to both sides, runs one operation on each, and fetches
 * what came out; pair_compare() then looks at it, and everything that was given is taken back. Memory for
 * results holds NaNs before, so that a number that was not written shows.
 */
#ifndef TANDEM_KERNELS_SELFTEST_PAIR_H
#define TANDEM_KERNELS_SELFTEST_PAIR_H

#include "kernels/selftest.h"

#define PAIR_MEMORY  96 /* pieces of memory that a side has at once */
#define PAIR_RESULTS 3  /* results that a check fetches at once */

struct pair_side {
    const struct backend *backend;
    const struct ops *ops;
    struct device *device;
    struct stream *stream;
    void *memory[PAIR_MEMORY];
    int n_memory;
    float *result[PAIR_RESULTS];
};

struct pair {
    struct pair_side side[2]; /* plain, under test */
    enum dtype act, kv;
    uint64_t random;
    void *host[PAIR_MEMORY];
    int n_host;
    const char *only;          /* the operation that is wanted; NULL: all */
    char what[200];            /* what is looked at now, for messages */
    const struct selftest *of; /* it is told what differs */
    int checks, wrong;
};

/* Opens the device under test, and the plain one beside it. -1: it cannot be opened. */
int pair_open(struct pair *p, const struct selftest *of, const struct device_config *config,
              struct err *e);
void pair_close(struct pair *p);

/* Whether an operation is to be looked at. */
bool pair_wants(const struct pair *p, const char *operation);

void pair_at(struct pair *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Host memory until the next pair_compare(). */
void *pair_host(struct pair *p, size_t count, size_t size);
double pair_uniform(struct pair *p); /* in [0, 1) */
/* n numbers in (-scale, scale), rounded to t, as their bytes. t: f32, bf16, f64, f8e4m3 or int8. */
void *pair_numbers(struct pair *p, enum dtype t, size_t n, double scale);

/* A random matrix [n][k] in a format of checkpoints; its products with numbers below 1 are around 1. */
struct weight_part pair_matrix(struct pair *p, enum dtype t, int n, int k);

/* Device memory of one side, until the next pair_compare(). */
void *pair_put(struct pair_side *s, const void *host, size_t bytes);
void *pair_room(struct pair_side *s, size_t bytes);

/* Result k of one side: n numbers of dtype t (i32 as numbers), which the stream has made. */
void pair_fetch(struct pair_side *s, int k, const void *device, enum dtype t, size_t n);

/* Whether result k [rows][width] is the same on both sides, up to tolerance x the largest number of its
 * row; 0: exactly. NaNs are the same where both have one. A difference is told and counted. */
void pair_compare_part(struct pair *p, int k, const char *name, size_t rows, size_t width,
                       double tolerance);

/* The same of result 0, the only or the last one; and takes everything back. */
void pair_compare(struct pair *p, const char *name, size_t rows, size_t width, double tolerance);

/* What rounding a result, and perhaps something between, to t may change. */
double pair_tolerance(enum dtype t);

/* ---- selftest_attend.c ---------------------------------------------------------------------- */

#define SELFTEST_CONTEXT 2120 /* tokens of the longest sequence: more than one chunk of any cache */

void selftest_attention(struct pair *p, const struct attn_spec *spec);

#endif
