/* reasons.h - why prompts failed, counted: messages that differ in numbers alone are one reason.
 *
 * Plain bytes: sent between ranks as they are. Any thread.
 */
#ifndef TANDEM_OUTPUT_REASONS_H
#define TANDEM_OUTPUT_REASONS_H

#include <stddef.h>
#include <stdint.h>

#define REASONS_MAX 16 /* that are told apart; the last one stands for all others */

struct reason {
    char text[120]; /* numbers in it are written as N */
    uint64_t count;
};

/* Zero-initialized is empty. */
struct reasons {
    struct reason all[REASONS_MAX];
    uint64_t n;
};

void reasons_add(struct reasons *r, const char *text, uint64_t count);

#endif
