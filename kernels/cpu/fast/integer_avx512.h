/* integer_avx512.h - the panel functions of integer_avx512.c, for the table of avx512.c. */
#ifndef TANDEM_KERNELS_CPU_FAST_INTEGER_AVX512_H
#define TANDEM_KERNELS_CPU_FAST_INTEGER_AVX512_H

#include "kernels/cpu/fast/panel.h"

panel_fn avx512_panel_q8, avx512_panel_q4;

#endif
