/* device.c - memory, streams and events of one GPU (device.h), and the backend's table. */
#include "kernels/cuda/device_cuda.h"

#include "base/mem.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cuda_fail(const char *what, int error);
int cuda_overlap_wanted(void);

extern const struct ops cuda_ops;

void cuda_fail(const char *what, int error)
{
    die("CUDA: %s: %s", what, cudaGetErrorString((cudaError_t)error));
}

void cuda_check(cudaError_t code, const char *what)
{
    if (code != cudaSuccess)
        cuda_fail(what, (int)code);
}

static bool overlap_asked(void)
{
    const char *is = getenv("TANDEM_OVERLAP");
    return is && strcmp(is, "1") == 0;
}

/* Whether the environment asks for it, TANDEM_OVERLAP=1, and the CUDA of program and driver records it in
 * graphs (launch.cuh: overlaps()). Not without being asked: what a graph does in which an NCCL kernel of
 * another stream stands beside such a launch is not documented. */
int cuda_overlap_wanted(void)
{
    static int wanted = -1;
    int driver = 0, runtime = 0;
    if (wanted < 0)
        wanted = overlap_asked() && cudaDriverGetVersion(&driver) == cudaSuccess &&
                 cudaRuntimeGetVersion(&runtime) == cudaSuccess && driver >= 12030 &&
                 runtime >= 12030;
    return wanted;
}

static int device_count(void)
{
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

/* "driver 12.4, CUDA 12.8": what the driver can do, and what this program was built with. */
static void versions(char *text, size_t size)
{
    int driver = 0, runtime = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess ||
        cudaRuntimeGetVersion(&runtime) != cudaSuccess)
        snprintf(text, size, "versions unknown");
    else if (driver == 0)
        snprintf(text, size, "no driver, CUDA %d.%d", runtime / 1000, runtime % 1000 / 10);
    else
        snprintf(text, size, "driver for CUDA %d.%d, CUDA %d.%d", driver / 1000, driver % 1000 / 10,
                 runtime / 1000, runtime % 1000 / 10);
}

static int usable(struct err *e)
{
    int count = 0;
    char have[64];
    cudaError_t code = cudaGetDeviceCount(&count);
    versions(have, sizeof have);
    if (code == cudaErrorInsufficientDriver)
        return err_set(
            e,
            "no NVIDIA GPU can be used on this host: %s (%s); update the driver, build with "
            "an older CUDA Toolkit, run where there is a GPU, or say `device: cpu`",
            cudaGetErrorString(code), have);
    if (code != cudaSuccess)
        return err_set(
            e,
            "no NVIDIA GPU can be used on this host (CUDA says: %s; %s); run where there is "
            "one, or say `device: cpu`",
            cudaGetErrorString(code), have);
    if (count == 0)
        return err_set(e, "this host has no NVIDIA GPU; run where there is one, or say "
                          "`device: cpu`");
    return 0;
}

static int check_config(const struct device_config *config, struct err *e)
{
    int count = 0;
    if (usable(e) != 0)
        return -1;
    cuda_check(cudaGetDeviceCount(&count), "counting devices");
    if (config->index < 0 || config->index >= count)
        return err_set(e, "GPU %d was asked for, this host has %d (0 to %d)", config->index, count,
                       count - 1);
    if (config->act != DTYPE_F32 && config->act != DTYPE_BF16)
        return err_set(e, "activations can be f32 or bf16, not %s", dtype_name(config->act));
    if (config->kv != DTYPE_F32 && config->kv != DTYPE_BF16 && config->kv != DTYPE_F8E4M3)
        return err_set(e, "the KV cache can be f32, bf16 or fp8, not %s", dtype_name(config->kv));
    return 0;
}

static struct stream *make_stream(size_t bytes, bool blas)
{
    struct stream *s = mem_zeroed(1, sizeof *s);
    cuda_check(cudaStreamCreateWithFlags(&s->cuda, cudaStreamNonBlocking), "making a stream");
    s->bytes = bytes;
    if (blas)
        cuda_check(cudaMalloc(&s->blas, BLAS_WORKSPACE), "taking memory for cuBLAS");
    if (bytes)
        cuda_check(cudaMalloc((void **)&s->scratch, bytes), "taking scratch memory");
    return s;
}

#define LEAST_SHARED ((size_t)99 * 1024) /* of a block, on every card since 8.0 but 163 on some */

