/* death.h - runs something that must die() in a child process and keeps what it printed. */
#ifndef TANDEM_TESTS_BASE_DEATH_H
#define TANDEM_TESTS_BASE_DEATH_H

#include <stddef.h>

/* Calls f() in a child. Puts what it wrote to stderr into text (terminated) and returns its exit
 * status; 200 when f returned, 201 when a signal ended it. */
int death_of(void (*f)(void), char *text, size_t size);

#endif
