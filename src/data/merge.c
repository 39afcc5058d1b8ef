#include "data/merge.h"

#include "base/mem.h"
#include "data/append.h"
#include "data/files.h"
#include "data/h5.h"
#include "data/identity.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Datasets of the main file, one element per completion. */
enum column_number {
    TEXT,
    ID,
    FINISH,
    ERROR,
    PROMPT,
    SAMPLE,
    RANK,
    TOKEN_START,
    TOKEN_COUNT,
    PROMPT_TOKENS,
    ADMITTED,
    FIRST_TOKEN,
    LAST_TOKEN,
    COLUMNS,
};

enum element { STRING, INT64, INT32, FLOAT64 };

static const struct {
    const char *name;
    enum element element;
    const char *unit, *description;
} columns[COLUMNS] = {
    [TEXT] = {"text", STRING, NULL, "the completion, UTF-8"},
    [ID] = {"id", STRING, NULL, "the prompt's id; its number when the prompts have no ids"},
    [FINISH] = {"finish", STRING, NULL,
                "stop: a stop token came; length: no more tokens allowed; "
                "error: not decoded, see error"},
    [ERROR] = {"error", STRING, NULL, "why the prompt was not decoded; empty otherwise"},
    [PROMPT] = {"prompt", INT64, NULL, "row of the prompt in the prompts file"},
    [SAMPLE] = {"sample", INT32, NULL, "which of the prompt's samples"},
    [RANK] = {"rank", INT32, NULL, "attention rank that decoded it"},
    [TOKEN_START] = {"token_start", INT64, "tokens",
                     "its first element in the ragged file's tokens and logprobs"},
    [TOKEN_COUNT] = {"token_count", INT32, "tokens", "tokens generated, a stop token included"},
    [PROMPT_TOKENS] = {"prompt_tokens", INT32, "tokens", "tokens of the prompt"},
    [ADMITTED] = {"admitted", FLOAT64, "s", "when it got a slot; seconds since the Unix epoch"},
    [FIRST_TOKEN] = {"first_token", FLOAT64, "s", "when its first token was there; as admitted"},
    [LAST_TOKEN] = {"last_token", FLOAT64, "s", "when its last token was there; as admitted"},
};

enum { STEP, STEP_RANK, ROWS, ATTENTION, FFN, EXCHANGE, WAIT, TOTAL, STEP_COLUMNS };

static const struct {
    const char *name, *unit, *description;
} step_columns[STEP_COLUMNS] = {
    [STEP] = {"step", NULL, "number of the step; begins anew when a job is continued"},
    [STEP_RANK] = {"rank", NULL, "rank in the world"},
    [ROWS] = {"rows", "rows", "rows this rank worked on"},
    [ATTENTION] = {"attention", "s", "computing as an attention rank"},
    [FFN] = {"ffn", "s", "computing as an FFN rank"},
    [EXCHANGE] = {"exchange", "s", "packing, posting and unpacking messages"},
    [WAIT] = {"wait", "s", "waiting for the other role with nothing to do"},
    [TOTAL] = {"total", "s", "the step, from contract to contract"},
};

struct merge {
    struct shards_walk *walk;
    const struct completions_identity *id;
    struct prompts *prompts;
    char *main_tmp, *tokens_tmp;
    struct h5_output main, tokens_output;
    hid_t string_type;
    struct append *columns[COLUMNS], *tokens, *logprobs, *steps[STEP_COLUMNS];
    uint64_t token_start;
};

char *merge_tokens_path(const char *path)
{
    size_t n = strlen(path);
    if (n > 3 && strcmp(path + n - 3, ".h5") == 0)
        n -= 3;
    else if (n > 5 && strcmp(path + n - 5, ".hdf5") == 0)
        n -= 5;
    char *result = mem_new(n + sizeof ".tokens.h5", 1);
    memcpy(result, path, n);
    memcpy(result + n, ".tokens.h5", sizeof ".tokens.h5");
    return result;
}

static hid_t element_type(const struct merge *m, enum element element)
{
    switch (element) {
    case STRING:
        return m->string_type;
    case INT64:
        return H5T_NATIVE_INT64;
    case INT32:
        return H5T_NATIVE_INT32;
    case FLOAT64:
        return H5T_NATIVE_DOUBLE;
    }
    die("merge: element %d", (int)element);
}

static int put_identity(hid_t file, const struct completions_identity *id, struct err *e)
{
    if (h5_put_string(file, "format", MERGE_FORMAT) != 0 || identity_put(file, id) != 0)
        return h5_err(e, "the attributes of the output cannot be written");
    return 0;
}

