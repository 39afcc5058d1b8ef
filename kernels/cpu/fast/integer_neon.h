/* integer_neon.h - the panel functions of integer_neon.c, for the table of neon.c. */
#ifndef TANDEM_KERNELS_CPU_FAST_INTEGER_NEON_H
#define TANDEM_KERNELS_CPU_FAST_INTEGER_NEON_H

#include "kernels/cpu/fast/panel.h"

panel_fn neon_panel_q8, neon_panel_q4;

#endif
