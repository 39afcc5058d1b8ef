/* selftest.h - does a device compute what it should?
 *
 * Every operation of a backend once, in every form of weights, on small random data of a model's own
 * shapes, against the plain backend on the same data; takes seconds. Widths and heads are the model's,
 * where the order of additions and the paths through kernels depend on them; outputs, experts and rows
 * are few. It finds a driver, a compiler or a kernel that is wrong on a kind of card that nobody has
 * tried; it is no proof (tests/kernels has that, where it can run).
 *
 * Needs no MPI, and no memory of the device that is to be had later. One thread calls it.
 */
#ifndef TANDEM_KERNELS_SELFTEST_H
#define TANDEM_KERNELS_SELFTEST_H

#include "kernels/device.h"
#include "kernels/ops.h"

#define SELFTEST_SHAPES 8

/* What a model asks of the kernels; every list has its distinct ones, as many as there is room for. */
struct selftest_shapes {
    int hidden, vocab;
    int widths[SELFTEST_SHAPES], n_widths;       /* inputs of its matrices */
    int inters[SELFTEST_SHAPES], n_inters;       /* of an expert or MLP on one rank */
    struct attn_spec attention[SELFTEST_SHAPES]; /* sinks: NULL, or anything: random ones */
    int n_attention;
    struct router_spec routers[SELFTEST_SHAPES];
    int n_routers;
    int heads, head_in, head_out; /* of a matrix for every head; heads 0: none */
    enum dtype wire;              /* rows that leave a rank: copy() makes them, and reads them */
};

/* How a device is opened for it, and what was found. */
struct selftest {
    const struct backend *backend;
    int index, threads;
    enum dtype act, kv;
    bool blas;
    const char
        *only; /* one operation, by its name in ops.h ("attend": with rope_append); NULL: all */
    void (*tell)(void *teller, const char *line); /* called at once for everything that differs */
    void *teller;
    int checks, wrong;
};

/* Adds to checks and wrong. -1: the device cannot be opened. */
int selftest_run(struct selftest *t, const struct selftest_shapes *shapes, struct err *e);

/* The same with shapes of its own, in all formats: small ones, that reach every kernel. act, kv and blas
 * are not looked at. */
int selftest_all(struct selftest *t, struct err *e);

#endif
