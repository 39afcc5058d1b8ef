/* safetensors.h - one safetensors file: mapped, its header checked completely.
 *
 * The format: 8 bytes little-endian length N; N bytes of JSON, an object name -> {dtype, shape,
 * data_offsets [begin, end)} with an optional `__metadata__`; then the data, to which the offsets
 * are relative, without holes. Used by checkpoint.c; any rank. Everything a tensor points at
 * belongs to the file object and lives until safetensors_close().
 */
#ifndef TANDEM_DATA_SAFETENSORS_H
#define TANDEM_DATA_SAFETENSORS_H

#include "base/err.h"
#include "data/checkpoint.h"

#include <stddef.h>

/* Longest header accepted, as in the format's own library. */
#define SAFETENSORS_HEADER_MAX 100000000u

struct safetensors;

/* -1 and a message naming file and tensor when anything is not as the format wants it: header
 * length, JSON, duplicate names, dtype, shape, byte count against dtype x shape, ranges outside the
 * file, overlaps, holes, and data of a dtype this program reads that is not aligned to its element.
 */
int safetensors_open(struct safetensors **out, const char *path, struct err *e);
void safetensors_close(struct safetensors *s);

/* Tensors in the order of their data in the file. */
size_t safetensors_count(const struct safetensors *s);
const struct tensor *safetensors_at(const struct safetensors *s, size_t i);

#endif
