/* gpu_peak.h - what a card can do at most, and data for gpu_bench.c, made on the card (gpu_peak.cu). */
#ifndef TANDEM_TESTS_CUDA_GPU_PEAK_H
#define TANDEM_TESTS_CUDA_GPU_PEAK_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* p[i] = (noise & mask) | base for `words` words. */
void peak_noise(cudaStream_t stream, void *p, size_t words, uint32_t mask, uint32_t base);

/* Reads `bytes` (a multiple of 16) once; copies them. */
void peak_read(cudaStream_t stream, const void *p, size_t bytes, uint32_t *out);
void peak_copy(cudaStream_t stream, const void *from, void *to, size_t bytes);

/* mma.sync from registers, nothing else; returns the operations it starts. */
double peak_mma(cudaStream_t stream, int blocks, float *out);

/* One launch that does nothing. */
void peak_nothing(cudaStream_t stream, uint32_t *out);

#ifdef __cplusplus
}
#endif

#endif
