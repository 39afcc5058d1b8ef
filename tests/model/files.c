#include "tests/model/files.h"

#include <ftw.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fixture_make(char path[FILES_PATH])
{
    const char *where = getenv("TMPDIR");
    snprintf(path, FILES_PATH, "%s/tandem-model-XXXXXX", where ? where : "/tmp");
    if (!mkdtemp(path))
        die("%s: %m", path);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void fixture_remove(const char *path)
{
    if (nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS) != 0)
        die("%s: cannot be removed: %m", path);
}

void fixture_join(char path[FILES_PATH], const char *directory, const char *name)
{
    if (snprintf(path, FILES_PATH, "%s/%s", directory, name) >= FILES_PATH)
        die("%s/%s: the path is too long", directory, name);
}

void fixture_write(const char *directory, const char *name, const void *data, size_t bytes)
{
    char path[FILES_PATH];
    fixture_join(path, directory, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, bytes, f) != bytes || fclose(f) != 0)
        die("%s: %m", path);
}

char *fixture_read(const char *directory, const char *name, size_t *bytes)
{
    char path[FILES_PATH];
    fixture_join(path, directory, name);
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0)
        die("%s: %m", path);
    *bytes = (size_t)ftell(f);
    char *data = calloc(*bytes + 1, 1);
    rewind(f);
    if (!data || fread(data, 1, *bytes, f) != *bytes)
        die("%s: %m", path);
    fclose(f);
    return data;
}

void files_odd_model(struct generate_options *o, const char *directory)
{
    static const char *const settings[][2] = {
        {"hidden", "37"},  {"layers", "4"},  {"vocab", "61"},  {"context", "300"}, {"heads", "5"},
        {"head_dim", "6"}, {"q_rank", "19"}, {"dense", "53"},  {"experts", "7"},   {"topk", "3"},
        {"expert", "35"},  {"shared", "41"}, {"file_mb", "0"}, {"threads", "2"},   {"seed", "11"},
    };
    struct err e;
    generate_defaults(o);
    o->ignore_unused = true; /* one list for all families */
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (generate_set(o, settings[i][0], settings[i][1], &e) != 0)
            die("%s", e.text);
    o->directory = directory;
}

void fixture_config(const char *directory, const char *field, const char *json)
{
    size_t bytes;
    char *text = fixture_read(directory, "config.json", &bytes);
    json_t *root = json_loads(text, 0, NULL);
    json_t *value = json ? json_loads(json, JSON_DECODE_ANY, NULL) : NULL;
    if (!root || (json && !value))
        die("%s: not JSON: %s", directory, json ? json : text);
    if (value)
        json_object_set_new(root, field, value);
    else
        json_object_del(root, field);
    char *out = json_dumps(root, JSON_INDENT(1));
    fixture_write(directory, "config.json", out, strlen(out));
    free(out);
    free(text);
    json_decref(root);
}

static void edit_entry(json_t *header, const char *tensor, const char *name, const char *dtype,
                       const char *shape)
{
    json_t *entry = json_object_get(header, tensor);
    if (!entry)
        die("no tensor %s to damage", tensor);
    if (dtype)
        json_object_set_new(entry, "dtype", json_string(dtype));
    if (shape)
        json_object_set_new(entry, "shape", json_loads(shape, 0, NULL));
    if (name) {
        json_object_set(header, name, entry);
        json_object_del(header, tensor);
    }
}

void fixture_tensor(const char *directory, const char *tensor, const char *name, const char *dtype,
                    const char *shape)
{
    size_t bytes;
    uint64_t length = 0;
    char *file = fixture_read(directory, "model.safetensors", &bytes);
    for (int i = 7; i >= 0; i--)
        length = length << 8 | (uint8_t)file[i];
    json_t *header = json_loadb(file + 8, length, 0, NULL);
    edit_entry(header, tensor, name, dtype, shape);

    char *json = json_dumps(header, JSON_COMPACT);
    size_t used = strlen(json), padded = (used + 7) / 8 * 8, data = bytes - 8 - length;
    char *out = calloc(8 + padded + data, 1);
    for (int i = 0; i < 8; i++)
        out[i] = (char)(padded >> 8 * i);
    memset(out + 8, ' ', padded);
    memcpy(out + 8, json, used);
    memcpy(out + 8 + padded, file + 8 + length, data);
    fixture_write(directory, "model.safetensors", out, 8 + padded + data);
    free(out);
    free(json);
    free(file);
    json_decref(header);
}
