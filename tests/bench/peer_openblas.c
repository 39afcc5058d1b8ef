/* peer_openblas.c - OpenBLAS as a peer: sgemm, and sgemv for one row, on f32 copies of x and W. */
#include "tests/bench/peer.h"

#define NAME .name = "OpenBLAS", .dtype = "f32", .weight_bytes = sizeof(float), .y_f32 = true

#ifdef TANDEM_OPENBLAS
#include "base/mem.h"

#include <cblas.h>
#include <stdlib.h>

struct product {
    struct peer_linear linear;
    size_t count;
    float **w;
    float *x;
    size_t rows;
};

static bool about(int threads, char *text, size_t size)
{
    static const char *const kinds[] = {"one thread", "threads of its own", "OpenMP"};
    int kind = openblas_get_parallel();
    bool usable = threads == 1 || kind != OPENBLAS_SEQUENTIAL;
    char version[16] = "";
    sscanf(openblas_get_config(), "OpenBLAS %15s", version);
    snprintf(text, size, "%s (%s; kernels for %s), f32 copies of the weights: twice the bytes%s",
             version, kinds[kind], openblas_get_corename(),
             usable ? "" : "; left out, it has only one thread");
    return usable;
}

static bool own_threads(void)
{
    return openblas_get_parallel() == OPENBLAS_THREAD;
}

static void *open_product(const struct peer_linear *l)
{
    struct product *p = mem_new(1, sizeof *p);
    size_t size = mem_mul(l->n, l->k);
    openblas_set_num_threads(l->threads);
    *p = (struct product){.linear = *l, .count = l->cold / (size * sizeof(float)) + 1};
    p->w = mem_new(p->count, sizeof *p->w);
    for (size_t i = 0; i < p->count; i++) {
        p->w[i] = mem_aligned(size, sizeof(float));
        for (size_t j = 0; j < size; j++)
            p->w[i][j] = f32_from_bf16(l->w[j]);
    }
    p->x = mem_aligned(mem_mul(l->rows, l->k), sizeof(float));
    return p;
}

static void close_product(void *self)
{
    struct product *p = self;
    for (size_t i = 0; i < p->count; i++)
        free(p->w[i]);
    free(p->w);
    free(p->x);
    free(p);
}

static bool prepare(void *self, size_t rows, const bf16_t *x, char *how, size_t size)
{
    struct product *p = self;
    p->rows = rows;
    for (size_t i = 0; i < rows * p->linear.k; i++)
        p->x[i] = f32_from_bf16(x[i]);
    snprintf(how, size, "%s", rows == 1 ? "sgemv" : "sgemm");
    return true;
}

static void run(void *self, size_t i)
{
    struct product *p = self;
    blasint rows = (blasint)p->rows, n = (blasint)p->linear.n, k = (blasint)p->linear.k;
    const float *w = p->w[i % p->count];
    if (rows == 1)
        cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1, w, k, p->x, 1, 0, p->linear.y, 1);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n, k, 1, p->x, k, w, k, 0,
                    p->linear.y, n);
}

const struct peer peer_openblas = {NAME,
                                   .about = about,
                                   .own_threads = own_threads,
                                   .open = open_product,
                                   .close = close_product,
                                   .prepare = prepare,
                                   .run = run};
#else
const struct peer peer_openblas = {NAME, .package = "libopenblas-dev"};
#endif
