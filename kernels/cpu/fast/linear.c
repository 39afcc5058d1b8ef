/* linear.c - y = x W^T: rows packed once, then panels shared out to the threads. */
#include "kernels/cpu/fast/packed.h"

#include "base/mem.h"

#include <omp.h>

size_t fast_linear_scratch(const struct device_config *c)
{
    const struct device_limits *l = &c->limits;
    size_t rows = l->rows > l->logit_rows ? l->rows : l->logit_rows;
    size_t k = l->hidden > l->q_width ? l->hidden : l->q_width;
    if (rows > SLAB_ROWS)
        rows = SLAB_ROWS;
    k = (k > l->inter ? k : l->inter) + F8_BLOCK + K_ALIGN;
    return cpu_scratch_size(mem_mul(x_chunks(X_F32, k), rows), X_ROW) +
           cpu_scratch_size(mem_mul(mem_mul((size_t)c->threads, rows), PANEL), sizeof(float));
}

/* A slab of rows on its way through a matrix. */
struct slab {
    const struct weight *w;
    enum x_format format;
    const uint8_t *from; /* [rows][k] in act */
    size_t rows;
    uint8_t *x; /* packed */
    size_t chunk;
    float *c; /* [threads][rows][32] */
    uint8_t *to;
    enum dtype to_dtype;
};

static void multiply(const struct device *d, const struct slab *b, size_t i, float *c)
{
    const struct weight *w = b->w;
    struct panel p = packed_panel(w, i, w->data + (i + 1) * w->panel_bytes);
    p.x = b->x;
    p.chunk = b->chunk;
    p.rows = b->rows;
    p.c = c;
    d->isa->panel[w->format][b->format](&p);
    size_t left = w->n - i * PANEL;
    d->isa->store(c, b->rows, left < PANEL ? left : PANEL, b->to_dtype,
                  b->to + i * PANEL * dtype_size(b->to_dtype), w->n);
}

static void run(struct device *d, const struct slab *b)
{
    struct shares shares = {.total = b->w->panels, .threads = (size_t)d->threads};
    size_t from_bytes = b->w->k * dtype_size(d->config.act);
    struct team team = team_begin(d, TEAM_LINEAR, b->w->n * b->w->k * (1 + b->rows / 16));
#pragma omp parallel num_threads(team.threads)
    {
        size_t first, end;
#pragma omp for schedule(static)
        for (size_t i = 0; i < b->rows; i++)
            d->isa->pack_row(d->config.act, b->from + i * from_bytes, b->w->k, b->w->k_before,
                             b->w->k_padded, b->format, b->x + i * X_ROW, b->chunk);
        float *c = b->c + (size_t)omp_get_thread_num() * b->rows * PANEL;
        while (fast_take(&shares, &first, &end))
            for (size_t i = first; i < end; i++)
                multiply(d, b, i, c);
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
    b.x = cpu_scratch(d, mem_mul(x_chunks(b.format, w->k_padded), most), X_ROW);
    b.c = cpu_scratch(d, mem_mul(mem_mul((size_t)d->threads, most), PANEL), sizeof(float));
    for (size_t row = 0; row < rows; row += b.rows) {
        b.rows = rows - row < most ? rows - row : most;
        b.chunk = b.rows * X_ROW;
        b.from = (const uint8_t *)x + row * w->k * dtype_size(d->config.act);
        b.to = (uint8_t *)y + row * w->n * dtype_size(y_dtype);
        run(d, &b);
    }
}
