/* roofline.h - what the roles of a job did in a step, beside what their machine could have done at best.
 *
 * The steps file has the bytes that every rank had to read and the operations that it had to make
 * (roles/work.h). Over a machine's roofs - bytes and operations a second - the longer of both is the floor
 * of its time. Roofs are measured where the report is made (kernels/cpu/limits.h, as `tandem bench` does),
 * for as many threads as the ranks had, or are those of a card (plan/hardware.h). One thread.
 */
#ifndef TANDEM_REPORT_ROOFLINE_H
#define TANDEM_REPORT_ROOFLINE_H

#include "report/stats.h"

#include <stdbool.h>
#include <stdio.h>

#define ROOFLINE_ROLES 3

/* All ranks of a role; seconds of a step, means of the ranks. */
struct roofline_role {
    char name[24]; /* "2 attention" */
    int ranks;
    double rows, step, works, sends, waits;
    double floor; /* 0: there are no roofs, or this output does not know */
    bool memory;  /* bytes take longer than operations */
};

struct roofline {
    struct roofline_role role[ROOFLINE_ROLES];
    int n;
    char layout[96];  /* "1A2F over shared, avx2" */
    char source[200]; /* what the roofs are, or how to get them */
};

/* measure: on this machine. card: a name of card_names(), or NULL: that of the job's device if it is one
 * of them. -1: no such card. */
int roofline_read(struct roofline *r, const struct stats *s, bool measure, const char *card,
                  struct err *e);

/* Within 80 columns; nothing without a steps file. */
void roofline_text(const struct roofline *r, const struct stats *s, FILE *out);

#endif
