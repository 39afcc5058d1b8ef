#include "output/identity.h"

#include "base/mem.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct identity_entry *find(const struct identity *id, const char *name)
{
    for (size_t i = 0; i < id->n; i++)
        if (strcmp(id->entries[i].name, name) == 0)
            return &id->entries[i];
    return NULL;
}

void identity_add(struct identity *id, const char *name, const char *value)
{
    struct identity_entry *there = find(id, name);
    if (there) {
        free(there->value);
        there->value = mem_string(value);
        return;
    }
    id->entries = mem_resize(id->entries, id->n + 1, sizeof *id->entries);
    id->entries[id->n++] = (struct identity_entry){mem_string(name), mem_string(value)};
}

int identity_add_json(struct identity *id, const char *object)
{
    json_t *root = json_loads(object, 0, NULL), *value;
    const char *name;
    if (!json_is_object(root)) {
        json_decref(root);
        return -1;
    }
    json_object_foreach(root, name, value)
    {
        char *text = json_is_string(value)
                         ? mem_string(json_string_value(value))
                         : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS |
                                                 JSON_REAL_PRECISION(15));
        identity_add(id, name, text);
        free(text);
    }
    json_decref(root);
    return 0;
}

const char *identity_value(const struct identity *id, const char *name)
{
    const struct identity_entry *entry = find(id, name);
    return entry ? entry->value : NULL;
}

void identity_free(struct identity *id)
{
    for (size_t i = 0; i < id->n; i++) {
        free(id->entries[i].name);
        free(id->entries[i].value);
    }
    free(id->entries);
    *id = (struct identity){0};
}

char *identity_json(const struct identity *id)
{
    json_t *root = json_object();
    for (size_t i = 0; i < id->n; i++)
        if (json_object_set_new(root, id->entries[i].name, json_string(id->entries[i].value)) != 0)
            die("identity: \"%s\" is not UTF-8", id->entries[i].name);
    char *text = json_dumps(root, JSON_SORT_KEYS);
    json_decref(root);
    return text;
}

/* Appends "name theirs instead of ours" to a list "a, b". */
static void add_difference(char *list, size_t room, const char *name, const char *theirs,
                           const char *ours)
{
    size_t used = strlen(list);
    snprintf(list + used, room - used, "%s%.80s %.120s instead of %.120s", used ? ", " : "", name,
             theirs ? theirs : "absent", ours ? ours : "absent");
}

bool identity_differs(const struct identity *found, const struct identity *wanted, char *differs,
                      size_t size)
{
    *differs = 0;
    for (size_t i = 0; i < wanted->n; i++) {
        const struct identity_entry *ours = &wanted->entries[i];
        const char *theirs = identity_value(found, ours->name);
        bool later = strcmp(ours->value, IDENTITY_LATER) == 0 ||
                     (theirs && strcmp(theirs, IDENTITY_LATER) == 0);
        if (!later && (!theirs || strcmp(theirs, ours->value) != 0))
            add_difference(differs, size, ours->name, theirs, ours->value);
    }
    for (size_t i = 0; i < found->n; i++)
        if (!find(wanted, found->entries[i].name))
            add_difference(differs, size, found->entries[i].name, found->entries[i].value, NULL);
    return *differs != 0;
}

int identity_check(const char *path, const struct identity *found, const struct identity *wanted,
                   struct err *e)
{
    char differs[1400];
    if (!identity_differs(found, wanted, differs, sizeof differs))
        return 0;
    return err_set(e,
                   "%.400s: belongs to another job: it has %s. Nothing was overwritten: go on with "
                   "the same job, name another output, or move this one away",
                   path, differs);
}
