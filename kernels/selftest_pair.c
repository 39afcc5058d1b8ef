#include "kernels/selftest_pair.h"

#include "base/mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int open_side(struct pair_side *s, const struct backend *b,
                     const struct device_config *config, struct err *e)
{
    *s = (struct pair_side){.backend = b, .ops = b->ops};
    if (b->device->open(config, &s->device, e) != 0)
        return -1;
    s->stream = b->device->stream_create(s->device);
    return 0;
}

int pair_open(struct pair *p, const struct selftest *of, const struct device_config *config,
              struct err *e)
{
    *p = (struct pair){
        .act = config->act, .kv = config->kv, .random = 1, .only = of->only, .of = of};
    if (open_side(&p->side[1], of->backend, config, e) != 0)
        return -1;
    if (open_side(&p->side[0], backend_all()[0], config, e) == 0)
        return 0;
    pair_close(p);
    return -1;
}

static void take_back(struct pair *p)
{
    for (int i = 0; i < 2; i++) {
        struct pair_side *s = &p->side[i];
        for (int k = 0; k < s->n_memory; k++)
            s->backend->device->release(s->device, s->memory[k]);
        for (int k = 0; k < PAIR_RESULTS; k++)
            free(s->result[k]);
        memset(s->result, 0, sizeof s->result);
        s->n_memory = 0;
    }
    for (int i = 0; i < p->n_host; i++)
        free(p->host[i]);
    p->n_host = 0;
}

void pair_close(struct pair *p)
{
    take_back(p);
    for (int i = 0; i < 2; i++)
        if (p->side[i].device) {
            p->side[i].backend->device->stream_destroy(p->side[i].device, p->side[i].stream);
            p->side[i].backend->device->close(p->side[i].device);
        }
}

bool pair_wants(const struct pair *p, const char *operation)
{
    return !p->only || strcmp(p->only, operation) == 0;
}

void pair_at(struct pair *p, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(p->what, sizeof p->what, format, arguments);
    va_end(arguments);
}

/* ---- inputs --------------------------------------------------------------------------------- */

void *pair_host(struct pair *p, size_t count, size_t size)
{
    if (p->n_host == PAIR_MEMORY)
        die("the self-test holds more than %d pieces of memory", PAIR_MEMORY);
    return p->host[p->n_host++] = mem_zeroed(count ? count : 1, size);
}

double pair_uniform(struct pair *p)
{
    p->random = p->random * 6364136223846793005u + 1442695040888963407u;
    return (double)(p->random >> 40) * 0x1p-24;
}

static void write_number(enum dtype t, void *to, size_t i, float value)
{
    if (t == DTYPE_F32)
        ((float *)to)[i] = value;
    else if (t == DTYPE_BF16)
        ((bf16_t *)to)[i] = bf16_from_f32(value);
    else if (t == DTYPE_I8)
        ((int8_t *)to)[i] = (int8_t)value;
    else if (t == DTYPE_F64)
        ((double *)to)[i] = (double)value;
    else
        ((f8e4m3_t *)to)[i] = f8e4m3_from_f32(value);
}

void *pair_numbers(struct pair *p, enum dtype t, size_t n, double scale)
{
    void *to = pair_host(p, n, dtype_size(t));
    for (size_t i = 0; i < n; i++)
        write_number(t, to, i, (float)((2 * pair_uniform(p) - 1) * scale));
    return to;
}

struct weight_part pair_matrix(struct pair *p, enum dtype t, int n, int k)
{
    size_t rows = (size_t)n, columns = (size_t)k, across = (columns + 127) / 128;
    double size = 3 / sqrt((double)(k ? k : 1));
    struct weight_part w = {
        .codec = codec_of(t), .stride = columns, .n = rows, .k = columns, .scale_dtype = DTYPE_F32};
    if (t != DTYPE_F8E4M3 && t != DTYPE_I8) {
        w.data = pair_numbers(p, t, mem_mul(rows, columns), size);
        return w;
    }
    double largest = t == DTYPE_I8 ? 127 : 400;
    size_t high = t == DTYPE_I8 ? 1 : 128, down = (rows + high - 1) / high;
    w.data = pair_numbers(p, t, mem_mul(rows, columns), largest);
    float *scale = pair_host(p, mem_mul(down, across), sizeof *scale);
    for (size_t i = 0; i < down * across; i++)
        scale[i] = (float)(size / largest * (0.5 + pair_uniform(p)));
    w.scale = scale;
    w.scale_rows = high;
    w.scale_columns = 128;
    w.scale_stride = across;
    return w;
}

