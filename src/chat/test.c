/* Tests: what stands behind `is`. */
#include "chat/run.h"

#include <string.h>

enum test {
    TEST_BOOLEAN,
    TEST_DEFINED,
    TEST_DIVISIBLE,
    TEST_EVEN,
    TEST_FALSE,
    TEST_FLOAT,
    TEST_INTEGER,
    TEST_ITERABLE,
    TEST_MAPPING,
    TEST_NONE,
    TEST_NUMBER,
    TEST_ODD,
    TEST_SEQUENCE,
    TEST_STRING,
    TEST_TRUE,
    TEST_UNDEFINED,
    TEST_COMPARE /* the rest: `means` is the operator */
};

static const struct {
    const char *name, *means;
    enum test test;
} tests[] = {
    {"boolean", NULL, TEST_BOOLEAN},
    {"defined", NULL, TEST_DEFINED},
    {"divisibleby", NULL, TEST_DIVISIBLE},
    {"even", NULL, TEST_EVEN},
    {"false", NULL, TEST_FALSE},
    {"float", NULL, TEST_FLOAT},
    {"integer", NULL, TEST_INTEGER},
    {"iterable", NULL, TEST_ITERABLE},
    {"mapping", NULL, TEST_MAPPING},
    {"none", NULL, TEST_NONE},
    {"number", NULL, TEST_NUMBER},
    {"odd", NULL, TEST_ODD},
    {"sequence", NULL, TEST_SEQUENCE},
    {"string", NULL, TEST_STRING},
    {"true", NULL, TEST_TRUE},
    {"undefined", NULL, TEST_UNDEFINED},
    {"eq", "==", TEST_COMPARE},
    {"equalto", "==", TEST_COMPARE},
    {"==", "==", TEST_COMPARE},
    {"ne", "!=", TEST_COMPARE},
    {"!=", "!=", TEST_COMPARE},
    {"lt", "<", TEST_COMPARE},
    {"<", "<", TEST_COMPARE},
    {"le", "<=", TEST_COMPARE},
    {"<=", "<=", TEST_COMPARE},
    {"gt", ">", TEST_COMPARE},
    {">", ">", TEST_COMPARE},
    {"ge", ">=", TEST_COMPARE},
    {">=", ">=", TEST_COMPARE},
    {"in", "in", TEST_COMPARE},
};

static int find_test(const char *name)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (strcmp(tests[i].name, name) == 0)
            return (int)i;
    return -1;
}

bool chat_has_test(const char *name)
{
    return find_test(name) >= 0;
}

static bool with_argument(struct run *r, const struct chat_node *n, int test, struct chat_value v)
{
    static const char *const names[CHAT_ARGUMENTS] = {"other"};
    struct chat_value a[CHAT_ARGUMENTS];
    chat_bind(r, n, n->name, names, a);
    if (chat_absent(a[0]))
        chat_fail(r, n, "the test '%s' wants an argument", n->name);
    if (tests[test].test == TEST_COMPARE)
        return chat_comparison(r, n, tests[test].means, v, a[0]);
    return !chat_value_true(chat_binary(r, n, "%", v, a[0]));
}

bool chat_test(struct run *r, const struct chat_node *n, struct chat_value v)
{
    int test = find_test(n->name);
    bool sequence = v.kind == VALUE_STRING || v.kind == VALUE_LIST || v.kind == VALUE_TUPLE ||
                    v.kind == VALUE_DICT || v.kind == VALUE_UNDEFINED;
    if (test < 0)
        chat_fail(r, n, "the test '%s' is not supported", n->name);
    switch (tests[test].test) {
    case TEST_DEFINED:
        return v.kind != VALUE_UNDEFINED;
    case TEST_UNDEFINED:
        return v.kind == VALUE_UNDEFINED;
    case TEST_NONE:
        return v.kind == VALUE_NONE;
    case TEST_BOOLEAN:
        return v.kind == VALUE_BOOL;
    case TEST_TRUE:
        return v.kind == VALUE_BOOL && v.whole;
    case TEST_FALSE:
        return v.kind == VALUE_BOOL && !v.whole;
    case TEST_INTEGER:
        return v.kind == VALUE_INT;
    case TEST_FLOAT:
        return v.kind == VALUE_REAL;
    case TEST_NUMBER:
        return v.kind == VALUE_INT || v.kind == VALUE_REAL || v.kind == VALUE_BOOL;
    case TEST_STRING:
        return v.kind == VALUE_STRING;
    case TEST_MAPPING:
        return v.kind == VALUE_DICT;
    case TEST_SEQUENCE:
        return sequence;
    case TEST_ITERABLE:
        return sequence || v.kind == VALUE_LOOP;
    case TEST_EVEN:
    case TEST_ODD:
        return (chat_want_int(r, n, v, n->name) % 2 != 0) == (tests[test].test == TEST_ODD);
    default:
        return with_argument(r, n, test, v);
    }
}
