/* host_memory.h - how much memory this process may still use. */
#ifndef TANDEM_BASE_HOST_MEMORY_H
#define TANDEM_BASE_HOST_MEMORY_H

#include <stddef.h>

/* Bytes that the kernel could hand out without swapping, and that the process's control groups
 * (containers, Slurm's --mem; version 1 and 2) still allow: the least of them. Page cache that can
 * be dropped counts as free. 0: the system does not say. root: "" (tests: a folder that has proc
 * and sys). Any thread. */
size_t host_memory_free(const char *root);

#endif
