#include "kernels/cpu/limits.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/median.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef __x86_64__
#include <immintrin.h>
#define AVX512 __attribute__((target("avx512f,avx512bf16"), noinline))
#define AVX2   __attribute__((target("avx2,fma"), noinline))

/* Of a dozen forms (more streams, no prefetch, other distances, the first cache) the one that is the fastest on
 * Zen 4 wherever its two cores lie. */
AVX512 static void read_avx512(const unsigned char *p, size_t bytes)
{
    __m512i s[4];
    for (size_t j = 0; j < 4; j++)
        s[j] = _mm512_setzero_si512();
    for (size_t i = 0; i < bytes; i += 256) {
        _mm_prefetch((const char *)p + i + 4096, _MM_HINT_T1);
        _mm_prefetch((const char *)p + i + 4160, _MM_HINT_T1);
        _mm_prefetch((const char *)p + i + 4224, _MM_HINT_T1);
        _mm_prefetch((const char *)p + i + 4288, _MM_HINT_T1);
        s[0] = _mm512_or_si512(s[0], _mm512_load_si512(p + i));
        s[1] = _mm512_or_si512(s[1], _mm512_load_si512(p + i + 64));
        s[2] = _mm512_or_si512(s[2], _mm512_load_si512(p + i + 128));
        s[3] = _mm512_or_si512(s[3], _mm512_load_si512(p + i + 192));
    }
    __asm__ volatile("" : : "v"(s[0]), "v"(s[1]), "v"(s[2]), "v"(s[3]));
}

AVX2 static void read_avx2(const unsigned char *p, size_t bytes)
{
    __m256i a = _mm256_setzero_si256(), b = a;
    for (size_t i = 0; i < bytes; i += 64) {
        _mm_prefetch((const char *)p + i + 4096, _MM_HINT_T0);
        a = _mm256_or_si256(a, _mm256_load_si256((const __m256i *)(p + i)));
        b = _mm256_or_si256(b, _mm256_load_si256((const __m256i *)(p + i + 32)));
    }
    __asm__ volatile("" : : "x"(a), "x"(b));
}

/* Twelve chains of sums: enough to hide the latency of each on any core with two units. A compiler that
 * saw that all hold the same numbers would keep a single one, hence the statement that hides each. */
#define TWELVE(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

AVX512 static double work_avx512(size_t rounds)
{
    __m512bh x = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    __asm__ volatile("" : "+v"(x));
#define ZERO512(i) __m512 s##i = _mm512_setzero_ps();
#define DOT512(i)  s##i = _mm512_dpbf16_ps(s##i, x, x);
#define HIDE512(i) __asm__ volatile("" : "+v"(s##i));
    TWELVE(ZERO512)
    for (size_t i = 0; i < rounds; i++) {
        TWELVE(HIDE512)
        TWELVE(DOT512)
    }
    TWELVE(HIDE512)
    return (double)rounds * 12 * 64;
}

AVX2 static double work_avx2(size_t rounds)
{
    __m256 x = _mm256_set1_ps(1.0f);
    __asm__ volatile("" : "+x"(x));
#define ZERO256(i) __m256 s##i = _mm256_setzero_ps();
#define FMA256(i)  s##i = _mm256_fmadd_ps(x, x, s##i);
#define HIDE256(i) __asm__ volatile("" : "+x"(s##i));
    TWELVE(ZERO256)
    for (size_t i = 0; i < rounds; i++) {
        TWELVE(HIDE256)
        TWELVE(FMA256)
    }
    TWELVE(HIDE256)
    return (double)rounds * 12 * 16;
}
#endif

#ifdef __aarch64__
#include <arm_neon.h>

static void read_neon(const unsigned char *p, size_t bytes)
{
    uint8x16_t a = vdupq_n_u8(0), b = a;
    for (size_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(p + i + 4096);
        a = vorrq_u8(a, vorrq_u8(vld1q_u8(p + i), vld1q_u8(p + i + 16)));
        b = vorrq_u8(b, vorrq_u8(vld1q_u8(p + i + 32), vld1q_u8(p + i + 48)));
    }
    __asm__ volatile("" : : "w"(a), "w"(b));
}

