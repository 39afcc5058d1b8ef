/* experts.h - how evenly the rows of a job went to the experts: text and a chart. */
#ifndef TANDEM_REPORT_EXPERTS_H
#define TANDEM_REPORT_EXPERTS_H

#include "report/stats.h"

#include <stdio.h>

/* Both print nothing where nothing is known. Text: the layers, or the most uneven of many. */
void experts_text(const struct stats *s, FILE *out);
void experts_html(const struct stats *s, FILE *out);

#endif
