#include "model/slices.h"

#include "base/mem.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static bool is_shared(const struct slices *s, const struct slices_share *share)
{
    return s->way && share->ranks.count > 1;
}

/* Does the cut go through every stored row? */
static bool crosses(const struct weight_part *p, bool columns)
{
    return weight_stored(p).turned != columns;
}

/* The stored rows that the i-th of the ranks reads. */
static struct span rows_of(const struct weight_part *p, const struct slices_share *share, size_t i)
{
    size_t rows = weight_stored(p).turned ? p->k : p->n;
    return placement_slice(rows, (int)share->ranks.count, (int)i, 1);
}

static size_t mine_of(const struct slices_share *share)
{
    return (size_t)share->rank - share->ranks.first;
}

struct weight_part slices_read(const struct slices *s, const struct weight_part *p, bool columns,
                               const struct slices_share *share)
{
    struct weight_part read = *p;
    if (!is_shared(s, share) || !crosses(p, columns))
        return read;
    struct span rows = rows_of(p, share, mine_of(share));
    if (weight_stored(p).turned)
        read.col0 = rows.first, read.k = rows.count, read.row0 = 0, read.n = share->width;
    else
        read.row0 = rows.first, read.n = rows.count, read.col0 = 0, read.k = share->width;
    return read;
}

static void *hold(struct slices *s, size_t bytes)
{
    s->held = mem_resize(s->held, s->n + 1, sizeof *s->held);
    return s->held[s->n++] = mem_new(bytes, 1);
}

/* Units of a stored row that hold the slice of the i-th rank. */
static struct span units_of(const struct weight_part *p, const struct slices_share *share, size_t i)
{
    const struct weight_stored stored = weight_stored(p);
    struct span own = share->of(share->width, share->layout, share->rank);
    struct span theirs = share->of(share->width, share->layout, (int)(share->ranks.first + i));
    /* The dimension may begin inside the matrix: up, behind gate. */
    size_t first = (stored.turned ? p->row0 : p->col0) - own.first + theirs.first;
    size_t end = (first + theirs.count + stored.unit - 1) / stored.unit;
    first /= stored.unit;
    return (struct span){first, theirs.count ? end - first : 0};
}

/* Some units of some rows, one row behind the other. */
static void cut_out(const struct slices *s, const struct weight_part *p, struct span rows,
                    struct span units, char *to)
{
    const struct weight_stored stored = weight_stored(p);
    const char *from = (const char *)p->data + units.first * stored.unit_bytes;
    size_t bytes = units.count * stored.unit_bytes;
#pragma omp parallel for num_threads(s->threads)
    for (size_t i = 0; i < rows.count; i++)
        memcpy(to + i * bytes, from + (rows.first + i) * stored.row_bytes, bytes);
}

/* The part's numbers as those of the copy, which has no other columns; they keep their places in the whole. */
static void point_to(struct weight_part *p, const char *copy, struct span units)
{
    const struct weight_stored stored = weight_stored(p);
    p->data = (const void *)((uintptr_t)copy - units.first * stored.unit_bytes);
    p->stride = stored.turned ? units.count * stored.unit_bytes / p->codec->word
                              : units.count * stored.unit;
}

size_t slices_bytes(const struct weight_part *p, bool columns, const struct slices_share *share,
                    size_t *passing)
{
    const struct weight_stored stored = weight_stored(p);
    size_t n = share->ranks.count;
    *passing = 0;
    if (n < 2 || !crosses(p, columns))
        return 0;
    struct span rows = rows_of(p, share, mine_of(share)), own = units_of(p, share, mine_of(share));
    *passing = mem_mul(rows.count, stored.row_bytes + n * stored.unit_bytes);
    return mem_mul(stored.turned ? p->k : p->n, own.count * stored.unit_bytes);
}

static void copy_slice(struct slices *s, struct weight_part *p, const struct slices_share *share)
{
    const struct weight_stored stored = weight_stored(p);
    size_t n = share->ranks.count, mine = mine_of(share), at = 0, passing;
    struct slices_bytes *give = mem_zeroed(2 * n, sizeof *give), *take = give + n;
    struct span rows = rows_of(p, share, mine), own = units_of(p, share, mine);
    size_t own_bytes = own.count * stored.unit_bytes;
    char *copy = hold(s, slices_bytes(p, !stored.turned, share, &passing));
    char *out = mem_new(passing, 1);
    for (size_t i = 0; i < n; i++) {
        struct span units = units_of(p, share, i), theirs = rows_of(p, share, i);
        if (i == mine) {
            cut_out(s, p, rows, own, copy + rows.first * own_bytes);
            continue;
        }
        give[i] = (struct slices_bytes){out + at, rows.count * units.count * stored.unit_bytes};
        take[i] = (struct slices_bytes){copy + theirs.first * own_bytes, theirs.count * own_bytes};
        cut_out(s, p, rows, units, out + at);
        at += give[i].bytes;
    }
    s->way->swap(s->way->context, share->ranks, give, take);
    free(out);
    free(give);
    point_to(p, copy, own);
}

static void find_most(const struct slices *s, const struct weight_part *p, float *most)
{
#pragma omp parallel num_threads(s->threads)
    {
        float *row = mem_new(p->k, sizeof *row);
#pragma omp for
        for (size_t i = 0; i < p->n; i++) {
            weight_row(p, i, row);
            most[i] = 0;
            for (size_t k = 0; k < p->k; k++)
                most[i] = fmaxf(most[i], fabsf(row[k]));
        }
        free(row);
    }
}

/* The largest value of whole rows, of which every rank has some columns. */
static void share_most(struct slices *s, struct weight_part *p, const struct slices_share *share)
{
    size_t n = share->ranks.count, mine = mine_of(share);
    struct slices_bytes *give = mem_zeroed(2 * n, sizeof *give), *take = give + n;
    float *most = hold(s, mem_mul(p->n, sizeof *most)), *all = mem_new(n * p->n, sizeof *all);
    find_most(s, p, all + mine * p->n);
    for (size_t i = 0; i < n; i++) {
        size_t bytes = i == mine ? 0 : p->n * sizeof *all;
        give[i] = (struct slices_bytes){all + mine * p->n, bytes};
        take[i] = (struct slices_bytes){all + i * p->n, bytes};
    }
    s->way->swap(s->way->context, share->ranks, give, take);
    for (size_t row = 0; row < p->n; row++) {
        most[row] = 0;
        for (size_t i = 0; i < n; i++)
            most[row] = fmaxf(most[row], all[i * p->n + row]);
    }
    free(all);
    free(give);
    p->most = most;
}

void slices_gather(struct slices *s, struct weight_part *p, bool columns,
                   const struct slices_share *share)
{
    if (!is_shared(s, share))
        return;
    if (crosses(p, columns))
        copy_slice(s, p, share);
    if (columns && s->keep == WEIGHT_INT8)
        share_most(s, p, share);
}

void slices_free(struct slices *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->held[i]);
    free(s->held);
    s->held = NULL;
    s->n = 0;
}
