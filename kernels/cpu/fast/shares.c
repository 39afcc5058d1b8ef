#include "kernels/cpu/fast/shares.h"

static uint64_t range(size_t first, size_t end)
{
    return (uint64_t)end << 32 | first;
}

static size_t size_of(uint64_t left)
{
    return (size_t)(left >> 32) - (uint32_t)left;
}

struct shares shares_of(struct share *of, size_t total, size_t threads)
{
    for (size_t i = 0; i < threads; i++)
        atomic_init(&of[i].left, range(total * i / threads, total * (i + 1) / threads));
    return (struct shares){of, threads};
}

/* The first unit of a share. */
static bool take_first(struct share *s, size_t *unit)
{
    uint64_t left = atomic_load_explicit(&s->left, memory_order_relaxed);
    while (size_of(left) > 0)
        if (atomic_compare_exchange_weak_explicit(&s->left, &left, left + 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            *unit = (uint32_t)left;
            return true;
        }
    return false;
}

/* The later half of the largest share becomes the thread's own, which is empty, but for its first unit; false: there is
 * none. */
static bool take_over(const struct shares *s, size_t thread, size_t *unit)
{
    for (;;) {
        struct share *largest = s->of;
        uint64_t most = 0;
        for (size_t i = 0; i < s->threads; i++) {
            uint64_t left = atomic_load_explicit(&s->of[i].left, memory_order_relaxed);
            if (size_of(left) > size_of(most)) {
                largest = &s->of[i];
                most = left;
            }
        }
        if (size_of(most) == 0)
            return false;
        size_t first = (uint32_t)most, end = most >> 32, middle = first + size_of(most) / 2;
        if (atomic_compare_exchange_strong_explicit(&largest->left, &most, range(first, middle),
                                                    memory_order_relaxed, memory_order_relaxed)) {
            *unit = middle;
            atomic_store_explicit(&s->of[thread].left, range(middle + 1, end),
                                  memory_order_relaxed);
            return true;
        }
    }
}

bool shares_take(const struct shares *s, size_t thread, size_t *unit)
{
    return take_first(&s->of[thread], unit) || take_over(s, thread, unit);
}
