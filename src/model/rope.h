/* rope.h - the angles of the rotary position embedding.
 *
 * A pure function; any rank. The table is made once on the host and uploaded by weights.c.
 */
#ifndef TANDEM_MODEL_ROPE_H
#define TANDEM_MODEL_ROPE_H

#include <stdbool.h>
#include <stddef.h>

#define ROPE_MOST_PAIRS 256 /* with factors of their own */

enum rope_scaling { ROPE_PLAIN, ROPE_LLAMA3, ROPE_YARN, ROPE_FACTORS };

struct rope_spec {
    size_t dim; /* R: numbers of a head that turn; even; 0: none do */
    double theta;
    enum rope_scaling scaling;
    double factor, original;        /* how much longer than the context of training */
    double low_freq, high_freq;     /* llama3 */
    double beta_fast, beta_slow;    /* yarn */
    bool between;                   /* yarn: it stretches from and to places between two pairs */
    float factors[ROPE_MOST_PAIRS]; /* factors: frequency j is divided by factors[j] */
    double magnitude;               /* cos and sin are multiplied by it; 1 but for yarn */
};

/* angles[p][j] = cos, sin of p x f_j, times the magnitude, for positions p in 0 .. positions - 1 and
 * j in 0 .. R/2 - 1: f32 [positions][R/2][2]. f_j = theta^(-2j/R), then scaled:
 *   llama3  wave lengths above original / low_freq are multiplied by factor, those below original /
 *           high_freq stay, between them the two mix evenly in the frequency
 *   yarn    frequencies that turn less than beta_slow times within original are divided by factor,
 *           those that turn more than beta_fast times stay, between them the two mix evenly in j; both
 *           ends are widened to whole pairs, unless `between`
 *   factors each is divided by a number of its own (what GGUF keeps of llama3)
 * Made in double and rounded once, so that the angle of a far position is as good as that of a near
 * one. Source: rope_type "llama3" and "yarn" of the public models' code. */
void rope_angles(float *angles, size_t positions, const struct rope_spec *rope);

/* By what llama3 divides the frequency of pair j. */
double rope_stretch(const struct rope_spec *r, size_t pair);

/* yarn's magnitude of attention: 0.1 x scale x ln(factor) + 1, or 1 when nothing is stretched. */
double rope_yarn_magnitude(double factor, double scale);

#endif
