/* imported.h - what the tests of imports share: prompts, read back from the file that an import made. */
#ifndef TANDEM_TESTS_DATA_IMPORTED_H
#define TANDEM_TESTS_DATA_IMPORTED_H

#include "data/prompts.h"

/* Fails the test unless the file has `count` prompts. */
struct prompts *open_prompts(const char *path, size_t count);

/* What the row says for the sampling section, as JSON with sorted keys; its continuation, NULL: none. */
void expect_settings(struct prompts *p, size_t i, const char *wanted, const char *behind);

#endif
