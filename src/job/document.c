#include "job/document.h"

#include "base/files.h"
#include "base/mem.h"
#include "job/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define DEPTH_MAX     16
#define JOB_BYTES_MAX ((size_t)1 << 18) /* nobody writes more by hand */

struct document_reader {
    yaml_parser_t parser;
    const char *name;
    struct err *e;
};

static int fail_at(struct document_reader *r, yaml_mark_t mark, const char *what)
{
    return err_set(r->e, "%s:%zu:%zu: %s", r->name, mark.line + 1, mark.column + 1, what);
}

/* Whether a tab stands at line and column, both from 0, the column counted in characters. */
static bool is_tab(const char *text, size_t bytes, yaml_mark_t mark)
{
    const char *end = text + bytes;
    for (size_t line = 0; line < mark.line && text < end; line++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        text = newline ? newline + 1 : end;
    }
    for (size_t column = 0; text < end; text++)
        if ((*text & 0xc0) != 0x80 && column++ == mark.column)
            return *text == '\t';
    return false;
}

/* What libyaml found: it says what, where, and often inside of what that began. */
static int fail_syntax(struct document_reader *r, const char *text, size_t bytes)
{
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR)
        die("out of memory while reading %s", r->name);
    if (p->error == YAML_READER_ERROR)
        return err_set(r->e, "%s: byte %zu: %s; a job file is UTF-8 text", r->name,
                       p->problem_offset, p->problem);
    const char *hint = "";
    if (is_tab(text, bytes, p->problem_mark))
        hint = "; a tab cannot indent, use spaces";
    int n = snprintf(r->e->text, sizeof r->e->text, "%s:%zu:%zu: not YAML: %s", r->name,
                     p->problem_mark.line + 1, p->problem_mark.column + 1, p->problem);
    if (p->context && n > 0 && (size_t)n < sizeof r->e->text)
        snprintf(r->e->text + n, sizeof r->e->text - (size_t)n, " (%s that began on line %zu)%s",
                 p->context, p->context_mark.line + 1, hint);
    else if (n > 0 && (size_t)n < sizeof r->e->text)
        snprintf(r->e->text + n, sizeof r->e->text - (size_t)n, "%s", hint);
    return -1;
}

static int refuse_extras(struct document_reader *r, const yaml_event_t *event,
                         const yaml_char_t *anchor, const yaml_char_t *tag)
{
    if (anchor)
        return fail_at(r, event->start_mark,
                       "anchors (&) and aliases (*) are not supported; write the value out, or "
                       "put it in quotes");
    if (tag)
        return fail_at(r, event->start_mark,
                       "tags (!) are not supported; leave it out, or put the value in quotes");
    return 0;
}

static int scalar_from(struct document_reader *r, struct node *n, const yaml_event_t *event)
{
    if (refuse_extras(r, event, event->data.scalar.anchor, event->data.scalar.tag) != 0)
        return -1;
    const char *value = (const char *)event->data.scalar.value;
    if (memchr(value, 0, event->data.scalar.length))
        return fail_at(r, event->start_mark, "a NUL character cannot be part of a value");
    n->kind = NODE_SCALAR;
    n->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    n->text = mem_string_n(value, event->data.scalar.length);
    return 0;
}

static int read_node(struct document_reader *r, struct node *n, const yaml_event_t *event,
                     int depth);

/* The key that was just read may be neither a collection nor there already. */
static int check_key(struct document_reader *r, const struct node *map, yaml_mark_t mark)
{
    const struct node *key = &map->children[map->count - 1];
    if (key->kind != NODE_SCALAR)
        return fail_at(r, mark, "a key must be a word");
    for (size_t i = 0; i + 1 < map->count; i += 2)
        if (strcmp(map->children[i].text, key->text) == 0)
            return err_set(r->e, "%s:%d:%d: key '%s' is there twice; it was first given on line %d",
                           r->name, key->line, key->column, key->text, map->children[i].line);
    return 0;
}

/* Children up to the event that ends the collection. They are counted as soon as they exist, so
 * that document_free() finds them when reading fails. */
static int read_children(struct document_reader *r, struct node *n, yaml_event_type_t end,
                         int depth)
{
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&r->parser, &event))
            return 1;
        if (event.type == end) {
            yaml_event_delete(&event);
            return 0;
        }
        n->children = mem_resize(n->children, n->count + 1, sizeof *n->children);
        struct node *child = &n->children[n->count++];
        yaml_mark_t mark = event.start_mark;
        int status = read_node(r, child, &event, depth + 1);
        yaml_event_delete(&event);
        if (status == 0 && n->kind == NODE_MAPPING && n->count % 2 == 1)
            status = check_key(r, n, mark);
        if (status != 0)
            return status;
    }
}