/* What the kernels cannot be made to fit is refused here, not at their first launch. */
static int check_card(const struct device_config *config, const struct cudaDeviceProp *about,
                      struct err *e)
{
    const struct device_limits *l = &config->limits;
    size_t shared = about->sharedMemPerBlockOptin;
    if (about->major < 8)
        return err_set(e,
                       "GPU %d (%s) has compute capability %d.%d, 8.0 or later is needed (bf16 "
                       "tensor cores)",
                       config->index, about->name, about->major, about->minor);
    if (shared < LEAST_SHARED)
        return err_set(e, "GPU %d (%s) gives a block %zu KB of shared memory, %zu are needed",
                       config->index, about->name, shared / 1024, LEAST_SHARED / 1024);
    if (cuda_norm_shared((int)l->hidden) > shared)
        return err_set(e, "GPU %d (%s): rows of %zu do not fit into a block's %zu KB of memory",
                       config->index, about->name, l->hidden, shared / 1024);
    if (cuda_ffn_shared((int)l->experts) > shared)
        return err_set(e,
                       "GPU %d (%s): %zu experts on one rank need more than a block's %zu KB of "
                       "memory; use more FFN ranks (layout.ffn.expert)",
                       config->index, about->name, l->experts, shared / 1024);
    if (l->vocab > SAMPLE_VOCAB)
        return err_set(e,
                       "a vocabulary of %zu is more than the %d that sampling on a GPU can count",
                       l->vocab, SAMPLE_VOCAB);
    return 0;
}

/* Name, place, and the number that no other card in the world has: host names and places may be the
 * same on two hosts, and two parts of one card (MIG) have one place. */
static void describe_card(struct device *d, const struct cudaDeviceProp *about)
{
    char bus[32] = "";
    snprintf(d->sort, sizeof d->sort, "%.63s", about->name);
    cuda_check(cudaDeviceGetPCIBusId(bus, sizeof bus, d->config.index), "asking for its place");
    int at = snprintf(d->text, sizeof d->text, "%.50s %.20s ", about->name, bus);
    for (size_t i = 0; i < sizeof about->uuid.bytes; i++)
        at += snprintf(d->text + at, sizeof d->text - (size_t)at, "%02x",
                       (unsigned)(unsigned char)about->uuid.bytes[i]);
}

static int device_open(const struct device_config *config, struct device **out, struct err *e)
{
    struct cudaDeviceProp about;
    if (check_config(config, e) != 0)
        return -1;
    cuda_check(cudaSetDevice(config->index), "choosing the device");
    cuda_check(cudaGetDeviceProperties(&about, config->index), "asking for its properties");
    if (check_card(config, &about, e) != 0)
        return -1;
    struct blas *blas = config->blas ? cuda_blas_open(e) : NULL;
    if (config->blas && !blas)
        return -1;

    struct device *d = mem_zeroed(1, sizeof *d);
    d->config = *config;
    d->processors = about.multiProcessorCount;
    d->shared = about.sharedMemPerBlockOptin;
    describe_card(d, &about);
    d->scratch_bytes = scratch_bytes(config);
    d->loading = make_stream(0, false);
    d->blas = blas;
    *out = d;
    return 0;
}

static void stream_destroy(struct device *d, struct stream *s)
{
    (void)d;
    if (!s)
        return;
    cuda_check(cudaStreamSynchronize(s->cuda), "waiting for a stream");
    cuda_check(cudaStreamDestroy(s->cuda), "ending a stream");
    cuda_check(cudaFree(s->scratch), "giving back scratch memory");
    cuda_check(cudaFree(s->blas), "giving back cuBLAS's memory");
    free(s);
}

static void device_close(struct device *d)
{
    if (!d)
        return;
    stream_destroy(d, d->loading);
    cuda_blas_close(d->blas);
    free(d);
}

static void describe(const struct device *d, char *text, size_t size)
{
    snprintf(text, size, "%s", d->text);
}

static void sort(const struct device *d, char *text, size_t size)
{
    char have[64];
    versions(have, sizeof have);
    snprintf(text, size, "%.60s, %s%s", d->sort, have,
             cuda_overlap_wanted() ? ", TANDEM_OVERLAP=1" : "");
}

static const char *overlap(const struct device *d)
{
    (void)d;
    if (!overlap_asked())
        return "";
    if (!cuda_overlap_wanted())
        return "TANDEM_OVERLAP=1 does nothing here: CUDA or its driver is older than 12.3";
    if (!cuda_copy_overlaps())
        return "TANDEM_OVERLAP=1 does nothing here: kernels or card are older than 9.0";
    return "kernels are set up while others run (TANDEM_OVERLAP=1)";
}

static size_t device_scratch_bytes(const struct device *d)
{
    return d->scratch_bytes + (d->config.blas ? BLAS_WORKSPACE : 0);
}

