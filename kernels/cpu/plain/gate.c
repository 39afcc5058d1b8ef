/* gate.c - what is done to activations element by element: a bias, and a gate for every head. */
#include "kernels/cpu/lane.h"
#include "kernels/cpu/plain/plain.h"

void plain_bias(struct device *d, struct stream *s, const float *bias, int n, int width, void *x,
                enum dtype x_dtype)
{
    (void)s;
    size_t w = (size_t)width;
    struct team team = team_begin(d, TEAM_ROWS, (size_t)n * w);
#pragma omp parallel for num_threads(team.threads)
    for (size_t i = 0; i < (size_t)n * w; i++) {
        float value;
        plain_load(d, x_dtype, x, i, 1, &value);
        plain_store_one(x_dtype, value + bias[i % w], x, i);
    }
    team_end(&team);
}

void plain_gate(struct device *d, struct stream *s, const float *g, int n, int heads, int width,
                void *x)
{
    (void)s;
    size_t w = (size_t)width;
    struct team team = team_begin(d, TEAM_ROWS, (size_t)n * (size_t)heads * w);
#pragma omp parallel for num_threads(team.threads)
    for (size_t h = 0; h < (size_t)n * (size_t)heads; h++) {
        float open = 1.0f / (1.0f + lane_exp(0 - g[h]));
        for (size_t i = h * w; i < (h + 1) * w; i++) {
            float value;
            plain_load(d, d->config.act, x, i, 1, &value);
            plain_store_one(d->config.act, value * open, x, i);
        }
    }
    team_end(&team);
}
