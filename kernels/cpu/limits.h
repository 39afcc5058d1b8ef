/* limits.h - what this machine can do at most: how fast threads together read memory, and how many
 * multiply-adds they make out of registers. The two sides of every roof that a kernel is held to.
 *
 * Both are measured in small pieces, so that they can stand between the runs of a kernel: other
 * work on the machine then slows both down alike, and their ratio stays.
 */
#ifndef TANDEM_KERNELS_CPU_LIMITS_H
#define TANDEM_KERNELS_CPU_LIMITS_H

#include <stddef.h>
#include <stdio.h>

/* What was measured in pieces: all of them while they are few, then a sample of the whole run in which each
 * piece stands with the same probability, however many threads or pieces there are. */
#define LIMITS_KEPT 1024
struct limits_series {
    double value[LIMITS_KEPT];
    size_t n; /* pieces so far; 0: begin anew */
};

/* Adds a piece and returns it. */
double limits_keep(struct limits_series *s, double value);

/* 24 KB: it may lie on a stack. */
struct limits {
    int threads;
    const char *unit; /* what peak counts: "vdpbf16ps", "vfmadd", "fmla", "mul+add" */
    int vector;       /* 0: plain, 1: AVX2 FMA, 2: AVX-512 bf16, 3: NEON */
    unsigned char *memory;
    size_t bytes, at;   /* of memory; where the next piece is read */
    double wanted, got; /* seconds of cores: what the threads of all measurements wanted, and got */
    struct limits_series bandwidth, peak;
    struct limits_series pace; /* empty instructions a second, of each core */
};

#define LIMITS_BYTES ((size_t)512 << 20) /* more than any cache */

/* For a backend by its name ("plain", "avx2", "avx512", "neon"). Takes `bytes` of memory, more than caches
 * hold, and touches it. */
void limits_open(struct limits *l, const char *backend, int threads, size_t bytes);
void limits_close(struct limits *l);

/* Bytes per second, and flops (two per multiply-add) per second, over about `seconds`. */
double limits_bandwidth(struct limits *l, double seconds);
double limits_peak(struct limits *l, double seconds);

/* Of all pieces so far, of bandwidth or of peak: what a tenth of them falls below, the median, what a tenth passes.
 * A machine whose threads move between caches has several speeds of memory. */
struct limits_spread {
    double low, middle, high;
};
struct limits_spread limits_spread(const struct limits_series *s);
double limits_median(const struct limits_series *s);

/* Both, the best of some pieces in about a second: a roof is what can be reached. cores: see limits_cores(). */
struct limits_roofs {
    int threads;
    double bandwidth, peak, cores;
    const char *unit;
};
struct limits_roofs limits_roofs(const char *backend, int threads);

/* The share of their cores that the threads got so far: they never wait, so what is missing went to
 * others, and below LIMITS_QUIET the machine was not quiet. limits_tell() prints a line that says so. */
#define LIMITS_QUIET 0.98
double limits_cores(const struct limits *l);

/* The share of the instructions that the cores can begin, at a pace that a twentieth of the pieces of this run
 * had (the very best may be the clock's mistake), that they began while peaks were measured. What is missing
 * went to a lower clock or to other hardware threads of the same cores: the run's own, or on a virtual machine
 * a stranger's, which no count of its own system shows. The loop of multiply-adds hardly feels it, kernels that
 * begin nearly as many instructions as a core can do. */
double limits_slots(const struct limits *l);
void limits_tell(const struct limits *l, FILE *out);

#endif
