/* grouped_avx512.h - the panel functions of grouped_avx512.c, for the table of avx512.c. */
#ifndef TANDEM_KERNELS_CPU_FAST_GROUPED_AVX512_H
#define TANDEM_KERNELS_CPU_FAST_GROUPED_AVX512_H

#include "kernels/cpu/fast/panel.h"

panel_fn avx512_panel_g8, avx512_panel_g8_f32, avx512_panel_g4, avx512_panel_g4_f32;

#endif
