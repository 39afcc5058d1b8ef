/* cases.h - what every backend must do: each operation against a reference written out in double,
 * and the promise that a row's result is its own.
 *
 * A case opens its own devices on the backend it is given, prints what fails to stderr and returns
 * the number of failures. parity.c runs all cases on all backends of this binary.
 */
#ifndef TANDEM_TESTS_KERNELS_CASES_H
#define TANDEM_TESTS_KERNELS_CASES_H

#include "kernels/device.h"

struct kernel_case {
    const char *name;
    int (*run)(const struct backend *b);
    bool cpu_only; /* of what only CPUs do */
};

/* All cases; the last has no name. */
extern const struct kernel_case kernel_cases[];

int case_device(const struct backend *b);
int case_embed(const struct backend *b);
int case_residual_norm(const struct backend *b);
int case_norm(const struct backend *b);
int case_sum(const struct backend *b);
int case_gather(const struct backend *b);
int case_wire(const struct backend *b);
int case_linear(const struct backend *b);
int case_linear_large(const struct backend *b);
int case_linear_far_scales(const struct backend *b);
int case_linear_together(const struct backend *b);
int case_linear_grouped(const struct backend *b);
int case_linear_bits(const struct backend *b);
int case_linear_cancels(const struct backend *b);
int case_linear_integers(const struct backend *b);
int case_linear_integers_edges(const struct backend *b);
int case_ffn_integers(const struct backend *b);
int case_attend(const struct backend *b);
int case_attend_long(const struct backend *b);
int case_mechanisms(const struct backend *b);
int case_route(const struct backend *b);
int case_ffn(const struct backend *b);
int case_ffn_large(const struct backend *b);
int case_ffn_split(const struct backend *b);
int case_ffn_parts(const struct backend *b);
int case_ffn_order(const struct backend *b);
int case_greedy(const struct backend *b);
int case_edit(const struct backend *b);
int case_score(const struct backend *b);
int case_sample(const struct backend *b);
int case_sample_large(const struct backend *b);
int case_sample_ties(const struct backend *b);
int case_sample_equal(const struct backend *b);
int case_sample_masked(const struct backend *b);
int case_sample_least(const struct backend *b);
int case_rows_invariance(const struct backend *b);
int case_linear_invariance(const struct backend *b);
int case_attend_invariance(const struct backend *b);
int case_ffn_invariance(const struct backend *b);
int case_sample_invariance(const struct backend *b);
int case_odd_linear(const struct backend *b);
int case_odd_rows(const struct backend *b);
int case_odd_choices(const struct backend *b);
int case_odd_attend(const struct backend *b);
int case_odd_ffn(const struct backend *b);

#endif
