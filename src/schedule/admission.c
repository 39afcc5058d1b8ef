#include "schedule/admission.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

size_t admission_deal(const int *room, int n, size_t available, int *owner)
{
    int *left = mem_new((size_t)n, sizeof *left);
    memcpy(left, room, (size_t)n * sizeof *left);
    size_t dealt = 0;
    while (dealt < available) {
        int best = 0;
        for (int i = 1; i < n; i++)
            if (left[i] > left[best])
                best = i;
        if (left[best] <= 0)
            break;
        left[best]--;
        owner[dealt++] = best;
    }
    free(left);
    return dealt;
}
