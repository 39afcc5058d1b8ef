/* panel_avx2.h - the panel functions of panel_avx2.c, for the table of avx2.c. Named after the
 * weights; rows are f32. */
#ifndef TANDEM_KERNELS_CPU_FAST_PANEL_AVX2_H
#define TANDEM_KERNELS_CPU_FAST_PANEL_AVX2_H

#include "kernels/cpu/fast/panel.h"

panel_fn avx2_panel_f32, avx2_panel_bf16, avx2_panel_f8;
parts_fn avx2_parts_f32, avx2_parts_bf16, avx2_parts_f8;

#endif
