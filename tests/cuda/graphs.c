/* graphs.c - launches that are kept and repeated: a graph runs again with what the memory holds
 * then, over several streams; what a capture forbids is refused; and replay.h captures at the
 * second meeting, launches from then on, and forgets what was not used for longest. */
#include "kernels/cuda/device_cuda.h"
#include "roles/replay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

extern const struct backend backend_cuda;

struct setting {
    const struct device_ops *dev;
    struct device *d;
    struct stream *a, *b;
    struct event *forked, *joined;
    int *host, *device, *other;
};

static void begin(struct setting *t)
{
    struct device_config config = {.threads = 1, .act = DTYPE_F32};
    struct err e;
    t->dev = backend_cuda.device;
    assert_int_equal(t->dev->open(&config, &t->d, &e), 0);
    t->a = t->dev->stream_create(t->d);
    t->b = t->dev->stream_create(t->d);
    t->forked = t->dev->event_create(t->d);
    t->joined = t->dev->event_create(t->d);
    t->host = t->dev->alloc_host(t->d, 2 * sizeof *t->host);
    t->device = t->dev->alloc(t->d, sizeof *t->device);
    t->other = t->dev->alloc(t->d, sizeof *t->other);
}

static void end(struct setting *t)
{
    t->dev->release(t->d, t->other);
    t->dev->release(t->d, t->device);
    t->dev->release_host(t->d, t->host);
    t->dev->event_destroy(t->d, t->joined);
    t->dev->event_destroy(t->d, t->forked);
    t->dev->stream_destroy(t->d, t->b);
    t->dev->stream_destroy(t->d, t->a);
    t->dev->close(t->d);
}

/* host[0] to the device on a, from there to host[1] on b, and back to a. */
static void enqueue(struct setting *t)
{
    t->dev->upload(t->d, t->a, t->device, &t->host[0], sizeof *t->host);
    t->dev->event_record(t->d, t->forked, t->a);
    t->dev->stream_wait(t->d, t->b, t->forked);
    t->dev->download(t->d, t->b, &t->host[1], t->device, sizeof *t->host);
    t->dev->event_record(t->d, t->joined, t->b);
    t->dev->stream_wait(t->d, t->a, t->joined);
}

static void graph_runs_again(void **state)
{
    struct setting t;
    (void)state;
    begin(&t);
    t.host[0] = 1;
    t.host[1] = 0;
    t.dev->capture_begin(t.d, t.a);
    enqueue(&t);
    struct graph *g = t.dev->capture_end(t.d, t.a);
    t.dev->stream_sync(t.d, t.a);
    assert_int_equal(t.host[1], 0); /* a capture runs nothing */
    for (int i = 2; i < 40; i++) {
        t.host[0] = i;
        t.dev->graph_launch(t.d, t.a, g);
        t.dev->stream_sync(t.d, t.a);
        assert_int_equal(t.host[1], i);
    }
    enqueue(&t); /* and the streams and events are as before */
    t.dev->stream_sync(t.d, t.a);
    t.dev->graph_destroy(t.d, g);
    end(&t);
}

static void captures_refuse(void **state)
{
    struct setting t;
    cudaGraph_t graph;
    (void)state;
    begin(&t);
    t.dev->event_record(t.d, t.joined, t.b);
    t.dev->capture_begin(t.d, t.a);
    void *p;
    assert_int_equal(cudaStreamSynchronize(t.a->cuda), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaMalloc(&p, 4), cudaErrorStreamCaptureUnsupported);
    /* An event from before the capture. */
    assert_int_equal(cudaStreamWaitEvent(t.a->cuda, t.joined->cuda, 0),
                     cudaErrorStreamCaptureIsolation);
    /* A stream that nobody waits for in the end. */
    t.dev->event_record(t.d, t.forked, t.a);
    assert_int_equal(cudaEventQuery(t.forked->cuda), cudaErrorCapturedEvent);
    t.dev->stream_wait(t.d, t.b, t.forked);
    t.dev->zero(t.d, t.b, t.device, sizeof *t.device);
    assert_int_equal(cudaStreamEndCapture(t.a->cuda, &graph), cudaErrorStreamCaptureUnjoined);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    /* An event from within it, afterwards. */
    assert_int_equal(cudaStreamWaitEvent(t.b->cuda, t.forked->cuda, 0),
                     cudaErrorStreamCaptureIsolation);
    end(&t);
}

/* One step with a key; whether the caller had to enqueue it. */
static bool step(struct setting *t, struct replay *r, int key)
{
    t->host[1] = 0;
    t->host[0] = 1000 + key;
    bool enqueues = replay_begin(r, &key);
    if (enqueues) {
        enqueue(t);
        replay_end(r);
    }
    t->dev->stream_sync(t->d, t->a);
    assert_int_equal(t->host[1], 1000 + key);
    return enqueues;
}

static void steps_repeat(void **state)
{
    struct setting t;
    (void)state;
    begin(&t);
    struct replay *r = replay_open(t.dev, t.d, t.a, true, sizeof(int));
    assert_true(step(&t, r, 7));
    assert_true(step(&t, r, 8));
    assert_int_equal(replay_launches(r), 0);
    assert_true(step(&t, r, 7)); /* captured */
    assert_int_equal(replay_launches(r), 1);
    assert_false(step(&t, r, 7));
    assert_true(step(&t, r, 8));
    assert_false(step(&t, r, 8));
    assert_false(step(&t, r, 7));
    assert_int_equal(replay_launches(r), 5);
    replay_close(r);

    r = replay_open(t.dev, t.d, t.a, false, sizeof(int));
    for (int i = 0; i < 4; i++)
        assert_true(step(&t, r, 7));
    assert_int_equal(replay_launches(r), 0);
    replay_close(r);
    end(&t);
}

/* Fill all places, use the first, add one more: the second is the one that is gone. */
static void the_oldest_graph_goes(void **state)
{
    struct setting t;
    (void)state;
    begin(&t);
    struct replay *r = replay_open(t.dev, t.d, t.a, true, sizeof(int));
    for (int key = 0; key < REPLAY_GRAPHS; key++) {
        assert_true(step(&t, r, key));
        assert_true(step(&t, r, key));
    }
    assert_false(step(&t, r, 0));
    assert_true(step(&t, r, 999));
    assert_true(step(&t, r, 999));
    assert_false(step(&t, r, 999));
    assert_false(step(&t, r, 0));
    assert_false(step(&t, r, 2));
    assert_true(step(&t, r, 1)); /* captured anew, in the place of key 3 */
    assert_false(step(&t, r, 1));
    assert_true(step(&t, r, 3));
    replay_close(r);
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graph_runs_again),
        cmocka_unit_test(captures_refuse),
        cmocka_unit_test(steps_repeat),
        cmocka_unit_test(the_oldest_graph_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
