/* avx512.c - the AVX-512 backend: its kernels for rows and tiles, its tables, and what it needs. */
#ifdef __x86_64__
#include "kernels/cpu/fast/fast.h"
#include "kernels/cpu/fast/grouped_avx512.h"
#include "kernels/cpu/fast/integer_avx512.h"
#include "kernels/cpu/fast/panel_avx512.h"
#include "kernels/cpu/fast/table.h"
#include "kernels/cpu/fast/target.h"
#include "kernels/cpu/integer.h"
#include "kernels/cpu/lane.h"
#include "kernels/exact.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

TARGET_BEGIN(TARGET_AVX512)
#include "kernels/cpu/fast/vec_avx512.h"
#include "kernels/cpu/fast/tile_body.h"
#include "kernels/cpu/fast/rows_body.h"
TARGET_END

const struct isa isa_avx512 = {
    .name = "avx512",
    .x_bf16 = true,
    .sizes = true,
    .panel = {[W_F32] = {[X_F32] = avx512_panel_f32},
              [W_BF16] = {[X_F32] = avx512_panel_bf16_f32, [X_BF16] = avx512_panel_bf16},
              [W_F8] = {[X_F32] = avx512_panel_f8_f32, [X_BF16] = avx512_panel_f8},
              [W_G8] = {[X_F32] = avx512_panel_g8_f32, [X_BF16] = avx512_panel_g8},
              [W_G4] = {[X_F32] = avx512_panel_g4_f32, [X_BF16] = avx512_panel_g4},
              [W_Q8] = {[X_INTEGERS] = avx512_panel_q8},
              [W_Q4] = {[X_INTEGERS] = avx512_panel_q4}},
    .parts = {[W_F32] = {[X_F32] = avx512_parts_f32},
              [W_BF16] = {[X_F32] = avx512_parts_bf16_f32, [X_BF16] = avx512_parts_bf16},
              [W_F8] = {[X_F32] = avx512_parts_f8_f32, [X_BF16] = avx512_parts_f8}},
    ISA_BODIES,
};

static int usable(struct err *e)
{
    const char *missing = !__builtin_cpu_supports("fma")          ? "fma"
                          : !__builtin_cpu_supports("f16c")       ? "f16c"
                          : !__builtin_cpu_supports("avx512f")    ? "avx512f"
                          : !__builtin_cpu_supports("avx512bw")   ? "avx512bw"
                          : !__builtin_cpu_supports("avx512vl")   ? "avx512vl"
                          : !__builtin_cpu_supports("avx512dq")   ? "avx512dq"
                          : !__builtin_cpu_supports("avx512vbmi") ? "avx512vbmi"
                          : !__builtin_cpu_supports("avx512vnni") ? "avx512vnni"
                          : !__builtin_cpu_supports("avx512bf16") ? "avx512bf16"
                                                                  : NULL;
    if (missing)
        return err_set(e, "avx512 kernels need a CPU with %s, which this one lacks", missing);
    return 0;
}

static int open_device(const struct device_config *config, struct device **out, struct err *e)
{
    return fast_open(&isa_avx512, config, out, e);
}

static const struct device_ops device_ops = CPU_DEVICE_OPS(open_device);

extern const struct backend backend_avx512;
const struct backend backend_avx512 = {
    .name = "avx512",
    .device = &device_ops,
    .ops = &fast_ops,
    .usable = usable,
};
#endif
