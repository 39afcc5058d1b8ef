/* embed.cu - embed and gather: rows picked by index (ops.h). */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define THREADS 256

static __global__ void embed_kernel(cuda_matrix table, const int32_t *ids, float *x)
{
    int id = ids[blockIdx.x] > 0 ? ids[blockIdx.x] : 0;
    size_t from = (size_t)id * table.k, to = (size_t)blockIdx.x * table.k;
    size_t scale = (size_t)((table.row_lead + id) / MATRIX_BLOCK) * table.scale_stride;
    for (int i = (int)threadIdx.x; i < table.k; i += THREADS) {
        float v = load_number(table.data, from + i, table.type);
        if (table.type == NUMBER_F8E4M3)
            v *= table.scale[scale + (table.lead + i) / MATRIX_BLOCK];
        x[to + i] = v;
    }
}

extern "C" void cuda_embed(cudaStream_t stream, const struct cuda_matrix *table, const int32_t *ids,
                           int n, float *x)
{
    launch(embed_kernel, n, THREADS, 0, stream, *table, ids, x);
}

extern "C" void cuda_gather(cudaStream_t stream, const float *x, const int32_t *index, int n,
                            int width, float *y)
{
    cuda_matrix rows = {};
    rows.data = x;
    rows.k = width;
    rows.type = NUMBER_F32;
    launch(embed_kernel, n, THREADS, 0, stream, rows, index, y);
}
