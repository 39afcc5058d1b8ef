/* A job of many prompts (100000 as argument: the table worth reading) on four attention ranks, for three
 * shapes of lengths, with memory that abounds and with memory that is short: how full slots and memory are, and how many steps a token
 * costs. Slots are at least 97 % full until the last unit is handed out. */
#include "fleet.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/philox.h"
#include "roles/comm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { RANKS = 4, SLOTS = 64, CHUNK = 256, CONTEXT = 4096, BLOCK = 64 };

static double uniform(uint64_t unit, uint32_t what)
{
    return ((double)philox_uniform(11, unit, what, 0) + 0x1p-25);
}

/* Lognormal with the given median and spread (of the logarithm), from 1 to `most`. */
static size_t lognormal(uint64_t unit, uint32_t what, double median, double spread, size_t most)
{
    double normal = sqrt(-2 * log(uniform(unit, what))) * cos(2 * M_PI * uniform(unit, what + 1));
    double n = median * exp(spread * normal);
    return n < 1 ? 1 : n > (double)most ? most : (size_t)n;
}

/* Questions and answers of a chat: most are short, some are twenty times as long. The means are those of
 * ShareGPT, 161 and 338 tokens (arXiv 2309.06180, figure 11); the spread is assumed. */
static struct lengths chat(uint64_t unit)
{
    return (struct lengths){lognormal(unit, 0, 88, 1.1, 2000), lognormal(unit, 2, 225, 0.9, 4096),
                            2048};
}

/* Long texts to be summed up in a few words. */
static struct lengths summary(uint64_t unit)
{
    return (struct lengths){200 + (size_t)(800 * uniform(unit, 0)),
                            40 + (size_t)(120 * uniform(unit, 2)), 256};
}

/* A benchmark: every completion as long as it may be. */
static struct lengths fixed(uint64_t unit)
{
    (void)unit;
    return (struct lengths){64, 128, 128};
}

struct shape {
    const char *name;
    struct lengths (*lengths)(uint64_t unit);
    size_t blocks; /* of a rank when memory is short */
    int chunk;
};

static const struct shape shapes[] = {
    {"chat", chat, 150, CHUNK},
    {"summary", summary, 400, 4 * CHUNK},
    {"fixed", fixed, 100, CHUNK},
};

static double lower_bound(const struct fleet *f)
{
    return (double)f->tokens / (RANKS * SLOTS);
}

/* False: slots were not full enough. */
static bool simulate(const struct shape *shape, uint64_t units, size_t blocks, bool abounds)
{
    struct fleet f = {
        .ranks = RANKS,
        .limits = {.slots = SLOTS,
                   .micro_batches = 2,
                   .prefill_chunk = shape->chunk,
                   .max_context = CONTEXT,
                   .pools = 1,
                   .pool[0].blocks = blocks},
        .units = units,
        .samples = 1,
        .lengths = shape->lengths,
    };
    fleet_open(&f);
    while (fleet_step(&f))
        ;
    struct schedule_usage use = fleet_usage(&f);
    double slots = f.slots_used / ((double)f.full_steps * RANKS * SLOTS);
    double kv = f.kv_used / ((double)f.full_steps * RANKS * (double)blocks);
    printf("%-8s %8zu %10llu %7.2f %7.2f %10.4f %10.3f %9llu %7.2f\n", shape->name, blocks,
           (unsigned long long)f.steps, 100 * slots, 100 * kv,
           1e3 * (double)f.steps / (double)f.tokens, (double)f.steps / lower_bound(&f),
           (unsigned long long)use.put_back, 100 * (double)use.computed_again / (double)f.rows);
    fleet_close(&f);
    return !abounds || slots >= 0.97;
}

/* What every rank does with the contract of a step in a cell of so many attention ranks: sums, deal. */
static void time_contract(int ranks, uint64_t steps)
{
    struct contract *all = mem_zeroed((size_t)ranks, sizeof *all);
    struct admission *a = admission_new(ranks, SLOTS, 1);
    size_t places = (size_t)ranks * SLOTS;
    int *room = mem_new((size_t)ranks, sizeof *room), *owner = mem_new(places, sizeof *owner);
    uint64_t *unit = mem_new(places, sizeof *unit), next = 0;
    int64_t finished = 0;
    double start = clock_now();
    for (uint64_t step = 0; step < steps; step++) {
        size_t n = 0;
        for (int r = 0; r < ranks; r++) {
            all[r].room = ((uint64_t)r * 7 + step) % 5 == 0;
            finished += all[r].finished + all[r].stop + all[r].busy + all[r].rows[0];
            room[r] = all[r].room;
            n += (size_t)room[r];
        }
        for (size_t i = 0; i < n; i++)
            unit[i] = next++;
        admission_deal(a, room, unit, n, owner);
    }
    printf("%5d ranks: %7.2f us a step, %.1f units dealt in each%s\n", ranks,
           1e6 * (clock_now() - start) / (double)steps, (double)next / (double)steps,
           finished ? "!" : "");
    admission_free(a);
    free(all);
    free(room);
    free(owner);
    free(unit);
}

int main(int argc, char **argv)
{
    const char *often = getenv("LONG");
    uint64_t units = argc > 1             ? strtoull(argv[1], NULL, 10)
                     : getenv("VALGRIND") ? 300
                     : getenv("QUICK")    ? 2000
                     : often && *often    ? 30000
                                          : 8000;
    bool good = true;
    printf("%llu prompts, %d ranks x %d slots\n", (unsigned long long)units, RANKS, SLOTS);
    printf("%-8s %8s %10s %7s %7s %10s %10s %9s %7s\n", "lengths", "blocks", "steps", "slots %",
           "KV %", "steps/1000", "to ideal", "put back", "again %");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        good &= simulate(&shapes[i], units, (size_t)SLOTS * CONTEXT / BLOCK, true);
        good &= simulate(&shapes[i], units, shapes[i].blocks, false);
    }
    printf("contract and admission, on every rank:\n");
    for (int ranks = 16; ranks <= 1024; ranks *= 4)
        time_contract(ranks, getenv("QUICK") ? 20 : 2000);
    /* So few never fill the slots: there it is about memory alone. */
    good |= getenv("VALGRIND") != NULL;
    if (!good)
        printf("FAILED: slots are less than 97 %% full before the tail\n");
    return good ? 0 : 1;
}
