/* Checkpoints of packed tensors with damage: headers and config.json that say other shapes, types, places and
 * formats, data that are anything. Each is refused, or read without a crash and without leaving the tensors.
 * TRIALS: how many of each format. */
#include "model/tensors.h"

#include "base/mem.h"
#include "base/philox.h"
#include "tests/model/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define SEED 20261126

static char directory[FILES_PATH];
static uint32_t drawn;

static size_t below(size_t n)
{
    const uint32_t counter[4] = {drawn++}, key[2] = {SEED};
    uint32_t words[4];
    philox4x32(counter, key, words);
    return words[0] % n;
}

/* As a loader does: rows of numbers, groups where the form has them, bytes that a slice takes. */
static void read_part(const struct weight_part *p, enum weight_keep keep)
{
    struct weight_form f = weight_form(p, keep);
    float *numbers = mem_new(p->k + 1, sizeof *numbers);
    int8_t *codes = mem_new(p->k + 1, 1);
    struct form_group *groups = mem_new(p->k + 1, sizeof *groups);
    assert_true(weight_granule(p) >= 1);
    size_t last = p->n > 1 ? p->n - 1 : 1; /* the first row, and then the last one */
    for (size_t row = 0; row < p->n; row += last) {
        weight_row(p, row, numbers);
        if (f.kind == FORM_I8 || f.kind == FORM_I4)
            weight_row_grouped(p, keep, &f, row, codes, groups, numbers);
    }
    free(numbers);
    free(codes);
    free(groups);
}

struct opened {
    struct model m;
    struct checkpoint *c;
};

static void read_member(void *context, const struct member *member, size_t layer)
{
    const struct opened *o = context;
    size_t experts = (size_t)o->m.layer[layer].ffn.router.experts;
    bool each = member->dims == 3 && member->as == AS_FFN && experts > 0;
    size_t last = experts > 1 ? experts - 1 : 1, end = each ? experts : 1;
    for (size_t e = 0; e < end; e += last) {
        struct weight_part p = tensors_part(&o->m, o->c, member->tensor, layer, e);
        read_part(&p, WEIGHT_KEEP);
        if (member->use == USE_LINEAR)
            read_part(&p, WEIGHT_INT4);
    }
}

static bool read_model(void)
{
    static struct opened o;
    struct err e;
    if (model_read(&o.m, directory, NULL, &e) != 0 || checkpoint_open(&o.c, directory, &e) != 0)
        return false;
    bool fits = model_check(&o.m, o.c, &e) == 0;
    if (fits)
        members_visit(&o.m, read_member, &o);
    checkpoint_close(o.c);
    return fits;
}

/* Other digits and letters: what is still JSON gets past the parser. */
static void damage_text(char *text, size_t n)
{
    static const char other[] = "0123456789FIU";
    for (size_t tries = 0, done = 0; tries < 400 && done < 2; tries++) {
        char *at = text + below(n);
        bool fits = (*at >= '0' && *at <= '9') || (*at >= 'A' && *at <= 'Z');
        if (fits)
            *at = other[below(*at <= '9' ? 10 : sizeof other - 1)];
        done += fits;
    }
}

static void damage_format(const char *format, const char *family, int trials)
{
    const char *const settings[] = {
        "family",   family,  "dtype",    format,    "hidden", "64",   "layers",  "1",      "vocab",
        "48",       "heads", "2",        "experts", "3",      "topk", "2",       "expert", "32",
        "kv_heads", "1",     "head_dim", "32",      "dense",  "64",   "context", "64"};
    struct generate_options o;
    struct err e;
    int refused = 0, accepted = 0; /* of those whose texts are damaged */
    fixture_remove(directory);
    generate_defaults(&o);
    o.ignore_unused = true; /* one list for all families */
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i += 2)
        if (generate_set(&o, settings[i], settings[i + 1], &e) != 0)
            fail_msg("%s", e.text);
    o.directory = directory;
    if (generate_checkpoint(&o, &e) != 0)
        fail_msg("%s", e.text);
    assert_true(read_model());
    size_t n, n_config;
    char *file = fixture_read(directory, "model.safetensors", &n), *copy = mem_new(n, 1);
    char *config = fixture_read(directory, "config.json", &n_config), *other = mem_new(n_config, 1);
    uint64_t header;
    memcpy(&header, file, 8);
    for (int i = 0; i < trials; i++) {
        memcpy(copy, file, n);
        memcpy(other, config, n_config);
        if (i % 3 == 0)
            damage_text(other, n_config);
        else if (i % 3 == 1)
            damage_text(copy + 8, (size_t)header);
        for (int j = 0; j < 20; j++) /* data may be anything */
            copy[8 + header + below(n - 8 - (size_t)header)] = (char)below(256);
        fixture_write(directory, "model.safetensors", copy, n);
        fixture_write(directory, "config.json", other, n_config);
        bool fits = read_model();
        refused += !fits;
        accepted += fits && i % 3 != 2;
    }
    printf("%s: %d damaged checkpoints, %d refused\n", format, trials, refused);
    assert_true(refused > trials / 10 && accepted > 0);
    free(file);
    free(copy);
    free(config);
    free(other);
}

static void test_damage(void **state)
{
    (void)state;
    const char *named = getenv("TRIALS");
    int trials = named ? atoi(named) : getenv("QUICK") ? 24 : 240;
    damage_format("awq", "qwen3_moe", trials);
    damage_format("int4", "qwen3_moe", trials);
    damage_format("int8", "llama", trials);
    damage_format("mxfp4", "gpt_oss", trials);
    damage_format("fp8", "llama", trials);
}

static int begin(void **state)
{
    (void)state;
    fixture_make(directory);
    return 0;
}

static int end(void **state)
{
    (void)state;
    fixture_remove(directory);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_damage)};
    return cmocka_run_group_tests(tests, begin, end);
}