/* 0; -1: refused, message set; 1: libyaml refused. */
static int read_node(struct document_reader *r, struct node *n, const yaml_event_t *event,
                     int depth)
{
    *n = (struct node){.line = (int)event->start_mark.line + 1,
                       .column = (int)event->start_mark.column + 1};
    if (depth > DEPTH_MAX)
        return fail_at(r, event->start_mark, "nested too deeply");
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return scalar_from(r, n, event);
    case YAML_SEQUENCE_START_EVENT:
        n->kind = NODE_SEQUENCE;
        if (refuse_extras(r, event, event->data.sequence_start.anchor,
                          event->data.sequence_start.tag) != 0)
            return -1;
        return read_children(r, n, YAML_SEQUENCE_END_EVENT, depth);
    case YAML_MAPPING_START_EVENT:
        n->kind = NODE_MAPPING;
        if (refuse_extras(r, event, event->data.mapping_start.anchor,
                          event->data.mapping_start.tag) != 0)
            return -1;
        return read_children(r, n, YAML_MAPPING_END_EVENT, depth);
    default: /* an alias; nothing else can stand where a node is wanted */
        return refuse_extras(r, event, event->data.alias.anchor, NULL);
    }
}

/* Reads on past the events around a document; a second document is refused. */
static int read_stream(struct document_reader *r, struct node *root)
{
    bool seen = false;
    *root = (struct node){.kind = NODE_SCALAR, .plain = true, .line = 1, .column = 1};
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&r->parser, &event))
            return 1;
        yaml_event_type_t type = event.type;
        int status = 0;
        if (type == YAML_DOCUMENT_START_EVENT) {
            if (seen)
                status = fail_at(r, event.start_mark,
                                 "a second document begins here; there can only be one");
            seen = true;
        } else if (type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT &&
                   type != YAML_DOCUMENT_END_EVENT) {
            status = read_node(r, root, &event, 0);
        }
        yaml_event_delete(&event);
        if (status != 0 || type == YAML_STREAM_END_EVENT)
            return status;
    }
}

int document_read_text(struct node *root, const char *name, const char *text, size_t bytes,
                       struct err *e)
{
    struct document_reader r = {.name = name, .e = e};
    if (!yaml_parser_initialize(&r.parser))
        die("out of memory while reading %s", name);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes);
    int status = read_stream(&r, root);
    if (status == 1)
        status = fail_syntax(&r, text, bytes);
    yaml_parser_delete(&r.parser);
    if (status != 0) {
        document_free(root);
        return -1;
    }
    if (root->kind == NODE_SCALAR && !root->text)
        root->text = mem_string("");
    return 0;
}

int document_read_file(struct node *root, const char *path, struct err *e)
{
    size_t bytes;
    char *text = files_read_any(path, JOB_BYTES_MAX, &bytes, e);
    int status = text ? document_read_text(root, path, text, bytes, e) : -1;
    free(text);
    return status;
}

void document_free(struct node *root)
{
    for (size_t i = 0; i < root->count; i++)
        document_free(&root->children[i]);
    free(root->children);
    free(root->text);
    *root = (struct node){.kind = NODE_SCALAR};
}

bool document_is_null(const struct node *n)
{
    return n->kind == NODE_SCALAR && n->plain &&
           (!*n->text || strcmp(n->text, "~") == 0 || strcmp(n->text, "null") == 0);
}

const char *document_describe(const struct node *n, char *text, size_t size)
{
    enum { SHOWN = 40 };
    if (n->kind == NODE_SEQUENCE)
        snprintf(text, size, "a list");
    else if (n->kind == NODE_MAPPING)
        snprintf(text, size, "a mapping");
    else if (document_is_null(n))
        snprintf(text, size, "nothing");
    else
        snprintf(text, size, "'%.*s%s'", SHOWN, n->text, strlen(n->text) > SHOWN ? "..." : "");
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
    return text;
}

static json_t *scalar_json(const struct node *n)
{
    int64_t whole;
    double real;
    if (!n->plain)
        return json_string(n->text);
    if (document_is_null(n))
        return json_null();
    if (strcmp(n->text, "true") == 0 || strcmp(n->text, "false") == 0)
        return json_boolean(*n->text == 't');
    if (value_int(n->text, &whole))
        return json_integer(whole);
    return value_real(n->text, &real) && isfinite(real) ? json_real(real) : json_string(n->text);
}

static json_t *mapping_json(const struct node *n, struct err *e)
{
    json_t *out = json_object();
    for (size_t i = 0; i + 1 < n->count; i += 2) {
        const struct node *key = &n->children[i];
        json_t *value = NULL;
        if (key->kind != NODE_SCALAR)
            err_set(e, "a key must be a text");
        else
            value = document_json(&n->children[i + 1], e);
        if (!value) {
            json_decref(out);
            return NULL;
        }
        json_object_set_new(out, key->text, value);
    }
    return out;
}

json_t *document_json(const struct node *n, struct err *e)
{
    if (n->kind == NODE_MAPPING)
        return mapping_json(n, e);
    if (n->kind == NODE_SCALAR)
        return scalar_json(n);
    json_t *out = json_array();
    for (size_t i = 0; i < n->count; i++) {
        json_t *item = document_json(&n->children[i], e);
        if (!item) {
            json_decref(out);
            return NULL;
        }
        json_array_append_new(out, item);
    }
    return out;
}
