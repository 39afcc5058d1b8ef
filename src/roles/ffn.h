/* ffn.h - an FFN rank's side of a step: its share of every layer's FFN, for the rows of all attention
 * ranks of its cell.
 *
 * One struct ffn a rank, opened after device, weights and exchange, closed before them. Nothing is
 * allocated in a step. The functions for a layer enqueue and do not wait for the device, unless the
 * exchange does.
 */
#ifndef TANDEM_ROLES_FFN_H
#define TANDEM_ROLES_FFN_H

#include "model/weights.h"
#include "roles/side.h"

struct ffn;

struct ffn *ffn_open(const struct side *side, const struct ffn_weights *weights);
void ffn_close(struct ffn *f); /* NULL: nothing */

/* Device bytes open() takes, without the exchange: for the memory plan. Of the side, device, stream and
 * exchange are not looked at. */
size_t ffn_bytes(const struct side *side);

/* One layer and micro-batch: waits for the rows; false when nobody has any. */
bool ffn_receive(struct ffn *f, int m, int layer);
/* From ffn_receive() until ffn_reply(): the rows and their experts as they came in. */
const struct wire *ffn_received(const struct ffn *f, int m);
/* Computes the partial sums of the rows received. */
void ffn_layer(struct ffn *f, int m, int layer);
/* Sends them back. */
void ffn_reply(struct ffn *f, int m, int layer);

#endif
