/* fingerprint.h - one number for every byte of the tensors that a model uses.
 *
 * Each tensor is cut into blocks, of 1 MiB in a run, and each block has a hash of its own. Whoever reads a part
 * of a tensor has the blocks hashed that it touches, so a rank hashes what it loads, while that is in
 * memory. The hashes of all ranks together (roles/identity.h) are those of the whole model, however
 * it was shared out, and the sum of them is one number: the same for every layout, and for the same
 * tensors in other files.
 *
 * fingerprint_add() and fingerprint_rest() compute with `threads` threads; one thread calls.
 */
#ifndef TANDEM_DATA_FINGERPRINT_H
#define TANDEM_DATA_FINGERPRINT_H

#include "data/checkpoint.h"

#define FINGERPRINT_BLOCK ((size_t)1 << 20)

struct fingerprint;

/* tensors[n]: of one checkpoint, each once, sorted by their `data`; taken over, to be freed. */
struct fingerprint *fingerprint_new(const struct tensor **tensors, size_t n, size_t block,
                                    int threads);
void fingerprint_free(struct fingerprint *f); /* NULL: nothing */

/* Hashes the blocks that touch the bytes, which are of one of the tensors (of another: nothing). */
void fingerprint_add(struct fingerprint *f, const void *data, size_t bytes);

/* The same for all of the tensor that `data` is in. */
void fingerprint_add_tensor(struct fingerprint *f, const void *data);

/* All blocks that were not hashed yet. */
void fingerprint_rest(struct fingerprint *f);

/* The hashes, [n], in the same order on every rank; 0: not hashed. May be written to. */
uint64_t *fingerprint_blocks(struct fingerprint *f, size_t *n);

/* The tensor of block i, and where in it the block begins. */
const struct tensor *fingerprint_at(const struct fingerprint *f, size_t i, size_t *offset);

/* The number; all blocks must be there (else die()). */
uint64_t fingerprint_sum(const struct fingerprint *f);

#endif
