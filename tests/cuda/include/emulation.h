/* emulation.h - CUDA kernels as C++ on a CPU, for tests. kernels/cuda/launch.cuh includes it where
 * nvcc would have had its own.
 *
 * The blocks of a launch run one after another, or, where they wait for one another, some of them side by side;
 * the threads of a block are fibers that give way at barriers and warp functions. Every value comes
 * out as on a GPU, up to the order in which an mma adds; nothing is said about speed. What can be
 * wrong is made to be wrong: shared memory begins as NaN, asynchronous copies happen only when they
 * are waited for, streams run as late and in as odd an order as their events allow (TANDEM_EMU_SEED),
 * lanes take turns in changing order, and a barrier that not all threads reach ends the program.
 */
#ifndef TANDEM_TESTS_CUDA_EMULATION_H
#define TANDEM_TESTS_CUDA_EMULATION_H

#include <cuda_runtime_api.h>

#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tuple>

#define __global__
#define __host__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint2 {
    unsigned x, y;
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}

static inline float2 make_float2(float x, float y)
{
    return {x, y};
}

namespace emu
{
/* The emulated card: TANDEM_EMU_SHARED KB of shared memory for a block (163, as compute capability
 * 8.0 has; 99 for 8.6, 8.9 and 12.0; 227 for 9.0), TANDEM_EMU_PROCESSORS multiprocessors (3: few and
 * odd, so that blocks have much to do). Read when a device's properties are asked for. */
struct card {
    size_t shared = 163 * 1024;
    int processors = 3;
};
extern card the_card;

/* What kernels see of the thread that runs, and of its launch. */
struct view {
    uint3 thread, block;
    dim3 block_size, grid_size;
};
extern view now;

void barrier();
/* Waits until all lanes of the warp are here with the same op, which one of them then runs on the
 * arguments of all 32. */
void collective(void (*op)(void **args), void *arg);
unsigned char *shared();
void copy_later(void *to, const void *from, int bytes); /* of 16; the rest is 0 */
void copy_commit();
void copy_wait(int left);
/* Lets others run until *p is `count` or more. */
void await(const uint32_t *p, uint32_t count);

/* Puts work into a stream. */
void enqueue(cudaStream_t stream, std::function<void()> work);
/* Work that other processes take part in. When it is enqueued, again at each launch of a graph it
 * is captured in, make() gives what is then tried until it returns true. */
void enqueue_attempts(cudaStream_t stream, std::function<std::function<bool()>()> make);
/* Runs everything that is enqueued. */
void finish();
/* Whether a stream is being captured: much is not allowed then. */
bool capturing();
uint64_t random();
int device();
/* EARLY: launch_early() starts it. Nothing waits in grid_begin() here, where one launch runs after another; but
 * every thread must call it, once, and kernels that are counted touch no device memory before. WAITING: and
 * its blocks wait for one another. */
enum start { ALONE, EARLY, WAITING };
void run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread,
              enum start start, bool without_first);
void check_launch(dim3 grid, dim3 block, size_t shared_bytes);
void begin_grid();
/* Whether a thread runs that should have called it by now. */
bool too_early();
[[noreturn]] void broken(const char *what); /* what is wrong, and in which block and thread */

/* Global memory as kernels use it (counted.cpp). count_memory(): a piece of it; 0 bytes: no more. */
void count_memory(void *p, size_t bytes);
void count_copy(const void *from, size_t bytes);
/* Lives as long as a launch runs. */
struct counted {
    bool skip_block, wrong_number; /* the planted fault */
    counted(const char *file, const char *text);
    ~counted();
};
} // namespace emu

#define threadIdx (emu::now.thread)
#define blockIdx  (emu::now.block)
#define blockDim  (emu::now.block_size)
#define gridDim   (emu::now.grid_size)

#define launch(...)         launch_as(emu::ALONE, __FILE__, #__VA_ARGS__, __VA_ARGS__)
#define launch_early(...)   launch_as(emu::EARLY, __FILE__, #__VA_ARGS__, __VA_ARGS__)
#define launch_waiting(...) launch_as(emu::WAITING, __FILE__, #__VA_ARGS__, __VA_ARGS__)

template <typename... P, typename... A>
inline void launch_as(enum emu::start start, const char *file, const char *text,
                      void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                      cudaStream_t stream, A... args)
{
    std::tuple<P...> values(static_cast<P>(args)...);
    emu::check_launch(grid, block, shared);
    emu::enqueue(stream, [=]() {
        emu::counted run(file, text);
        emu::run_grid(
            grid, block, shared, [&]() { std::apply(kernel, values); }, start, run.skip_block);
    });
}