static int open_tokens(struct merge *m, struct err *e)
{
    struct shard_size size = shards_walk_size(m->walk);
    if (h5_create(&m->tokens_output, m->tokens_tmp, e) != 0 ||
        put_identity(m->tokens_output.file, m->id, e) != 0)
        return -1;
    const struct append_spec tokens = {
        .name = "tokens",
        .type = H5T_NATIVE_INT32,
        .total = size.tokens,
        .description = "token ids of all completions, one after the other",
    };
    const struct append_spec logprobs = {
        .name = "logprobs",
        .type = H5T_NATIVE_FLOAT,
        .total = size.tokens,
        .description = "natural logarithm of each token's probability at temperature 1",
    };
    if (append_open(&m->tokens, &m->tokens_output, m->tokens_output.file, &tokens, e) != 0 ||
        append_open(&m->logprobs, &m->tokens_output, m->tokens_output.file, &logprobs, e) != 0)
        return -1;
    hid_t group = H5Gcreate2(m->tokens_output.file, "steps", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (group < 0)
        return h5_err(e, "the group \"steps\" cannot be created");
    int rc = 0;
    for (int i = 0; i < STEP_COLUMNS && rc == 0; i++) {
        const struct append_spec spec = {
            .name = step_columns[i].name,
            .type = i == STEP   ? H5T_NATIVE_UINT32
                    : i <= ROWS ? H5T_NATIVE_INT32
                                : H5T_NATIVE_FLOAT,
            .total = size.steps,
            .unit = step_columns[i].unit,
            .description = step_columns[i].description,
        };
        rc = append_open(&m->steps[i], &m->tokens_output, group, &spec, e);
    }
    h5_close(group);
    return rc;
}

static int put_attributes(hid_t file, const struct attribute *attributes, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (H5Aexists(file, attributes[i].name) > 0)
            continue;
        char *value;
        size_t bytes;
        utf8_lossy(attributes[i].value, strlen(attributes[i].value), &value, &bytes);
        int rc = h5_put_string(file, attributes[i].name, value);
        free(value);
        if (rc != 0)
            return h5_err(e, "the attribute \"%s\" cannot be written", attributes[i].name);
    }
    return 0;
}

static int open_main(struct merge *m, const char *tokens_name, struct err *e)
{
    if (h5_create(&m->main, m->main_tmp, e) != 0 || put_identity(m->main.file, m->id, e) != 0)
        return -1;
    /* An attribute, not an external link: current Hugging Face `datasets` refuses files with one.
     */
    if (h5_put_string(m->main.file, "ragged", tokens_name) != 0)
        return h5_err(e, "the attribute \"ragged\" cannot be written");
    for (int i = 0; i < COLUMNS; i++) {
        const struct append_spec spec = {
            .name = columns[i].name,
            .type = element_type(m, columns[i].element),
            .strings = columns[i].element == STRING,
            .total = m->id->units,
            .unit = columns[i].unit,
            .description = columns[i].description,
        };
        if (append_open(&m->columns[i], &m->main, m->main.file, &spec, e) != 0)
            return -1;
    }
    return 0;
}

static int put_text(struct append *a, const char *text, struct err *e)
{
    if (!text)
        text = "";
    if (utf8_check(text, strlen(text), NULL) == 0)
        return append_string(a, text, e);
    char *valid;
    size_t bytes;
    utf8_lossy(text, strlen(text), &valid, &bytes);
    int rc = append_string(a, valid, e);
    free(valid);
    return rc;
}

static int put_row(struct merge *m, const struct completion *c, struct err *e)
{
    uint64_t samples = m->id->samples, prompt = m->id->first_prompt + c->unit / samples;
    int64_t wide[COLUMNS] = {
        [PROMPT] = (int64_t)prompt,
        [TOKEN_START] = (int64_t)m->token_start,
    };
    int32_t narrow[COLUMNS] = {
        [SAMPLE] = (int32_t)(c->unit % samples),
        [RANK] = c->rank,
        [TOKEN_COUNT] = (int32_t)c->n_tokens,
        [PROMPT_TOKENS] = (int32_t)c->n_prompt_tokens,
    };
    double real[COLUMNS] = {
        [ADMITTED] = c->admitted,
        [FIRST_TOKEN] = c->first_token,
        [LAST_TOKEN] = c->last_token,
    };
    char *id = prompts_id(m->prompts, (size_t)prompt);
    if (!id)
        die("the id of prompt %lld cannot be read", (long long)prompt);
    const char *text[COLUMNS] = {
        [TEXT] = c->text, [ID] = id, [FINISH] = finish_name(c->finish), [ERROR] = c->error};
    int rc = 0;
    for (int i = 0; i < COLUMNS && rc == 0; i++) {
        switch (columns[i].element) {
        case STRING:
            rc = put_text(m->columns[i], text[i], e);
            break;
        case INT64:
            rc = append_put(m->columns[i], &wide[i], 1, e);
            break;
        case INT32:
            rc = append_put(m->columns[i], &narrow[i], 1, e);
            break;
        case FLOAT64:
            rc = append_put(m->columns[i], &real[i], 1, e);
            break;
        }
    }
    free(id);
    if (rc == 0)
        rc = append_put(m->tokens, c->tokens, c->n_tokens, e);
    if (rc == 0)
        rc = append_put(m->logprobs, c->logprobs, c->n_tokens, e);
    m->token_start += c->n_tokens;
    return rc;
}

