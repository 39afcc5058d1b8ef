/* queues.cpp - streams, events and graphs of the CUDA runtime, for tests, on a CPU.
 *
 * Work waits in its stream until someone needs its result: a synchronization, a query, a free. Then
 * streams take turns by chance (TANDEM_EMU_SEED), but a wait for an event lets nothing of its
 * stream pass before the record has run. So what only happened to be in order comes out wrong.
 * TANDEM_EMU_SERIAL=1 runs everything in the order in which it was enqueued instead, as a GPU may
 * when streams share a hardware queue: a program that needs two streams to run at once then hangs.
 *
 * Work that needs another process (nccl.cpp) is tried until it succeeds; other streams go on
 * meanwhile.
 *
 * A graph keeps what was enqueued, and launching it enqueues that again. What CUDA forbids during a
 * capture is an error here too. */
#include "emulation.h"

#include <chrono>
#include <deque>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <vector>

typedef std::function<bool()> attempt;

struct CUevent_st {
    uint64_t recorded, happened; /* number of the last record enqueued, and run */
    double at;
    struct CUgraph_st *graph; /* the capture it was last recorded in */
    size_t number;            /* of that record among those of the graph */
};

struct work {
    attempt run;      /* true when it is done; empty: a wait */
    cudaEvent_t wait; /* not before record `number` of this event */
    uint64_t number;
    uint64_t order; /* among all work ever enqueued */
};

struct CUstream_st {
    std::deque<work> queue;
    struct CUgraph_st *graph; /* being captured into, by `lane` */
    size_t lane;
};

/* How many nodes of each lane come before a place in the graph. */
typedef std::vector<size_t> clock_of;

struct node {
    size_t lane;
    std::function<attempt()> make; /* work, or: */
    bool record;
    size_t event; /* number of the record */
};

struct CUgraph_st {
    bool ended;
    std::vector<node> nodes;
    std::vector<cudaStream_t> streams; /* captured, by lane; the first one began it */
    std::vector<clock_of> clocks;      /* of each lane */
    std::vector<clock_of> records;
};

struct CUgraphExec_st {
    std::vector<node> nodes;
    std::vector<cudaStream_t> lanes; /* but the first */
    std::vector<cudaEvent_t> events;
};

static std::vector<cudaStream_t> streams;
static std::vector<cudaGraph_t> captures; /* under way */
static uint64_t orders;

