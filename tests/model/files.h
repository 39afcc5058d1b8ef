/* files.h - what the tests of the model need of the file system: a directory of their own, tiny
 * checkpoints in it, and ways to damage them. Every function ends the test when it cannot work. */
#ifndef TANDEM_TESTS_MODEL_FILES_H
#define TANDEM_TESTS_MODEL_FILES_H

#include "model/generate.h"

#include <stddef.h>

#define FILES_PATH 512

/* Makes a new directory and writes its path; fixture_remove() deletes it with everything in it. */
void fixture_make(char path[FILES_PATH]);
void fixture_remove(const char *path);

/* path = directory/name. */
void fixture_join(char path[FILES_PATH], const char *directory, const char *name);

void fixture_write(const char *directory, const char *name, const void *data, size_t bytes);

/* The whole file, malloc'd, with a NUL behind it. */
char *fixture_read(const char *directory, const char *name, size_t *bytes);

/* The shape of a model in which no size is a multiple of 8, or equals another. */
void files_odd_model(struct generate_options *o, const char *directory);

/* Sets `field` of the directory's config.json to the JSON text; NULL removes it. */
void fixture_config(const char *directory, const char *field, const char *json);

/* Rewrites the header entry of one tensor of model.safetensors; its data stay where they are. NULL
 * leaves name, dtype or shape (JSON text) as it is. */
void fixture_tensor(const char *directory, const char *tensor, const char *name, const char *dtype,
                    const char *shape);

#endif