/* ---- devices -------------------------------------------------------------------------------- */

static void *take(struct pair_side *s, size_t bytes)
{
    if (s->n_memory == PAIR_MEMORY)
        die("the self-test holds more than %d pieces of device memory", PAIR_MEMORY);
    return s->memory[s->n_memory++] = s->backend->device->alloc(s->device, bytes ? bytes : 1);
}

void *pair_put(struct pair_side *s, const void *host, size_t bytes)
{
    void *to = take(s, bytes);
    s->backend->device->upload(s->device, s->stream, to, host, bytes);
    return to;
}

void *pair_room(struct pair_side *s, size_t bytes)
{
    void *nothing = mem_new(bytes ? bytes : 1, 1);
    memset(nothing, 0xff, bytes);
    void *to = pair_put(s, nothing, bytes);
    s->backend->device->stream_sync(s->device, s->stream);
    free(nothing);
    return to;
}

static float read_number(enum dtype t, const void *from, size_t i)
{
    if (t == DTYPE_F32)
        return ((const float *)from)[i];
    if (t == DTYPE_BF16)
        return f32_from_bf16(((const bf16_t *)from)[i]);
    if (t == DTYPE_F64)
        return (float)((const double *)from)[i];
    return t == DTYPE_I8 ? (float)((const int8_t *)from)[i]
                         : f32_from_f8e4m3(((const f8e4m3_t *)from)[i]);
}

void pair_fetch(struct pair_side *s, int k, const void *device, enum dtype t, size_t n)
{
    size_t bytes = mem_mul(n, dtype_size(t));
    void *host = mem_new(bytes ? bytes : 1, 1);
    s->backend->device->download(s->device, s->stream, host, device, bytes);
    s->backend->device->stream_sync(s->device, s->stream);
    free(s->result[k]);
    s->result[k] = mem_new(n ? n : 1, sizeof(float));
    for (size_t i = 0; i < n; i++)
        s->result[k][i] = read_number(t, host, i);
    free(host);
}

/* ---- comparison ----------------------------------------------------------------------------- */

double pair_tolerance(enum dtype t)
{
    return t == DTYPE_F32 ? 1e-4 : 2e-2;
}

static bool differ(float want, float got, double allowed)
{
    if (isnan(want) || isnan(got) || isinf(want) || isinf(got))
        return isnan(want) != isnan(got) || (!isnan(want) && want != got);
    return !(fabs((double)got - (double)want) <= allowed);
}

static double largest(const float *row, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(row[i]))
            most = fmax(most, fabs((double)row[i]));
    return most;
}

void pair_compare_part(struct pair *p, int k, const char *name, size_t rows, size_t width,
                       double tolerance)
{
    size_t wrong = 0, at = 0;
    const float *want = p->side[0].result[k], *got = p->side[1].result[k];
    for (size_t r = 0; r < rows; r++) {
        double allowed = tolerance * largest(want + r * width, width);
        for (size_t i = r * width; i < (r + 1) * width; i++)
            if (differ(want[i], got[i], allowed) && wrong++ == 0)
                at = i;
    }
    p->checks++;
    if (wrong == 0)
        return;
    p->wrong++;
    char line[400];
    snprintf(line, sizeof line,
             "%s: %s%s%s: %zu of %zu numbers are wrong; number %zu of row %zu is %.9g, not %.9g",
             p->side[1].backend->name, p->what, *name ? ", " : "", name, wrong, rows * width,
             at % width, at / width, (double)got[at], (double)want[at]);
    p->of->tell(p->of->teller, line);
}

void pair_compare(struct pair *p, const char *name, size_t rows, size_t width, double tolerance)
{
    pair_compare_part(p, 0, name, rows, width, tolerance);
    take_back(p);
}
