#include "plan/hardware.h"

#include "job/document.h"
#include "job/value.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GB 1e9

/* H800 to 910B: the report's tables 4 and 5 and its section on networks. The others: data sheets,
 * dense; their network is one port of 400 Gbit/s a card (L20, L4: 200), since no card has one of
 * its own. */
static const struct card cards[] = {
    {"h800", 9.89e14, 1.98e15, 3.35e12, 80 * GB, 50 * GB, 2.00},
    {"h20", 1.48e14, 2.96e14, 4.00e12, 96 * GB, 50 * GB, 0.80},
    {"a800", 3.12e14, 0, 2.00e12, 80 * GB, 25 * GB, 0.75},
    {"910b", 2.80e14, 0, 1.60e12, 64 * GB, 25 * GB, 0.67},
    {"h100", 9.89e14, 1.979e15, 3.35e12, 80 * GB, 50 * GB, 0},
    {"h200", 9.89e14, 1.979e15, 4.80e12, 141 * GB, 50 * GB, 0},
    {"b200", 2.25e15, 4.50e15, 8.00e12, 180 * GB, 50 * GB, 0},
    {"l20", 1.195e14, 2.39e14, 8.64e11, 48 * GB, 25 * GB, 0},
    {"l4", 1.21e14, 2.42e14, 3.00e11, 24 * GB, 25 * GB, 0},
};
#define N_CARDS (sizeof cards / sizeof *cards)

double card_flops(const struct card *c, double bits)
{
    return bits <= 8 && c->fp8 > 0 ? c->fp8 : c->bf16;
}

int card_find(struct card *c, const char *name)
{
    for (size_t i = 0; i < N_CARDS; i++)
        if (strcmp(cards[i].name, name) == 0) {
            *c = cards[i];
            return 0;
        }
    return -1;
}

const char *const *card_names(void)
{
    static const char *names[N_CARDS + 1];
    for (size_t i = 0; i < N_CARDS; i++)
        names[i] = cards[i].name;
    return names;
}

/* ---- YAML ----------------------------------------------------------------------------------- */

static int complain(struct err *e, const char *path, const struct node *n, const char *wanted)
{
    char found[64];
    return err_set(e, "%s:%d:%d: wanted %s, found %s", path, n->line, n->column, wanted,
                   document_describe(n, found, sizeof found));
}

static int read_number(double *out, const char *path, const struct node *n, struct err *e)
{
    uint64_t bytes;
    if (n->kind == NODE_SCALAR && value_real(n->text, out) && *out >= 0)
        return 0;
    if (n->kind != NODE_SCALAR || !value_size(n->text, &bytes))
        return complain(e, path, n, "a number that is not negative");
    *out = (double)bytes;
    return 0;
}

static int read_card_member(struct card *c, const char *path, const struct node *key,
                            const struct node *value, struct err *e)
{
    const struct {
        const char *name;
        double *member;
    } members[] = {{"bf16", &c->bf16},     {"fp8", &c->fp8},   {"bandwidth", &c->bandwidth},
                   {"memory", &c->memory}, {"link", &c->link}, {"price", &c->price}};
    if (strcmp(key->text, "name") == 0 && value->kind == NODE_SCALAR) {
        snprintf(c->name, sizeof c->name, "%.15s", value->text);
        return 0;
    }
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (strcmp(key->text, members[i].name) == 0)
            return read_number(members[i].member, path, value, e);
    return complain(e, path, key, "name, bf16, fp8, bandwidth, memory, link or price");
}

static int read_card(struct card *c, const char *path, const struct node *n, struct err *e)
{
    if (n->kind == NODE_SCALAR && card_find(c, n->text) == 0)
        return 0;
    if (n->kind != NODE_MAPPING)
        return complain(e, path, n, "a card that is known (tandem plan --cards) or its figures");
    *c = (struct card){.name = "own"};
    for (size_t i = 0; i < n->count; i += 2)
        if (read_card_member(c, path, &n->children[i], &n->children[i + 1], e) != 0)
            return -1;
    if (!(c->bf16 > 0 && c->bandwidth > 0 && c->memory > 0 && c->link > 0))
        return complain(e, path, n, "bf16, bandwidth, memory and link above 0");
    return 0;
}

static int read_count(int *out, int least, const char *path, const struct node *n, struct err *e)
{
    int64_t value;
    if (n->kind != NODE_SCALAR || !value_int(n->text, &value) || value < least || value > 1 << 20)
        return complain(e, path, n,
                        least ? "a number from 1 to 1048576" : "a number from 0 to 1048576");
    *out = (int)value;
    return 0;
}

static int read_member(struct cluster *c, const char *path, const struct node *key,
                       const struct node *value, struct err *e)
{
    if (strcmp(key->text, "attention") == 0)
        return read_card(&c->attention, path, value, e);
    if (strcmp(key->text, "ffn") == 0)
        return read_card(&c->ffn, path, value, e);
    if (strcmp(key->text, "per_instance") == 0)
        return read_count(&c->per_instance, 1, path, value, e);
    if (strcmp(key->text, "instances") == 0)
        return read_count(&c->instances, 0, path, value, e);
    return complain(e, path, key, "attention, ffn, per_instance or instances");
}

static int read_file(struct cluster *c, const char *path, struct err *e)
{
    struct node root;
    int status = 0;
    if (document_read_file(&root, path, e) != 0)
        return -1;
    if (root.kind != NODE_MAPPING)
        status = complain(e, path, &root, "a cluster: attention, ffn, per_instance, instances");
    for (size_t i = 0; status == 0 && i < root.count; i += 2)
        status = read_member(c, path, &root.children[i], &root.children[i + 1], e);
    if (status == 0 && !(c->attention.bf16 > 0))
        status = complain(e, path, &root, "attention: a card");
    document_free(&root);
    if (c->ffn.bf16 == 0)
        c->ffn = c->attention;
    return status;
}

int cluster_read(struct cluster *c, const char *name, struct err *e)
{
    char first[16] = "";
    const char *plus = strchr(name, '+');
    *c = (struct cluster){.per_instance = 8};
    snprintf(c->name, sizeof c->name, "%.63s", name);
    snprintf(first, sizeof first, "%.*s", plus ? (int)(plus - name) : 15, name);
    if (card_find(&c->attention, first) == 0 && card_find(&c->ffn, plus ? plus + 1 : first) == 0)
        return 0;
    if (access(name, R_OK) == 0 || strstr(name, ".yaml"))
        return read_file(c, name, e);
    return err_set(
        e,
        "'%s' is no cluster: wanted a card (tandem plan --cards lists them), two of them "
        "as attention+ffn, or a YAML file",
        name);
}
