/* device.h (cpu) - the host as a device: what all CPU backends share. Internal to kernels/cpu.
 *
 * Everything runs in the call, on the calling thread and its OpenMP team; streams and events exist
 * so that the callers need no second path. Device memory is host memory.
 *
 * A backend makes its table with CPU_DEVICE_OPS(open), where its open function calls
 * cpu_device_open() with the backend's name and the scratch memory its operations need.
 */
#ifndef TANDEM_KERNELS_CPU_DEVICE_H
#define TANDEM_KERNELS_CPU_DEVICE_H

#include "base/pool.h"
#include "kernels/cpu/team.h"
#include "kernels/device.h"
#include "kernels/ops.h"

struct isa; /* kernels/cpu/fast/fast.h */

/* Attention's tiles: tokens of a sequence that are looked at together; and its stretches, which are
 * worked on apart and then merged. Counted from the sequence's first token, so that a row's result
 * depends on its position alone, whoever makes the parts. */
#define CPU_TILE    256
#define CPU_STRETCH 2048

struct device {
    struct device_config config; /* as given to open(); never changed */
    const char *name;            /* of the backend */
    int threads;                 /* config.threads, for `#pragma omp ... num_threads(d->threads)` */
    float f8_value[256];         /* f32_from_f8e4m3() of every code */
    const struct isa *isa;       /* vector backends: their instruction set's kernels */
    struct teams *teams;         /* team.h */
    struct seats *seats;         /* seats.h, or NULL */
    struct pool weights;         /* vector backends: matrices */

    /* Scratch memory: a bump arena that every operation begins empty. */
    unsigned char *scratch;
    size_t scratch_bytes, scratch_used;
};

/* Opens the host. `name` (a constant) is what describe() says; `scratch_bytes` is the most that one
 * operation takes with cpu_scratch(), paddings included (see cpu_scratch_size). Returns 0, or -1
 * when the configuration cannot be run: no threads, or an activation or KV dtype not offered. From
 * then on the calling thread, its team and all threads that they make treat subnormal numbers as 0. */
int cpu_device_open(const struct device_config *config, const char *name, size_t scratch_bytes,
                    struct device **out, struct err *e);

/* Bytes that cpu_scratch(d, count, size) takes out of the arena: rounded up to MEM_ALIGN. */
size_t cpu_scratch_size(size_t count, size_t size);

/* Every operation that takes scratch begins with this, on the calling thread. */
void cpu_scratch_begin(struct device *d);

/* Memory for `count` objects of `size` bytes, aligned to MEM_ALIGN, contents undefined, valid until
 * the next cpu_scratch_begin(). Not to be called by the threads of a team. Dies when the call is
 * larger than the limits the device was opened with. */
void *cpu_scratch(struct device *d, size_t count, size_t size);

/* The entries of struct device_ops that are the same for all CPU backends. */
void cpu_device_close(struct device *d);
void cpu_device_describe(const struct device *d, char *text, size_t size);
size_t cpu_device_memory_free(const struct device *d);
size_t cpu_device_scratch_bytes(const struct device *d);
void *cpu_device_alloc(struct device *d, size_t bytes);
void cpu_device_release(struct device *d, void *p);
void cpu_device_copy(struct device *d, struct stream *s, void *to, const void *from, size_t bytes);
void cpu_device_zero(struct device *d, struct stream *s, void *p, size_t bytes);
struct stream *cpu_device_stream_create(struct device *d);
void cpu_device_stream_destroy(struct device *d, struct stream *s);
void cpu_device_stream_sync(struct device *d, struct stream *s);
void cpu_device_stream_wait(struct device *d, struct stream *s, struct event *e);
struct event *cpu_device_event_create(struct device *d);
void cpu_device_event_destroy(struct device *d, struct event *e);
void cpu_device_event_record(struct device *d, struct event *e, struct stream *s);
bool cpu_device_event_done(struct device *d, struct event *e);
double cpu_device_event_seconds(struct device *d, struct event *from, struct event *to);
void cpu_device_together(struct device *d, void (*work)(void *), void *context);

#define CPU_DEVICE_OPS(open_function)                                                              \
    {                                                                                              \
        .name = "cpu", .open = (open_function), .close = cpu_device_close,                         \
        .describe = cpu_device_describe, .memory_free = cpu_device_memory_free,                    \
        .scratch_bytes = cpu_device_scratch_bytes, .alloc = cpu_device_alloc,                      \
        .release = cpu_device_release, .alloc_host = cpu_device_alloc,                             \
        .release_host = cpu_device_release, .upload = cpu_device_copy,                             \
        .download = cpu_device_copy, .zero = cpu_device_zero,                                      \
        .stream_create = cpu_device_stream_create, .stream_destroy = cpu_device_stream_destroy,    \
        .stream_sync = cpu_device_stream_sync, .stream_wait = cpu_device_stream_wait,              \
        .event_create = cpu_device_event_create, .event_destroy = cpu_device_event_destroy,        \
        .event_record = cpu_device_event_record, .event_done = cpu_device_event_done,              \
        .event_seconds = cpu_device_event_seconds, .together = cpu_device_together,                \
    }

#endif
