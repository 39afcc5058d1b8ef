/* rope.h - the angles of the rotary position embedding.
 *
 * A pure function; any rank. The table is made once on the host and uploaded by weights.c.
 */
#ifndef TANDEM_MODEL_ROPE_H
#define TANDEM_MODEL_ROPE_H

#include <stddef.h>

/* angles[p][j] = cos, sin of p x theta^(-2j/D) for positions p in 0 .. positions - 1 and
 * j in 0 .. D/2 - 1: f32 [positions][D/2][2]. Made in double and rounded once, so that the angle of
 * a far position is as good as that of a near one. head_dim D is even. Source: the public model's
 * inv_freq = 1 / theta^(2j/D), on all D dimensions, without scaling. */
void rope_angles(float *angles, size_t positions, size_t head_dim, double theta);

#endif
