/* identity.h - what decides the completions of a job, as names and values; the same on every rank.
 *
 * One list (output/identity.h) of everything a completion depends on: the fields of config.json, the
 * weights, tokenizer, bos and stop tokens as they came out of their files, template, sampling and
 * precision, the rows in use, the device, the split of the FFN. The writer's list goes to all ranks;
 * each compares what it sees itself, so that a host with other files is found before anything is
 * decoded. The journal and the finished file keep it: a job is continued only with the same list.
 *
 * Reading twice what all hosts share would take long: a rank whose file has the writer's stamp
 * (base/stamp.h) takes over its hash, others read the file themselves. Weights are not read for this:
 * each rank notes what it loads (data/fingerprint.h), and when all have loaded, what they noted makes
 * one value of every byte that the model uses, the same in every layout; where two ranks have loaded the same bytes,
 * they are compared. Hosts with copies of their own load parts that no other host reads:
 * so copies are compared before, by checkpoint_hash(), which of a large one takes samples.
 */
#ifndef TANDEM_ROLES_IDENTITY_H
#define TANDEM_ROLES_IDENTITY_H

#include "data/fingerprint.h"
#include "output/identity.h"
#include "roles/comm.h"
#include "roles/inputs.h"

/* All are collective over the world and return the same on every rank; false: the message was
 * printed, and all ranks leave. */

/* The ranks run one version of the program and read the same job. Before comm_split(). */
bool identity_same_job(struct comm *c, const char *version, const struct job *job);

/* in->backend is set, on all ranks to the same: `kernels: auto` is the fastest that all have. */
bool identity_agree_kernels(struct comm *c, struct inputs *in);

/* After inputs_open(). Fills the list, the weights of which are IDENTITY_LATER, to be freed by identity_free(), and on ranks without prompts
 * how many there are. */
bool identity_agree(struct comm *c, struct inputs *in, struct identity *id);

/* The list of a job that is only looked at, by one process with prompts. -1: something cannot be read; the
 * list is to be freed all the same. */
int identity_alone(const struct inputs *in, struct identity *id, struct err *e);

/* Not collective; on a rank with prompts. The list that `id` was when the prompts file had only the
 * rows of the first `units` units: a job whose file has grown at its end goes on. */
int identity_shorter(const struct inputs *in, const struct identity *id, uint64_t units,
                     struct identity *shorter, struct err *e);

/* The weights' stamps as one text: equal, and the files are the same, unchanged. malloc'd. */
char *identity_weights_stamp(const struct inputs *in);

/* To note what this rank loads; to be freed. */
struct fingerprint *identity_fingerprint(const struct inputs *in, int threads);

/* Not collective: puts the value of the weights into the list, which it reads for it. */
void identity_read_weights(const struct inputs *in, int threads, struct identity *id);

/* Collective over the world, when all ranks have loaded: the same from what they noted. False: two of
 * them have read different bytes of the same tensor; the message was printed. */
bool identity_agree_weights(struct comm *c, struct fingerprint *loaded, struct identity *id);

#endif
