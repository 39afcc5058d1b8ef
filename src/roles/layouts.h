/* layouts.h - which layout of ranks on this machine decodes a job fastest, by forecast (plan/forecast.h).
 *
 * Layouts of up to as many ranks of a role as there are cores, in powers of 2, that fit this machine's
 * memory. One thread.
 */
#ifndef TANDEM_ROLES_LAYOUTS_H
#define TANDEM_ROLES_LAYOUTS_H

#include "plan/forecast.h"
#include "roles/inputs.h"

#define LAYOUTS_MOST 64

/* The forecasts of all of them, fastest first, of equal ones the one with fewer ranks; returns how many.
 * `in` is changed and put back. */
size_t layouts_forecast(struct inputs *in, const struct forecast_times *t,
                        const struct forecast_job *job, int cores,
                        struct forecast all[LAYOUTS_MOST]);

/* "1A2F", "2 colocated" */
void layouts_name(const struct layout *l, char *text, size_t size);

#endif
