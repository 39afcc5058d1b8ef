/* value.h - what the scalars of a job file mean: numbers, sizes, durations; and back to text.
 *
 * Readers take the whole text or nothing: true when it is one, false otherwise, *out then
 * untouched. Pure functions; any thread; the program never calls setlocale().
 */
#ifndef TANDEM_JOB_VALUE_H
#define TANDEM_JOB_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal digits, perhaps after a minus sign; the whole range of the type. */
bool value_int(const char *text, int64_t *out);
bool value_uint(const char *text, uint64_t *out);

/* "0.7", "1e-3", "2": finite, decimal. */
bool value_real(const char *text, double *out);

/* Bytes: "4 GiB", "1.5GB", "65536". Units B, KiB to TiB (powers of 1024), kB to TB (powers of
 * 1000), in any case. Rounded down to whole bytes. */
bool value_size(const char *text, uint64_t *out);

/* Seconds: "23h50m", "1d 12h", "90 s", "2.5 min", "90". Units d, h, m or min, s, each at most
 * once, the larger first. Also as Slurm writes it: "23:50:00", "1-12:00:00". */
bool value_seconds(const char *text, double *out);

/* The shortest text that the reader takes back to the same value; returns `text`. 32 bytes are
 * enough for each. */
const char *value_real_text(double value, char *text, size_t size);
const char *value_size_text(uint64_t bytes, char *text, size_t size);
const char *value_seconds_text(double seconds, char *text, size_t size);

#endif
