/* launch.cuh - the only place where kernels meet the compiler: starting them, and the instructions
 * that C++ cannot say. With nvcc these are inline PTX; without it (tests only) "emulation.h" gives
 * C++ twins of the same names, so that the kernels themselves are the same text in both.
 *
 * Rules for kernels: shared memory is dynamic only, through shared_memory(); blocks are whole
 * warps; warp functions are called by all 32 lanes; a multiplication and an addition that shall be
 * one are written fmaf(), and nvcc is told -fmad=false, so that a row is computed with the same
 * roundings in every instance of a template; in a kernel that launch_early() starts every thread
 * calls grid_begin() once, before it touches memory that any kernel writes, and on every path, also
 * where it has nothing to do.
 */
#ifndef TANDEM_CUDA_LAUNCH_CUH
#define TANDEM_CUDA_LAUNCH_CUH

#include <stdint.h>
#include <string.h>

extern "C" void cuda_fail(const char *what, int error); /* device.c: dies */
extern "C" int cuda_overlap_wanted(void);               /* device.c */

#ifdef __CUDACC__

#include <cuda_runtime.h>

/* What was found out of a kernel: one entry for each, for the life of the process; by one thread. */
struct kernel_facts {
    const void *kernel;
    bool all_shared, asked, overlaps;
};

inline kernel_facts *facts_of(const void *kernel)
{
    static kernel_facts known[512];
    static int n;
    for (int i = 0; i < n; i++)
        if (known[i].kernel == kernel)
            return &known[i];
    if (n == 512)
        cuda_fail("a program of more than 512 kernels", cudaErrorInvalidValue);
    known[n].kernel = kernel;
    return &known[n++];
}

/* Allows a kernel, at its first launch, all the shared memory that a block can have: a limit that
 * followed each launch could fall below what a recorded graph asks for. */
inline cudaError_t allow_shared(const void *kernel)
{
    kernel_facts *facts = facts_of(kernel);
    int device = 0, most = 0;
    if (facts->all_shared)
        return cudaSuccess;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (error == cudaSuccess)
        error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
    if (error == cudaSuccess)
        error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                     cudaSharedmemCarveoutMaxShared);
    facts->all_shared = error == cudaSuccess;
    return error;
}

/* Whether blocks of a kernel are set up while the one before it in the stream still runs: where that is
 * wanted and its code was made for processors that can wait for that one (grid_begin()). */
inline bool overlaps(const void *kernel)
{
    if (!cuda_overlap_wanted())
        return false;
    kernel_facts *facts = facts_of(kernel);
    cudaFuncAttributes of;
    /* ptxVersion: of the code that was compiled, also where the driver made machine code of it. */
    if (!facts->asked)
        facts->overlaps = cudaFuncGetAttributes(&of, kernel) == cudaSuccess && of.ptxVersion >= 90;
    facts->asked = true;
    return facts->overlaps;
}

template <typename... P, typename... A>
inline void launch_as(bool early, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                      cudaStream_t stream, A... args)
{
    cudaError_t error = shared > 48 * 1024 ? allow_shared((const void *)kernel) : cudaSuccess;
    cudaLaunchAttribute overlap = {};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &overlap;
    config.numAttrs = early && overlaps((const void *)kernel);
    if (error == cudaSuccess)
        error = cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...);
    if (error != cudaSuccess)
        cuda_fail(config.numAttrs
                      ? "starting a kernel early (TANDEM_OVERLAP=1 is set; is it right without?)"
                      : "starting a kernel",
                  (int)error);
}

/* Starts kernel<<<grid, block, shared, stream>>>(args...); dies when it cannot be started.
 * launch_early(): for a kernel in which every thread calls grid_begin() (the rules above); where
 * overlaps(), its blocks may be set up before the stream's last kernel ends. */
#define launch(...)       launch_as(false, __VA_ARGS__)
#define launch_early(...) launch_as(true, __VA_ARGS__)

/* The same for a kernel whose blocks wait for one another (warp_await()): only for what blocks do that have begun, or
 * there could be no room for those that are waited for. */
#define launch_waiting(...) launch_as(true, __VA_ARGS__)

/* Waits until all kernels before this one in the stream have ended and what they wrote is seen; then the
 * blocks of the next one may be set up, behind which it waits the same way. So never more than two kernels
 * are there, and without launch_early() nothing happens. */
