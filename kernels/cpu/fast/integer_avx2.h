/* integer_avx2.h - the panel functions of integer_avx2.c, for the table of avx2.c. */
#ifndef TANDEM_KERNELS_CPU_FAST_INTEGER_AVX2_H
#define TANDEM_KERNELS_CPU_FAST_INTEGER_AVX2_H

#include "kernels/cpu/fast/panel.h"

panel_fn avx2_panel_q8, avx2_panel_q4;

#endif
