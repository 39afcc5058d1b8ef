/* tokenizer_config.h - the one thing needed from Hugging Face's tokenizer_config.json.
 */
#ifndef TANDEM_TEXT_TOKENIZER_CONFIG_H
#define TANDEM_TEXT_TOKENIZER_CONFIG_H

#include "base/err.h"

#include <stdbool.h>

/* *add_bos: `add_bos_token` of the tokenizer_config.json beside the tokenizer file
 * `tokenizer_path`; false when there is no such file or field. -1: the file is there but is not
 * what it should be. */
int tokenizer_config_add_bos(const char *tokenizer_path, bool *add_bos, struct err *e);

#endif
