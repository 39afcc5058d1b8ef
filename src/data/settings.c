#include "data/settings.h"

#include "base/mem.h"
#include "data/append.h"
#include "data/overrides.h"

#include <stdlib.h>

struct settings {
    struct h5_output *output;
    hid_t string_type;
    struct append *column[OVERRIDES + 1]; /* the last: continuation */
};

struct settings *settings_new(struct h5_output *output, hid_t string_type)
{
    struct settings *s = mem_zeroed(1, sizeof *s);
    s->output = output;
    s->string_type = string_type;
    return s;
}

const char *settings_name(size_t i)
{
    return i < OVERRIDES ? overrides_names[i] : i == OVERRIDES ? "continuation" : NULL;
}

bool settings_has(const struct settings *s, size_t i)
{
    return s->column[i] != NULL;
}

/* With "" for the rows before. */
static int begin(struct settings *s, size_t i, size_t row, struct err *e)
{
    const struct append_spec spec = {
        .name = settings_name(i), .type = s->string_type, .strings = true, .total = APPEND_GROWS};
    int status = append_open(&s->column[i], s->output, s->output->file, &spec, e);
    for (size_t k = 0; status == 0 && k < row; k++)
        status = append_string(s->column[i], "", e);
    return status;
}

int settings_put(struct settings *s, size_t i, size_t row, const json_t *value, bool text,
                 struct err *e)
{
    if (!value && !s->column[i])
        return 0;
    if (!s->column[i] && begin(s, i, row, e) != 0)
        return -1;
    bool as_is = text && json_is_string(value);
    char *json = value && !as_is ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    int status = append_string(s->column[i],
                               as_is  ? json_string_value(value)
                               : json ? json
                                      : "",
                               e);
    free(json);
    return status;
}

int settings_close(struct settings *s, struct err *e)
{
    int status = 0;
    for (size_t i = 0; s && i <= OVERRIDES; i++) {
        if (status == 0)
            status = append_close(s->column[i], e);
        else
            append_drop(s->column[i]);
    }
    free(s);
    return status;
}

void settings_drop(struct settings *s)
{
    for (size_t i = 0; s && i <= OVERRIDES; i++)
        append_drop(s->column[i]);
    free(s);
}
