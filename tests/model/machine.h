/* machine.h - a model on one backend in one process, as one colocated rank runs it: the product's own
 * loading and layer loop (roles/attention.h, roles/ffn.h), with batches of the test's choice.
 *
 * Four sequences of fixed tokens. They can run side by side, in chunks and single tokens, or alone; the
 * logits of every position come out either way. Every function ends the test when it cannot work.
 */
#ifndef TANDEM_TESTS_MODEL_MACHINE_H
#define TANDEM_TESTS_MODEL_MACHINE_H

#include "kernels/device.h"
#include "roles/attention.h"
#include "roles/ffn.h"

#define SEQUENCES 4
#define LONGEST   300
#define SHORTER   70                     /* crosses a block of the KV cache */
#define TOKENS    (LONGEST + 9 + 1 + 33) /* of all sequences, at most */
#define DRAFTS    4
#define STRIDE    5 /* blocks of the KV cache a sequence */
#define CONTEXT   (STRIDE * KV_BLOCK)

/* Lengths of the sequences; the first one's is LONGEST or SHORTER, for all machines from now on. */
extern int machine_length[SEQUENCES];
int machine_tokens(void); /* of all sequences */
/* Drafts that MTP layers make behind every row, from the tokens that follow in the sequence. */
extern int machine_drafts;

struct precision {
    enum dtype act, kv, wire, combine;
    enum weight_keep keep;
};

struct machine {
    struct model model;
    struct checkpoint *checkpoint;
    const struct backend *backend;
    struct device *device;
    struct stream *stream;
    struct attention_weights attention_weights;
    struct ffn_weights ffn_weights;
    struct weights_plan plan;
    struct caches caches;
    struct exchange_shape shape;
    const struct exchange_ops *exchange_ops;
    struct exchange *exchange;
    struct place place;
    struct schedule_limits limits;
    struct attention *attention;
    struct ffn *ffn;
};

/* What came of every token: logits [1 + machine_drafts][tokens][V], the model's own first, and the experts that each layer chose,
 * [layers][tokens][topk of any layer], -1 where there are none. Freed by answers_free(). */
struct answers {
    float *logits;
    int32_t *choices;
    size_t n_logits, n_choices;
};

void machine_open(struct machine *r, const struct backend *b, const char *directory,
                  const struct precision *p, int threads);
void machine_close(struct machine *r);

struct answers answers_new(const struct model *m);
void answers_free(struct answers *a);

/* The token of a sequence, and the row of its first one among all TOKENS. */
int32_t machine_token(int sequence, int position, size_t vocab);
int machine_row(int sequence);

/* Everything in a few steps: chunks of prompts of several sequences, single tokens beside them. */
void machine_together(struct machine *r, struct answers *a);
/* One sequence after the other; single tokens, but for the middle of the longest. */
void machine_alone(struct machine *r, struct answers *a);

#endif
