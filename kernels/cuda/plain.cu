/* plain.cu - linear and the experts for every shape and number format: f32 runs, whose purpose is
 * exactness, and matrices that cannot be TILED. A thread makes one output; weights are [k][n], so
 * neighbouring threads read neighbouring weights. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define THREADS 128

/* sum_j W[i][j] x[j] of the columns from `first` to before `last`, j ascending. */
static __device__ float plain_part(const cuda_matrix &w, int i, const void *x, size_t at, int act,
                                   int first, int last)
{
    float sum = 0.0f;
    if (w.type != NUMBER_F8E4M3) {
        for (int j = first; j < last; j++)
            sum = fmaf(load_number(w.data, (size_t)j * w.n + i, w.type),
                       load_number(x, at + j, act), sum);
        return w.type == NUMBER_I8 ? sum * w.scale[i] : sum;
    }
    const float *scale = w.scale + (size_t)((w.row_lead + i) / MATRIX_BLOCK) * w.scale_stride;
    for (int j = first; j < last; j++)
        sum = fmaf(load_number(w.data, (size_t)j * w.n + i, w.type) *
                       scale[(w.lead + j) / MATRIX_BLOCK],
                   load_number(x, at + j, act), sum);
    return sum;
}

static __device__ float plain_dot(const cuda_matrix &w, int i, const void *x, size_t at, int act)
{
    return plain_part(w, i, x, at, act, 0, w.k);
}

static __global__ void linear_kernel(cuda_matrix w, const void *x, int act, void *y, int y_type)
{
    int i = (int)(blockIdx.y * THREADS + threadIdx.x);
    size_t row = blockIdx.x;
    if (i < w.n)
        store_number(y, row * w.n + i, y_type, plain_dot(w, i, x, row * w.k, act));
}

extern "C" void cuda_linear_plain(cudaStream_t stream, const struct cuda_matrix *w, const void *x,
                                  int act, int n, void *y, int y_type)
{
    launch(linear_kernel, dim3(n, (w->n + THREADS - 1) / THREADS), THREADS, 0, stream, *w, x, act,
           y, y_type);
}

static __global__ void heads_kernel(const cuda_matrix *w, cuda_rows x, int x_step, cuda_rows y,
                                    int y_step)
{
    int i = (int)(blockIdx.z * THREADS + threadIdx.x), head = (int)blockIdx.y;
    size_t row = blockIdx.x;
    if (i < w[head].n)
        store_number(y.data, row * y.stride + (size_t)head * y_step + i, y.type,
                     plain_dot(w[head], i, x.data, row * x.stride + (size_t)head * x_step, x.type));
}

extern "C" void cuda_linear_heads(cudaStream_t stream, const struct cuda_matrix *w, int heads,
                                  int outputs, const struct cuda_rows *x, int x_step, int n,
                                  const struct cuda_rows *y, int y_step)
{
    launch(heads_kernel, dim3(n, heads, (outputs + THREADS - 1) / THREADS), THREADS, 0, stream, w,
           *x, x_step, *y, y_step);
}

/* The expert of choice k of a row, counted from 0, `experts` for the shared one, -1 when it is not
 * held here. */
static __device__ int choice(const int32_t *ids, size_t row, int k, int topk, int first,
                             int experts)
{
    if (k == topk)
        return experts;
    int local = ids[row * topk + k] - first;
    return local >= 0 && local < experts ? local : -1;
}

static __global__ void up_kernel(const cuda_mlp *mlp, int first, int experts, const void *x,
                                 int act, const int32_t *ids, int topk, void *h, int inter)
{
    size_t row = blockIdx.x;
    int i = (int)(blockIdx.z * THREADS + threadIdx.x), k = (int)blockIdx.y;
    int e = choice(ids, row, k, topk, first, experts);
    if (e < 0 || i >= mlp[e].up.n)
        return;
    const cuda_mlp &m = mlp[e];
    float gate = plain_dot(m.gate, i, x, row * m.gate.k, act) + bias_at(m.gate_bias, i);
    float up = plain_dot(m.up, i, x, row * m.up.k, act) + bias_at(m.up_bias, i);
    store_number(h, (row * (topk + 1) + k) * inter + i, act, swiglu(m.alpha, m.limit, gate, up));
}

/* Whether an earlier choice of the row is the same. */
static __device__ bool chosen_before(const int32_t *ids, int k)
{
    for (int j = 0; j < k; j++)
        if (ids[j] == ids[k])
            return true;
    return false;
}

/* Output i of an expert's down, slice by slice (kernels/exact.h). */
static __device__ double exact_down(const cuda_mlp &m, int i, const void *h, size_t at, int act,
                                    float weight)
{
    double sum = 0.0;
    for (int c = 0, first = 0; c < m.n_cuts; first = m.cuts[c++]) {
        float product = plain_part(m.down, i, h, at, act, first, m.cuts[c]);
        sum += exact_share(weight, product + (c == 0 ? bias_at(m.down_bias, i) : 0.0f));
    }
    return sum;
}

static __global__ void down_kernel(const cuda_mlp *mlp, int first, int experts, const void *h,
                                   int act, int inter, const int32_t *ids, const float *weights,
                                   int topk, int hidden, void *out, int out_type)
{
    size_t row = blockIdx.x, rows = row * (topk + 1);
    int i = (int)(blockIdx.y * THREADS + threadIdx.x);
    if (i >= hidden)
        return;
    double sum = 0.0;
    for (int k = 0; k <= topk; k++) {
        int e = choice(ids, row, k, topk, first, experts);
        if (e < 0 || (k < topk && chosen_before(ids + row * topk, k)))
            continue;
        sum += exact_down(mlp[e], i, h, (rows + k) * inter, act,
                          k < topk ? weights[row * topk + k] : 1.0f);
    }
    store_exact(out, row * hidden + i, out_type, sum);
}

extern "C" void cuda_ffn_up_plain(cudaStream_t stream, const struct cuda_mlp *mlp, int first_expert,
                                  int experts, const void *x, int act, const int32_t *ids, int topk,
                                  int n, void *h, int inter)
{
    launch(up_kernel, dim3(n, topk + 1, (inter + THREADS - 1) / THREADS), THREADS, 0, stream, mlp,
           first_expert, experts, x, act, ids, topk, h, inter);
}

extern "C" void cuda_ffn_down_plain(cudaStream_t stream, const struct cuda_mlp *mlp,
                                    int first_expert, int experts, const void *h, int act,
                                    int inter, const int32_t *ids, const float *weights, int topk,
                                    int n, int hidden, void *out, int out_type)
{
    launch(down_kernel, dim3(n, (hidden + THREADS - 1) / THREADS), THREADS, 0, stream, mlp,
           first_expert, experts, h, act, inter, ids, weights, topk, hidden, out, out_type);
}
