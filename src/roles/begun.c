#include "roles/begun.h"

#include "base/mem.h"
#include "output/journal.h"

#include <stdlib.h>

void begun_read(struct begun_list *b, const struct bytes *batch)
{
    *b = (struct begun_list){0};
    const struct journal_record *r;
    for (size_t at = 0; (r = journal_next(batch, &at));) {
        if (b->n % 64 == 0)
            b->pieces = mem_resize(b->pieces, b->n + 64, sizeof *b->pieces);
        struct piece *p = &b->pieces[b->n++];
        if (table_unpack(&piece_table, r + 1, (size_t)r->bytes, p) != 0)
            die("what was begun of unit %llu cannot be understood", (unsigned long long)r->unit);
        p->unit = r->unit;
        b->tokens += p->n_tokens;
    }
}

void begun_free(struct begun_list *b)
{
    for (size_t i = 0; i < b->n; i++)
        table_free(&piece_table, &b->pieces[i]);
    free(b->pieces);
    *b = (struct begun_list){0};
}

static int by_unit(const void *key, const void *piece)
{
    uint64_t a = *(const uint64_t *)key, b = ((const struct piece *)piece)->unit;
    return (a > b) - (a < b);
}

const struct piece *begun_find(const struct begun_list *b, uint64_t unit)
{
    return b->n ? bsearch(&unit, b->pieces, b->n, sizeof *b->pieces, by_unit) : NULL;
}
