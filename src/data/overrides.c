#include "data/overrides.h"

#include "base/mem.h"
#include "data/column.h"
#include "data/h5.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const overrides_names[OVERRIDES] = {
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "seed_from",
    "min_tokens",
    "thinking_tokens",
    "repetition_stop",
    "logprobs",
    "prompt_logprobs",
    "thinking_end",
    "truncate_prompt",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "include_stop",
    "ignore_eos",
    "stop",
    "logit_bias",
    "ban",
    "allow",
    "format",
};
struct overrides {
    struct column *column[OVERRIDES]; /* NULL: not in the file */
};

int overrides_open(struct overrides **out, hid_t file, const char *path, size_t rows, struct err *e)
{
    struct overrides *o = mem_zeroed(1, sizeof *o);
    int found = 0;
    *out = NULL;
    for (int i = 0; i < OVERRIDES; i++) {
        if (!h5_has(file, overrides_names[i]))
            continue;
        found++;
        if (column_open(&o->column[i], file, path, overrides_names[i], e) == 0 &&
            column_count(o->column[i]) == rows)
            continue;
        if (o->column[i])
            err_set(e, "%s: dataset \"%s\" has %zu rows, the prompts are %zu", path,
                    overrides_names[i], column_count(o->column[i]), rows);
        overrides_close(o);
        return -1;
    }
    if (found)
        *out = o;
    else
        overrides_close(o);
    return 0;
}

void overrides_close(struct overrides *o)
{
    for (int i = 0; o && i < OVERRIDES; i++)
        column_close(o->column[i]);
    free(o);
}

bool overrides_has(const struct overrides *o, const char *name)
{
    for (int i = 0; o && i < OVERRIDES; i++)
        if (o->column[i] && strcmp(overrides_names[i], name) == 0)
            return true;
    return false;
}

/* JSON where the text is that, as lists and mappings are written; NULL for an empty one. */
static json_t *from_text(const char *text, size_t n)
{
    json_t *value = n ? json_loadb(text, n, JSON_DECODE_ANY, NULL) : NULL;
    return value || n == 0 ? value : json_stringn(text, n);
}

static int read_value(struct column *c, size_t row, json_t **out, struct err *e)
{
    char *text;
    size_t n;
    int64_t whole;
    double real;
    *out = NULL;
    switch (column_kind(c)) {
    case COLUMN_STRINGS:
        if (column_string(c, row, &text, &n, e) != 0)
            return -1;
        *out = from_text(text, n);
        free(text);
        return n && !*out ? err_set(e, "is not UTF-8") : 0;
    case COLUMN_INTEGERS:
        if (column_integers(c, row, 1, &whole, e) != 0)
            return -1;
        *out = json_integer(whole);
        return 0;
    default:
        if (column_reals(c, row, 1, &real, e) != 0)
            return -1;
        *out = isfinite(real) ? json_real(real) : NULL;
        return isinf(real) ? err_set(e, "is infinite") : 0;
    }
}

int overrides_read(struct overrides *o, size_t row, json_t **out, struct err *e)
{
    *out = json_object();
    for (int i = 0; i < OVERRIDES; i++) {
        json_t *value;
        if (!o->column[i])
            continue;
        if (read_value(o->column[i], row, &value, e) != 0) {
            json_decref(*out);
            *out = NULL;
            return err_prefix(e, "%s", overrides_names[i]);
        }
        if (value)
            json_object_set_new(*out, overrides_names[i], value);
    }
    return 0;
}

int overrides_fault(const struct overrides *o)
{
    for (int i = 0; o && i < OVERRIDES; i++)
        if (o->column[i] && column_fault(o->column[i]))
            return column_fault(o->column[i]);
    return 0;
}
