/* Every operation of every backend that this machine can run, against references in double. */
#include "tests/kernels/cases.h"
#include "tests/kernels/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define MAX_TESTS 200

struct run {
    const struct backend *backend;
    const struct kernel_case *test;
    char name[80];
};

static void run_case(void **state)
{
    const struct run *run = *state;
    rig_trace_begin(run->backend, run->test->name);
    assert_int_equal(run->test->run(run->backend), 0);
}

/* With arguments: only the backends and cases named, e.g. `parity plain linear ffn`. */
static int wanted(int argc, char **argv, const char *backend, const char *name)
{
    int backends = 0, cases = 0, this_backend = 0, this_case = 0;
    for (int i = 1; i < argc; i++) {
        int is_case = 0;
        for (const struct kernel_case *c = kernel_cases; c->name; c++)
            is_case |= strcmp(argv[i], c->name) == 0;
        cases += is_case;
        backends += !is_case;
        this_case |= strcmp(argv[i], name) == 0;
        this_backend |= strcmp(argv[i], backend) == 0;
    }
    return (!backends || this_backend) && (!cases || this_case);
}

int main(int argc, char **argv)
{
    static struct run runs[MAX_TESTS];
    static struct CMUnitTest tests[MAX_TESTS];
    size_t n = 0;
    for (const struct backend *const *b = backend_all(); *b; b++) {
        struct err e = {""};
        if ((*b)->usable(&e) != 0) {
            printf("not tried: kernels of %s: %s\n", (*b)->name, e.text);
            continue;
        }
        for (const struct kernel_case *c = kernel_cases; c->name && n < MAX_TESTS; c++) {
            if (!wanted(argc, argv, (*b)->name, c->name))
                continue;
            if (c->cpu_only && strcmp((*b)->device->name, "cpu") != 0) {
                printf("%s: %s is left out: only CPUs do it\n", (*b)->name, c->name);
                continue;
            }
            runs[n].backend = *b;
            runs[n].test = c;
            snprintf(runs[n].name, sizeof runs[n].name, "%s: %s", (*b)->name, c->name);
            tests[n].name = runs[n].name;
            tests[n].test_func = run_case;
            tests[n].initial_state = &runs[n];
            n++;
        }
    }
    return _cmocka_run_group_tests("parity", tests, n, NULL, NULL);
}
