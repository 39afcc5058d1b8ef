#include "model/generation_config.h"

#include "base/config.h"
#include "base/files.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int add(const struct model *m, const char *path, const json_t *id, int32_t *eos, int *n,
               struct err *e)
{
    if (!json_is_integer(id))
        return err_set(e, "%s: eos_token_id: wanted a token id or a list of them", path);
    json_int_t value = json_integer_value(id);
    if (value < 0 || (size_t)value >= m->vocab)
        return err_set(e,
                       "%s: eos_token_id: token %" JSON_INTEGER_FORMAT
                       " is not in the vocabulary of %zu tokens",
                       path, value, m->vocab);
    if (*n == MODEL_MAX_EOS)
        return err_set(e, "%s: eos_token_id: more than %d tokens", path, MODEL_MAX_EOS);
    eos[(*n)++] = (int32_t)value;
    return 0;
}

static int read_ids(const struct model *m, const char *path, const json_t *ids, int32_t *eos,
                    int *n, struct err *e)
{
    size_t i;
    json_t *id;
    if (!ids || json_is_null(ids))
        return 0;
    if (!json_is_array(ids))
        return add(m, path, ids, eos, n, e);
    json_array_foreach(ids, i, id)
    {
        if (add(m, path, id, eos, n, e) != 0)
            return -1;
    }
    return 0;
}

int generation_config_eos(const struct model *m, const char *directory, int32_t *eos, int *n,
                          struct err *e)
{
    char *path = files_join(directory, "generation_config.json");
    int status = 0;
    *n = 0;
    if (files_exist(path)) {
        json_t *root = config_read_file(path, e);
        status = root ? read_ids(m, path, json_object_get(root, "eos_token_id"), eos, n, e) : -1;
        json_decref(root);
    }
    free(path);
    return status;
}

void generation_config_numbers(const char *directory, const char *const *names, size_t n,
                               double *values)
{
    char *path = files_join(directory, "generation_config.json");
    struct err e; /* generation_config_eos() has said it */
    json_t *root = files_exist(path) ? config_read_file(path, &e) : NULL;
    bool draws = !json_is_false(json_object_get(root, "do_sample"));
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_object_get(root, names[i]);
        values[i] = draws && json_is_number(value) ? json_number_value(value) : NAN;
        if (!draws && strcmp(names[i], "temperature") == 0)
            values[i] = 0;
    }
    json_decref(root);
    free(path);
}
