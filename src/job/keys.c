#include "job/keys.h"

#include "base/mem.h"
#include "job/suggest.h"
#include "job/value.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *keys_path(const struct key *k, char *text, size_t size)
{
    snprintf(text, size, "%s%s%s", k->section, *k->section ? "." : "", k->name);
    return text;
}

int keys_find(const char *path)
{
    char text[64];
    for (size_t i = 0; i < keys_count; i++)
        if (strcmp(keys_path(&keys[i], text, sizeof text), path) == 0)
            return (int)i;
    return -1;
}

/* What follows the section in a longer path ("layout" in "layout.ffn": "ffn"), or NULL. */
static const char *below(const char *path, const char *section)
{
    size_t n = strlen(section);
    if (n == 0)
        return *path ? path : NULL;
    return strncmp(path, section, n) == 0 && path[n] == '.' ? path + n + 1 : NULL;
}

bool keys_in_section(const struct key *k, const char *section)
{
    return strcmp(k->section, section) == 0 || below(k->section, section);
}

bool keys_is_section(const char *path)
{
    for (size_t i = 0; i < keys_count; i++)
        if (*path && keys_in_section(&keys[i], path))
            return true;
    return false;
}

size_t keys_names(const char *section, char store[KEYS_NAMES_MAX][32])
{
    size_t n = 0;
    for (size_t i = 0; i < keys_count && n < KEYS_NAMES_MAX; i++) {
        const char *name = keys[i].name;
        size_t length = strlen(name);
        if (strcmp(keys[i].section, section) != 0) {
            name = below(keys[i].section, section);
            if (!name)
                continue;
            length = strcspn(name, ".");
        }
        snprintf(store[n], sizeof store[n], "%.*s", (int)length, name);
        bool seen = false;
        for (size_t j = 0; j < n; j++)
            seen = seen || strcmp(store[j], store[n]) == 0;
        n += !seen;
    }
    return n;
}

/* --- reading ------------------------------------------------------------------------------- */

/* Appends to a text that may be full already. */
static void __attribute__((format(printf, 3, 4)))
add(char *text, size_t size, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, size - used, format, args);
    va_end(args);
}

static void list_choices(const struct key *k, char *text, size_t size)
{
    for (const struct choice *c = k->choices; c->name; c++)
        add(text, size, "%s%s", c == k->choices ? "" : c[1].name ? ", " : " or ", c->name);
}

/* "an integer from 1 to 4, or auto". */
static void describe_wanted(const struct key *k, char *text, size_t size)
{
    *text = 0;
    switch (k->kind) {
    case KEY_TEXT:
        add(text, size, "a text");
        break;
    case KEY_NAME:
    case KEY_CHOICE:
    case KEY_BOOL:
        list_choices(k, text, size);
        break;
    case KEY_SIZE:
        add(text, size, "a size such as '4 GiB', up to 1024 TiB");
        break;
    case KEY_SECONDS:
        add(text, size, "a duration such as '23h50m' or '90 s', from %g s to %.0f s", k->min,
            k->max);
        break;
    case KEY_REAL:
        add(text, size, "a number from %g to %g", k->min, k->max);
        break;
    case KEY_JSON:
        add(text, size, k->max > 0 ? "a list" : "a mapping");
        break;
    case KEY_STOPS:
        add(text, size, "a list of at most %d tokens, each its id (5) or its text (\"<|end|>\")",
            JOB_MAX_STOPS);
        break;
    default:
        if (k->max == 0)
            add(text, size, "an integer from 0 to %" PRIu64, UINT64_MAX);
        else
            add(text, size, "an integer from %.0f to %.0f", k->min, k->max);
    }
    if (k->word || (k->choices && k->kind == KEY_INT))
        add(text, size, ", or ");
    if (k->word)
        add(text, size, "%s", k->word);
    else if (k->choices && k->kind == KEY_INT)
        list_choices(k, text, size);
}

static int refuse(const struct key *k, const struct node *value, const char *hint, struct err *e)
{
    char wanted[256], found[96];
    describe_wanted(k, wanted, sizeof wanted);
    return err_set(e, "wants %s, found %s%s", wanted, document_describe(value, found, sizeof found),
                   hint);
}

static bool in_range(const struct key *k, double value)
{
    if (k->word && k->kind != KEY_TEXT && value == (double)k->word_value)
        return true;
    return (k->min == 0 && k->max == 0) || (value >= k->min && value <= k->max);
}

