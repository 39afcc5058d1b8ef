#include "roles/parcel.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* Grows an array to hold one more. */
static void *grow(void *array, size_t n, size_t *room, size_t size)
{
    if (n < *room)
        return array;
    *room = *room ? *room * 2 : 64;
    return mem_resize(array, *room, size);
}

void parcel_add(struct parcel *p, const struct completion *c)
{
    p->rows = grow(p->rows, p->n, &p->room, sizeof *p->rows);
    p->rows[p->n++] = *c;
}

void parcel_add_step(struct parcel *p, const struct step_timing *t)
{
    p->steps = grow(p->steps, p->m, &p->steps_room, sizeof *p->steps);
    p->steps[p->m++] = *t;
}

void parcel_clear(struct parcel *p)
{
    for (size_t i = 0; i < p->n; i++)
        completion_free(&p->rows[i]);
    p->n = p->m = 0;
}

void parcel_free(struct parcel *p)
{
    parcel_clear(p);
    free(p->rows);
    free(p->steps);
    *p = (struct parcel){0};
}

/* A packed parcel: n, m; then every completion as the struct followed by what its pointers name
 * (error and text with their NUL, tokens, logprobs); then the step timings. */
struct writer {
    char *data;
    size_t used, room;
};

static void write_bytes(struct writer *w, const void *from, size_t bytes)
{
    while (w->used + bytes > w->room) {
        w->room = w->room ? w->room * 2 : 4096;
        w->data = mem_resize(w->data, w->room, 1);
    }
    if (bytes)
        memcpy(w->data + w->used, from, bytes);
    w->used += bytes;
}

static void write_string(struct writer *w, const char *s)
{
    uint64_t size = s ? strlen(s) + 1 : 0;
    write_bytes(w, &size, sizeof size);
    write_bytes(w, s, (size_t)size);
}

void *parcel_pack(const struct parcel *p, size_t *bytes)
{
    struct writer w = {0};
    uint64_t counts[2] = {p->n, p->m};
    write_bytes(&w, counts, sizeof counts);
    for (size_t i = 0; i < p->n; i++) {
        const struct completion *c = &p->rows[i];
        write_bytes(&w, c, sizeof *c);
        write_string(&w, c->error);
        write_string(&w, c->text);
        write_bytes(&w, c->tokens, c->n_tokens * sizeof *c->tokens);
        write_bytes(&w, c->logprobs, c->n_tokens * sizeof *c->logprobs);
    }
    write_bytes(&w, p->steps, p->m * sizeof *p->steps);
    *bytes = w.used;
    return w.data;
}

struct reader {
    const char *data;
    size_t left;
};

static void read_bytes(struct reader *r, void *to, size_t bytes)
{
    if (bytes > r->left)
        die("a parcel of completions ends early: %zu bytes wanted, %zu left", bytes, r->left);
    if (bytes)
        memcpy(to, r->data, bytes);
    r->data += bytes;
    r->left -= bytes;
}

static char *read_string(struct reader *r)
{
    uint64_t size;
    read_bytes(r, &size, sizeof size);
    if (size == 0)
        return NULL;
    if (size > r->left)
        die("a parcel of completions ends early inside a text");
    char *s = mem_new((size_t)size, 1);
    read_bytes(r, s, (size_t)size);
    return s;
}

static void read_completion(struct reader *r, struct completion *c)
{
    read_bytes(r, c, sizeof *c);
    c->error = read_string(r);
    c->text = read_string(r);
    c->tokens = mem_new(c->n_tokens, sizeof *c->tokens);
    read_bytes(r, c->tokens, c->n_tokens * sizeof *c->tokens);
    c->logprobs = mem_new(c->n_tokens, sizeof *c->logprobs);
    read_bytes(r, c->logprobs, c->n_tokens * sizeof *c->logprobs);
}

void parcel_unpack(struct parcel *p, const void *data, size_t bytes)
{
    struct reader r = {data, bytes};
    while (r.left > 0) {
        uint64_t counts[2];
        read_bytes(&r, counts, sizeof counts);
        for (uint64_t i = 0; i < counts[0]; i++) {
            struct completion c;
            read_completion(&r, &c);
            parcel_add(p, &c);
        }
        for (uint64_t i = 0; i < counts[1]; i++) {
            struct step_timing t;
            read_bytes(&r, &t, sizeof t);
            parcel_add_step(p, &t);
        }
    }
}
