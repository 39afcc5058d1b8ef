/* Identity: lists are compared by name, whatever their order; a refusal names all that differs. */
#include "output/identity.h"

#include "tests/data/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void order_is_nothing(void **state)
{
    (void)state;
    struct identity a = {0}, b = {0}, c = {0};
    struct err e;
    identity_add(&a, "model", "12");
    identity_add(&a, "sampling.seed", "0");
    identity_add(&b, "sampling.seed", "7");
    identity_add(&b, "model", "12");
    identity_add(&b, "sampling.seed", "0");
    assert_int_equal(identity_check("x", &a, &b, &e), 0);
    char *text = identity_json(&a);
    assert_string_equal(text, "{\"model\": \"12\", \"sampling.seed\": \"0\"}");
    assert_int_equal(identity_add_json(&c, text), 0);
    assert_int_equal(identity_check("x", &c, &b, &e), 0);
    free(text);
    identity_free(&a);
    identity_free(&b);
    identity_free(&c);
}

static void differences_are_named(void **state)
{
    (void)state;
    struct identity a = {0}, b = {0};
    struct err e;
    assert_int_equal(identity_add_json(&a, "[1]"), -1);
    assert_int_equal(identity_add_json(&a, "{\"sampling.seed\": 1, \"stop\": [5,  \"x\"]}"), 0);
    assert_string_equal(identity_value(&a, "stop"), "[5,\"x\"]");
    assert_null(identity_value(&a, "model"));
    identity_add(&b, "sampling.seed", "2");
    identity_add(&b, "model", "ab");
    expect_error(identity_check("out.h5", &a, &b, &e), &e, "out.h5: belongs to another job",
                 "sampling.seed 1 instead of 2", "model absent instead of ab",
                 "stop [5,\"x\"] instead of absent", "name another output", NULL);
    identity_free(&a);
    identity_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_nothing),
        cmocka_unit_test(differences_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
