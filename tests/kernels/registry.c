/* Which backend a job gets, and what it is told when it cannot have one. And what the CPU device
 * refuses. */
#include "kernels/device.h"
#include "kernels/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void test_all_are_complete(void **state)
{
    (void)state;
    const struct backend *const *all = backend_all();
    assert_non_null(*all);
    assert_string_equal(all[0]->name, "plain");
    for (; *all; all++) {
        const void *device[sizeof(struct device_ops) / sizeof(void *)];
        const void *ops[sizeof(struct ops) / sizeof(void *)];
        assert_non_null((*all)->name);
        assert_true((*all)->usable != NULL);
        memcpy(device, (*all)->device, sizeof device);
        memcpy(ops, (*all)->ops, sizeof ops);
        size_t optional = offsetof(struct device_ops, capture_begin) / sizeof(void *);
        /* So are those before open, which the CPU has not, and this one, which CUDA has not. */
        size_t together = offsetof(struct device_ops, together) / sizeof(void *);
        for (size_t i = offsetof(struct device_ops, open) / sizeof(void *);
             i < sizeof device / sizeof *device; i++)
            if (i >= optional && !device[optional]) /* of those for graphs, all or none */
                assert_null(device[i]);
            else if (i != together)
                assert_non_null(device[i]);
        for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
            if (i != offsetof(struct ops, ffn_same) / sizeof(void *) &&
                i != offsetof(struct ops, weight_obstacle) / sizeof(void *) &&
                i != offsetof(struct ops, ffn_obstacle) / sizeof(void *) &&
                i != offsetof(struct ops, linears) / sizeof(void *)) /* as ops.h says of them */
                assert_non_null(ops[i]);
    }
}

static void test_find_by_name(void **state)
{
    (void)state;
    struct err e = {""}, why = {""};
    for (const struct backend *const *b = backend_all(); *b; b++) {
        const struct backend *found = backend_find((*b)->device->name, (*b)->name, &e);
        if ((*b)->usable(&why) == 0) {
            assert_ptr_equal(found, *b);
        } else {
            assert_null(found);
            assert_non_null(strstr(e.text, (*b)->name));
            assert_non_null(strstr(e.text, why.text));
        }
    }
}

/* The last usable one of the device. */
static void test_find_auto(void **state)
{
    (void)state;
    struct err e = {""};
    const struct backend *last = NULL;
    for (const struct backend *const *b = backend_all(); *b; b++)
        if (strcmp((*b)->device->name, "cpu") == 0 && (*b)->usable(&e) == 0)
            last = *b;
    assert_ptr_equal(backend_find("cpu", "auto", &e), last);
}

static void test_unknown_names(void **state)
{
    (void)state;
    struct err e = {""};
    assert_null(backend_find("cpu", "plane", &e));
    assert_non_null(strstr(e.text, "auto, plain"));
    assert_non_null(strstr(e.text, "not \"plane\"; did you mean \"plain\"?"));
    assert_null(backend_find("cpu", "plxxn", &e)); /* two letters are wrong */
    assert_non_null(strstr(e.text, "did you mean \"plain\"?"));
    assert_null(backend_find("cpu", "plxxx", &e));
    assert_null(strstr(e.text, "did you mean"));
    assert_null(backend_find("cpu", "something else", &e));
    assert_non_null(strstr(e.text, "not \"something else\""));
    assert_null(strstr(e.text, "did you mean"));
    assert_null(backend_find("cqu", "auto", &e));
    assert_string_equal(e.text, "device: must be cpu or cuda, not \"cqu\"; did you mean \"cpu\"?");
    assert_null(backend_find("", "auto", &e));
    assert_null(strstr(e.text, "did you mean"));
}

static void test_other_device(void **state)
{
    (void)state;
    struct err e = {""};
    assert_null(backend_find("cuda", "plain", &e));
#ifndef TANDEM_CUDA
    assert_non_null(strstr(e.text, "make CUDA=1"));
    assert_non_null(strstr(e.text, "`device: cpu`"));
    assert_null(backend_find("cuda", "auto", &e));
#endif
}

static void test_cpu_refuses(void **state)
{
    (void)state;
    static const struct {
        struct device_config config;
        const char *about;
    } wrong[] = {
        {{.threads = 0, .act = DTYPE_F32, .kv = DTYPE_F32}, "thread"},
        {{.threads = 1, .act = DTYPE_F8E4M3, .kv = DTYPE_F32}, "activations"},
        {{.threads = 1, .act = DTYPE_F32, .kv = DTYPE_I8}, "KV cache"},
    };
    for (const struct backend *const *b = backend_all(); *b; b++)
        for (size_t i = 0; i < 3 && strcmp((*b)->device->name, "cpu") == 0; i++) {
            struct device *d = NULL;
            struct err e = {""};
            assert_int_equal((*b)->device->open(&wrong[i].config, &d, &e), -1);
            assert_non_null(strstr(e.text, wrong[i].about));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_are_complete), cmocka_unit_test(test_find_by_name),
        cmocka_unit_test(test_find_auto),        cmocka_unit_test(test_unknown_names),
        cmocka_unit_test(test_other_device),     cmocka_unit_test(test_cpu_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
