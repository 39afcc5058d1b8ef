/* blas.c - products by cuBLAS, with device_config.blas (linear.c).
 *
 * The library is opened when a device asks for it: a program that is linked with it maps 600 MB and
 * runs its constructors at every start, ten times what starting costs without it, and does not start
 * at all where it is missing. */
#include "kernels/cuda/device_cuda.h"

#include "base/mem.h"

#include <cublas_v2.h>
#include <dlfcn.h>
#include <stdlib.h>

#define TEXT(words)  #words
#define VALUE(macro) TEXT(macro)
#ifndef CUBLAS_LIBRARY
#define CUBLAS_LIBRARY "libcublas.so." VALUE(CUBLAS_VER_MAJOR)
#endif

struct blas {
    cublasHandle_t handle;
    __typeof__(cublasDestroy) *destroy;
    __typeof__(cublasSetStream) *set_stream;
    __typeof__(cublasSetWorkspace) *set_workspace;
    __typeof__(cublasGemmEx) *gemm;
};

/* The names are macros: in the library they end in _v2. */
#define FIND(library, name) ((__typeof__(name) *)dlsym(library, VALUE(name)))

struct blas *cuda_blas_open(struct err *e)
{
    struct blas *b = mem_zeroed(1, sizeof *b);
    void *l = dlopen(CUBLAS_LIBRARY, RTLD_NOW | RTLD_LOCAL); /* and stays */
    __typeof__(cublasCreate) *create = l ? FIND(l, cublasCreate) : NULL;
    if (!create || !(b->destroy = FIND(l, cublasDestroy)) ||
        !(b->set_stream = FIND(l, cublasSetStream)) ||
        !(b->set_workspace = FIND(l, cublasSetWorkspace)) || !(b->gemm = FIND(l, cublasGemmEx))) {
        err_set(e,
                "cuBLAS cannot be opened (%s); say where it is by LD_LIBRARY_PATH, or say "
                "`cublas: false`",
                dlerror());
        free(b);
        return NULL;
    }
    if (create(&b->handle) != CUBLAS_STATUS_SUCCESS)
        die("cuBLAS cannot be started");
    return b;
}

void cuda_blas_close(struct blas *b)
{
    if (b)
        b->destroy(b->handle);
    free(b);
}

void cuda_blas_panel(struct device *d, struct stream *s, const struct cuda_matrix *m, const void *x,
                     void *y, enum dtype y_dtype)
{
    const float one = 1, zero = 0;
    struct blas *b = d->blas;
    cublasStatus_t status = b->set_stream(b->handle, s->cuda);
    /* Which took the workspace away: while a graph is captured cuBLAS would take a new one for it. */
    if (status == CUBLAS_STATUS_SUCCESS)
        status = b->set_workspace(b->handle, s->blas, BLAS_WORKSPACE);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = b->gemm(b->handle, CUBLAS_OP_T, CUBLAS_OP_N, m->n, BLAS_PANEL, m->k, &one, m->data,
                         CUDA_R_16BF, m->k, x, CUDA_R_16BF, m->k, &zero, y,
                         y_dtype == DTYPE_F32 ? CUDA_R_32F : CUDA_R_16BF, m->n, CUBLAS_COMPUTE_32F,
                         CUBLAS_GEMM_DEFAULT);
    if (status != CUBLAS_STATUS_SUCCESS)
        die("cuBLAS: status %d for a product of %d x %d", (int)status, m->n, m->k);
}
