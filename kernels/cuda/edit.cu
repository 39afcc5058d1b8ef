/* edit.cu - logits before they are sampled (ops.h: edit, mask). */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define THREADS 256

struct edit_row { /* struct logit_edit of ops.h */
    int32_t row, token;
    float bias, repeat, less;
};

static __global__ void edit_kernel(float *logits, int vocab, const edit_row *edits, int n)
{
    int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= n)
        return;
    edit_row e = edits[i];
    float *at = logits + (size_t)e.row * (size_t)vocab + (size_t)e.token;
    float l = *at + e.bias;
    l = l > 0.0f ? l / e.repeat : l * e.repeat;
    *at = l - e.less;
}

static __global__ void mask_kernel(float *logits, int vocab, const int32_t *rows,
                                   const uint32_t *bits)
{
    float *row = logits + (size_t)rows[blockIdx.x] * (size_t)vocab;
    const uint32_t *bit = bits + (size_t)blockIdx.x * (size_t)((vocab + 31) / 32);
    for (int t = (int)threadIdx.x; t < vocab; t += THREADS)
        if (!(bit[t / 32] >> (t % 32) & 1u))
            row[t] = bits_to_f32(0xff800000u);
}

extern "C" void cuda_edit(cudaStream_t stream, float *logits, int vocab, const void *edits, int n)
{
    launch(edit_kernel, (n + THREADS - 1) / THREADS, THREADS, 0, stream, logits, vocab,
           (const edit_row *)edits, n);
}

extern "C" void cuda_mask(cudaStream_t stream, float *logits, int vocab, const int32_t *rows,
                          const uint32_t *bits, int n)
{
    launch(mask_kernel, n, THREADS, 0, stream, logits, vocab, rows, bits);
}
