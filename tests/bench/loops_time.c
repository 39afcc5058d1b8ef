/* loops_time.c - the panel functions of this machine's best backend, by one thread, with everything in the first cache: how
 * long they take beside the loop of multiply-adds that finds the peak, and which instructions they run, one by one.
 * For loops.py: a line of JSON for every form of weights and number of rows, and for attention's softmax. `seconds`: of
 * the fastest tenth of some turns; `median`: of them; `peak`: flop/s of that loop, of the fastest tenth of its turns in
 * between; `begun`: instructions that do nothing, a second, meanwhile; `ran`: those that ran, one after the other, by
 * their distance from main().
 */
#include "kernels/cpu/device.h"
#include "kernels/cpu/fast/fast.h"
#include "kernels/cpu/fast/packed.h"
#include "kernels/cpu/limits.h"
#include "tests/bench/bench.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/median.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define INPUTS       128
#define MOST_ROWS    64
#define TURNS        120
#define PIECE        60e-6 /* seconds of a turn: short beside what a scheduler deals out */

#if defined(__x86_64__)
#include <ucontext.h>

/* ---- which instructions run ------------------------------------------------------------------ */

#define STEP 0x100 /* of the flags: a signal after every instruction */
#define MOST 1000000
extern const char __executable_start, etext;
static const char *ran[MOST];
static size_t count;
static volatile bool stepping;

static void stepped(int number, siginfo_t *info, void *context)
{
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    const char *at = (const char *)r[REG_RIP];
    (void)number, (void)info;
    if (at >= &__executable_start && at < &etext && count < MOST)
        ran[count++] = at;
    if (stepping)
        r[REG_EFL] |= STEP;
    else
        r[REG_EFL] &= ~STEP;
}

int main(int argc, char **argv);

/* Something to run: a panel function, or the softmax. */
struct job {
    panel_fn *panel;
    struct panel p;
    void (*softmax)(const struct softmax *s);
    struct softmax s;
};

static void run(const struct job *j)
{
    if (j->softmax)
        j->softmax(&j->s);
    else
        j->panel(&j->p);
}

static void print_ran(const struct job *j)
{
    count = 0;
    stepping = true;
    raise(SIGTRAP);
    run(j);
    stepping = false;
    printf("\"ran\": [");
    for (size_t i = 0; i < count; i++)
        printf("%s%td", i ? ", " : "", ran[i] - (const char *)main);
    printf("]}\n");
}

/* ---- how long they take ---------------------------------------------------------------------- */

static double run_for(const struct job *j, size_t times)
{
    double start = clock_now();
    for (size_t i = 0; i < times; i++)
        run(j);
    return (clock_now() - start) / (double)times;
}

/* In most turns other programs have the core now and then, or its other hardware thread: the tenth fastest of each. */
static void print_times(struct limits *l, const struct job *j)
{
    double seconds[TURNS], peak[TURNS], once = run_for(j, 3);
    l->pace.n = 0;
    size_t times = once < PIECE ? (size_t)(PIECE / once) + 1 : 1;
    for (size_t i = 0; i < TURNS; i++) {
        seconds[i] = run_for(j, times);
        peak[i] = limits_peak(l, PIECE / 2);
    }
    double middle = median(seconds, TURNS);
    median(peak, TURNS);
    printf("\"seconds\": %.6g, \"median\": %.6g, \"peak\": %.6g, \"begun\": %.6g, ",
           seconds[TURNS / 10], middle, peak[TURNS - TURNS / 10], limits_median(&l->pace));
}

/* ---- what is multiplied ---------------------------------------------------------------------- */

static void fill(enum dtype dtype, size_t n, void *to)
{
    for (size_t i = 0; i < n; i++)
        if (dtype == DTYPE_BF16)
            ((bf16_t *)to)[i] = bf16_from_f32((float)(i * 2654435761u >> 16 & 255) / 128 - 1);
        else
            ((uint8_t *)to)[i] = (uint8_t)(i * 2654435761u >> 16 & 0xf7); /* codes below NaN */
}

static struct weight *new_weight(struct device *d, const struct bench_form *form)
{
    static bf16_t numbers[PANEL * INPUTS];
    static float scales[INPUTS / 128 + 1] = {1, 1};
    struct weight_part part = {
        .data = numbers, .codec = codec_of(form->dtype), .n = PANEL, .k = INPUTS, .stride = INPUTS};
    fill(form->dtype, PANEL * INPUTS, numbers);
    if (form->dtype == DTYPE_F8E4M3) {
        part.scale_rows = part.scale_columns = 128;
        part.scale_stride = INPUTS / 128;
        part.scale = scales;
    }
    return fast_weight_create(d, &part, form->keep);
}

