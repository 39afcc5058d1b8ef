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

#define SLICES_LEAST 4
#define SLICE_WIDTH  256

static size_t slice_unit(size_t width, size_t least)
{
    static const size_t units[] = {128, 32, 16};
    least = least ? least : 1;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (units[i] % least == 0 && width / units[i] >= SLICES_LEAST)
            return units[i];
    return least > 16 ? least : 16;
}

int placement_slices(size_t width, size_t least)
{
    size_t unit = slice_unit(width, least), units = (width + unit - 1) / unit, n = 1;
    while (2 * n <= units && 2 * n <= PLACEMENT_SLICES_MAX &&
           (2 * n <= SLICES_LEAST || width / (2 * n) >= SLICE_WIDTH))
        n *= 2;
    return (int)n;
}

size_t placement_cut(size_t width, size_t least, int slice)
{
    int slices = placement_slices(width, least);
    struct span all = placement_slice(width, slices, slice < slices ? slice : slices - 1,
                                      slice_unit(width, least));
    return slice < slices ? all.first : all.first + all.count;
}

size_t placement_cuts(size_t width, size_t least, struct span mine,
                      size_t cuts[PLACEMENT_SLICES_MAX + 1])
{
    size_t n = 0;
    for (int s = 1; s < placement_slices(width, least); s++) {
        size_t cut = placement_cut(width, least, s);
        if (cut > mine.first && cut < mine.first + mine.count)
            cuts[n++] = cut - mine.first;
    }
    if (mine.count)
        cuts[n++] = mine.count;
    return n;
}

bool placement_whole(size_t width, int parts, size_t least)
{
    return width == 0 || placement_slices(width, least) % parts == 0;
}

size_t placement_granule(size_t width, int parts, size_t least)
{
    static const size_t granules[] = {128, 32};
    if (placement_whole(width, parts, least))
        return slice_unit(width, least);
    least = least > 16 ? least : 16;
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
