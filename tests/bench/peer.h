/* peer.h - the products of other libraries, measured beside ours: y = x W^T with weights in bf16.
 *
 * A peer is one library. Whether it was there when the program was built is the Makefile's to find
 * (`make info`); none is needed. Without it the peer's file still compiles, and says so in about().
 * A peer gets what ours gets: the same x and W, as many rows and threads, the same amount of cold
 * memory to rotate over, and time outside the measurement to pack its weights as it likes best.
 *
 * peer_onednn.c     oneDNN 2 and 3: bf16, weights in the format that it asks for
 * peer_openblas.c   OpenBLAS: f32 copies of x and W, as Debian's build has no product in bf16. Only
 *                   a point of reference, since it reads twice the bytes
 */
#ifndef TANDEM_TESTS_BENCH_PEER_H
#define TANDEM_TESTS_BENCH_PEER_H

#include "base/dtype.h"
#include "tests/bench/bench.h"

/* What is multiplied. Everything pointed to belongs to the caller and outlives the peer. */
struct peer_linear {
    size_t n, k, rows;  /* rows: at most */
    const bf16_t *w;    /* [n][k] */
    size_t cold;        /* bytes that are rotated over */
    int threads;        /* of the OpenMP runtime, or its own */
    enum dtype y_dtype; /* of ours: DTYPE_BF16 or DTYPE_F32 */
    void *y;            /* where peers write, [rows][n]; peers_open() makes it */
};

struct peer {
    const char *name;
    const char *dtype;   /* of its weights */
    size_t weight_bytes; /* of one of its weights */
    bool y_f32;          /* writes f32 whatever y_dtype is */
    const char *package; /* not in this build: what to install; then nothing else is set */
    /* Writes one line about itself: version, how it is used; or why it cannot be, and then returns
     * false: nothing else may be called. */
    bool (*about)(int threads, char *text, size_t size);
    /* Has threads of its own, which keep a core busy for a while after each product. */
    bool (*own_threads)(void);
    /* Takes its own copies of the weights. close() frees what open() returned. */
    void *(*open)(const struct peer_linear *l);
    void (*close)(void *self);
    /* Gets ready for products of `rows` rows of x (bf16 [rows][k]), and writes which of its
     * implementations it will use. False: it has none for this processor. */
    bool (*prepare)(void *self, size_t rows, const bf16_t *x, char *how, size_t size);
    /* The product with the i-th of the cold copies, into y; rotates by itself. */
    void (*run)(void *self, size_t i);
};
extern const struct peer peer_onednn, peer_openblas;

/* All peers that can be used, on one shape. */
struct peers;

/* Prints a line for each peer, also for those that are not there. */
void peers_print(int threads);

struct peers *peers_open(const struct peer_linear *l);
void peers_close(struct peers *p);

/* Makes peers ready for `rows` rows, and fills `out` [BENCH_PEERS] for bench_measure(); returns how
 * many. Compares what they compute from x with ours (y: [rows][n] in y_dtype): dies unless every
 * element agrees within the rounding of y_dtype, for then different things would be measured. */
size_t peers_prepare(struct peers *p, size_t rows, const bf16_t *x, const void *y,
                     struct bench_peer *out);

#endif
