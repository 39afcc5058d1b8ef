#include "kernels/cpu/device.h"

#include "kernels/cpu/seats.h"
#include "base/clock.h"
#include "base/host_memory.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct stream {
    int unused; /* work runs in the call: there is nothing to keep */
};

struct event {
    double at; /* clock_now() at the last record */
};

/* Subnormal numbers count as 0, in and out: VDPBF16PS knows no others, and all processors are to
 * give the same bits. A thread passes this on to those that it makes. */
static void flush_subnormal(void)
{
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
#elif defined(__aarch64__)
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("msr fpcr, %0" : : "r"(control | (uint64_t)1 << 24));
#endif
}

int cpu_device_open(const struct device_config *config, const char *name, size_t scratch_bytes,
                    struct device **out, struct err *e)
{
    if (config->threads < 1)
        return err_set(e, "a CPU rank needs at least 1 thread, not %d", config->threads);
    if (config->act != DTYPE_F32 && config->act != DTYPE_BF16)
        return err_set(e, "activations can be f32 or bf16, not %s", dtype_name(config->act));
    if (config->kv != DTYPE_F32 && config->kv != DTYPE_BF16 && config->kv != DTYPE_F8E4M3)
        return err_set(e, "the KV cache can be f32, bf16 or fp8, not %s", dtype_name(config->kv));

    struct device *d = mem_zeroed(1, sizeof *d);
    d->config = *config;
    d->name = name;
    d->threads = config->threads;
    d->teams = teams_new();
    d->seats = config->takes_turns ? seats_new(config->threads) : NULL;
    for (int code = 0; code < 256; code++)
        d->f8_value[code] = f32_from_f8e4m3((f8e4m3_t)code);
    d->scratch = mem_aligned(scratch_bytes, 1);
    d->scratch_bytes = scratch_bytes;
    flush_subnormal();
#pragma omp parallel num_threads(config->threads)
    flush_subnormal();
    *out = d;
    return 0;
}

void cpu_device_close(struct device *d)
{
    if (!d)
        return;
    free(d->scratch);
    free(d->teams);
    seats_free(d->seats);
    free(d);
}

size_t cpu_scratch_size(size_t count, size_t size)
{
    size_t bytes = mem_mul(count, size);
    if (bytes > SIZE_MAX - MEM_ALIGN)
        die("a size overflows: %zu bytes of scratch memory", bytes);
    return (bytes + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN;
}

void cpu_scratch_begin(struct device *d)
{
    d->scratch_used = 0;
}

void *cpu_scratch(struct device *d, size_t count, size_t size)
{
    size_t bytes = cpu_scratch_size(count, size);
    if (bytes > d->scratch_bytes - d->scratch_used)
        die("an operation needs %zu bytes of scratch memory, %zu of %zu are left: it is larger "
            "than "
            "the limits its device was opened with",
            bytes, d->scratch_bytes - d->scratch_used, d->scratch_bytes);
    void *p = d->scratch + d->scratch_used;
    d->scratch_used += bytes;
    return p;
}

void cpu_device_describe(const struct device *d, char *text, size_t size)
{
    snprintf(text, size, "%s, %d thread%s", d->name, d->threads, d->threads == 1 ? "" : "s");
}

size_t cpu_device_scratch_bytes(const struct device *d)
{
    return d->scratch_bytes;
}

size_t cpu_device_memory_free(const struct device *d)
{
    (void)d;
    return host_memory_free("");
}

void *cpu_device_alloc(struct device *d, size_t bytes)
{
    (void)d;
    return mem_aligned(bytes, 1);
}

void cpu_device_release(struct device *d, void *p)
{
    (void)d;
    free(p);
}

void cpu_device_copy(struct device *d, struct stream *s, void *to, const void *from, size_t bytes)
{
    (void)d;
    (void)s;
    if (bytes)
        memcpy(to, from, bytes);
}

void cpu_device_zero(struct device *d, struct stream *s, void *p, size_t bytes)
{
    (void)d;
    (void)s;
    if (bytes)
        memset(p, 0, bytes);
}

struct stream *cpu_device_stream_create(struct device *d)
{
    (void)d;
    return mem_zeroed(1, sizeof(struct stream));
}

void cpu_device_stream_destroy(struct device *d, struct stream *s)
{
    (void)d;
    free(s);
}

void cpu_device_stream_sync(struct device *d, struct stream *s)
{
    (void)d;
    (void)s;
}

void cpu_device_stream_wait(struct device *d, struct stream *s, struct event *e)
{
    (void)d;
    (void)s;
    (void)e;
}

struct event *cpu_device_event_create(struct device *d)
{
    (void)d;
    return mem_zeroed(1, sizeof(struct event));
}

void cpu_device_event_destroy(struct device *d, struct event *e)
{
    (void)d;
    free(e);
}

void cpu_device_event_record(struct device *d, struct event *e, struct stream *s)
{
    (void)d;
    (void)s;
    e->at = clock_now();
}

bool cpu_device_event_done(struct device *d, struct event *e)
{
    (void)d;
    (void)e;
    return true;
}

double cpu_device_event_seconds(struct device *d, struct event *from, struct event *to)
{
    (void)d;
    return to->at - from->at;
}

void cpu_device_together(struct device *d, void (*work)(void *), void *context)
{
    if (d->threads > 1)
        seats_take(d->seats);
#pragma omp parallel num_threads(d->threads)
    work(context);
}
