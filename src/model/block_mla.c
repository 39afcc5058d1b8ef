/* block_mla.c - latent attention (MLA), in absorbed form: all heads share one key a token, the latent
 * and a part that turns, and the value is the latent itself.
 *
 *   c = Wkv_down x; lat = norm(c[0 .. rank)), kr = rope(c[rank ..]); cached: [lat | kr]
 *   q = Wq norm(Wqd x) or Wq x; per head: nope | turning part
 *   q'[head] = [Wk[head]^T nope | rope(turning part)]        scores q' . [lat | kr]
 *   l[head] = attend(q', [lat | kr], lat); o[head] = Wv[head] l[head]; out = Wo o
 *
 * Wk[head] and Wv[head] are the head's rows of Wkv_up, or there as they are, Wk[head] transposed. Prompts take the same way as single tokens,
 * so that a row's bits do not depend on how a prompt was cut.
 */
#include "base/mem.h"
#include "model/block.h"

struct mla_weights {
    struct weight *q_down, *q_up; /* [q_rank][H]; [heads (nope + R)][q_rank or H] */
    struct weight *kv_down, *o;   /* [rank + R][H]; [H][heads value] */
    struct weight_heads *keys;    /* [heads] of [rank][nope] */
    struct weight_heads *values;  /* [heads] of [value][rank] */
    float *q_norm, *kv_norm;      /* [q_rank], [rank] */
};

static bool has_q_rank(const struct model *m, const struct layer_spec *l)
{
    (void)m;
    return l->attention.q_rank > 0;
}

static bool is_joined(const struct model *m, const struct layer_spec *l)
{
    (void)m;
    return !l->attention.kv_split;
}

static bool is_split(const struct model *m, const struct layer_spec *l)
{
    return !is_joined(m, l);
}

