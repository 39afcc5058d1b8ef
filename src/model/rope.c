#include "model/rope.h"

#include <math.h>

void rope_angles(float *angles, size_t positions, size_t head_dim, double theta)
{
    size_t half = head_dim / 2;
    for (size_t j = 0; j < half; j++) {
        double step = pow(theta, -2.0 * (double)j / (double)head_dim);
        for (size_t p = 0; p < positions; p++) {
            double angle = (double)p * step;
            angles[(p * half + j) * 2] = (float)cos(angle);
            angles[(p * half + j) * 2 + 1] = (float)sin(angle);
        }
    }
}
