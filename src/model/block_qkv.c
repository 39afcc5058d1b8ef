/* block_qkv.c - attention with keys and values of its own: MFA, GQA, MHA; with or without a low
 * rank for the queries, norms of queries and keys, biases, a gate or a sink for every head. Windows, partial
 * rotation and the number of KV heads are the kernels' (struct attn_spec).
 *
 *   q = Wq x, or Wq norm(Wqd x) (MFA, paper section 4); k = Wk x; v = Wv x; each + its bias
 *   q, k = norm(q), norm(k); o = attend(rope(q), rope(k), v); o[head] x= sigmoid(g x)
 *   out = Wo o
 */
#include "model/block_qkv.h"

#include "base/mem.h"

static bool has_q_rank(const struct model *m, const struct layer_spec *l)
{
    (void)m;
    return l->attention.q_rank > 0;
}

static bool has_head_norm(const struct model *m, const struct layer_spec *l)
{
    (void)m;
    return l->attention.norm != HEAD_NORM_NONE;
}

static bool has_gate(const struct model *m, const struct layer_spec *l)
{
    (void)m;
    return l->attention.head_gate;
}

static bool has_bias(const struct model *m, const struct layer_spec *l)
{
    (void)m;
    return l->attention.bias;
}

static bool has_out_bias(const struct model *m, const struct layer_spec *l)
{
    (void)m;
    return l->attention.out_bias;
}

static bool has_sinks(const struct model *m, const struct layer_spec *l)
{
    (void)m;
    return l->attention.sinks;
}

