#include "exchange/trial.h"

#include "base/clock.h"
#include "base/median.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define TIMES 5 /* of which the median counts */

/* A step of it. Only the first micro-batch has rows. */
struct step {
    const struct trial *t;
    int *rows; /* of every attention rank and micro-batch */
    bool look; /* at every number; else only the clock */
    struct err *e;
};

static const struct device_ops *dev(const struct trial *t)
{
    return t->end->backend->device;
}

static void sync(const struct trial *t)
{
    dev(t)->stream_sync(t->end->device, t->end->compute);
}

static size_t row_bytes(const struct exchange_shape *s)
{
    return mem_mul(s->hidden, dtype_size(s->dispatch));
}

static int rows_of(const struct step *s, int attention)
{
    return s->rows[attention * s->t->shape->micro_batches];
}

static bool fine(const struct step *s)
{
    return s->e->text[0] == 0;
}

/* ---- what travels --------------------------------------------------------------------------- */

/* Who a row is. */
struct name {
    uint32_t attention, row;
};

static uint32_t mixed(const struct name *n, int layer, uint32_t salt)
{
    uint32_t x =
        n->attention * 2654435761u ^ n->row * 40503u ^ (uint32_t)layer * 2246822519u ^ salt;
    x ^= x >> 15;
    return x * 2654435769u;
}

/* One row of every part of a wire. */
static void make_row(const struct exchange_shape *s, const struct name *n, int layer,
                     const struct wire *w, size_t at)
{
    struct wire_bytes b = wire_bytes(s, 1);
    uint8_t *row = (uint8_t *)w->rows + at * b.rows;
    uint32_t x = mixed(n, layer, 0);
    for (size_t i = 0; i < b.rows; i++, x = x * 1664525u + 1013904223u)
        row[i] = (uint8_t)(x >> 24);
    memcpy(row, n, sizeof *n < b.rows ? sizeof *n : b.rows);
    for (size_t i = 0; i < b.scales / sizeof(float); i++)
        w->scales[at * b.scales / sizeof(float) + i] = (float)(mixed(n, layer, (uint32_t)i) >> 8);
    for (size_t k = 0; k < s->topk; k++) {
        w->ids[at * s->topk + k] = (int32_t)(mixed(n, layer, 1000 + (uint32_t)k) >> 1);
        w->weights[at * s->topk + k] = (float)(mixed(n, layer, 2000 + (uint32_t)k) >> 8);
    }
}

static struct wire host_wire(const struct exchange_shape *s, int n)
{
    struct wire_bytes b = wire_bytes(s, (size_t)n);
    return (struct wire){.n = n,
                         .rows = mem_zeroed(b.rows + 1, 1),
                         .scales = mem_zeroed(b.scales + 1, 1),
                         .ids = mem_zeroed(b.ids + 1, 1),
                         .weights = mem_zeroed(b.weights + 1, 1)};
}

static void free_wire(struct wire *w)
{
    free(w->rows);
    free(w->scales);
    free(w->ids);
    free(w->weights);
}

/* Between a wire of the host and one of the device. */
static void move(const struct trial *t, const struct wire *host, const struct wire *device, bool up)
{
    struct wire_bytes b = wire_bytes(t->shape, (size_t)host->n);
    struct {
        void *host, *device;
        size_t bytes;
    } part[] = {{host->rows, device->rows, b.rows},
                {host->scales, device->scales, b.scales},
                {host->ids, device->ids, b.ids},
                {host->weights, device->weights, b.weights}};
    for (int i = 0; i < 4; i++)
        if (up && part[i].bytes)
            dev(t)->upload(t->end->device, t->end->compute, part[i].device, part[i].host,
                           part[i].bytes);
        else if (part[i].bytes)
            dev(t)->download(t->end->device, t->end->compute, part[i].host, part[i].device,
                             part[i].bytes);
    sync(t);
}

/* What rank `ffn` answers to a row: small integers, exact in every format and whatever the order. */
static float answer(const struct name *n, int layer, size_t column, int ffn)
{
    return (float)((n->attention * 3 + n->row * 5 + (uint32_t)layer + (uint32_t)column) % 8 +
                   (uint32_t)ffn % 4);
}

static void write_answer(enum dtype t, void *to, size_t i, float value)
{
    if (t == DTYPE_F64)
        ((double *)to)[i] = (double)value;
    else if (t == DTYPE_F32)
        ((float *)to)[i] = value;
    else
        ((bf16_t *)to)[i] = bf16_from_f32(value);
}