static __device__ __forceinline__ void grid_begin()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;\n"
                 "griddepcontrol.launch_dependents;\n" ::
                     : "memory");
#endif
}

/* Whether this code is for processors of that compute capability, 90 for 9.0, or a later one. */
static __device__ constexpr bool code_since(int capability)
{
#ifdef __CUDA_ARCH__
    return __CUDA_ARCH__ >= capability * 10;
#else
    return capability < 0; /* the compiler's pass for the host */
#endif
}

/* Whether this code is for processors on which grid_begin() can have to wait. */
static __device__ constexpr bool can_begin_early()
{
    return code_since(90);
}

/* Brings the line of *p to the L2 cache. */
static __device__ __forceinline__ void prefetch(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];\n" ::"l"(p));
}

/* Dynamic shared memory of this block, 128-byte aligned. */
static __device__ __forceinline__ unsigned char *shared_memory()
{
    extern __shared__ __align__(128) unsigned char memory[];
    return memory;
}

/* c += a b for a 16x16 row-major tile a and a 16x8 tile b of bf16, f32 sums. Fragments as in the
 * PTX manual, mma.m16n8k16: lane = 4 g + t; a = rows (g, g+8, g, g+8), columns 2t.. and 2t+8..;
 * b = rows 2t.. and 2t+8.. of column g; c = row g (2 columns from 2t), row g+8. */
static __device__ __forceinline__ void mma_bf16(float c[4], const uint32_t a[4], uint32_t b0,
                                                uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* The same for f16. */
static __device__ __forceinline__ void mma_f16(float c[4], const uint32_t a[4], uint32_t b0,
                                               uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* c = a b, for sums that begin. */
static __device__ __forceinline__ void mma_bf16_first(float c[4], const uint32_t a[4], uint32_t b0,
                                                      uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};\n"
                 : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.0f));
}

/* Four 8x8 tiles of 16-bit elements; lane i names row i % 8 of tile i / 8 (16 bytes). */
static __device__ __forceinline__ void ldmatrix_x4(uint32_t r[4], const void *row)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* The same, each tile transposed. */
static __device__ __forceinline__ void ldmatrix_x4_turned(uint32_t r[4], const void *row)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* 16 bytes to shared memory behind the thread's back; the first `bytes` come from `from`, the rest
 * are 0; when `bytes` is 0, `from` is not looked at. */
static __device__ __forceinline__ void cp_async16(void *shared, const void *from, int bytes)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(from),
                 "r"(bytes)
                 : "memory");
}

static __device__ __forceinline__ void cp_async_commit()
{
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}

/* Waits until at most N of this thread's groups are still on their way. */
template <int N> static __device__ __forceinline__ void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

/* Two f32 to bf16, nearest even: lo in the lower half. */
static __device__ __forceinline__ uint32_t pack_bf16(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}

/* Two f32 to f16, nearest even: lo in the lower half. */
static __device__ __forceinline__ uint32_t pack_f16(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;\n" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}

/* Four e4m3 to four f16, exact. Where the processor has no instruction for it: 4 exponent bits with
 * bias 7 stand where f16 has the lowest of 5 with bias 15, so 2^8 is missing; a NaN is 480 then. */
static __device__ __forceinline__ void e4m3x4_f16(uint32_t v, uint32_t *lo, uint32_t *hi)
{
#if __CUDA_ARCH__ >= 890
    asm("{.reg .b16 l, h;\n"
        "mov.b32 {l, h}, %2;\n"
        "cvt.rn.f16x2.e4m3x2 %0, l;\n"
        "cvt.rn.f16x2.e4m3x2 %1, h;}\n"
        : "=r"(*lo), "=r"(*hi)
        : "r"(v));
#else
    uint32_t pair[2] = {__byte_perm(v, 0, 0x1404), __byte_perm(v, 0, 0x3424)};
    uint32_t *to[2] = {lo, hi};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t small = (pair[i] & 0x80008000u) | (pair[i] & 0x7f007f00u) >> 1;
        asm("fma.rn.f16x2 %0, %1, %2, %3;\n"
            : "=r"(*to[i])
            : "r"(small), "r"(0x5c005c00u), "r"(0x80008000u));
    }
#endif
}

/* 2^x to about 22 bits; 0 below 2^-126. */
static __device__ __forceinline__ float exp2_fast(float x)
{
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(r) : "f"(x));
    return r;
}

