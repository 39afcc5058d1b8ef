/* generate_values.h - the random numbers of `tandem generate`. For generate*.c only.
 *
 * Pure functions of the place in a tensor, integers until the last step: the same on every machine, in any
 * order; any thread.
 */
#ifndef TANDEM_MODEL_GENERATE_VALUES_H
#define TANDEM_MODEL_GENERATE_VALUES_H

#include "model/block.h"

/* The tensor's number in the counter, so that every tensor has random numbers of its own. */
uint32_t generate_stream(enum model_tensor kind, size_t layer);

/* to[i] = mean + deviation x about normal, for the elements first .. first + n - 1 of the tensor; of
 * all its experts as of one. What its use asks for; inputs: its columns. */
void generate_numbers(const struct model *m, uint64_t seed, enum model_tensor kind,
                      enum tensor_use use, size_t layer, size_t inputs, size_t first, size_t n,
                      float *to);

/* The deviation alone. */
float generate_deviation(const struct model *m, enum tensor_use use, size_t inputs);

/* The factor of a block's scale: 0.5 to 1.5. Blocks of real checkpoints differ in magnitude, and a wrong scale
 * must show. */
float generate_gain(uint32_t random);

/* Four random words; purpose: so that a tensor has several kinds of them. */
enum { FOR_WEIGHT, FOR_BLOCK, FOR_CODES, FOR_SCALES, FOR_ZEROS };
void generate_words(uint64_t seed, uint32_t stream, uint32_t purpose, size_t at, uint32_t words[4]);

#endif
