/* generation_config.h - what is read of generation_config.json: what ends a completion, and how its publisher
 * would draw tokens.
 *
 * Publishers keep end tokens there that config.json does not have (the end of a turn). Any rank.
 */
#ifndef TANDEM_MODEL_GENERATION_CONFIG_H
#define TANDEM_MODEL_GENERATION_CONFIG_H

#include "base/err.h"
#include "model/model.h"

#include <stdint.h>

/* eos[MODEL_MAX_EOS] gets the ids of eos_token_id (one, or a list) of the file in the model's
 * directory, *n of them; 0 where there is no such file or field, or the model is no directory. -1: it
 * is not what it should be, or an id is not in the model's vocabulary. */
int generation_config_eos(const struct model *m, const char *directory, int32_t *eos, int *n,
                          struct err *e);

/* The file's numbers of these names; NaN: there is none, or no file. Where do_sample is false, "temperature" is 0
 * and there is nothing else. */
void generation_config_numbers(const char *directory, const char *const *names, size_t n,
                               double *values);

#endif