/* Both halves of a x b in bf16 (used only where the product is exact). */
static __device__ __forceinline__ uint32_t mul_bf16x2(uint32_t a, uint32_t b)
{
    uint32_t r;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;\n" : "=r"(r) : "r"(a), "r"(b), "r"(0x80008000u));
    return r;
}

/* Both halves of a + b in bf16. */
static __device__ __forceinline__ uint32_t add_bf16x2(uint32_t a, uint32_t b)
{
    uint32_t r;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;\n" : "=r"(r) : "r"(a), "r"(0x3f803f80u), "r"(b));
    return r;
}

/* The number whose f16 bits are the lower half of `bits`. */
static __device__ __forceinline__ float f16_value(uint32_t bits)
{
    float r;
    asm("cvt.f32.f16 %0, %1;\n" : "=f"(r) : "h"((uint16_t)bits));
    return r;
}

static __device__ __forceinline__ uint32_t byte_perm(uint32_t a, uint32_t b, uint32_t selector)
{
    return __byte_perm(a, b, selector);
}

static __device__ __forceinline__ float bits_to_f32(uint32_t bits)
{
    return __uint_as_float(bits);
}

static __device__ __forceinline__ uint32_t f32_to_bits(float f)
{
    return __float_as_uint(f);
}

/* The same number, but the compiler cannot know it: keeps an epilogue's address arithmetic from
 * being moved in front of the loop, where it would cost registers. */
static __device__ __forceinline__ int opaque(int value)
{
    asm volatile("" : "+r"(value));
    return value;
}

/* *p, of 16 bytes, which no thread writes while the kernel runs. */
template <typename T> static __device__ __forceinline__ T load_constant(const T *p)
{
    int4 bits = __ldg((const int4 *)p);
    T value;
    static_assert(sizeof value == sizeof bits, "one load");
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <typename T> static __device__ __forceinline__ T warp_xor(T value, int mask)
{
    return __shfl_xor_sync(0xffffffffu, value, mask);
}

/* The sum and the largest number of a warp, in the order of halves; all lanes get it. */
template <typename T> static __device__ __forceinline__ T warp_sum(T v)
{
    for (int mask = 16; mask > 0; mask >>= 1)
        v += warp_xor(v, mask);
    return v;
}

static __device__ __forceinline__ float warp_max(float v)
{
    for (int mask = 16; mask > 0; mask >>= 1)
        v = fmaxf(v, warp_xor(v, mask));
    return v;
}

/* What lane `from` has; each lane may name another. */
template <typename T> static __device__ __forceinline__ T warp_from(T value, int from)
{
    return __shfl_sync(0xffffffffu, value, from);
}

static __device__ __forceinline__ uint32_t warp_ballot(bool predicate)
{
    return __ballot_sync(0xffffffffu, predicate);
}

static __device__ __forceinline__ int bit_count(uint32_t bits)
{
    return __popc(bits);
}

/* Returns what was there before. */
static __device__ __forceinline__ uint32_t block_add(uint32_t *shared, uint32_t value)
{
    return atomicAdd(shared, value);
}

/* The same, of all blocks. */
static __device__ __forceinline__ uint32_t global_add(uint32_t *p, uint32_t value)
{
    return atomicAdd(p, value);
}

/* By all lanes of a warp: adds 1 when all that they have read and written is done, for those to see that
 * warp_await() it. */
static __device__ __forceinline__ void warp_count(uint32_t *p)
{
    __syncwarp();
    if (threadIdx.x % 32 == 0)
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;\n" ::"l"(p) : "memory");
}

/* By all lanes of a warp: goes on when *p is `count` or more. What it counted is then read by load_far(). */
static __device__ __forceinline__ void warp_await(const uint32_t *p, uint32_t count)
{
    if (threadIdx.x % 32 == 0) {
        uint32_t seen;
        for (;;) {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];\n" : "=r"(seen) : "l"(p) : "memory");
            if (seen >= count)
                break;
            __nanosleep(100);
        }
    }
    __syncwarp();
}

/* *p as the L2 cache has it, which other blocks have written. */
static __device__ __forceinline__ float4 load_far(const float4 *p)
{
    return __ldcg(p);
}

#else
#include "emulation.h" /* tests/cuda: the same names for a CPU */
#endif

#endif