#define AT(member) offsetof(struct qkv_weights, member)
#define MATRIX(tensor, member, when, ...)                                                          \
    {                                                                                              \
        tensor, USE_LINEAR, AS_MATRIX, AT(member), when, 2,                                        \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define NUMBERS(tensor, use, member, when, dim)                                                    \
    {                                                                                              \
        tensor, use, AS_F32, AT(member), when, 1,                                                  \
        {                                                                                          \
            dim                                                                                    \
        }                                                                                          \
    }

static const struct member members[] = {
    MATRIX(TENSOR_Q_DOWN, q_down, has_q_rank, DIM_Q_RANK, DIM_HIDDEN),
    NUMBERS(TENSOR_INTER_NORM, USE_GAIN, inter_norm, has_q_rank, DIM_Q_RANK),
    MATRIX(TENSOR_Q_UP, q_up, NULL, DIM_Q_WIDTH, DIM_Q_IN),
    MATRIX(TENSOR_K, k, NULL, DIM_K_WIDTH, DIM_HIDDEN),
    MATRIX(TENSOR_V, v, NULL, DIM_V_WIDTH, DIM_HIDDEN),
    MATRIX(TENSOR_O, o, NULL, DIM_HIDDEN, DIM_O_WIDTH),
    MATRIX(TENSOR_HEAD_GATE, gate, has_gate, DIM_HEADS, DIM_HIDDEN),
    NUMBERS(TENSOR_Q_NORM, USE_GAIN, q_norm, has_head_norm, DIM_Q_NORM),
    NUMBERS(TENSOR_K_NORM, USE_GAIN, k_norm, has_head_norm, DIM_K_NORM),
    NUMBERS(TENSOR_Q_BIAS, USE_BIAS, q_bias, has_bias, DIM_Q_WIDTH),
    NUMBERS(TENSOR_K_BIAS, USE_BIAS, k_bias, has_bias, DIM_K_WIDTH),
    NUMBERS(TENSOR_V_BIAS, USE_BIAS, v_bias, has_bias, DIM_V_WIDTH),
    NUMBERS(TENSOR_O_BIAS, USE_BIAS, o_bias, has_out_bias, DIM_HIDDEN),
    NUMBERS(TENSOR_SINKS, USE_BIAS, sinks, has_sinks, DIM_HEADS),
};

/* The buffers. */
enum { LOW, Q, K, V, HEADS, GATE };

static void bytes(const struct model *m, const struct layer_spec *l, size_t rows, size_t act,
                  size_t bytes[BLOCK_BUFFERS])
{
    const struct attn_spec *a = &l->attention.attn;
    (void)m;
    bytes[LOW] = mem_mul(rows, l->attention.q_rank) * act;
    bytes[Q] = mem_mul(rows, (size_t)(a->heads * a->key_dim)) * act;
    bytes[K] = mem_mul(rows, (size_t)(a->kv_heads * a->key_dim)) * act;
    bytes[V] = mem_mul(rows, (size_t)(a->kv_heads * a->value_dim)) * act;
    bytes[HEADS] = mem_mul(rows, (size_t)(a->heads * a->value_dim)) * act;
    bytes[GATE] = l->attention.head_gate ? mem_mul(rows, (size_t)a->heads) * sizeof(float) : 0;
}

static void add_bias(const struct pass *p, const float *bias, int width, void *y)
{
    if (bias)
        p->backend->ops->bias(p->device, p->stream, bias, p->batch->rows, width, y, p->act);
}

static void normalize(const struct pass *p, const float *gain, void *x, int n, int width)
{
    const struct rows rows = {p->act, x, NULL, (size_t)width};
    if (gain)
        p->backend->ops->norm(p->device, p->stream, &rows, gain, p->model->norm_eps, n, width,
                              &rows);
}

static void normalize_heads(const struct pass *p, const float *gain, void *x, int heads)
{
    const struct attention_spec *a = &p->layer->attention;
    int n = p->batch->rows, dim = a->attn.key_dim;
    if (a->norm == HEAD_NORM_ALL)
        normalize(p, gain, x, n, heads * dim);
    else
        normalize(p, gain, x, n * heads, dim);
}

static void run(const struct pass *p)
{
    const struct ops *op = p->backend->ops;
    const struct qkv_weights *w = p->weights;
    struct attn_spec spec = p->layer->attention.attn, *a = &spec;
    const struct linear_part parts[] = {
        {w->q_down ? w->q_down : w->q_up, p->buffer[w->q_down ? LOW : Q]},
        {w->k, p->buffer[K]},
        {w->v, p->buffer[V]}};
    int n = p->batch->rows;
    spec.sinks = w->sinks;
    ops_linears(op, p->device, p->stream, parts, 3, p->h, n, p->act);
    if (w->q_down) {
        normalize(p, w->inter_norm, p->buffer[LOW], n, (int)p->layer->attention.q_rank);
        op->linear(p->device, p->stream, w->q_up, p->buffer[LOW], n, p->buffer[Q], p->act);
    }
    add_bias(p, w->q_bias, a->heads * a->key_dim, p->buffer[Q]);
    add_bias(p, w->k_bias, a->kv_heads * a->key_dim, p->buffer[K]);
    add_bias(p, w->v_bias, a->kv_heads * a->value_dim, p->buffer[V]);
    normalize_heads(p, w->q_norm, p->buffer[Q], a->heads);
    normalize_heads(p, w->k_norm, p->buffer[K], a->kv_heads);
    int layer = p->layer->attention.cache_layer;
    op->rope_append(p->device, p->stream, a, p->kv, layer, p->batch, p->angles, p->buffer[Q],
                    p->buffer[K], p->buffer[V]);
    op->attend(p->device, p->stream, a, p->kv, layer, p->batch, p->buffer[Q], p->buffer[HEADS]);
    if (w->gate) {
        op->linear(p->device, p->stream, w->gate, p->h, n, p->buffer[GATE], DTYPE_F32);
        op->gate(p->device, p->stream, p->buffer[GATE], n, a->heads, a->value_dim,
                 p->buffer[HEADS]);
    }
    op->linear(p->device, p->stream, w->o, p->buffer[HEADS], n, p->out, DTYPE_F32);
    if (w->o_bias)
        op->bias(p->device, p->stream, w->o_bias, n, (int)p->model->hidden, p->out, DTYPE_F32);
}

const struct block block_qkv = {
    .name = "qkv",
    .members = members,
    .n_members = sizeof members / sizeof *members,
    .weights_size = sizeof(struct qkv_weights),
    .bytes = bytes,
    .run = run,
};
