/* What a card's tensor cores can have of a checkpoint, and what is said of the rest. */
#include "kernels/card/pack.h"
#include "kernels/card/pack_ffn.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define N 128
#define K 512

static float scales[K / 128] = {1, 1, 1, 1};

static struct weight_part part(const struct codec *codec)
{
    struct weight_part w = {.codec = codec, .stride = K, .n = N, .k = K};
    if (codec == &codec_fp8) {
        w.scale = scales;
        w.scale_rows = w.scale_columns = 128;
        w.scale_stride = K / 128;
    }
    return w;
}

static struct mlp_part mlp(const struct codec *gate, const struct codec *up,
                           const struct codec *down)
{
    return (struct mlp_part){.gate = part(gate), .up = part(up), .down = part(down)};
}

/* NULL: everything is on tensor cores. */
static void assert_says(const char *said, const char *wanted)
{
    if (!wanted)
        assert_null(said);
    else if (!said || !strstr(said, wanted))
        fail_msg("'%s' is not in '%s'", wanted, said ? said : "nothing");
}

static void test_matrices(void **state)
{
    (void)state;
    const struct weight_part bf16 = part(&codec_bf16), f32 = part(&codec_f32),
                             f16 = part(&codec_f16), fp8 = part(&codec_fp8), q4 = part(&codec_q4_0);
    assert_says(pack_obstacle(&bf16, WEIGHT_KEEP), NULL);
    assert_says(pack_obstacle(&q4, WEIGHT_KEEP), NULL);
    assert_says(pack_obstacle(&fp8, WEIGHT_KEEP), NULL);
    assert_says(pack_obstacle(&f32, WEIGHT_KEEP), "32 bits");
    assert_says(pack_obstacle(&f16, WEIGHT_KEEP), "F16");
    assert_says(pack_obstacle(&f16, WEIGHT_INT4), NULL);
}

static void test_far_scales(void **state)
{
    (void)state;
    const struct weight_part fp8 = part(&codec_fp8);
    const float wrong[] = {0x1p65f, 0x1p-65f, INFINITY, NAN, 0x1p-130f};
    const float right[] = {0x1p63f, 0x1p-63f, 0, -0x1p20f};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        scales[2] = wrong[i];
        assert_says(pack_obstacle(&fp8, WEIGHT_KEEP), "2^64 apart");
        assert_int_equal(pack_tiled_type(&fp8, WEIGHT_KEEP, false), DTYPE_F8E4M3);
    }
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        scales[2] = right[i];
        assert_says(pack_obstacle(&fp8, WEIGHT_KEEP), NULL);
    }
    scales[2] = 1;
}

/* An expert and the shared one, in formats that can or cannot be side by side; layers of any are planned. */
static void test_layers(void **state)
{
    (void)state;
    static const struct {
        const struct codec *gate, *up, *down, *shared, *shared_down;
        const char *said;
    } layers[] = {
        {&codec_bf16, &codec_bf16, &codec_bf16, &codec_bf16, &codec_bf16, NULL},
        {&codec_q4_0, &codec_q8_0, &codec_q6_k, &codec_q4_0, &codec_q6_k, NULL},
        {&codec_bf16, &codec_bf16, &codec_fp8, &codec_bf16, &codec_fp8, NULL},
        {&codec_bf16, &codec_fp8, &codec_fp8, &codec_bf16, &codec_fp8, "no common"},
        {&codec_fp8, &codec_fp8, &codec_fp8, &codec_bf16, &codec_bf16, "no common"},
        {&codec_fp8, &codec_fp8, &codec_fp8, &codec_fp8, &codec_bf16, "no common"},
        {&codec_q4_0, &codec_q4_1, &codec_q4_0, &codec_q4_0, &codec_q4_0, "no common"},
        {&codec_f32, &codec_bf16, &codec_bf16, &codec_bf16, &codec_bf16, "32 bits"},
    };
    const struct device_config bf16 = {.act = DTYPE_BF16}, f32 = {.act = DTYPE_F32};
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        struct mlp_part expert = mlp(layers[i].gate, layers[i].up, layers[i].down);
        const struct ffn_part f = {
            .experts = &expert,
            .n_experts = 1,
            .shared = mlp(layers[i].shared, layers[i].shared, layers[i].shared_down)};
        struct ffn_plan plan = pack_ffn_plan(&bf16, &f, WEIGHT_KEEP);
        assert_says(pack_ffn_obstacle(&f, WEIGHT_KEEP), layers[i].said);
        assert_int_equal(plan.layout, layers[i].said ? MATRIX_PLAIN : MATRIX_TILED);
        free(plan.mlp);
        plan = pack_ffn_plan(&f32, &f, WEIGHT_KEEP);
        assert_int_equal(plan.layout, MATRIX_PLAIN);
        free(plan.mlp);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrices),
        cmocka_unit_test(test_far_scales),
        cmocka_unit_test(test_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
