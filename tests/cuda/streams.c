/* streams.c - that the emulation finds what it is there to find: a missing wait between streams, a
 * missing barrier, a copy nobody waited for, a grid_begin() that is not right; and that correct programs
 * come out right. And what a host without a driver is told. */
#include "kernels/cuda/device_cuda.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define TRIES 64

void planted_reverse(cudaStream_t stream, const float *from, float *to, int fault);
void planted_copy(cudaStream_t stream, const float *from, float *to, int fault);
extern const struct backend backend_cuda;

struct setting {
    const struct device_ops *dev;
    struct device *d;
    struct stream *a, *b;
    struct event *e;
    float *from, *middle, *to;
};

static void begin(struct setting *t)
{
    struct device_config config = {.threads = 1, .act = DTYPE_F32};
    struct err e;
    t->dev = backend_cuda.device;
    assert_int_equal(t->dev->open(&config, &t->d, &e), 0);
    t->a = t->dev->stream_create(t->d);
    t->b = t->dev->stream_create(t->d);
    t->e = t->dev->event_create(t->d);
    t->from = t->dev->alloc(t->d, 256);
    t->middle = t->dev->alloc(t->d, 256);
    t->to = t->dev->alloc(t->d, 256);
}

static void end(struct setting *t)
{
    t->dev->release(t->d, t->from);
    t->dev->release(t->d, t->middle);
    t->dev->release(t->d, t->to);
    t->dev->event_destroy(t->d, t->e);
    t->dev->stream_destroy(t->d, t->a);
    t->dev->stream_destroy(t->d, t->b);
    t->dev->close(t->d);
}

/* Numbers go up and are reversed on stream a, are reversed again on stream b, and come down.
 * Returns how often they were not what they had been. */
static int wrong_results(bool with_wait, int fault)
{
    struct setting t;
    int wrong = 0;
    begin(&t);
    for (int i = 0; i < TRIES; i++) {
        float sent[64], got[64];
        for (int j = 0; j < 64; j++)
            sent[j] = (float)(100 * i + j);
        t.dev->upload(t.d, t.a, t.from, sent, sizeof sent);
        planted_reverse(t.a->cuda, t.from, t.middle, fault);
        t.dev->event_record(t.d, t.e, t.a);
        if (with_wait)
            t.dev->stream_wait(t.d, t.b, t.e);
        planted_reverse(t.b->cuda, t.middle, t.to, 0);
        t.dev->download(t.d, t.b, got, t.to, sizeof got);
        t.dev->stream_sync(t.d, t.b);
        t.dev->stream_sync(t.d, t.a);
        wrong += memcmp(sent, got, sizeof sent) != 0;
    }
    end(&t);
    return wrong;
}

static void correct_program_is_right(void **state)
{
    (void)state;
    assert_int_equal(wrong_results(true, 0), 0);
}

static void missing_wait_is_seen(void **state)
{
    (void)state;
    assert_true(wrong_results(false, 0) > 0);
}

static void missing_barrier_is_seen(void **state)
{
    (void)state;
    assert_true(wrong_results(true, 1) > 0);
}

static void missing_copy_wait_is_seen(void **state)
{
    (void)state;
    assert_int_equal(wrong_results(true, 2), TRIES);
}

/* How a process that starts it ends, and what it says. */
static int status_of_copy(int fault, char *said, size_t size)
{
    int ends[2], status = -1;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct setting t;
        dup2(ends[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        begin(&t);
        planted_copy(t.a->cuda, t.from, t.to, fault);
        t.dev->stream_sync(t.d, t.a);
        _exit(0);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], said, size - 1);
    said[n > 0 ? n : 0] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void wrong_begin_is_seen(void **state)
{
    static const char *const what[] = {"ends without grid_begin()", "calls grid_begin() again",
                                       "touches device memory before grid_begin()"};
    char said[256];
    (void)state;
    assert_int_equal(status_of_copy(0, said, sizeof said), 0);
    for (int i = 0; i < 3; i++) {
        int status = status_of_copy(i + 3, said, sizeof said);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || !strstr(said, what[i]))
            fail_msg("'%s' was not seen; status %d, '%s'", what[i], status, said);
    }
}

static void event_polls_end(void **state)
{
    struct setting t;
    (void)state;
    begin(&t);
    assert_true(t.dev->event_done(t.d, t.e)); /* never recorded */
    t.dev->zero(t.d, t.a, t.from, 256);
    t.dev->event_record(t.d, t.e, t.a);
    int polls = 1;
    while (!t.dev->event_done(t.d, t.e))
        polls++;
    assert_true(polls < 100);
    end(&t);
}

static void no_driver_is_said(void **state)
{
    struct device_config config = {.threads = 1, .act = DTYPE_F32};
    struct device *d;
    struct err e;
    (void)state;
    setenv("TANDEM_EMU_DEVICES", "-1", 1);
    assert_int_equal(backend_cuda.usable(&e), -1);
    assert_non_null(strstr(e.text, "device: cpu"));
    assert_int_equal(backend_cuda.device->open(&config, &d, &e), -1);
    setenv("TANDEM_EMU_DEVICES", "2", 1);
    config.index = 2;
    assert_int_equal(backend_cuda.device->open(&config, &d, &e), -1);
    assert_non_null(strstr(e.text, "GPU 2 was asked for, this host has 2"));
    unsetenv("TANDEM_EMU_DEVICES");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(correct_program_is_right), cmocka_unit_test(missing_wait_is_seen),
        cmocka_unit_test(missing_barrier_is_seen),  cmocka_unit_test(missing_copy_wait_is_seen),
        cmocka_unit_test(wrong_begin_is_seen),      cmocka_unit_test(event_polls_end),
        cmocka_unit_test(no_driver_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
