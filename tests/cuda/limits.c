/* limits.c - devices at the limits that they are opened with: what does not fit is refused, what is as large
 * as its largest grid is started, and the least scratch memory does for everything. */
#include "kernels/cuda/device_cuda.h"
#include "tests/kernels/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

extern const struct backend backend_cuda;

static void refused(const struct device_config *config, const char *message)
{
    struct device *d;
    struct err e = {""};
    assert_int_equal(backend_cuda.device->open(config, &d, &e), -1);
    if (!strstr(e.text, message))
        fail_msg("'%s' does not say '%s'", e.text, message);
}

static void what_does_not_fit_is_refused(void **state)
{
    struct device_config config = {.threads = 1, .act = DTYPE_BF16, .limits = rig_limits};
    if (!rig_emulated(&backend_cuda))
        skip();
    (void)state;
    setenv("TANDEM_EMU_SHARED", "96", 1);
    refused(&config, "gives a block 96 KB of shared memory, 99 are needed");
    setenv("TANDEM_EMU_SHARED", "99", 1);
    config.limits.hidden = 32768;
    refused(&config, "rows of 32768 do not fit into a block's 99 KB");
    config.limits = rig_limits;
    config.limits.experts = 800;
    refused(&config, "800 experts on one rank need more than a block's 99 KB");
    config.limits = rig_limits;
    config.limits.vocab = 300000;
    refused(&config, "a vocabulary of 300000");
    unsetenv("TANDEM_EMU_SHARED");
}

/* Rows are the second dimension of the latent kernel's grid, which the launch refuses beyond 65,535. They are
 * enqueued and not run, which would take a minute. */
static void more_rows_than_a_grid_has(void **state)
{
    enum { MANY_ROWS = 65536 + 40 };
    const struct device_config config = {
        .threads = 1,
        .act = DTYPE_BF16,
        .kv = DTYPE_BF16,
        .limits = {.rows = MANY_ROWS, .hidden = 16, .heads = 1, .head_dim = 576, .context = 64}};
    const struct kv_shape shape = {1, 1, 1, 576, 512, true, 0};
    const struct attn_spec spec = {
        .heads = 1, .kv_heads = 1, .key_dim = 576, .value_dim = 512, .value_in_key = true};
    (void)state;
    if (!rig_emulated(&backend_cuda))
        skip();
    pid_t child = fork();
    if (child == 0) {
        struct device *d;
        struct err e;
        const struct device_ops *dev = backend_cuda.device;
        if (dev->open(&config, &d, &e) != 0)
            _exit(1);
        int32_t *zeros = dev->alloc(d, (size_t)MANY_ROWS * sizeof *zeros);
        void *q = dev->alloc(d, (size_t)MANY_ROWS * 576 * 2);
        const struct attn_batch batch = {.rows = MANY_ROWS,
                                         .segments = 1,
                                         .max_rows = 1,
                                         .max_context = 1,
                                         .row_seg = zeros,
                                         .row_pos = zeros,
                                         .blocks = zeros,
                                         .blocks_stride = 1};
        struct kv *kv = backend_cuda.ops->kv_create(d, &shape);
        backend_cuda.ops->attend(d, dev->stream_create(d), &spec, kv, 0, &batch, q, q);
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Three matrices that are split into as many parts as there are, side by side, where there is scratch for one
 * row of one of them: each has the bits that it has alone. */
static void one_row_of_three_matrices(void **state)
{
    static const size_t outputs[3] = {512, 256, 1};
    const size_t k = 66 * 256;
    const struct device_limits one = {.rows = 1, .hidden = 512};
    struct linear_part parts[3];
    float *want[3];
    struct rig r;
    size_t all = 0;
    (void)state;
    rig_open(&r, &backend_cuda, DTYPE_BF16, DTYPE_BF16, 1, &one);
    void *x = rig_put_values(&r, DTYPE_BF16, rig_values(&r, DTYPE_BF16, k, 1), k);
    for (int i = 0; i < 3; i++) {
        struct rig_weight w = rig_weight(&r, DTYPE_F8E4M3, outputs[i], k, 0, 0);
        parts[i] = (struct linear_part){r.ops->weight_create(r.d, &w.part, WEIGHT_KEEP),
                                        rig_room(&r, outputs[i] * 4)};
        void *y = rig_room(&r, outputs[i] * 4);
        r.ops->linear(r.d, r.s, parts[i].w, x, 1, y, DTYPE_F32);
        want[i] = rig_get(&r, y, outputs[i] * 4);
        all += (size_t)cuda_linear_splits((int)outputs[i], (int)k) * outputs[i];
    }
    assert_true(all > LINEAR_MOST * 128); /* more than one matrix can ever need */
    ops_linears(r.ops, r.d, r.s, parts, 3, x, 1, DTYPE_F32);
    for (int i = 0; i < 3; i++) {
        rig_same_bytes(&r, "y", rig_get(&r, parts[i].y, outputs[i] * 4), want[i], outputs[i] * 4);
        r.ops->weight_destroy(r.d, (struct weight *)(uintptr_t)parts[i].w);
    }
    assert_int_equal(rig_close(&r), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_rows_than_a_grid_has),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(one_row_of_three_matrices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
