/* planted.cpp - kernels with faults, to see that the emulation shows them (streams.c). Each
 * reverses 64 numbers through shared memory; `fault` leaves something out. */
#include "emulation.h"

enum { NOTHING_LEFT_OUT, NO_BARRIER, NO_WAIT_FOR_COPY, BEGIN_IN_MOST, BEGIN_TWICE, BEGIN_LATE };

static __global__ void reverse(const float *from, float *to, int fault)
{
    float *memory = (float *)shared_memory();
    int i = (int)threadIdx.x;
    if (i < 16)
        cp_async16(memory + 4 * i, from + 4 * i, 16);
    cp_async_commit();
    if (fault != NO_WAIT_FOR_COPY)
        cp_async_wait<0>();
    if (fault != NO_BARRIER)
        __syncthreads();
    to[i] = memory[63 - i];
}

extern "C" void planted_reverse(cudaStream_t stream, const float *from, float *to, int fault)
{
    launch(reverse, 1, 64, 64 * sizeof(float), stream, from, to, fault);
}

/* Copies 64 numbers; `fault` is in how threads call grid_begin(). */
static __global__ void copy(const float *from, float *to, int fault)
{
    int i = (int)threadIdx.x;
    if (fault == BEGIN_LATE)
        cp_async16(shared_memory(), from, 16);
    if (fault != BEGIN_IN_MOST || i != 5)
        grid_begin();
    if (fault == BEGIN_TWICE && i == 6)
        grid_begin();
    to[i] = from[i];
}

extern "C" void planted_copy(cudaStream_t stream, const float *from, float *to, int fault)
{
    launch_early(copy, 1, 64, 16, stream, from, to, fault);
}
