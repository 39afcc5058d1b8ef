/* load_model.h - the model and the added tokens of tokenizer.json. Used by load.c only. */
#ifndef TANDEM_TEXT_LOAD_MODEL_H
#define TANDEM_TEXT_LOAD_MODEL_H

#include "text/load_value.h"

/* The value of "model" into parts->vocab and parts->bpe. */
int load_model(const struct loader *l, json_t *model);

/* The value of "added_tokens" (NULL: none) into parts->vocab and parts->added; after load_model().
 */
int load_model_added(const struct loader *l, json_t *list);

#endif
