/* linear.c - y = x W^T: rows packed once, then panels shared out to the threads.
 *
 * Every panel needs all inputs of all rows. Where those are more than the caches near a core hold, panels that are
 * multiplied one after the other would each fetch them from far away. So some panels together take a chunk of the
 * inputs, some rows at a time, then the next chunk, while the sums of all of them wait: the chain of additions of an
 * output (panel.h) is the same. Measured with AVX2: 0.92 (int8) to 0.98 (bf16) of the time with 256 to 512 rows of
 * 2048 inputs and more, nothing below.
 */
#include "kernels/cpu/fast/packed.h"
#include "kernels/cpu/fast/shares.h"

#include "base/mem.h"

#include <omp.h>

#define TOGETHER      8                 /* panels, at most */
#define TOGETHER_ROWS 128               /* at a time, at most */
#define NEAR          ((size_t)2 << 20) /* bytes of rows up to which panels are taken one by one */
#define OWN_ROWS      16                /* up to which every thread packs all rows for itself */

/* Does every thread pack all rows? Not where integers are made of them, which costs more than it saves. */
static bool packs_own(enum x_format format, size_t rows)
{
    return rows <= OWN_ROWS && format != X_INTEGERS;
}

/* Of one thread. */
static size_t sums_bytes(size_t rows, size_t together)
{
    return shares_apart(mem_mul(rows, together * PANEL * sizeof(float)));
}

size_t fast_linear_scratch(const struct device_config *c)
{
    const struct device_limits *l = &c->limits;
    size_t rows = l->rows > l->logit_rows ? l->rows : l->logit_rows;
    size_t k = l->hidden > l->q_width ? l->hidden : l->q_width;
    if (rows > SLAB_ROWS)
        rows = SLAB_ROWS;
    k = (k > l->inter ? k : l->inter) + F8_BLOCK + K_ALIGN;
    size_t own = (size_t)c->threads * (rows < OWN_ROWS ? rows : OWN_ROWS);
    size_t kept = own > rows ? own : rows; /* packed rows of all threads */
    return cpu_scratch_size((size_t)c->threads, sizeof(struct share)) +
           cpu_scratch_size(mem_mul(x_chunks(X_F32, k) + x_sum_chunks(k), kept), X_ROW) +
           cpu_scratch_size((size_t)c->threads, sums_bytes(rows, TOGETHER));
}

/* A slab of rows on its way through a matrix. */
struct slab {
    const struct weight *w;
    enum x_format format;
    const uint8_t *from; /* [rows][k] in act */
    size_t rows;
    uint8_t *x;      /* packed: once, or for each thread */
    size_t x_thread; /* bytes of one thread's; 0: they are there once */
    size_t chunk;
    size_t together;     /* panels of a unit of work */
    uint8_t *c;          /* [threads][sums_bytes()], each [together][rows][32] of f32 */
    struct share *share; /* [threads] */
    uint8_t *to;
    enum dtype to_dtype;
};

/* So many that the rows are worth it, but every thread gets several units. */
size_t fast_linear_together(const struct device *d, const struct weight *w, size_t rows)
{
    enum x_format format = packed_x_format(d, w);
    size_t bytes = mem_mul(x_chunks(format, w->k_padded), rows) * X_ROW;
    size_t share = w->panels / (8 * (size_t)d->threads);
    if (format == X_INTEGERS || bytes <= NEAR || share == 0)
        return 1;
    return share < TOGETHER ? share : TOGETHER;
}

/* Some panels, some of the rows, inputs from .. k - 1. */
struct piece {
    size_t panel, panels, row, rows, from, k;
    const uint8_t *next; /* what will be read after it */
};

static void multiply(const struct device *d, const struct slab *b, const struct piece *piece,
                     const uint8_t *x, float *c)
{
    const struct weight *w = b->w;
    size_t from = piece->from * w_input(w->format);
    for (size_t i = 0; i < piece->panels; i++) {
        const uint8_t *after = w->data + (piece->panel + i + 1) * w->panel_bytes + from;
        struct panel p =
            packed_panel(w, piece->panel + i, i + 1 < piece->panels ? after : piece->next);
        p.x = x + piece->row * X_ROW;
        p.chunk = b->chunk;
        p.rows = piece->rows;
        p.from = piece->from;
        p.k = piece->k;
        p.more = piece->from > 0;
        p.c = c + (i * b->rows + piece->row) * PANEL;
        d->isa->panel[w->format][b->format](&p);
    }
}

