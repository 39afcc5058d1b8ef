/* generate_gguf.h - a checkpoint with random weights as one GGUF file. For generate.c only. */
#ifndef TANDEM_MODEL_GENERATE_GGUF_H
#define TANDEM_MODEL_GENERATE_GGUF_H

#include "model/generate.h"

/* o->directory is the file; it must not be there. Dense formats have the numbers of the safetensors that
* the same settings make (but gpt-oss's experts), as the architecture's converter arranges them; formats of blocks have random
 * codes and scales of the same deviation. Tensors that converters leave in F32 are F32. Errors as
 * generate_checkpoint(), and families or settings that GGUF has no place for. */
int generate_gguf(const struct generate_options *o, struct err *e);

/* Its bytes without the header, and its parameters; 0 when there is an error. */
size_t generate_gguf_bytes(const struct generate_options *o, size_t *parameters);

#endif