static float read_answer(enum dtype t, const void *from, size_t i)
{
    if (t == DTYPE_F64)
        return (float)((const double *)from)[i];
    return t == DTYPE_F32 ? ((const float *)from)[i] : f32_from_bf16(((const bf16_t *)from)[i]);
}

/* ---- attention ------------------------------------------------------------------------------ */

static void send_rows(const struct step *s, int layer)
{
    const struct trial *t = s->t;
    int mine = t->end->place.index, n = rows_of(s, mine);
    struct wire out = t->ops->out(t->exchange, 0);
    if (s->look) {
        struct wire host = host_wire(t->shape, n);
        for (int i = 0; i < n; i++)
            make_row(t->shape, &(struct name){(uint32_t)mine, (uint32_t)i}, layer, &host,
                     (size_t)i);
        move(t, &host, &out, true);
        free_wire(&host);
    }
    t->ops->dispatch(t->exchange, layer, 0);
}

/* The sum of the answers of an instance's ranks. */
static float expected(const struct layout *l, const struct name *n, int layer, size_t column,
                      int instance)
{
    float sum = 0;
    for (int r = 0; r < l->tensor; r++)
        sum += answer(n, layer, column, instance * l->tensor + r);
    return sum;
}

static void look_at_answers(const struct step *s, int layer, const void *const *parts)
{
    const struct trial *t = s->t;
    const struct exchange_shape *shape = t->shape;
    struct layout l = t->end->place.layout;
    int mine = t->end->place.index, n = rows_of(s, mine);
    if (l.colocated)
        l.tensor = 1;
    size_t count = (size_t)n * shape->hidden, bytes = count * dtype_size(shape->combine);
    void *host = mem_new(bytes, 1);
    for (int p = 0; p < layout_instances(&l); p++) {
        dev(t)->download(t->end->device, t->end->compute, host, parts[p], bytes);
        sync(t);
        for (size_t i = 0; i < count && fine(s); i++) {
            struct name name = {(uint32_t)mine, (uint32_t)(i / shape->hidden)};
            int ffn = l.colocated ? mine : p;
            float want = expected(&l, &name, layer, i % shape->hidden, ffn);
            float got = read_answer(shape->combine, host, i);
            if (got != want)
                err_set(
                    s->e,
                    "exchange %s: FFN instance %d's answer to attention rank %d: number %zu of row "
                    "%u is %.9g, not %.9g (layer %d)",
                    t->ops->name, p, mine, i % shape->hidden, name.row, (double)got, (double)want,
                    layer);
        }
    }
    free(host);
}

/* ---- FFN ------------------------------------------------------------------------------------ */

/* The parts of a wire by which rows i of a and j of b differ; NULL: they are the same. */
static const char *difference(const struct trial *t, int layer, const struct wire *a, size_t i,
                              const struct wire *b, size_t j)
{
    struct wire_bytes n = wire_bytes(t->shape, 1);
    if (memcmp((char *)a->rows + i * n.rows, (char *)b->rows + j * n.rows, n.rows) != 0)
        return "numbers";
    if (n.scales &&
        memcmp((char *)a->scales + i * n.scales, (char *)b->scales + j * n.scales, n.scales) != 0)
        return "scales";
    if (!t->shape->routed[layer])
        return NULL;
    if (memcmp((char *)a->ids + i * n.ids, (char *)b->ids + j * n.ids, n.ids) != 0)
        return "experts";
    return memcmp((char *)a->weights + i * n.weights, (char *)b->weights + j * n.weights, n.weights)
               ? "weights of experts"
               : NULL;
}

/* Every row of every attention rank once, in any order; names [n]: who is where. */
static void look_at_rows(const struct step *s, int layer, const struct wire *in, struct name *names)
{
    const struct trial *t = s->t;
    int attention = t->end->place.layout.attention, most = (int)t->shape->rows;
    struct wire host = host_wire(t->shape, in->n), want = host_wire(t->shape, 1);
    char *seen = mem_zeroed(mem_mul((size_t)attention, (size_t)most), 1);
    move(t, &host, in, false);
    for (int i = 0; i < in->n && fine(s); i++) {
        struct name *n = &names[i];
        memcpy(n, (char *)host.rows + (size_t)i * row_bytes(t->shape), sizeof *n);
        if (n->attention >= (uint32_t)attention ||
            n->row >= (uint32_t)rows_of(s, (int)n->attention) ||
            seen[n->attention * (uint32_t)most + n->row]++) {
            err_set(s->e,
                    "exchange %s: FFN rank %d has got, as row %d of %d, what nobody has sent "
                    "(layer %d)",
                    t->ops->name, t->end->place.index, i, in->n, layer);
            *n = (struct name){0};
            break;
        }
        make_row(t->shape, n, layer, &want, 0);
        const char *what = difference(t, layer, &host, (size_t)i, &want, 0);
        if (what)
            err_set(
                s->e,
                "exchange %s: FFN rank %d has got wrong %s in row %u of attention rank %u (layer "
                "%d)",
                t->ops->name, t->end->place.index, what, n->row, n->attention, layer);
    }
    free(seen);
    free_wire(&want);
    free_wire(&host);
}

