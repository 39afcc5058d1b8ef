#include "schedule/admission.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>

/* Ranks of equal room stand in one queue; best first means: from the highest queue that is not
 * empty, the first. */
struct admission {
    int ranks, slots;
    uint64_t samples;
    int *left, *next;  /* [ranks] */
    int *first, *last; /* [slots + 1] by room; -1: nobody */
    uint64_t prompt;   /* the last one dealt, */
    int owner;         /* to this rank; -1: none yet */
};

struct admission *admission_new(int ranks, int slots, uint64_t samples)
{
    struct admission *a = mem_zeroed(1, sizeof *a);
    *a = (struct admission){.ranks = ranks, .slots = slots, .samples = samples, .owner = -1};
    a->left = mem_new((size_t)ranks, sizeof *a->left);
    a->next = mem_new((size_t)ranks, sizeof *a->next);
    a->first = mem_new((size_t)slots + 1, sizeof *a->first);
    a->last = mem_new((size_t)slots + 1, sizeof *a->last);
    return a;
}

void admission_free(struct admission *a)
{
    if (!a)
        return;
    free(a->left);
    free(a->next);
    free(a->first);
    free(a->last);
    free(a);
}

static void stand(struct admission *a, int rank)
{
    int room = a->left[rank];
    a->next[rank] = -1;
    if (a->first[room] < 0)
        a->first[room] = rank;
    else
        a->next[a->last[room]] = rank;
    a->last[room] = rank;
}

static void line_up(struct admission *a)
{
    for (int r = 0; r <= a->slots; r++)
        a->first[r] = -1;
    for (int i = 0; i < a->ranks; i++)
        stand(a, i);
}

static void take_rooms(struct admission *a, const int *room)
{
    for (int i = 0; i < a->ranks; i++) {
        if (room[i] < 0 || room[i] > a->slots)
            die("admission: rank %d says it has room for %d of %d", i, room[i], a->slots);
        a->left[i] = room[i];
    }
}

/* The rank with most room, taken out of its queue; -1: no room anywhere. Rooms only fall, so the
 * highest queue with somebody in it does too. */
static int best(struct admission *a, int *level)
{
    while (*level > 0 && a->first[*level] < 0)
        (*level)--;
    if (*level == 0)
        return -1;
    int rank = a->first[*level];
    a->first[*level] = a->next[rank];
    return rank;
}

/* Most jobs have one sample a prompt, and need not divide. */
static uint64_t prompt_of(const struct admission *a, uint64_t unit)
{
    return a->samples == 1 ? unit : unit / a->samples;
}

/* As many units of the first one's prompt as the rank has room for. */
static size_t give(struct admission *a, int rank, const uint64_t *units, size_t n, int *owner)
{
    size_t given = 0, most = n < (size_t)a->left[rank] ? n : (size_t)a->left[rank];
    a->prompt = prompt_of(a, units[0]);
    a->owner = rank;
    for (uint64_t end = (a->prompt + 1) * a->samples; given < most && units[given] < end; given++)
        owner[given] = rank;
    a->left[rank] -= (int)given;
    return given;
}

size_t admission_deal(struct admission *a, const int *room, const uint64_t *units, size_t n,
                      int *owner)
{
    int level = a->slots;
    size_t dealt = 0;
    if (n == 0)
        return 0;
    take_rooms(a, room);
    if (a->owner >= 0 && prompt_of(a, units[0]) == a->prompt)
        dealt = give(a, a->owner, units, n, owner);
    line_up(a);
    while (dealt < n) {
        int rank = best(a, &level);
        if (rank < 0)
            break;
        dealt += give(a, rank, units + dealt, n - dealt, owner + dealt);
        stand(a, rank);
    }
    return dealt;
}
