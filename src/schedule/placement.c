#include "schedule/placement.h"

#include "base/err.h"

int layout_ffn_ranks(const struct layout *l)
{
    return l->colocated ? 1 : l->expert * l->tensor;
}

int layout_instances(const struct layout *l)
{
    return l->colocated ? 1 : l->expert;
}

int layout_ranks(const struct layout *l)
{
    return l->colocated ? l->attention : l->attention + layout_ffn_ranks(l);
}

struct place place_of(const struct layout *l, int rank)
{
    bool attention = rank < l->attention;
    return (struct place){
        .layout = *l,
        .attention = attention,
        .ffn = l->colocated || !attention,
        .index = attention ? rank : rank - l->attention,
        .rank = rank,
        .host_rank = rank,
        .host_ranks = layout_ranks(l),
    };
}

const char *place_role(const struct place *p)
{
    return p->attention && p->ffn ? "colocated" : p->attention ? "attention" : "ffn";
}

struct span placement_slice(size_t width, int parts, int part, size_t granule)
{
    if (parts < 1 || part < 0 || part >= parts || granule < 1)
        die("placement: part %d of %d in multiples of %zu", part, parts, granule);
    size_t units = (width + granule - 1) / granule;
    size_t first = units * (size_t)part / (size_t)parts * granule;
    size_t last = units * ((size_t)part + 1) / (size_t)parts * granule;
    if (first > width)
        first = width;
    if (last > width)
        last = width;
    return (struct span){first, last - first};
}

size_t placement_granule(size_t width, int parts, size_t least)
{
    static const size_t granules[] = {128, 32};
    least = least ? least : 1;
    for (size_t i = 0; i < sizeof granules / sizeof *granules; i++)
        if (granules[i] % least == 0 && width / granules[i] >= (size_t)parts)
            return granules[i];
    return least;
}

struct span placement_experts(size_t experts, const struct layout *l, int ffn_rank)
{
    if (l->colocated)
        return (struct span){0, experts};
    return placement_slice(experts, l->expert, ffn_rank / l->tensor, 1);
}

struct span placement_expert_inter(size_t inter, const struct layout *l, int ffn_rank)
{
    if (l->colocated)
        return (struct span){0, inter};
    return placement_slice(inter, l->tensor, ffn_rank % l->tensor,
                           placement_granule(inter, l->tensor, l->granule));
}

struct span placement_shared_inter(size_t inter, const struct layout *l, int ffn_rank)
{
    int parts = layout_ffn_ranks(l);
    if (l->colocated)
        return (struct span){0, inter};
    return placement_slice(inter, parts, ffn_rank, placement_granule(inter, parts, l->granule));
}