/* Sixteen chains: four units, latency of four. */
static double work_neon(size_t rounds)
{
    float32x4_t x = vdupq_n_f32(1.0f);
    __asm__ volatile("" : "+w"(x));
#define SIXTEEN(DO)                                                                                \
    DO(0)                                                                                          \
    DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15)
#define ZERO128(i) float32x4_t s##i = vdupq_n_f32(0);
#define FMA128(i)  s##i = vfmaq_f32(s##i, x, x);
#define HIDE128(i) __asm__ volatile("" : "+w"(s##i));
    SIXTEEN(ZERO128)
    for (size_t i = 0; i < rounds; i++) {
        SIXTEEN(HIDE128)
        SIXTEEN(FMA128)
    }
    SIXTEEN(HIDE128)
    return (double)rounds * 16 * 8;
}
#endif

static void read_plain(const unsigned char *p, size_t bytes)
{
    uint64_t sum = 0, v;
    for (size_t i = 0; i < bytes; i += sizeof v) {
        memcpy(&v, p + i, sizeof v);
        sum |= v;
    }
    __asm__ volatile("" : : "r"(sum));
}

static double work_plain(size_t rounds)
{
    float s[8] = {0}, x = 1;
    __asm__ volatile("" : "+m"(x));
    for (size_t i = 0; i < rounds; i++)
        for (size_t j = 0; j < 8; j++)
            s[j] = s[j] * 0.5f + x;
    __asm__ volatile("" : : "m"(s));
    return (double)rounds * 8 * 2;
}

static void read_piece(int vector, const unsigned char *p, size_t bytes)
{
#ifdef __x86_64__
    if (vector == 2)
        read_avx512(p, bytes);
    else if (vector == 1)
        read_avx2(p, bytes);
    else
#elif defined(__aarch64__)
    if (vector == 3)
        read_neon(p, bytes);
    else
#endif
        read_plain(p, bytes);
}

static double work(int vector, size_t rounds)
{
#ifdef __x86_64__
    if (vector == 2)
        return work_avx512(rounds);
    if (vector == 1)
        return work_avx2(rounds);
#elif defined(__aarch64__)
    if (vector == 3)
        return work_neon(rounds);
#endif
    return work_plain(rounds);
}

#define PIECE ((size_t)1 << 20) /* bytes that a thread reads before it looks at the clock */

void limits_open(struct limits *l, const char *backend, int threads, size_t bytes)
{
    static const char *const units[] = {"mul+add", "vfmadd", "vdpbf16ps", "fmla"};
    size_t step = PIECE * (size_t)threads;
    l->threads = threads;
    l->vector = strcmp(backend, "neon") == 0     ? 3
                : strcmp(backend, "avx512") == 0 ? 2
                                                 : strcmp(backend, "avx2") == 0;
    l->unit = units[l->vector];
    l->bytes = (bytes + step - 1) / step * step;
    l->at = 0;
    l->wanted = l->got = 0;
    l->bandwidth.n = l->peak.n = l->pace.n = 0;
    l->memory = mem_aligned(l->bytes, 1);
    memset(l->memory, 1, l->bytes);
}

void limits_close(struct limits *l)
{
    free(l->memory);
}

static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double limits_cores(const struct limits *l)
{
    return l->wanted > 0 ? l->got / l->wanted : 1;
}

/* The n'th piece comes in with LIMITS_KEPT / n, in the place of any (Vitter's algorithm R). */
double limits_keep(struct limits_series *s, double value)
{
    size_t place = s->n++;
    if (place >= LIMITS_KEPT)
        place = hash_u64(HASH_START, s->n) % s->n;
    if (place < LIMITS_KEPT)
        s->value[place] = value;
    return value;
}

/* The kept values in order; returns how many. */
static int sorted(const struct limits_series *s, double values[LIMITS_KEPT])
{
    int n = s->n < LIMITS_KEPT ? (int)s->n : LIMITS_KEPT;
    memcpy(values, s->value, (size_t)n * sizeof *values);
    if (n > 0)
        median(values, n);
    return n;
}

struct limits_spread limits_spread(const struct limits_series *s)
{
    double values[LIMITS_KEPT];
    int n = sorted(s, values);
    if (n == 0)
        return (struct limits_spread){0, 0, 0};
    return (struct limits_spread){values[n / 10], values[n / 2], values[n - 1 - n / 10]};
}

double limits_median(const struct limits_series *s)
{
    return limits_spread(s).middle;
}

