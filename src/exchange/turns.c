#include "exchange/turns.h"

#define REMEMBERS 64
#define MOST      (REMEMBERS / 2 * TURNS_LATE) /* one wait alone says nothing */

bool turns_awake(struct turns *t)
{
    if (t->late > TURNS_LATE && ++t->asleep < TURNS_WAITS)
        return false;
    t->asleep = 0;
    return true;
}

void turns_learn(struct turns *t, double late)
{
    /* A try that ended in time: one that does not, and it sleeps again. */
    if (t->late > TURNS_LATE && late < TURNS_LATE)
        t->late = TURNS_LATE / 2;
    t->late += ((late < MOST ? late : MOST) - t->late) / REMEMBERS;
}