/* All inputs and rows of a unit, piece by piece. */
static void multiply_unit(const struct device *d, const struct slab *b, size_t first, size_t end,
                          const uint8_t *x, float *c)
{
    const struct weight *w = b->w;
    bool whole = b->together == 1;
    size_t parts = whole ? 1 : (b->rows + TOGETHER_ROWS - 1) / TOGETHER_ROWS;
    size_t step = whole ? w->k_padded : X_CHUNK / x_size(b->format);
    for (size_t from = 0; from < w->k_padded; from += step) {
        size_t k = from + step < w->k_padded ? from + step : w->k_padded;
        for (size_t i = 0; i < parts; i++) {
            bool last = i + 1 == parts;
            size_t row = i * b->rows / parts, after = (last ? k : from) * w_input(w->format);
            struct piece piece = {first,
                                  end - first,
                                  row,
                                  (i + 1) * b->rows / parts - row,
                                  from,
                                  k,
                                  .next = w->data + first * w->panel_bytes + after};
            if (last && k == w->k_padded)
                piece.next = w->data + end * w->panel_bytes;
            multiply(d, b, &piece, x, c);
        }
    }
    for (size_t i = first; i < end; i++, c += b->rows * PANEL) {
        size_t left = w->n - i * PANEL;
        d->isa->store(c, b->rows, left < PANEL ? left : PANEL, b->to_dtype,
                      b->to + i * PANEL * dtype_size(b->to_dtype), w->n);
    }
}

static void pack(const struct device *d, const struct slab *b, size_t row, uint8_t *x)
{
    const uint8_t *from = b->from + row * b->w->k * dtype_size(d->config.act);
    packed_row(d, b->w, from, x + row * X_ROW, b->chunk);
}

/* A few rows every thread packs for itself: fetched out of another core's cache a line at a time, as a tile comes to
 * them, they cost more (two chiplets, 1024 inputs: 4 rows 4 us, 16 rows 10), and so does waiting for each other. Time
 * over that with rows packed once (Zen 4, cold, two chiplets): FP8 of 1024 x 5120 .94, .91, .90, .91 with 1, 4, 8, 16
 * rows, of 5120 x 1024 .98 to 1.00; on one chiplet 1.00; integers made of 16 rows would take 1.05. */
static void run(struct device *d, const struct slab *b)
{
    size_t panels = b->w->panels, units = (panels + b->together - 1) / b->together;
    struct team team = team_begin(d, TEAM_LINEAR, b->w->n * b->w->k * (4 + b->rows) / 4);
    struct shares shares = shares_of(b->share, units, (size_t)team.threads);
#pragma omp parallel num_threads(team.threads)
    {
        size_t thread = (size_t)omp_get_thread_num(), unit;
        uint8_t *x = b->x + thread * b->x_thread;
        if (b->x_thread) {
            for (size_t i = 0; i < b->rows; i++)
                pack(d, b, i, x);
        } else {
#pragma omp for schedule(static)
            for (size_t i = 0; i < b->rows; i++)
                pack(d, b, i, x);
        }
        float *c = (float *)(void *)(b->c + thread * sums_bytes(b->rows, b->together));
        while (shares_take(&shares, thread, &unit)) {
            size_t first = unit * b->together, end = first + b->together;
            multiply_unit(d, b, first, end < panels ? end : panels, x, c);
        }
    }
    team_end(&team);
}

void fast_linear(struct device *d, struct stream *s, const struct weight *w, const void *x, int n,
                 void *y, enum dtype y_dtype)
{
    (void)s;
    size_t rows = (size_t)n, most = rows < SLAB_ROWS ? rows : SLAB_ROWS;
    struct slab b = {.w = w, .format = packed_x_format(d, w), .to_dtype = y_dtype};
    cpu_scratch_begin(d);
    bool own = packs_own(b.format, most);
    size_t chunks = packed_row_chunks(d, w);
    b.x = cpu_scratch(d, mem_mul(chunks, own ? most * (size_t)d->threads : most), X_ROW);
    b.together = fast_linear_together(d, w, most);
    b.c = cpu_scratch(d, (size_t)d->threads, sums_bytes(most, b.together));
    b.share = cpu_scratch(d, (size_t)d->threads, sizeof *b.share);
    for (size_t row = 0; row < rows; row += b.rows) {
        b.rows = rows - row < most ? rows - row : most;
        b.chunk = b.rows * X_ROW;
        b.x_thread = own ? chunks * b.chunk : 0;
        b.from = (const uint8_t *)x + row * w->k * dtype_size(d->config.act);
        b.to = (uint8_t *)y + row * w->n * dtype_size(y_dtype);
        run(d, &b);
    }
}