double limits_slots(const struct limits *l)
{
    double paces[LIMITS_KEPT], sum = 0;
    int n = sorted(&l->pace, paces);
    if (n == 0)
        return 1;
    double best = paces[n - 1 - n / 20];
    for (int i = 0; i < n; i++)
        sum += paces[i] < best ? paces[i] : best;
    return sum / n / best;
}

void limits_tell(const struct limits *l, FILE *out)
{
    double cores = limits_cores(l), slots = limits_slots(l);
    fprintf(out, "the machine was %s: threads that never wait got %.1f %% of their cores\n",
            cores < LIMITS_QUIET ? "NOT quiet" : "quiet", 100 * cores);
    fprintf(
        out, "of the instructions that the cores can begin they began %.0f %%%s\n", 100 * slots,
        slots < LIMITS_QUIET
            ? ": the rest went to other hardware threads of these cores, or their clock was lower"
            : "");
}

/* Each thread works until the time is over, in one parallel region: a region for every piece would
 * time how fast threads wake up. */
double limits_bandwidth(struct limits *l, double seconds)
{
    double start = clock_now(), read = 0, wanted = 0, got = 0;
    size_t share = l->bytes / (size_t)l->threads, from = l->at;
#pragma omp parallel for num_threads(l->threads) schedule(static) reduction(+ : read, wanted, got)
    for (int t = 0; t < l->threads; t++) {
        double begin = clock_now(), cpu = thread_seconds();
        size_t at = from;
        do {
            read_piece(l->vector, l->memory + (size_t)t * share + at, PIECE);
            read += (double)PIECE;
            at = (at + PIECE) % share;
        } while (clock_now() - start < seconds);
        wanted += clock_now() - begin;
        got += thread_seconds() - cpu;
    }
    l->wanted += wanted;
    l->got += got;
    l->at = (from + (size_t)(read / l->threads) / PIECE * PIECE) % share;
    return limits_keep(&l->bandwidth, read / (clock_now() - start));
}

#define PASSES 2000 /* times 250 instructions: some 20 microseconds or more */

static void pass(void)
{
    for (int i = 0; i < PASSES; i++) {
#if defined(__x86_64__)
        /* Needs no unit; two NOPs Zen 4 begins as one. */
        __asm__ volatile(".rept 250\n\txorl %%eax, %%eax\n\t.endr" ::: "eax", "cc");
#elif defined(__aarch64__)
        __asm__ volatile(".rept 250\n\tnop\n\t.endr");
#endif
    }
}

/* How many instructions a second every core begins now. */
static void count_slots(struct limits *l)
{
#pragma omp parallel num_threads(l->threads)
    {
        double begin = thread_seconds();
        pass();
        double seconds = thread_seconds() - begin;
#pragma omp critical
        if (seconds > 0)
            limits_keep(&l->pace, PASSES * 250 / seconds);
    }
}

double limits_peak(struct limits *l, double seconds)
{
    count_slots(l);
    double start = clock_now(), done = 0, wanted = 0, got = 0;
#pragma omp parallel for num_threads(l->threads) schedule(static) reduction(+ : done, wanted, got)
    for (int t = 0; t < l->threads; t++) {
        double begin = clock_now(), cpu = thread_seconds();
        do /* at least once, however late the thread is */
            done += work(l->vector, 10000);
        while (clock_now() - start < seconds);
        wanted += clock_now() - begin;
        got += thread_seconds() - cpu;
    }
    l->wanted += wanted;
    l->got += got;
    return limits_keep(&l->peak, done / (clock_now() - start));
}

#define ROOF_PIECES  5
#define ROOF_SECONDS 0.1

struct limits_roofs limits_roofs(const char *backend, int threads)
{
    struct limits_roofs r = {.threads = threads};
    struct limits l;
    limits_open(&l, backend, threads, LIMITS_BYTES);
    for (int i = 0; i < ROOF_PIECES; i++) {
        double bandwidth = limits_bandwidth(&l, ROOF_SECONDS), peak = limits_peak(&l, ROOF_SECONDS);
        r.bandwidth = bandwidth > r.bandwidth ? bandwidth : r.bandwidth;
        r.peak = peak > r.peak ? peak : r.peak;
    }
    r.unit = l.unit;
    r.cores = limits_cores(&l);
    limits_close(&l);
    return r;
}