/* macs: multiply-adds, or scores. */
static void print_job(struct limits *l, const struct device *d, const struct job *j,
                      const char *form, size_t rows, size_t macs, size_t bytes)
{
    printf("{\"backend\": \"%s\", \"form\": \"%s\", \"rows\": %zu, \"macs\": %zu, \"bytes\": %zu, ",
           d->isa->name, form, rows, macs, bytes);
    print_times(l, j);
    print_ran(j);
}

static void time_rows(struct limits *l, const struct device *d, const struct bench_form *form,
                      const struct weight *w, size_t rows)
{
    static bf16_t from[INPUTS];
    static _Alignas(64) float c[MOST_ROWS * PANEL];
    enum x_format format = packed_x_format(d, w);
    size_t chunk = rows * X_ROW;
    uint8_t *x = mem_aligned(chunk * packed_row_chunks(d, w), 1);
    fill(DTYPE_BF16, INPUTS, from);
    for (size_t i = 0; i < rows; i++)
        packed_row(d, w, from, x + i * X_ROW, chunk);
    struct job j = {.panel = d->isa->panel[w->format][format], .p = packed_panel(w, 0, w->data)};
    j.p.x = x;
    j.p.chunk = chunk;
    j.p.rows = rows;
    j.p.c = c;
    print_job(l, d, &j, form->name, rows, rows * PANEL * INPUTS, packed_bytes(w));
    free(x);
}

/* Of scores that never grow: no sums are rescaled. */
static void time_softmax(struct limits *l, const struct device *d)
{
    static _Alignas(64) float scores[CPU_TILE * MOST_ROWS];
    static float most[MOST_ROWS], total[MOST_ROWS];
    static size_t from[MOST_ROWS], seen[MOST_ROWS];
    for (size_t i = 0; i < CPU_TILE * MOST_ROWS; i++)
        scores[i] = (float)(i % 97) / 97;
    for (size_t i = 0; i < MOST_ROWS; i++)
        seen[i] = CPU_TILE;
    struct job j = {.softmax = d->isa->softmax,
                    .s = {.scores = scores,
                          .rows = MOST_ROWS,
                          .tokens = CPU_TILE,
                          .from = from,
                          .seen = seen,
                          .scale = 1,
                          .most = most,
                          .total = total,
                          .format = d->isa->x_bf16 ? X_BF16 : X_F32,
                          .coarse = true,
                          .to = mem_aligned(MOST_ROWS, X_ROW)}};
    print_job(l, d, &j, "softmax", MOST_ROWS, CPU_TILE * MOST_ROWS, sizeof scores);
    free(j.s.to);
}

int main(int argc, char **argv)
{
    static const size_t rows[] = {1, 2, 3, 4, 8, 16, 64};
    struct sigaction action = {.sa_sigaction = stepped, .sa_flags = SA_SIGINFO};
    struct err e;
    const struct backend *backend = backend_find("cpu", argc > 1 ? argv[1] : "auto", &e);
    if (!backend) {
        fprintf(stderr, "%s\n", e.text);
        return EXIT_INPUT;
    }
    if (strncmp(backend->name, "avx", 3) != 0)
        return 77;
    struct limits l;
    limits_open(&l, backend->name, 1, 1);
    sigaction(SIGTRAP, &action, NULL);
    for (size_t f = 0; f < BENCH_FORMS; f++) {
        struct device_config config = {.threads = 1,
                                       .act = DTYPE_BF16,
                                       .kv = DTYPE_BF16,
                                       .int8_products = bench_forms[f].int8_products,
                                       .limits = {.rows = MOST_ROWS, .hidden = INPUTS}};
        struct device *d;
        if (backend->device->open(&config, &d, &e) != 0)
            die("%s", e.text);
        struct weight *w = new_weight(d, &bench_forms[f]);
        for (size_t i = 0; i < COUNT(rows); i++)
            time_rows(&l, d, &bench_forms[f], w, rows[i]);
        if (f == 0)
            time_softmax(&l, d);
        fast_weight_destroy(d, w);
        backend->device->close(d);
    }
    limits_close(&l);
    return EXIT_DONE;
}
#else
int main(void)
{
    return 77;
}
#endif
