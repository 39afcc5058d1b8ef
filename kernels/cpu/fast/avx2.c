/* avx2.c - the AVX2 backend: its kernels for rows and tiles, its tables, and what it needs. */
#ifdef __x86_64__
#include "kernels/cpu/fast/fast.h"
#include "kernels/cpu/fast/grouped_avx2.h"
#include "kernels/cpu/fast/integer_avx2.h"
#include "kernels/cpu/fast/panel_avx2.h"
#include "kernels/cpu/fast/table.h"
#include "kernels/cpu/fast/target.h"
#include "kernels/cpu/integer.h"
#include "kernels/cpu/lane.h"
#include "kernels/exact.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

TARGET_BEGIN(TARGET_AVX2)
#include "kernels/cpu/fast/vec_avx2.h"
#include "kernels/cpu/fast/tile_body.h"
#include "kernels/cpu/fast/rows_body.h"
TARGET_END

const struct isa isa_avx2 = {
    .name = "avx2",
    .x_bf16 = false,
    .panel = {[W_F32] = {[X_F32] = avx2_panel_f32},
              [W_BF16] = {[X_F32] = avx2_panel_bf16},
              [W_F8] = {[X_F32] = avx2_panel_f8},
              [W_G8] = {[X_F32] = avx2_panel_g8},
              [W_G4] = {[X_F32] = avx2_panel_g4},
              [W_Q8] = {[X_INTEGERS] = avx2_panel_q8},
              [W_Q4] = {[X_INTEGERS] = avx2_panel_q4}},
    .parts = {[W_F32] = {[X_F32] = avx2_parts_f32},
              [W_BF16] = {[X_F32] = avx2_parts_bf16},
              [W_F8] = {[X_F32] = avx2_parts_f8}},
    ISA_BODIES,
};

static int usable(struct err *e)
{
    const char *missing = !__builtin_cpu_supports("avx2")   ? "avx2"
                          : !__builtin_cpu_supports("fma")  ? "fma"
                          : !__builtin_cpu_supports("f16c") ? "f16c"
                                                            : NULL;
    if (missing)
        return err_set(e, "avx2 kernels need a CPU with %s, which this one lacks", missing);
    return 0;
}

static int open_device(const struct device_config *config, struct device **out, struct err *e)
{
    return fast_open(&isa_avx2, config, out, e);
}

static const struct device_ops device_ops = CPU_DEVICE_OPS(open_device);

extern const struct backend backend_avx2;
const struct backend backend_avx2 = {
    .name = "avx2",
    .device = &device_ops,
    .ops = &fast_ops,
    .usable = usable,
};
#endif