static int put_rows(struct merge *m, struct err *e)
{
    for (uint64_t wanted = 0;; wanted++) {
        uint64_t unit;
        struct completion c;
        if (shards_walk_next(m->walk, &unit, &c, e) != 0)
            return -1;
        if (unit == UINT64_MAX && wanted == m->id->units)
            return 0;
        if (unit != wanted)
            die("merge of %s: unit %" PRIu64 " is missing", m->main_tmp, wanted);
        int rc = put_row(m, &c, e);
        completion_free(&c);
        if (rc != 0)
            return rc;
    }
}

static int put_steps(void *context, const struct step_timing *steps, size_t n, struct err *e)
{
    struct merge *m = context;
    for (size_t i = 0; i < n; i++) {
        const struct step_timing *s = &steps[i];
        const void *values[STEP_COLUMNS] = {&s->step, &s->rank,     &s->rows, &s->attention,
                                            &s->ffn,  &s->exchange, &s->wait, &s->total};
        for (int k = 0; k < STEP_COLUMNS; k++)
            if (append_put(m->steps[k], values[k], 1, e) != 0)
                return -1;
    }
    return 0;
}

/* Writes what the appenders hold. All are freed, whatever happens. */
static int close_appends(struct merge *m, bool keep, struct err *e)
{
    struct append **all[COLUMNS + STEP_COLUMNS + 2];
    size_t n = 0;
    for (int i = 0; i < COLUMNS; i++)
        all[n++] = &m->columns[i];
    for (int i = 0; i < STEP_COLUMNS; i++)
        all[n++] = &m->steps[i];
    all[n++] = &m->tokens;
    all[n++] = &m->logprobs;
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        if (keep && rc == 0)
            rc = append_close(*all[i], e);
        else
            append_drop(*all[i]);
        *all[i] = NULL;
    }
    return rc;
}

/* Both files complete under their temporary names; closed whatever happens. */
static int write_files(struct merge *m, const char *tokens_name, const struct attribute *attributes,
                       size_t n_attributes, struct err *e)
{
    int rc = open_tokens(m, e);
    if (rc == 0)
        rc = open_main(m, tokens_name, e);
    if (rc == 0)
        rc = put_attributes(m->main.file, attributes, n_attributes, e);
    if (rc == 0)
        rc = put_rows(m, e);
    if (rc == 0)
        rc = shards_walk_steps(m->walk, put_steps, m, e);
    if (close_appends(m, rc == 0, e) != 0)
        rc = -1;
    if (rc == 0)
        rc = h5_finish(&m->tokens_output, m->tokens_tmp, e);
    if (rc == 0)
        rc = h5_finish(&m->main, m->main_tmp, e);
    h5_abandon(&m->tokens_output);
    h5_abandon(&m->main);
    return rc;
}

int merge_write(const char *path, const struct shards *s, const struct completions_identity *id,
                struct prompts *prompts, const struct attribute *attributes, size_t n_attributes,
                struct err *e)
{
    struct merge m = {.id = id, .prompts = prompts, .main.file = -1, .tokens_output.file = -1};
    if (shards_walk_open(&m.walk, s, 0, s->count, e) != 0)
        return -1;
    char *tokens_path = merge_tokens_path(path);
    m.string_type = h5_string_type();
    m.main_tmp = files_join(s->directory, "merge.tmp");
    m.tokens_tmp = files_join(s->directory, "merge.tokens.tmp");
    int rc = write_files(&m, files_name(tokens_path), attributes, n_attributes, e);
    shards_walk_close(m.walk);
    if (rc == 0)
        rc = files_publish(m.tokens_tmp, tokens_path, e);
    if (rc == 0)
        rc = files_publish(m.main_tmp, path, e);
    if (rc != 0) {
        err_prefix(e, "%s", path);
        unlink(m.tokens_tmp);
        unlink(m.main_tmp);
    }
    h5_close(m.string_type);
    free(m.main_tmp);
    free(m.tokens_tmp);
    free(tokens_path);
    return rc;
}
