#include "tests/bench/peer.h"

#include "base/err.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>

static const struct peer *const known[BENCH_PEERS] = {&peer_onednn, &peer_openblas};

struct peers {
    struct peer_linear linear;
    size_t count;
    struct {
        const struct peer *peer;
        void *self;
        char how[48];
    } open[BENCH_PEERS];
};

static bool about(const struct peer *peer, int threads, char *text, size_t size)
{
    if (peer->about)
        return peer->about(threads, text, size);
    snprintf(text, size, "not in this build (needs %s)", peer->package);
    return false;
}

void peers_print(int threads)
{
    for (size_t i = 0; i < BENCH_PEERS; i++) {
        char text[160];
        about(known[i], threads, text, sizeof text);
        printf("compared with %s: %s\n", known[i]->name, text);
    }
}

struct peers *peers_open(const struct peer_linear *l)
{
    struct peers *p = mem_zeroed(1, sizeof *p);
    p->linear = *l;
    p->linear.y = mem_aligned(mem_mul(l->rows, l->n), sizeof(float));
    for (size_t i = 0; i < BENCH_PEERS; i++) {
        char text[160];
        if (!about(known[i], l->threads, text, sizeof text))
            continue;
        p->open[p->count].peer = known[i];
        p->open[p->count++].self = known[i]->open(&p->linear);
    }
    return p;
}

void peers_close(struct peers *p)
{
    for (size_t i = 0; i < p->count; i++)
        p->open[i].peer->close(p->open[i].self);
    free(p->linear.y);
    free(p);
}

static float element(const void *y, bool f32, size_t i)
{
    return f32 ? ((const float *)y)[i] : f32_from_bf16(((const bf16_t *)y)[i]);
}

/* Both sum in f32, in different orders, and then round: in bf16 each by up to 2^-8 of the value.
 * What the sums differ by depends on the size of their terms, for which all of y stands. */
static void compare(const struct peer *peer, const struct peer_linear *l, size_t rows,
                    const void *ours)
{
    bool f32 = l->y_dtype == DTYPE_F32;
    double squares = 0;
    for (size_t i = 0; i < rows * l->n; i++) {
        double v = element(ours, f32, i);
        squares += v * v;
    }
    double size = sqrt(squares / (double)(rows * l->n));
    for (size_t i = 0; i < rows * l->n; i++) {
        double a = element(ours, f32, i), b = element(l->y, f32 || peer->y_f32, i);
        double tolerance = (f32 ? 0 : fabs(a) / 128) + 1e-4 * size;
        if (!(fabs(a - b) <= tolerance))
            die("%s does not compute what is measured: %zu rows of %zux%zu, y[%zu][%zu] is %g "
                "there and %g here, which is more than rounding",
                peer->name, rows, l->n, l->k, i / l->n, i % l->n, b, a);
    }
}

size_t peers_prepare(struct peers *p, size_t rows, const bf16_t *x, const void *y,
                     struct bench_peer *out)
{
    const struct peer_linear *l = &p->linear;
    size_t count = 0;
    for (size_t i = 0; i < p->count; i++) {
        const struct peer *peer = p->open[i].peer;
        void *self = p->open[i].self;
        if (!peer->prepare(self, rows, x, p->open[i].how, sizeof p->open[i].how)) {
            printf("  %s has no product for %zu rows of %zux%zu on this processor\n", peer->name,
                   rows, l->n, l->k);
            continue;
        }
        peer->run(self, 0);
        compare(peer, l, rows, y);
        out[count++] = (struct bench_peer){.name = peer->name,
                                           .dtype = peer->dtype,
                                           .how = p->open[i].how,
                                           .bytes = (double)(l->n * l->k * peer->weight_bytes),
                                           .own_threads = l->threads > 1 && peer->own_threads(),
                                           .run = peer->run,
                                           .context = self};
    }
    return count;
}
