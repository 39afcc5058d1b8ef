#include "data/identity.h"

#include "base/hash.h"
#include "base/mem.h"
#include "data/files.h"
#include "data/h5.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEX "%016" PRIx64

/* The text whose equality is the equality of two sampling sections; malloc'd. */
static char *canonical(const char *sampling)
{
    json_t *value = json_loads(sampling ? sampling : "", JSON_DECODE_ANY, NULL);
    char *text = value ? json_dumps(value, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    json_decref(value);
    return text ? text : mem_string(sampling ? sampling : "");
}

uint64_t identity_hash(const struct completions_identity *id)
{
    const uint64_t numbers[] = {id->model_hash,   id->tokenizer_hash, id->prompts_hash,
                                id->first_prompt, id->units,          id->samples};
    uint64_t h = hash_bytes(HASH_START, numbers, sizeof numbers);
    char *sampling = canonical(id->sampling);
    h = hash_string(h, sampling);
    free(sampling);
    return h;
}

struct completions_identity identity_copy(const struct completions_identity *id)
{
    struct completions_identity copy = *id;
    copy.sampling = mem_string(id->sampling ? id->sampling : "");
    return copy;
}

void job_identity_free(struct completions_identity *id)
{
    free(id->sampling);
    id->sampling = NULL;
}

static void hex(uint64_t value, char out[20])
{
    snprintf(out, 20, HEX, value);
}

static bool from_hex(const char *text, uint64_t *value)
{
    char *end;
    if (!text || strlen(text) != 16)
        return false;
    *value = strtoull(text, &end, 16);
    return *end == 0;
}

int identity_write(const char *directory, const struct completions_identity *id, struct err *e)
{
    char model[20], tokenizer[20], prompts[20];
    hex(id->model_hash, model);
    hex(id->tokenizer_hash, tokenizer);
    hex(id->prompts_hash, prompts);
    json_t *root =
        json_pack("{ss ss ss ss sI sI sI ss}", "format", "tandem unfinished 1", "model_hash", model,
                  "tokenizer_hash", tokenizer, "prompts_hash", prompts, "first_prompt",
                  (json_int_t)id->first_prompt, "units", (json_int_t)id->units, "samples",
                  (json_int_t)id->samples, "sampling", id->sampling ? id->sampling : "");
    if (!root)
        return err_set(e, "%s: the sampling section is not valid UTF-8", directory);
    char *text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    int rc = files_write(directory, IDENTITY_FILE, text, strlen(text), e);
    free(text);
    return rc;
}

int identity_read(const char *directory, struct completions_identity *id, struct err *e)
{
    *id = (struct completions_identity){0};
    char *path = files_join(directory, IDENTITY_FILE);
    json_error_t why;
    json_t *root = json_load_file(path, 0, &why);
    int rc = 0;
    if (!root) {
        rc = err_set(e, "%s:%d: cannot be read: %s", path, why.line, why.text);
    } else {
        const json_t *first = json_object_get(root, "first_prompt");
        const json_t *units = json_object_get(root, "units");
        const json_t *samples = json_object_get(root, "samples");
        const char *sampling = json_string_value(json_object_get(root, "sampling"));
        if (!from_hex(json_string_value(json_object_get(root, "model_hash")), &id->model_hash) ||
            !from_hex(json_string_value(json_object_get(root, "tokenizer_hash")),
                      &id->tokenizer_hash) ||
            !from_hex(json_string_value(json_object_get(root, "prompts_hash")),
                      &id->prompts_hash) ||
            !json_is_integer(first) || !json_is_integer(units) || !json_is_integer(samples) ||
            !sampling)
            rc = err_set(e, "%s: does not say which job it belongs to", path);
        id->first_prompt = (uint64_t)json_integer_value(first);
        id->units = (uint64_t)json_integer_value(units);
        id->samples = (uint64_t)json_integer_value(samples);
        if (rc == 0)
            id->sampling = mem_string(sampling);
    }
    json_decref(root);
    free(path);
    return rc;
}

int identity_put(hid_t file, const struct completions_identity *id)
{
    char model[20], tokenizer[20], prompts[20];
    hex(id->model_hash, model);
    hex(id->tokenizer_hash, tokenizer);
    hex(id->prompts_hash, prompts);
    return h5_put_string(file, "model_hash", model) != 0 ||
                   h5_put_string(file, "tokenizer_hash", tokenizer) != 0 ||
                   h5_put_string(file, "prompts_hash", prompts) != 0 ||
                   h5_put_u64(file, "first_prompt", id->first_prompt) != 0 ||
                   h5_put_u64(file, "units", id->units) != 0 ||
                   h5_put_u64(file, "samples", id->samples) != 0 ||
                   h5_put_string(file, "sampling", id->sampling ? id->sampling : "") != 0
               ? -1
               : 0;
}

int identity_get(hid_t file, struct completions_identity *id)
{
    *id = (struct completions_identity){0};
    char *model = h5_get_string(file, "model_hash");
    char *tokenizer = h5_get_string(file, "tokenizer_hash");
    char *prompts = h5_get_string(file, "prompts_hash");
    char *sampling = h5_get_string(file, "sampling");
    bool ok = from_hex(model, &id->model_hash) && from_hex(tokenizer, &id->tokenizer_hash) &&
              from_hex(prompts, &id->prompts_hash) &&
              h5_get_u64(file, "first_prompt", &id->first_prompt) &&
              h5_get_u64(file, "units", &id->units) && h5_get_u64(file, "samples", &id->samples) &&
              sampling;
    free(model);
    free(tokenizer);
    free(prompts);
    if (ok)
        id->sampling = sampling;
    else
        free(sampling);
    return ok ? 0 : -1;
}

/* Appends to a list "a, b". */
static void add(char *list, size_t room, const char *item)
{
    size_t used = strlen(list);
    snprintf(list + used, room - used, "%s%s", used ? ", " : "", item);
}

/* "sampling.seed 1 instead of 2" for every key of either section; a value that one lacks is absent.
 */
static void add_keys(char *list, size_t room, const json_t *theirs, const json_t *ours)
{
    json_t *all = json_copy((json_t *)theirs);
    const char *key;
    json_t *value;
    char item[400];
    json_object_update_missing(all, (json_t *)ours);
    json_object_foreach(all, key, value)
    {
        const json_t *a = json_object_get(theirs, key), *b = json_object_get(ours, key);
        if (a && b && json_equal(a, b))
            continue;
        char *was =
            a ? json_dumps(a, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
        char *is =
            b ? json_dumps(b, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
        snprintf(item, sizeof item, "%.80s %.120s instead of %.120s", key, was ? was : "absent",
                 is ? is : "absent");
        add(list, room, item);
        free(was);
        free(is);
    }
    json_decref(all);
}

/* Which keys of the sampling sections differ; all of both where they are no objects. */
static void add_sampling(char *list, size_t room, const char *found, const char *wanted)
{
    char *theirs = canonical(found), *ours = canonical(wanted), item[800];
    json_t *a = json_loads(theirs, 0, NULL), *b = json_loads(ours, 0, NULL);
    if (json_is_object(a) && json_is_object(b)) {
        add_keys(list, room, a, b);
    } else if (strcmp(theirs, ours) != 0) {
        snprintf(item, sizeof item, "sampling %.300s instead of %.300s", theirs, ours);
        add(list, room, item);
    }
    json_decref(a);
    json_decref(b);
    free(theirs);
    free(ours);
}

int job_identity_check(const char *path, const struct completions_identity *found,
                       const struct completions_identity *wanted, struct err *e)
{
    char differs[1200] = "", item[200];
    if (found->model_hash != wanted->model_hash)
        add(differs, sizeof differs, "another model");
    if (found->tokenizer_hash != wanted->tokenizer_hash)
        add(differs, sizeof differs, "another tokenizer");
    if (found->prompts_hash != wanted->prompts_hash)
        add(differs, sizeof differs, "other prompts");
    if (found->first_prompt != wanted->first_prompt) {
        snprintf(item, sizeof item, "first prompt row %" PRIu64 " instead of %" PRIu64,
                 found->first_prompt, wanted->first_prompt);
        add(differs, sizeof differs, item);
    }
    if (found->samples != wanted->samples) {
        snprintf(item, sizeof item, "%" PRIu64 " samples a prompt instead of %" PRIu64,
                 found->samples, wanted->samples);
        add(differs, sizeof differs, item);
    } else if (found->units != wanted->units) {
        snprintf(item, sizeof item, "%" PRIu64 " completions instead of %" PRIu64, found->units,
                 wanted->units);
        add(differs, sizeof differs, item);
    }
    add_sampling(differs, sizeof differs, found->sampling, wanted->sampling);
    if (!*differs)
        return 0;
    return err_set(
        e,
        "%s: belongs to another job: it has %s. Nothing was overwritten: go on with the same job, "
        "name another output, or move this one away",
        path, differs);
}
