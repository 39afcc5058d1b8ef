#include "schedule/rails.h"

int rails_of(const struct place *p)
{
    return p->index % p->layout.tensor;
}

int rails_instance(const struct place *p)
{
    return p->attention ? 0 : p->index / p->layout.tensor;
}

int rails_attention(const struct layout *l, int rail)
{
    return l->attention / l->tensor + (rail < l->attention % l->tensor);
}

int rails_attention_rank(const struct layout *l, int rail, int i)
{
    return rail + i * l->tensor;
}

int rails_ffn_rank(const struct layout *l, int rail, int p)
{
    return l->attention + p * l->tensor + rail;
}

void rails_rows(const struct layout *l, const int *rows, int micro_batches, int m, int *first)
{
    first[0] = 0;
    for (int r = 0; r < l->tensor; r++) {
        first[r + 1] = first[r];
        for (int i = 0; i < rails_attention(l, r); i++)
            first[r + 1] += rows[rails_attention_rank(l, r, i) * micro_batches + m];
    }
}