#define AT(member) offsetof(struct mla_weights, member)
#define MATRIX(tensor, as, member, when, ...)                                                      \
    {                                                                                              \
        tensor, USE_LINEAR, as, AT(member), when, 2,                                               \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define HEADS(tensor, member, ...)                                                                 \
    {                                                                                              \
        tensor, USE_LINEAR, AS_HEADS, AT(member), is_split, 3,                                     \
        {                                                                                          \
            DIM_HEADS, __VA_ARGS__                                                                 \
        }                                                                                          \
    }
#define GAIN(tensor, member, when, dim)                                                            \
    {                                                                                              \
        tensor, USE_GAIN, AS_F32, AT(member), when, 1,                                             \
        {                                                                                          \
            dim                                                                                    \
        }                                                                                          \
    }

static const struct member members[] = {
    MATRIX(TENSOR_Q_DOWN, AS_MATRIX, q_down, has_q_rank, DIM_Q_RANK, DIM_HIDDEN),
    GAIN(TENSOR_INTER_NORM, q_norm, has_q_rank, DIM_Q_RANK),
    MATRIX(TENSOR_Q_UP, AS_MATRIX, q_up, NULL, DIM_Q_WIDTH, DIM_Q_IN),
    MATRIX(TENSOR_KV_DOWN, AS_MATRIX, kv_down, NULL, DIM_KV_DOWN, DIM_HIDDEN),
    GAIN(TENSOR_KV_NORM, kv_norm, NULL, DIM_KV_RANK),
    MATRIX(TENSOR_KV_UP, AS_HEAD_KEYS, keys, is_joined, DIM_KV_UP, DIM_KV_RANK),
    MATRIX(TENSOR_KV_UP, AS_HEAD_VALUES, values, is_joined, DIM_KV_UP, DIM_KV_RANK),
    HEADS(TENSOR_KEY_UP, keys, DIM_KV_RANK, DIM_NOPE),
    HEADS(TENSOR_VALUE_UP, values, DIM_VALUE, DIM_KV_RANK),
    MATRIX(TENSOR_O, AS_MATRIX, o, NULL, DIM_HIDDEN, DIM_O_WIDTH),
};

/* The buffers. */
enum { LOW, Q, KEY, ABSORBED, LATENT, HEAD_VALUES };

static void bytes(const struct model *m, const struct layer_spec *l, size_t rows, size_t act,
                  size_t bytes[BLOCK_BUFFERS])
{
    const struct attention_spec *a = &l->attention;
    size_t heads = (size_t)a->attn.heads, turning = (size_t)a->attn.rope_dim;
    (void)m;
    bytes[LOW] = mem_mul(rows, a->q_rank) * act;
    bytes[Q] = mem_mul(rows, heads * (a->nope_dim + turning)) * act;
    bytes[KEY] = mem_mul(rows, a->kv_rank + turning) * act;
    bytes[ABSORBED] = mem_mul(rows, heads * (a->kv_rank + turning)) * act;
    bytes[LATENT] = mem_mul(rows, heads * a->kv_rank) * act;
    bytes[HEAD_VALUES] = mem_mul(rows, heads * a->head_value_dim) * act;
}

/* Rows of `width` activations, from element `first` of each on. */
static struct rows at(const struct pass *p, void *data, size_t width, size_t first)
{
    return (struct rows){p->act, (char *)data + first * dtype_size(p->act), NULL, width};
}

/* And what keys are made of. */
static void queries(const struct pass *p, const struct mla_weights *w)
{
    const struct ops *op = p->backend->ops;
    const struct attention_spec *a = &p->layer->attention;
    size_t heads = (size_t)a->attn.heads, turning = (size_t)a->attn.rope_dim;
    size_t head = a->nope_dim + turning, key = a->kv_rank + turning;
    int n = p->batch->rows;
    const struct linear_part parts[] = {
        {w->q_down ? w->q_down : w->q_up, p->buffer[w->q_down ? LOW : Q]},
        {w->kv_down, p->buffer[KEY]}};
    ops_linears(op, p->device, p->stream, parts, 2, p->h, n, p->act);
    if (w->q_down) {
        struct rows low = at(p, p->buffer[LOW], a->q_rank, 0);
        op->norm(p->device, p->stream, &low, w->q_norm, p->model->norm_eps, n, (int)a->q_rank,
                 &low);
        op->linear(p->device, p->stream, w->q_up, p->buffer[LOW], n, p->buffer[Q], p->act);
    }
    struct rows from = at(p, p->buffer[Q], heads * head, 0);
    struct rows to = at(p, p->buffer[ABSORBED], heads * key, 0);
    op->linear_heads(p->device, p->stream, w->keys, &from, (int)head, n, &to, (int)key);
    struct rows turns = at(p, p->buffer[Q], head, a->nope_dim);
    struct rows behind = at(p, p->buffer[ABSORBED], key, a->kv_rank);
    op->copy(p->device, p->stream, &turns, &behind, n * a->attn.heads, (int)turning);
}

static void run(const struct pass *p)
{
    const struct ops *op = p->backend->ops;
    const struct mla_weights *w = p->weights;
    const struct attention_spec *a = &p->layer->attention;
    size_t heads = (size_t)a->attn.heads, key = a->kv_rank + (size_t)a->attn.rope_dim;
    int n = p->batch->rows;
    queries(p, w);
    struct rows latent = at(p, p->buffer[KEY], key, 0);
    op->norm(p->device, p->stream, &latent, w->kv_norm, p->model->norm_eps, n, (int)a->kv_rank,
             &latent);
    op->rope_append(p->device, p->stream, &a->attn, p->kv, a->cache_layer, p->batch, p->angles,
                    p->buffer[ABSORBED], p->buffer[KEY], NULL);
    op->attend(p->device, p->stream, &a->attn, p->kv, a->cache_layer, p->batch, p->buffer[ABSORBED],
               p->buffer[LATENT]);
    struct rows from = at(p, p->buffer[LATENT], heads * a->kv_rank, 0);
    struct rows to = at(p, p->buffer[HEAD_VALUES], heads * a->head_value_dim, 0);
    op->linear_heads(p->device, p->stream, w->values, &from, (int)a->kv_rank, n, &to,
                     (int)a->head_value_dim);
    op->linear(p->device, p->stream, w->o, p->buffer[HEAD_VALUES], n, p->out, DTYPE_F32);
}

const struct block block_mla = {
    .name = "mla",
    .members = members,
    .n_members = sizeof members / sizeof *members,
    .weights_size = sizeof(struct mla_weights),
    .bytes = bytes,
    .run = run,
};
