/* hardware.h - accelerators and clusters, as the cost model needs them.
 *
 * Figures of a card are what its maker or the report (arXiv 2507.19427, tables 4 and 5) states:
 * peaks of dense products, bytes a second of memory and network. Where nobody stated a price it is
 * 0, and costs are not printed. A cluster is a card for either role, in instances of some cards
 * that share a fast link. Pure; any thread.
 */
#ifndef TANDEM_PLAN_HARDWARE_H
#define TANDEM_PLAN_HARDWARE_H

#include "base/err.h"

#include <stddef.h>

struct card {
    char name[16];
    double bf16, fp8; /* FLOP/s, dense; fp8 0: it has none, 8-bit weights are computed in bf16 */
    double bandwidth; /* bytes/s of its memory */
    double memory;    /* bytes */
    double link;      /* bytes/s of its network card, either direction */
    double price;     /* USD an hour; 0: not known */
};

struct cluster {
    char name[64];
    struct card attention, ffn; /* may differ: a card of much memory bandwidth for attention */
    int per_instance;           /* cards that make an instance of a role, a server */
    int instances;              /* in the whole cluster; 0: as many as one likes */
};

/* FLOP/s of products with weights of so many bits. */
double card_flops(const struct card *c, double bits);

/* "h800" and so on; -1 for another name. card_names(): NULL at the end. */
int card_find(struct card *c, const char *name);
const char *const *card_names(void);

/* A card's name, "ATTENTION+FFN" (h20+h800), or the path of a YAML file:
 *
 *   attention: h20            a name, or the figures of a card:
 *   ffn: {name: own, bf16: 400e12, fp8: 800e12, bandwidth: 3e12, memory: 96 GB, link: 50e9,
 *         price: 1.2}
 *   per_instance: 8
 *   instances: 16
 *
 * -1 with the place and what was wanted. */
int cluster_read(struct cluster *c, const char *name, struct err *e);

#endif
