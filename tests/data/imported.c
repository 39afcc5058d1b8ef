#include "tests/data/imported.h"

#include "tests/data/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct prompts *open_prompts(const char *path, size_t count)
{
    struct prompts *p;
    struct err e;
    expect_ok(prompts_open(&p, path, &e), &e);
    assert_int_equal(prompts_count(p), count);
    return p;
}

void expect_settings(struct prompts *p, size_t i, const char *wanted, const char *behind)
{
    struct prompt row;
    struct err e;
    expect_ok(prompts_read(p, i, &row, &e), &e);
    char *found = json_dumps(row.overrides, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(found, wanted);
    assert_true(behind ? row.continuation && strcmp(row.continuation, behind) == 0
                       : !row.continuation);
    free(found);
    prompt_free(&row);
}
