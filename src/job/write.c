/* A job as text again: for outputs, the identity, and people. */
#include "job/job.h"

#include "base/mem.h"
#include "job/keys.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct writer {
    yaml_emitter_t emitter;
    FILE *out;
    char section[64];
};

static int write_bytes(void *data, unsigned char *bytes, size_t n)
{
    return fwrite(bytes, 1, n, ((struct writer *)data)->out) == n;
}

static void emit(struct writer *w, yaml_event_t *event)
{
    if (!yaml_emitter_emit(&w->emitter, event))
        die("job: libyaml cannot write the job: %s", w->emitter.problem);
}

static void emit_scalar(struct writer *w, const char *text, bool quoted)
{
    yaml_event_t event;
    if (!yaml_scalar_event_initialize(
            &event, NULL, NULL, (const yaml_char_t *)text, (int)strlen(text), 1, 1,
            quoted ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : YAML_PLAIN_SCALAR_STYLE))
        die("job: libyaml cannot write '%s'", text);
    emit(w, &event);
}

static void emit_map_start(struct writer *w)
{
    yaml_event_t event;
    yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE);
    emit(w, &event);
}

static void emit_map_end(struct writer *w)
{
    yaml_event_t event;
    yaml_mapping_end_event_initialize(&event);
    emit(w, &event);
}

/* Closes and opens mappings until keys of `section` ("layout.ffn") can be written. */
static void enter_section(struct writer *w, const char *section)
{
    size_t n = strlen(w->section);
    while (n > 0 && !(strncmp(w->section, section, n) == 0 && (!section[n] || section[n] == '.'))) {
        emit_map_end(w);
        char *dot = strrchr(w->section, '.');
        *(dot ? dot : w->section) = 0;
        n = strlen(w->section);
    }
    while (section[n]) {
        const char *name = section + n + (section[n] == '.');
        size_t length = strcspn(name, ".");
        char copy[64];
        snprintf(copy, sizeof copy, "%.*s", (int)length, name);
        emit_scalar(w, copy, false);
        emit_map_start(w);
        n = (size_t)(name - section) + length;
    }
    snprintf(w->section, sizeof w->section, "%s", section);
}

static void emit_stops(struct writer *w, const struct job *job)
{
    yaml_event_t event;
    yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, YAML_FLOW_SEQUENCE_STYLE);
    emit(w, &event);
    for (int i = 0; i < job->sampling.n_stop; i++) {
        const struct job_stop *stop = &job->sampling.stop[i];
        char id[16];
        snprintf(id, sizeof id, "%d", stop->id);
        emit_scalar(w, stop->text ? stop->text : id, stop->text != NULL);
    }
    yaml_sequence_end_event_initialize(&event);
    emit(w, &event);
}

static void emit_json(struct writer *w, const json_t *value)
{
    yaml_event_t event;
    const char *name;
    json_t *item;
    size_t i;
    if (json_is_object(value)) {
        yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_FLOW_MAPPING_STYLE);
        emit(w, &event);
        json_object_foreach((json_t *)(uintptr_t)value, name, item)
        {
            emit_scalar(w, name, true);
            emit_json(w, item);
        }
        yaml_mapping_end_event_initialize(&event);
        emit(w, &event);
    } else if (json_is_array(value)) {
        yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, YAML_FLOW_SEQUENCE_STYLE);
        emit(w, &event);
        json_array_foreach(value, i, item) emit_json(w, item);
        yaml_sequence_end_event_initialize(&event);
        emit(w, &event);
    } else {
        char *text = json_is_string(value) ? mem_string(json_string_value(value))
                                           : json_dumps(value, JSON_ENCODE_ANY);
        emit_scalar(w, text, json_is_string(value));
        free(text);
    }
}

static void emit_key(struct writer *w, const struct key *k, const struct job *job)
{
    if (job->layout.colocated && strcmp(k->section, "layout.ffn") == 0)
        return; /* there is no FFN to lay out, and the reader would refuse it */
    enter_section(w, k->section);
    emit_scalar(w, k->name, false);
    if (k->kind == KEY_STOPS) {
        emit_stops(w, job);
        return;
    }
    bool quoted;
    char *text = keys_text(k, job, &quoted);
    json_t *json = k->kind == KEY_JSON ? json_loads(text, 0, NULL) : NULL;
    if (json)
        emit_json(w, json);
    else
        emit_scalar(w, text, quoted);
    json_decref(json);
    free(text);
}

char *job_yaml(const struct job *job)
{
    char *text = NULL;
    size_t bytes = 0;
    struct writer w = {.out = open_memstream(&text, &bytes)};
    if (!w.out || !yaml_emitter_initialize(&w.emitter))
        die("out of memory while writing the job");
    yaml_emitter_set_output(&w.emitter, write_bytes, &w);
    yaml_emitter_set_width(&w.emitter, -1);
    yaml_emitter_set_unicode(&w.emitter, 1);
    yaml_event_t event;
    yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING);
    emit(&w, &event);
    yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1);
    emit(&w, &event);
    emit_map_start(&w);
    for (size_t i = 0; i < keys_count; i++)
        emit_key(&w, &keys[i], job);
    enter_section(&w, "");
    emit_map_end(&w);
    yaml_document_end_event_initialize(&event, 1);
    emit(&w, &event);
    yaml_stream_end_event_initialize(&event);
    emit(&w, &event);
    yaml_emitter_delete(&w.emitter);
    if (fclose(w.out) != 0)
        die("out of memory while writing the job");
    return text;
}

static void set(json_t *object, const char *name, json_t *value)
{
    if (!object || json_object_set_new(object, name, value) != 0)
        die("job: '%s' cannot be written as JSON", name);
}

json_t *job_stops(const struct job *job)
{
    json_t *list = json_array();
    for (int i = 0; i < job->sampling.n_stop; i++) {
        const struct job_stop *stop = &job->sampling.stop[i];
        json_array_append_new(list, stop->text ? json_string(stop->text) : json_integer(stop->id));
    }
    return list;
}

static void set_key(json_t *object, const struct key *k, const struct job *job)
{
    char path[64];
    keys_path(k, path, sizeof path);
    if (k->kind == KEY_STOPS) {
        set(object, path, job_stops(job));
        return;
    }
    bool quoted;
    char *text = keys_text(k, job, &quoted);
    set(object, path, json_string(text));
    free(text);
}

static char *json_text(json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(object);
    if (!text)
        die("out of memory while writing the job");
    return text;
}

char *job_json(const struct job *job)
{
    json_t *object = json_object();
    for (size_t i = 0; i < keys_count; i++)
        set_key(object, &keys[i], job);
    return json_text(object);
}

/* Does the key decide what a completion is? */
static bool decides(const struct key *k)
{
    static const char *const sections[] = {"chat", "precision", "sampling"};
    static const char *const listed[] = {"model_ignore",
                                         "score",
                                         "prompts.eos",
                                         "prompts.template",
                                         "prompts.bos",
                                         "prompts.special",
                                         "schedule.max_context",
                                         "output.special_tokens",
                                         "output.reasoning.begin",
                                         "output.reasoning.end"};
    char path[64];
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        if (strcmp(k->section, sections[i]) == 0)
            return true;
    keys_path(k, path, sizeof path);
    for (size_t i = 0; i < sizeof listed / sizeof *listed; i++)
        if (strcmp(path, listed[i]) == 0)
            return true;
    return false;
}

char *job_sampling_json(const struct job *job)
{
    json_t *object = json_object();
    for (size_t i = 0; i < keys_count; i++)
        if (decides(&keys[i]))
            set_key(object, &keys[i], job);
    return json_text(object);
}