static void write_answers(const struct step *s, int layer, int n, const struct name *names,
                          void *to)
{
    const struct trial *t = s->t;
    size_t count = (size_t)n * t->shape->hidden, bytes = count * dtype_size(t->shape->combine);
    void *host = mem_new(bytes, 1);
    for (size_t i = 0; i < count; i++)
        write_answer(
            t->shape->combine, host, i,
            answer(&names[i / t->shape->hidden], layer, i % t->shape->hidden, t->end->place.index));
    dev(t)->upload(t->end->device, t->end->compute, to, host, bytes);
    sync(t);
    free(host);
}

static void serve(const struct step *s, int layer)
{
    const struct trial *t = s->t;
    struct wire in = t->ops->receive(t->exchange, layer, 0);
    if (in.n == 0)
        return;
    struct name *names = mem_zeroed((size_t)in.n, sizeof *names);
    if (s->look)
        look_at_rows(s, layer, &in, names);
    void *to = t->ops->reply_buffer(t->exchange, 0);
    if (s->look)
        write_answers(s, layer, in.n, names, to);
    t->ops->reply(t->exchange, layer, 0);
    free(names);
}

/* ---- steps ---------------------------------------------------------------------------------- */

/* Rows of colocated ranks stay where they are. */
static bool has_rows(const struct step *s)
{
    const struct place *p = &s->t->end->place;
    return rows_of(s, p->index) > 0;
}

static double play(const struct step *s, size_t layers)
{
    const struct trial *t = s->t;
    const struct place *p = &t->end->place;
    double began = clock_now();
    t->ops->begin(t->exchange, s->rows);
    if (t->ops->fork)
        t->ops->fork(t->exchange);
    for (size_t l = 0; l < layers; l++) {
        const void *const *parts = NULL;
        if (p->attention && has_rows(s))
            send_rows(s, (int)l);
        if (p->ffn && (!p->attention || has_rows(s)))
            serve(s, (int)l);
        if (p->attention && has_rows(s))
            parts = t->ops->collect(t->exchange, (int)l, 0);
        if (parts && s->look)
            look_at_answers(s, (int)l, parts);
    }
    if (t->ops->join)
        t->ops->join(t->exchange);
    sync(t);
    t->ops->end(t->exchange);
    return (clock_now() - began) / (double)layers;
}

/* Rows on the clock, each time in every layer: one by itself is mostly the host's share. */
static void measure(struct step *s, struct trial_time *time)
{
    const struct exchange_shape *shape = s->t->shape;
    const struct place *p = &s->t->end->place;
    double seconds[TIMES];
    for (int a = 0; a < p->layout.attention; a++)
        s->rows[a * shape->micro_batches] = (int)shape->rows;
    s->look = false;
    for (int i = 0; i < TIMES; i++)
        seconds[i] = play(s, shape->layers);
    if (!p->attention)
        return;
    struct wire_bytes b = wire_bytes(shape, shape->rows);
    size_t back = mem_mul(mem_mul(shape->rows, shape->hidden), dtype_size(shape->combine));
    size_t each = b.rows + b.scales + b.ids + b.weights + back;
    *time = (struct trial_time){median(seconds, TIMES),
                                mem_mul(each, (size_t)layout_instances(&p->layout))};
}

int trial_run(const struct trial *t, struct trial_time *time, struct err *e)
{
    const struct exchange_shape *shape = t->shape;
    int attention = t->end->place.layout.attention;
    struct step s = {.t = t, .look = true, .e = e};
    *e = (struct err){{0}};
    *time = (struct trial_time){0};
    s.rows = mem_zeroed(mem_mul((size_t)attention, (size_t)shape->micro_batches), sizeof *s.rows);
    for (int a = 0; a < attention; a++) {
        size_t n = 1 + (size_t)(a * 5 + 2) % 9;
        s.rows[a * shape->micro_batches] = (int)(n < shape->rows ? n : shape->rows);
    }
    if (row_bytes(shape) >= sizeof(struct name))
        play(&s, shape->layers);
    measure(&s, time);
    free(s.rows);
    return fine(&s) ? 0 : -1;
}
