/* The measurement of a word between processes ends whatever becomes of the second one. */
#include "roles/handover.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void test_measured(void **state)
{
    (void)state;
    double seconds = -1;
    struct err e;
    assert_int_equal(handover_measure(&seconds, &e), 0);
    assert_true(seconds > 0 && seconds < 1);
}

static void *kill_child(void *context)
{
    char path[64];
    int child = 0;
    (void)context;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    while (!child) {
        FILE *f = fopen(path, "r");
        if (f && fscanf(f, "%d", &child) != 1)
            child = 0;
        if (f)
            fclose(f);
    }
    kill(child, SIGKILL);
    return NULL;
}

static void test_killed(void **state)
{
    (void)state;
    double seconds = -1;
    struct err e = {{0}};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, kill_child, NULL), 0);
    int status = handover_measure(&seconds, &e);
    pthread_join(thread, NULL);
    assert_int_equal(status, -1);
    assert_non_null(strstr(e.text, "the other process ended (signal 9)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_measured),
                                       cmocka_unit_test(test_killed)};
    alarm(20);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
