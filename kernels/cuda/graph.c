/* graph.c - launches that are kept and repeated (device.h). */
#include "kernels/cuda/device_cuda.h"

#include "base/mem.h"

#include <stdlib.h>

/* Only this thread's calls count: a watchdog may look at NCCL meanwhile (exchange/nccl.c). */
void cuda_capture_begin(struct device *d, struct stream *s)
{
    (void)d;
    cuda_check(cudaStreamBeginCapture(s->cuda, cudaStreamCaptureModeThreadLocal),
               "beginning a graph");
}

struct graph *cuda_capture_end(struct device *d, struct stream *s)
{
    cudaGraph_t kept = NULL;
    struct graph *g = mem_zeroed(1, sizeof *g);
    (void)d;
    cuda_check(cudaStreamEndCapture(s->cuda, &kept),
               "ending a graph (`graphs: false` does without)");
    cuda_check(cudaGraphInstantiate(&g->cuda, kept, 0),
               "making a graph ready (`graphs: false` does without)");
    cuda_check(cudaGraphDestroy(kept), "giving back the draft of a graph");
    return g;
}

void cuda_graph_launch(struct device *d, struct stream *s, struct graph *g)
{
    (void)d;
    cuda_check(cudaGraphLaunch(g->cuda, s->cuda), "launching a graph");
}

void cuda_graph_destroy(struct device *d, struct graph *g)
{
    (void)d;
    if (!g)
        return;
    cuda_check(cudaGraphExecDestroy(g->cuda), "giving back a graph");
    free(g);
}
