/* record.cu - a row of the exchange between GPUs as one record, so that it travels in one piece: its
 * numbers, scales, experts and their weights one after the other, each from a multiple of 16 bytes. One
 * block a row. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

#define THREADS 128

template <typename T>
static __device__ __forceinline__ void copy_as(void *to, const void *from, int bytes)
{
    for (int i = (int)threadIdx.x; i < bytes / (int)sizeof(T); i += THREADS)
        ((T *)to)[i] = ((const T *)from)[i];
}

static __device__ __forceinline__ void copy_part(void *to, const void *from, int bytes)
{
    uintptr_t all = (uintptr_t)to | (uintptr_t)from | (uintptr_t)bytes;
    if (all % 16 == 0)
        copy_as<uint4>(to, from, bytes);
    else if (all % 4 == 0)
        copy_as<uint32_t>(to, from, bytes);
    else
        copy_as<unsigned char>(to, from, bytes);
}

static __global__ void pack_kernel(cuda_record r, unsigned char *records)
{
    size_t row = blockIdx.x;
    unsigned char *to = records + row * r.stride;
    for (int p = 0; p < RECORD_PARTS; p++)
        copy_part(to + r.at[p], (const unsigned char *)r.part[p] + row * r.bytes[p], r.bytes[p]);
}

static __global__ void unpack_kernel(cuda_record r, const unsigned char *records,
                                     cuda_pieces pieces)
{
    int row = (int)blockIdx.x, piece = 0;
    while (row >= pieces.first[piece + 1])
        piece++;
    size_t slot = (size_t)piece * pieces.apart + (row - pieces.first[piece]);
    const unsigned char *from = records + slot * r.stride;
    for (int p = 0; p < RECORD_PARTS; p++)
        copy_part((unsigned char *)r.part[p] + (size_t)row * r.bytes[p], from + r.at[p],
                  r.bytes[p]);
}

extern "C" void cuda_record_pack(cudaStream_t stream, const struct cuda_record *r, int n,
                                 void *records)
{
    if (n > 0)
        launch(pack_kernel, n, THREADS, 0, stream, *r, (unsigned char *)records);
}

extern "C" void cuda_record_unpack(cudaStream_t stream, const struct cuda_record *r,
                                   const void *records, const struct cuda_pieces *pieces, int n)
{
    if (n > 0)
        launch(unpack_kernel, n, THREADS, 0, stream, *r, (const unsigned char *)records, *pieces);
}
