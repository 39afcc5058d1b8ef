/* grouped_avx2.h - the panel functions of grouped_avx2.c, for the table of avx2.c. */
#ifndef TANDEM_KERNELS_CPU_FAST_GROUPED_AVX2_H
#define TANDEM_KERNELS_CPU_FAST_GROUPED_AVX2_H

#include "kernels/cpu/fast/panel.h"

panel_fn avx2_panel_g8, avx2_panel_g4;

#endif