/* The number that a word stands for; NULL: it is none of the key's. */
static const struct choice *choice_of(const struct key *k, const char *text)
{
    for (const struct choice *c = k->choices; c && c->name; c++)
        if (strcmp(c->name, text) == 0)
            return c;
    return NULL;
}

/* A value of one of the number kinds, stored in *member. False: not a number, or out of range. */
static bool read_number(const struct key *k, const char *text, void *member)
{
    int64_t whole = 0;
    uint64_t natural = 0;
    double real = 0;
    if (k->word && strcmp(text, k->word) == 0) {
        whole = k->word_value;
        natural = (uint64_t)k->word_value;
        real = (double)k->word_value;
    } else if (choice_of(k, text)) {
        whole = choice_of(k, text)->value;
    } else if (k->kind == KEY_INT || k->kind == KEY_INT64) {
        if (!value_int(text, &whole) || !in_range(k, (double)whole))
            return false;
    } else if (k->kind == KEY_REAL || k->kind == KEY_SECONDS) {
        bool is_one = k->kind == KEY_REAL ? value_real(text, &real) : value_seconds(text, &real);
        if (!is_one || !in_range(k, real))
            return false;
    } else {
        bool is_one = k->kind == KEY_SIZE ? value_size(text, &natural) : value_uint(text, &natural);
        if (!is_one || !in_range(k, (double)natural))
            return false;
    }
    switch (k->kind) {
    case KEY_INT:
        *(int *)member = (int)whole;
        break;
    case KEY_INT64:
        *(int64_t *)member = whole;
        break;
    case KEY_UINT64:
        *(uint64_t *)member = natural;
        break;
    case KEY_SIZE:
    case KEY_COUNT:
        *(size_t *)member = natural;
        break;
    default:
        *(double *)member = real;
    }
    return true;
}

static int read_choice(const struct key *k, const struct node *value, void *member, struct err *e)
{
    const char *names[8];
    size_t n = 0;
    for (const struct choice *c = k->choices; c->name; c++)
        names[n++] = c->name;
    for (size_t i = 0; value->kind == NODE_SCALAR && i < n; i++) {
        if (strcmp(value->text, names[i]) != 0)
            continue;
        if (k->kind == KEY_NAME)
            *(char **)member = mem_string(names[i]);
        else if (k->kind == KEY_BOOL)
            *(bool *)member = k->choices[i].value;
        else
            *(int *)member = k->choices[i].value;
        return 0;
    }
    char hint[64] = "";
    const char *same = value->kind == NODE_SCALAR ? suggest_same(value->text) : NULL;
    const char *near = value->kind == NODE_SCALAR ? suggest_nearest(value->text, names, n) : NULL;
    for (size_t i = 0; same && i < n; i++)
        near = strcmp(same, names[i]) == 0 ? same : near;
    if (near)
        snprintf(hint, sizeof hint, "; did you mean '%s'?", near);
    return refuse(k, value, hint, e);
}

static int read_text(const struct key *k, const struct node *value, char **member, struct err *e)
{
    if (value->kind == NODE_MAPPING)
        return refuse(k, value, "; braces begin a mapping in YAML: put the text in quotes", e);
    if (value->kind != NODE_SCALAR || document_is_null(value) || !*value->text)
        return refuse(k, value, "", e);
    bool word = k->word && value->plain && strcmp(value->text, k->word) == 0;
    *member = word ? NULL : mem_string(value->text);
    return 0;
}

static int read_stops(const struct key *k, const struct node *value, struct job *job, struct err *e)
{
    job->sampling.n_stop = 0;
    if (value->kind == NODE_SCALAR && value->plain && strcmp(value->text, k->word) == 0)
        return 0;
    if (value->kind != NODE_SEQUENCE)
        return refuse(k, value, "; a list has brackets: [5, \"<|end|>\"]", e);
    if (value->count > JOB_MAX_STOPS)
        return refuse(k, value, " of more", e);
    for (size_t i = 0; i < value->count; i++) {
        const struct node *item = &value->children[i];
        struct job_stop *stop = &job->sampling.stop[i];
        int64_t id = 0;
        if (item->kind != NODE_SCALAR || !*item->text || document_is_null(item))
            return refuse(k, item, " in the list", e);
        *stop = (struct job_stop){.id = -1};
        if (item->plain && value_int(item->text, &id)) {
            if (id < 0 || id > INT32_MAX)
                return refuse(k, item, " in the list; ids begin at 0", e);
            stop->id = (int32_t)id;
        } else {
            stop->text = mem_string(item->text);
        }
        job->sampling.n_stop++;
    }
    return 0;
}

