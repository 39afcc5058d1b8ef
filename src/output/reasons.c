#include "output/reasons.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* "prompt 17: has 900 tokens" and "prompt 3: has 4000 tokens" are one reason. */
void reasons_add(struct reasons *r, const char *text, uint64_t count)
{
    char plain[sizeof r->all->text];
    size_t n = 0, i = 0;
    for (const char *c = text; *c && n < sizeof plain - 1; c++) {
        bool digit = isdigit((unsigned char)*c);
        if (!digit)
            plain[n++] = *c;
        else if (n == 0 || plain[n - 1] != 'N')
            plain[n++] = 'N';
    }
    plain[n] = 0;
    while (i < r->n && strcmp(r->all[i].text, plain) != 0)
        i++;
    if (i == REASONS_MAX)
        i--; /* the last one stands for all that did not fit */
    if (i == r->n)
        snprintf(r->all[r->n++].text, sizeof plain, "%s",
                 i == REASONS_MAX - 1 ? "other reasons" : plain);
    r->all[i].count += count;
}
