#include "tests/kernels/cases.h"

const struct kernel_case kernel_cases[] = {
    {"device", case_device},
    {"embed", case_embed},
    {"residual_norm", case_residual_norm},
    {"norm", case_norm},
    {"gather", case_gather},
    {"wire", case_wire},
    {"linear", case_linear},
    {"attend", case_attend},
    {"route", case_route},
    {"ffn", case_ffn},
    {"ffn_order", case_ffn_order},
    {"greedy", case_greedy},
    {"sample", case_sample},
    {"sample_ties", case_sample_ties},
    {"rows_invariance", case_rows_invariance},
    {"linear_invariance", case_linear_invariance},
    {"attend_invariance", case_attend_invariance},
    {"ffn_invariance", case_ffn_invariance},
    {"sample_invariance", case_sample_invariance},
    {0},
};