static inline unsigned char *shared_memory()
{
    return emu::shared();
}
static inline void grid_begin()
{
    emu::begin_grid();
}
static inline bool overlaps(const void *)
{
    return true;
}
static inline bool code_since(int)
{
    return true;
}
static inline bool can_begin_early()
{
    return true;
}
static inline void prefetch(const void *) {}
static inline void __syncthreads()
{
    emu::barrier();
}

static inline float bits_to_f32(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t f32_to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline uint32_t round_to_bf16(float f)
{
    uint32_t bits = f32_to_bits(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 0x7fff; /* as cvt.rn.bf16 */
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

static inline uint32_t pack_bf16(float lo, float hi)
{
    return round_to_bf16(lo) | round_to_bf16(hi) << 16;
}

static inline uint32_t mul_bf16x2(uint32_t a, uint32_t b)
{
    return pack_bf16(bits_to_f32(a << 16) * bits_to_f32(b << 16),
                     bits_to_f32(a & 0xffff0000u) * bits_to_f32(b & 0xffff0000u));
}

static inline uint32_t add_bf16x2(uint32_t a, uint32_t b)
{
    return pack_bf16(bits_to_f32(a << 16) + bits_to_f32(b << 16),
                     bits_to_f32(a & 0xffff0000u) + bits_to_f32(b & 0xffff0000u));
}

/* f16 of binary16: exact wherever the number has one. */
static inline float f16_value(uint32_t bits)
{
    uint32_t sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
    if (magnitude >= 0x7c00u)
        return bits_to_f32(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    float value = bits_to_f32(magnitude << 13) * 0x1p112f;
    return sign ? -value : value;
}

static inline uint32_t round_to_f16(float f)
{
    uint32_t sign = f32_to_bits(f) >> 16 & 0x8000u, bits = f32_to_bits(f) & 0x7fffffffu;
    if (bits > 0x7f800000u)
        return 0x7fff;
    if (bits >= 0x477ff000u) /* 65520 */
        return sign | 0x7c00u;
    if (bits < 0x38800000u) /* 2^-14: units of 2^-24, which are the last bits of 2^-1 and above */
        return sign | (f32_to_bits(bits_to_f32(bits) + 0.5f) - f32_to_bits(0.5f));
    return sign | (bits + 0xfffu + (bits >> 13 & 1u) - (112u << 23)) >> 13;
}

static inline uint32_t pack_f16(float lo, float hi)
{
    return round_to_f16(lo) | round_to_f16(hi) << 16;
}

static inline uint32_t e4m3_as_f16(uint32_t code)
{
    if ((code & 0x7fu) == 0x7fu)
        return 0x7fff;
    float magnitude = bits_to_f32((code & 0x7fu) << 20) * 0x1p120f;
    return round_to_f16(code & 0x80u ? -magnitude : magnitude);
}

static inline void e4m3x4_f16(uint32_t v, uint32_t *lo, uint32_t *hi)
{
    *lo = e4m3_as_f16(v & 255u) | e4m3_as_f16(v >> 8 & 255u) << 16;
    *hi = e4m3_as_f16(v >> 16 & 255u) | e4m3_as_f16(v >> 24) << 16;
}

static inline float exp2_fast(float x)
{
    float r = exp2f(x);
    return r < 0x1p-126f ? 0.0f : r;
}

static inline uint32_t byte_perm(uint32_t a, uint32_t b, uint32_t selector)
{
    uint64_t both = (uint64_t)b << 32 | a;
    uint32_t r = 0;
    for (int i = 0; i < 4; i++)
        r |= (uint32_t)(both >> ((selector >> (4 * i) & 7) * 8) & 255) << (8 * i);
    return r;
}

static inline int opaque(int value)
{
    return value;
}
template <typename T> static inline T load_constant(const T *p)
{
    static_assert(sizeof(T) == 16, "one load");
    return *p;
}
static inline int bit_count(uint32_t bits)
{
    return __builtin_popcount(bits);
}

/* ---- warp functions ---------------------------------------------------------------------------
 */

template <typename T> struct emu_xor {
    T value, result;
    int mask;
    static void run(void **args)
    {
        for (int i = 0; i < 32; i++)
            ((emu_xor *)args[i])->result = ((emu_xor *)args[i ^ ((emu_xor *)args[i])->mask])->value;
    }
};

template <typename T> static inline T warp_xor(T value, int mask)
{
    emu_xor<T> x = {value, value, mask};
    emu::collective(emu_xor<T>::run, &x);
    return x.result;
}

/* As five times warp_xor() would, all at once: most of what lanes wait for are sums. */
template <typename T, T OP(T, T)> static inline void emu_halves(void **args)
{
    T v[32], half[32];
    for (int i = 0; i < 32; i++)
        v[i] = *(T *)args[i];
    for (int mask = 16; mask > 0; mask >>= 1) {
        for (int i = 0; i < 32; i++)
            half[i] = OP(v[i], v[i ^ mask]);
        memcpy(v, half, sizeof v);
    }
    for (int i = 0; i < 32; i++)
        *(T *)args[i] = v[i];
}

template <typename T> static inline T emu_add(T a, T b)
{
    return a + b;
}

static inline float emu_max(float a, float b)
{
    return fmaxf(a, b);
}

template <typename T> static inline T warp_sum(T v)
{
    emu::collective(emu_halves<T, emu_add<T>>, &v);
    return v;
}

static inline float warp_max(float v)
{
    emu::collective(emu_halves<float, emu_max>, &v);
    return v;
}

template <typename T> struct emu_from {
    T value, result;
    int from;
    static void run(void **args)
    {
        for (int i = 0; i < 32; i++)
            ((emu_from *)args[i])->result =
                ((emu_from *)args[((emu_from *)args[i])->from & 31])->value;
    }
};

template <typename T> static inline T warp_from(T value, int from)
{
    emu_from<T> x = {value, value, from};
    emu::collective(emu_from<T>::run, &x);
    return x.result;
}

struct emu_ballot {
    bool predicate;
    uint32_t result;
    static void run(void **args)
    {
        uint32_t all = 0;
        for (int i = 0; i < 32; i++)
            all |= (uint32_t)((emu_ballot *)args[i])->predicate << i;
        for (int i = 0; i < 32; i++)
            ((emu_ballot *)args[i])->result = all;
    }
};

static inline uint32_t warp_ballot(bool predicate)
{
    emu_ballot b = {predicate, 0};
    emu::collective(emu_ballot::run, &b);
    return b.result;
}

static inline void __syncwarp()
{
    warp_ballot(true);
}

struct emu_mma {
    float *c;
    const uint32_t *a;
    uint32_t b[2];
    static void run(void **args);
    static void run_f16(void **args);
};

static inline void mma_bf16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    emu_mma m = {c, a, {b0, b1}};
    emu::collective(emu_mma::run, &m);
}

static inline void mma_bf16_first(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    c[0] = c[1] = c[2] = c[3] = 0.0f;
    mma_bf16(c, a, b0, b1);
}

static inline void mma_f16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    emu_mma m = {c, a, {b0, b1}};
    emu::collective(emu_mma::run_f16, &m);
}

struct emu_ldmatrix {
    uint32_t *r;
    const unsigned char *row;
    static void run(void **args);
    static void run_turned(void **args);
};

static inline void ldmatrix_x4(uint32_t r[4], const void *row)
{
    emu_ldmatrix l = {r, (const unsigned char *)row};
    emu::collective(emu_ldmatrix::run, &l);
}

static inline void ldmatrix_x4_turned(uint32_t r[4], const void *row)
{
    emu_ldmatrix l = {r, (const unsigned char *)row};
    emu::collective(emu_ldmatrix::run_turned, &l);
}

/* ---- memory -----------------------------------------------------------------------------------
 */

static inline void cp_async16(void *shared, const void *from, int bytes)
{
    emu::copy_later(shared, from, bytes);
}

static inline void cp_async_commit()
{
    emu::copy_commit();
}
template <int N> static inline void cp_async_wait()
{
    emu::copy_wait(N);
}

static inline uint32_t block_add(uint32_t *shared, uint32_t value)
{
    uint32_t before = *shared;
    *shared += value;
    return before;
}

static inline uint32_t global_add(uint32_t *p, uint32_t value)
{
    return block_add(p, value);
}

static inline void warp_count(uint32_t *p)
{
    __syncwarp();
    if (threadIdx.x % 32 == 0)
        block_add(p, 1);
}

static inline void warp_await(const uint32_t *p, uint32_t count)
{
    if (threadIdx.x % 32 == 0)
        emu::await(p, count);
    __syncwarp();
}

static inline float4 load_far(const float4 *p)
{
    return *p;
}

#endif
