/* Rails: every attention rank has one FFN rank in every instance, both sides agree on it, and the
 * rows of a step stand rail after rail, each rank's once. */
#include "schedule/rails.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { RANKS_MAX = 40, MICRO_BATCHES = 3 };

static void check_places(const struct layout *l)
{
    for (int rank = 0; rank < layout_ranks(l); rank++) {
        struct place p = place_of(l, rank);
        assert_int_equal(p.rank, rank);
        assert_true(p.attention != p.ffn);
        assert_int_equal(p.attention ? p.index : l->attention + p.index, rank);
        assert_string_equal(place_role(&p), p.attention ? "attention" : "ffn");
    }
}

/* Every attention rank is on the list of its own rail, and on no other. */
static void check_attention(const struct layout *l)
{
    int listed[RANKS_MAX] = {0}, most = rails_attention(l, 0);
    for (int rail = 0; rail < l->tensor; rail++) {
        assert_true(rails_attention(l, rail) <= most && rails_attention(l, rail) >= most - 1);
        for (int i = 0; i < rails_attention(l, rail); i++) {
            struct place p = place_of(l, rails_attention_rank(l, rail, i));
            assert_true(p.attention);
            assert_int_equal(rails_of(&p), rail);
            listed[p.index]++;
        }
    }
    for (int a = 0; a < l->attention; a++)
        assert_int_equal(listed[a], 1);
}

static void check_ffn(const struct layout *l)
{
    int listed[RANKS_MAX] = {0};
    for (int instance = 0; instance < l->expert; instance++)
        for (int rail = 0; rail < l->tensor; rail++) {
            struct place p = place_of(l, rails_ffn_rank(l, rail, instance));
            assert_true(p.ffn);
            assert_int_equal(rails_of(&p), rail);
            assert_int_equal(rails_instance(&p), instance);
            listed[p.index]++;
        }
    for (int f = 0; f < layout_ffn_ranks(l); f++)
        assert_int_equal(listed[f], 1);
}

static void check_rows(const struct layout *l)
{
    int rows[RANKS_MAX * MICRO_BATCHES], first[RANKS_MAX + 1];
    for (int i = 0; i < l->attention * MICRO_BATCHES; i++)
        rows[i] = i * 7 % 5;
    for (int m = 0; m < MICRO_BATCHES; m++) {
        int at = 0;
        rails_rows(l, rows, MICRO_BATCHES, m, first);
        for (int rail = 0; rail < l->tensor; rail++) {
            assert_int_equal(first[rail], at);
            for (int a = rail; a < l->attention; a += l->tensor)
                at += rows[a * MICRO_BATCHES + m];
        }
        assert_int_equal(first[l->tensor], at);
    }
}

static void test_rails(void **state)
{
    (void)state;
    for (int attention = 1; attention <= 9; attention++)
        for (int expert = 1; expert <= 3; expert++)
            for (int tensor = 1; tensor <= 7; tensor++) {
                struct layout l = {attention, expert, tensor, false, 0};
                check_places(&l);
                check_attention(&l);
                check_ffn(&l);
                check_rows(&l);
            }
}

/* Paper figure 7: GPU i of an attention host talks to GPU i of every FFN host. */
static void test_figure_7(void **state)
{
    (void)state;
    const struct layout l = {16, 2, 8, false, 0};
    struct place p = place_of(&l, 11);
    assert_int_equal(rails_of(&p), 3);
    assert_int_equal(rails_ffn_rank(&l, 3, 0), 16 + 3);
    assert_int_equal(rails_ffn_rank(&l, 3, 1), 16 + 8 + 3);
    assert_int_equal(rails_attention(&l, 3), 2);
}

static void test_colocated(void **state)
{
    (void)state;
    const struct layout l = {3, 1, 1, true, 0};
    struct place p = place_of(&l, 2);
    assert_true(p.attention && p.ffn);
    assert_int_equal(p.index, 2);
    assert_string_equal(place_role(&p), "colocated");
    assert_int_equal(layout_instances(&l), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rails),
        cmocka_unit_test(test_figure_7),
        cmocka_unit_test(test_colocated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
