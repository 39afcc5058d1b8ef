/* panel_avx512.h - the panel functions of panel_avx512.c, for the table of avx512.c. Named after
 * the weights, then the rows where these are f32. */
#ifndef TANDEM_KERNELS_CPU_FAST_PANEL_AVX512_H
#define TANDEM_KERNELS_CPU_FAST_PANEL_AVX512_H

#include "kernels/cpu/fast/panel.h"

panel_fn avx512_panel_bf16, avx512_panel_f8, avx512_panel_f32, avx512_panel_bf16_f32,
    avx512_panel_f8_f32;
parts_fn avx512_parts_bf16, avx512_parts_f8, avx512_parts_f32, avx512_parts_bf16_f32,
    avx512_parts_f8_f32;

#endif
