#include "model/reading.h"

#include "base/mem.h"
#include "model/slices.h"

struct weight_part reading_rows(struct weight_part p, struct span s)
{
    p.row0 += s.first;
    p.n = s.count;
    return p;
}

struct weight_part reading_columns(struct weight_part p, struct span s)
{
    p.col0 += s.first;
    p.k = s.count;
    return p;
}

/* The stored rows that hold the part. */
static struct slices_bytes stored_rows(const struct weight_part *p)
{
    const struct weight_stored stored = weight_stored(p);
    size_t first = stored.turned ? p->col0 : p->row0, rows = stored.turned ? p->k : p->n;
    if (!p->n || !p->k)
        rows = 0;
    return (struct slices_bytes){(char *)p->data + mem_mul(first, stored.row_bytes),
                                 mem_mul(rows, stored.row_bytes)};
}

void reading_hint(const struct weight_part *p, void (*tell)(const void *, size_t))
{
    struct slices_bytes rows = stored_rows(p);
    if (rows.bytes)
        tell(rows.at, rows.bytes);
}

void reading_note(struct fingerprint *f, const struct weight_part *p)
{
    struct slices_bytes rows = stored_rows(p);
    if (!f || !rows.bytes)
        return;
    fingerprint_add(f, rows.at, rows.bytes);
    if (p->codec->block_bytes > 0 && p->scale && p->scale_rows) {
        size_t step = p->step ? p->step : 1, first = p->row0 * step / p->scale_rows;
        size_t last = ((p->row0 + p->n) * step - 1) / p->scale_rows;
        size_t row = mem_mul(p->scale_stride, dtype_size(p->scale_dtype));
        fingerprint_add(f, (const char *)p->scale + first * row, (last - first + 1) * row);
    } else if (p->scale) {
        fingerprint_add_tensor(f, p->scale);
    }
    if (p->zero)
        fingerprint_add_tensor(f, p->zero);
}