static int read_json(const struct key *k, const struct node *value, char **member, struct err *e)
{
    *member = NULL;
    if (value->kind == NODE_SCALAR && value->plain && strcmp(value->text, k->word) == 0)
        return 0;
    if (value->kind != (k->max > 0 ? NODE_SEQUENCE : NODE_MAPPING))
        return refuse(k, value, "", e);
    json_t *json = document_json(value, e);
    if (!json)
        return -1;
    *member = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(json);
    return *member ? 0 : err_set(e, "is not UTF-8");
}

int keys_read(const struct key *k, const struct node *value, struct job *job, struct err *e)
{
    void *member = (char *)job + k->offset;
    switch (k->kind) {
    case KEY_TEXT:
        return read_text(k, value, member, e);
    case KEY_NAME:
    case KEY_CHOICE:
    case KEY_BOOL:
        return read_choice(k, value, member, e);
    case KEY_JSON:
        return read_json(k, value, member, e);
    case KEY_STOPS:
        return read_stops(k, value, job, e);
    default:
        if (value->kind != NODE_SCALAR)
            return refuse(k, value, "", e);
        bool quoted = !value->plain && k->kind != KEY_SIZE && k->kind != KEY_SECONDS;
        if (!quoted && read_number(k, value->text, member))
            return 0;
        return refuse(k, value, quoted ? " in quotes, which is a text" : "", e);
    }
}

/* --- writing ------------------------------------------------------------------------------- */

const char *keys_choice_name(const struct key *k, const struct job *job)
{
    const char *member = (const char *)job + k->offset;
    int value = k->kind == KEY_BOOL ? *(const bool *)member : *(const int *)member;
    for (const struct choice *c = k->choices; c->name; c++)
        if (c->value == value)
            return c->name;
    die("job: %s.%s has no name for %d", k->section, k->name, value);
}

/* The number as text; true when it is what the key's word stands for. */
static bool number_text(const struct key *k, const void *member, char *text, size_t size)
{
    double value = 0;
    switch (k->kind) {
    case KEY_INT:
        value = *(const int *)member;
        snprintf(text, size, "%d", *(const int *)member);
        break;
    case KEY_INT64:
        value = (double)*(const int64_t *)member;
        snprintf(text, size, "%" PRId64, *(const int64_t *)member);
        break;
    case KEY_UINT64:
        value = (double)*(const uint64_t *)member;
        snprintf(text, size, "%" PRIu64, *(const uint64_t *)member);
        break;
    case KEY_SIZE:
    case KEY_COUNT:
        value = (double)*(const size_t *)member;
        if (k->kind == KEY_SIZE)
            value_size_text(*(const size_t *)member, text, size);
        else
            snprintf(text, size, "%zu", *(const size_t *)member);
        break;
    case KEY_SECONDS:
        value = *(const double *)member;
        value_seconds_text(value, text, size);
        break;
    default:
        value = *(const double *)member;
        value_real_text(value, text, size);
    }
    return k->word && value == (double)k->word_value;
}

char *keys_text(const struct key *k, const struct job *job, bool *quoted)
{
    const void *member = (const char *)job + k->offset;
    *quoted = false;
    switch (k->kind) {
    case KEY_JSON:
        return mem_string(*(char *const *)member ? *(char *const *)member : k->word);
    case KEY_TEXT:
        *quoted = *(char *const *)member != NULL;
        return mem_string(*quoted ? *(char *const *)member : k->word);
    case KEY_NAME:
        return mem_string(*(char *const *)member);
    case KEY_CHOICE:
    case KEY_BOOL:
        return mem_string(keys_choice_name(k, job));
    case KEY_STOPS:
        die("job: %s.%s is written by job.c", k->section, k->name);
    default: {
        char text[64];
        bool word = number_text(k, member, text, sizeof text);
        for (const struct choice *c = k->choices; c && c->name; c++)
            if (c->value == *(const int *)member)
                return mem_string(c->name);
        return mem_string(word ? k->word : text);
    }
    }
}

void keys_free(const struct key *k, struct job *job)
{
    char **member = (char **)((char *)job + k->offset);
    if (k->kind == KEY_TEXT || k->kind == KEY_NAME || k->kind == KEY_JSON) {
        free(*member);
        *member = NULL;
    } else if (k->kind == KEY_STOPS) {
        for (int i = 0; i < job->sampling.n_stop; i++)
            free(job->sampling.stop[i].text);
        job->sampling.n_stop = 0;
    }
}