static uint64_t chance()
{
    static uint64_t state;
    if (state == 0) {
        const char *seed = getenv("TANDEM_EMU_SEED");
        state = (seed ? strtoull(seed, NULL, 10) : 1) * 0x9e3779b97f4a7c15u | 1;
    }
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

uint64_t emu::random()
{
    return chance();
}

static bool serial()
{
    static int known = -1;
    if (known < 0)
        known = getenv("TANDEM_EMU_SERIAL") != NULL;
    return known;
}

static bool blocked(cudaStream_t s)
{
    const work &w = s->queue.front();
    return w.wait && w.wait->happened < w.number;
}

/* Streams whose next work can be tried. */
static std::vector<cudaStream_t> ready(cudaStream_t first)
{
    std::vector<cudaStream_t> can;
    if (!serial() && first && !first->queue.empty() && !blocked(first) && chance() % 4 != 0)
        return {first};
    for (cudaStream_t s : streams)
        if (!s->queue.empty()) {
            if (serial() && !can.empty() && can[0]->queue.front().order > s->queue.front().order)
                can.clear();
            if (serial() ? can.empty() : !blocked(s))
                can.push_back(s);
        }
    if (serial() && !can.empty() && blocked(can[0]))
        can.clear();
    return can;
}

enum progress { RAN, PEER, NOTHING }; /* PEER: all that is left needs another process now */

/* Runs one piece of work of some stream that can. */
static progress run_one(cudaStream_t first)
{
    static int idle;
    std::vector<cudaStream_t> can = ready(first);
    if (can.empty())
        return NOTHING;
    cudaStream_t s = can[chance() % can.size()];
    if (s->queue.front().run) {
        attempt run = s->queue.front().run;
        if (!run()) {
            if (++idle > 64) /* a peer may want the core */
                usleep(50);
            return PEER;
        }
    }
    idle = 0;
    s->queue.pop_front();
    return RAN;
}

static void stuck()
{
    fprintf(stderr, "CUDA emulation: streams wait for each other\n");
    abort();
}

static void run_stream(cudaStream_t s)
{
    while (!s->queue.empty())
        if (run_one(s) == NOTHING)
            stuck();
}

void emu::finish()
{
    while (run_one(NULL) != NOTHING)
        ;
    for (cudaStream_t s : streams)
        if (!s->queue.empty())
            stuck();
}

/* The capturing thread may not do what would wait for, or wake, other streams. */
bool emu::capturing()
{
    return !captures.empty();
}

/* ---- captures ---------------------------------------------------------------------------------
 */

static clock_of &clock_in(cudaStream_t s)
{
    return s->graph->clocks[s->lane];
}

static void add_node(cudaStream_t s, const node &n)
{
    s->graph->nodes.push_back(n);
    clock_in(s)[s->lane]++;
}

static void join_capture(cudaStream_t s, cudaGraph_t graph)
{
    s->graph = graph;
    s->lane = graph->streams.size();
    graph->streams.push_back(s);
    graph->clocks.push_back(clock_of());
    for (clock_of &c : graph->clocks)
        c.resize(graph->streams.size());
}

static void later(clock_of &clock, const clock_of &than)
{
    for (size_t i = 0; i < than.size(); i++)
        if (than[i] > clock[i])
            clock[i] = than[i];
}

static cudaError_t capture_wait(cudaStream_t s, cudaEvent_t event)
{
    if (!event->graph || event->graph->ended || (s->graph && s->graph != event->graph))
        return cudaErrorStreamCaptureIsolation;
    if (!s->graph)
        join_capture(s, event->graph);
    later(clock_in(s), event->graph->records[event->number]);
    add_node(s, {s->lane, nullptr, false, event->number});
    return cudaSuccess;
}

static cudaError_t capture_record(cudaEvent_t event, cudaStream_t s)
{
    event->graph = s->graph;
    event->number = s->graph->records.size();
    add_node(s, {s->lane, nullptr, true, event->number});
    s->graph->records.push_back(clock_in(s));
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    if (mode != cudaStreamCaptureModeThreadLocal || stream->graph)
        return cudaErrorInvalidValue;
    cudaGraph_t graph = new CUgraph_st();
    join_capture(stream, graph);
    captures.push_back(graph);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    cudaGraph_t g = stream->graph;
    if (!g || g->streams[0] != stream)
        return cudaErrorInvalidValue;
    bool joined = true;
    for (size_t lane = 0; lane < g->streams.size(); lane++) {
        joined = joined && g->clocks[0][lane] == g->clocks[lane][lane];
        g->streams[lane]->graph = NULL;
    }
    g->ended = true;
    for (size_t i = 0; i < captures.size(); i++)
        if (captures[i] == g)
            captures.erase(captures.begin() + (long)i--);
    *graph = g;
    return joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    static std::vector<cudaGraph_t> *all = new std::vector<cudaGraph_t>;
    graph->nodes.clear();
    all->push_back(graph); /* the rest stays: events remember where they were captured */
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    *exec = new CUgraphExec_st();
    (*exec)->nodes = graph->nodes;
    for (size_t i = 1; i < graph->streams.size(); i++) {
        (*exec)->lanes.push_back(NULL);
        cudaStreamCreateWithFlags(&(*exec)->lanes.back(), cudaStreamNonBlocking);
    }
    for (size_t i = 0; i < graph->records.size(); i++) {
        (*exec)->events.push_back(NULL);
        cudaEventCreate(&(*exec)->events.back());
    }
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    for (cudaStream_t s : exec->lanes)
        cudaStreamDestroy(s);
    for (cudaEvent_t e : exec->events)
        cudaEventDestroy(e);
    delete exec;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    if (stream->graph)
        return cudaErrorStreamCaptureUnsupported;
    for (const node &n : exec->nodes) {
        cudaStream_t s = n.lane == 0 ? stream : exec->lanes[n.lane - 1];
        if (n.make)
            s->queue.push_back({n.make(), NULL, 0, orders++});
        else if (n.record)
            cudaEventRecord(exec->events[n.event], s);
        else
            cudaStreamWaitEvent(s, exec->events[n.event], 0);
    }
    return cudaSuccess;
}

/* ---- work -------------------------------------------------------------------------------------
 */

void emu::enqueue_attempts(cudaStream_t stream, std::function<std::function<bool()>()> make)
{
    if (!stream) {
        fprintf(stderr, "CUDA emulation: work for the default stream\n");
        abort();
    }
    if (stream->graph)
        add_node(stream, {stream->lane, std::move(make), false, 0});
    else
        stream->queue.push_back({make(), NULL, 0, orders++});
}

void emu::enqueue(cudaStream_t stream, std::function<void()> run)
{
    attempt once = [run = std::move(run)]() {
        run();
        return true;
    };
    enqueue_attempts(stream, [once]() { return once; });
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind,
                            cudaStream_t stream)
{
    emu::enqueue(stream, [=]() { memcpy(to, from, bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    emu::enqueue(stream, [=]() { memset(p, value, bytes); });
    return cudaSuccess;
}

/* ---- streams ----------------------------------------------------------------------------------
 */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = new CUstream_st();
    streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    run_stream(stream);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == stream)
            streams.erase(streams.begin() + (long)i--);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (stream->graph)
        return cudaErrorStreamCaptureUnsupported;
    run_stream(stream);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    if (emu::capturing())
        return cudaErrorStreamCaptureUnsupported;
    emu::finish();
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    if (stream->graph)
        return cudaErrorStreamCaptureUnsupported;
    run_one(NULL);
    return stream->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    if (stream->graph || event->graph)
        return capture_wait(stream, event);
    stream->queue.push_back({nullptr, event, event->recorded, orders++});
    return cudaSuccess;
}

/* ---- events -----------------------------------------------------------------------------------
 */

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    *event = new CUevent_st();
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    return cudaEventCreate(event);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    emu::finish(); /* waits in queues point at it */
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    if (stream->graph)
        return capture_record(event, stream);
    uint64_t number = ++event->recorded;
    event->graph = NULL;
    emu::enqueue(stream, [=]() {
        event->happened = number;
        event->at =
            std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
                .count();
    });
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (event->graph)
        return cudaErrorCapturedEvent;
    if (event->happened < event->recorded)
        run_one(NULL);
    return event->happened < event->recorded ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (event->graph)
        return cudaErrorCapturedEvent;
    while (event->happened < event->recorded)
        if (run_one(NULL) == NOTHING)
            stuck();
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    *milliseconds = (float)((to->at - from->at) * 1e3);
    return cudaSuccess;
}
