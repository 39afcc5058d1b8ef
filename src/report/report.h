/* report.h - `tandem report`: a finished output as text, or as one page to look at.
 *
 * The page is self-contained HTML with charts in SVG: no scripts, nothing from a network, light and
 * dark. Both walk the same struct stats
 * and roofline. One process; prints.
 */
#ifndef TANDEM_REPORT_REPORT_H
#define TANDEM_REPORT_REPORT_H

#include "report/roofline.h"

#include <stdio.h>

void report_text(const struct stats *s, const struct roofline *r, FILE *out);
void report_html(const struct stats *s, const struct roofline *r, FILE *out);

/* The page in a file that appears when it is whole. -1: it cannot be written. */
int report_file(const struct stats *s, const struct roofline *r, const char *path, struct err *e);

#endif