static size_t device_ffn_rows(const struct device *d)
{
    return ffn_slice(&d->config.limits);
}

static size_t memory_free(const struct device *d)
{
    size_t left = 0, total = 0;
    (void)d;
    cuda_check(cudaMemGetInfo(&left, &total), "asking for free memory");
    return left;
}

static void *device_alloc(struct device *d, size_t bytes)
{
    void *p = NULL;
    (void)d;
    cudaError_t code = cudaMalloc(&p, bytes ? bytes : 1);
    if (code != cudaSuccess)
        die("CUDA: %zu bytes of device memory are not there: %s", bytes, cudaGetErrorString(code));
    return p;
}

static void device_release(struct device *d, void *p)
{
    (void)d;
    cuda_check(cudaFree(p), "giving back memory");
}

static void *alloc_host(struct device *d, size_t bytes)
{
    void *p = NULL;
    (void)d;
    cuda_check(cudaMallocHost(&p, bytes ? bytes : 1), "taking pinned host memory");
    return p;
}

static void release_host(struct device *d, void *p)
{
    (void)d;
    cuda_check(cudaFreeHost(p), "giving back pinned host memory");
}

static void upload(struct device *d, struct stream *s, void *to, const void *from, size_t bytes)
{
    (void)d;
    if (bytes)
        cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, s->cuda),
                   "copying to the device");
}

static void download(struct device *d, struct stream *s, void *to, const void *from, size_t bytes)
{
    (void)d;
    if (bytes)
        cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, s->cuda),
                   "copying from the device");
}

static void zero(struct device *d, struct stream *s, void *p, size_t bytes)
{
    (void)d;
    if (bytes)
        cuda_check(cudaMemsetAsync(p, 0, bytes, s->cuda), "clearing memory");
}

static struct stream *stream_create(struct device *d)
{
    return make_stream(d->scratch_bytes, d->config.blas);
}

static void stream_sync(struct device *d, struct stream *s)
{
    (void)d;
    cuda_check(cudaStreamSynchronize(s->cuda), "running what was enqueued");
}

static void stream_wait(struct device *d, struct stream *s, struct event *e)
{
    (void)d;
    cuda_check(cudaStreamWaitEvent(s->cuda, e->cuda, 0), "waiting for an event");
}

static struct event *event_create(struct device *d)
{
    struct event *e = mem_zeroed(1, sizeof *e);
    cuda_check(cudaEventCreateWithFlags(&e->cuda, d->config.timed ? 0 : cudaEventDisableTiming),
               "making an event");
    return e;
}

static void event_destroy(struct device *d, struct event *e)
{
    (void)d;
    if (!e)
        return;
    cuda_check(cudaEventDestroy(e->cuda), "ending an event");
    free(e);
}

static void event_record(struct device *d, struct event *e, struct stream *s)
{
    (void)d;
    cuda_check(cudaEventRecord(e->cuda, s->cuda), "recording an event");
}

static bool event_done(struct device *d, struct event *e)
{
    (void)d;
    cudaError_t code = cudaEventQuery(e->cuda);
    if (code != cudaErrorNotReady)
        cuda_check(code, "asking for an event");
    return code == cudaSuccess;
}

static double event_seconds(struct device *d, struct event *from, struct event *to)
{
    float milliseconds = 0;
    (void)d;
    cuda_check(cudaEventElapsedTime(&milliseconds, from->cuda, to->cuda), "timing");
    return (double)milliseconds * 1e-3;
}

static const struct device_ops cuda_device = {
    .name = "cuda",
    .count = device_count,
    .open = device_open,
    .close = device_close,
    .describe = describe,
    .sort = sort,
    .overlap = overlap,
    .memory_free = memory_free,
    .scratch_bytes = device_scratch_bytes,
    .ffn_rows = device_ffn_rows,
    .alloc = device_alloc,
    .release = device_release,
    .alloc_host = alloc_host,
    .release_host = release_host,
    .upload = upload,
    .download = download,
    .zero = zero,
    .stream_create = stream_create,
    .stream_destroy = stream_destroy,
    .stream_sync = stream_sync,
    .stream_wait = stream_wait,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_done = event_done,
    .event_seconds = event_seconds,
    .capture_begin = cuda_capture_begin,
    .capture_end = cuda_capture_end,
    .graph_launch = cuda_graph_launch,
    .graph_destroy = cuda_graph_destroy,
};

extern const struct backend backend_cuda;
const struct backend backend_cuda = {
    .name = "cuda",
    .device = &cuda_device,
    .ops = &cuda_ops,
    .usable = usable,
};
