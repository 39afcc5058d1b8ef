#include "kernels/card/pack_ffn.h"

#include "base/mem.h"
#include "kernels/card/pack.h"

#include <stdlib.h>
#include <string.h>

static const struct mlp_part *part_of(const struct ffn_part *f, int i)
{
    return i < f->n_experts ? &f->experts[i] : &f->shared;
}

static bool absent(const struct mlp_part *m)
{
    return m->gate.n == 0;
}

/* Whether GROUP8 can have what the type has: one scale for a row is one group. */
static bool has_groups(int type)
{
    return type == MATRIX_GROUP4 || type == MATRIX_GROUP8 || type == DTYPE_I8;
}

/* The type that serves matrices of both; F32: there is none. */
static int common_type(int a, int b)
{
    return a == b ? a : has_groups(a) && has_groups(b) ? MATRIX_GROUP8 : DTYPE_F32;
}

/* Gate and up are one matrix for the kernels. */
static bool alike(const struct mlp_part *m, enum weight_keep keep, int type)
{
    struct cuda_form gate = {0}, up = {0};
    if (type == DTYPE_F8E4M3)
        return m->gate.col0 % MATRIX_BLOCK == m->up.col0 % MATRIX_BLOCK && m->gate.col0 % 8 == 0;
    if (type == MATRIX_GROUP4 || type == MATRIX_GROUP8) {
        pack_form(&m->gate, keep, type, &gate);
        pack_form(&m->up, keep, type, &up);
    }
    return memcmp(&gate, &up, sizeof gate) == 0;
}

#define OTHER_FORMATS "gate and up of an expert, or two experts, in formats that have no common one"

/* Why the tensor core kernels cannot have all matrices of a layer, those of gate and up in one type, those of
 * down in one; NULL: they can. read: pack_tiled_type(). */
static const char *obstacle(enum dtype act, const struct ffn_part *f, enum weight_keep keep,
                            bool read, struct ffn_plan *p)
{
    bool known = false;
    p->type = p->down_type = DTYPE_BF16;
    if (act != DTYPE_BF16)
        return "activations that are not bf16";
    for (int i = 0; i <= f->n_experts; i++) {
        const struct mlp_part *m = part_of(f, i);
        if (absent(m))
            continue;
        int gate = pack_tiled_type(&m->gate, keep, read), up = pack_tiled_type(&m->up, keep, read);
        int down = pack_tiled_type(&m->down, keep, read), type = common_type(gate, up);
        if (gate == DTYPE_F32 || up == DTYPE_F32 || down == DTYPE_F32)
            return pack_obstacle(gate == DTYPE_F32 ? &m->gate
                                 : up == DTYPE_F32 ? &m->up
                                                   : &m->down,
                                 keep);
        p->type = known ? common_type(p->type, type) : type;
        p->down_type = known ? common_type(p->down_type, down) : down;
        known = true;
        if (p->type == DTYPE_F32 || p->down_type == DTYPE_F32)
            return OTHER_FORMATS;
        if (down == DTYPE_F8E4M3 && m->down.col0 % 8 != 0)
            return "FP8 columns that are no multiple of 8; another layout.ffn.tensor has them";
    }
    for (int i = 0; i <= f->n_experts; i++)
        if (!absent(part_of(f, i)) && !alike(part_of(f, i), keep, p->type))
            return OTHER_FORMATS;
    return NULL;
}

static void describe_mlp(const struct mlp_part *part, const struct ffn_plan *p,
                         enum weight_keep keep, struct cuda_mlp *m)
{
    struct weight_part gate = part->gate, up = part->up, down = part->down;
    if (absent(part)) {
        gate = up = (struct weight_part){.codec = &codec_f32, .k = (size_t)p->hidden};
        down = (struct weight_part){.codec = &codec_f32, .n = (size_t)p->hidden};
        keep = WEIGHT_KEEP;
    }
    bool tiled = p->layout == MATRIX_TILED;
    m->limit = part->limit;
    m->alpha = part->alpha;
    pack_describe(&gate, keep, tiled ? p->type : (int)pack_type(&gate, keep), p->layout, &m->gate);
    pack_describe(&up, keep, tiled ? p->type : (int)pack_type(&up, keep), p->layout, &m->up);
    pack_describe(&down, keep, tiled ? p->down_type : (int)pack_type(&down, keep), p->layout,
                  &m->down);
}

static size_t gate_bytes(const struct cuda_matrix *gate)
{
    return gate->layout == MATRIX_TILED ? 0 : pack_data_bytes(gate);
}

static size_t up_bytes(const struct cuda_matrix *up)
{
    return (up->layout == MATRIX_TILED ? 2 : 1) * pack_data_bytes(up);
}

/* Does a slice end there? Tensor cores' kernels copy eight columns at a time: where others end, which is where
 * ranks have no whole slices, two slices are one. */
static bool ends_slice(const struct mlp_part *p, size_t i, bool tiled)
{
    return !tiled || p->cuts[i] % 8 == 0 || i + 1 == p->n_cuts;
}

static int count_slices(const struct mlp_part *p, bool tiled)
{
    int n = 0;
    if (absent(p))
        return 0;
    for (size_t i = 0; i < p->n_cuts; i++)
        n += ends_slice(p, i, tiled);
    return n > 0 ? n : 1;
}

static int slices_of(const struct ffn_plan *p, int i)
{
    return i < p->count ? p->slices : p->shared_slices;
}

/* The ends of slices, then biases of gate, up and down, as one run of numbers; where one is missing there is
 * nothing. */
static size_t extra_bytes(const struct mlp_part *p, int slices)
{
    size_t n = (p->gate_bias ? p->gate.n : 0) + (p->up_bias ? p->up.n : 0) +
               (p->down_bias ? p->down.n : 0);
    return card_round(((absent(p) ? 0 : n) + (size_t)slices) * sizeof(float));
}

static const float *put_bias(const float *bias, size_t n, float **host, const unsigned char **to)
{
    const void *place = *to;
    if (!bias)
        return NULL;
    memcpy(*host, bias, n * sizeof *bias);
    *host += n;
    *to += n * sizeof *bias;
    return place;
}

/* Into host memory, for the place `to` on the device. All experts have as many slices: behind its own end there
 * are empty ones. */
static void put_extras(const struct mlp_part *p, struct cuda_mlp *m, int slices, void *host,
                       const unsigned char *to)
{
    int32_t *cuts = host;
    float *at = (float *)host + slices;
    int n = 0;
    for (size_t i = 0; i < p->n_cuts && !absent(p); i++)
        if (ends_slice(p, i, m->down.layout == MATRIX_TILED))
            cuts[n++] = (int32_t)p->cuts[i];
    for (; n < slices; n++)
        cuts[n] = (int32_t)p->gate.n;
    m->n_cuts = slices;
    m->cuts = (const int32_t *)(const void *)to;
    to += (size_t)slices * sizeof *at;
    if (absent(p))
        return;
    m->gate_bias = put_bias(p->gate_bias, p->gate.n, &at, &to);
    m->up_bias = put_bias(p->up_bias, p->up.n, &at, &to);
    m->down_bias = put_bias(p->down_bias, p->down.n, &at, &to);
}

/* Where the pieces of MLP i begin, and at the end how many bytes they are. */
enum { AT_GATE, AT_UP, AT_DOWN, AT_SCALES, AT_EXTRAS = AT_SCALES + 3, AT_END };

static void places(const struct ffn_plan *p, const struct ffn_part *f, int i, size_t at[AT_END + 1])
{
    const struct cuda_mlp *m = &p->mlp[i];
    const size_t size[AT_END] = {gate_bytes(&m->gate),
                                 up_bytes(&m->up),
                                 pack_data_bytes(&m->down),
                                 pack_scale_bytes(&m->gate),
                                 pack_scale_bytes(&m->up),
                                 pack_scale_bytes(&m->down),
                                 extra_bytes(part_of(f, i), slices_of(p, i))};
    at[0] = 0;
    for (int k = 0; k < AT_END; k++)
        at[k + 1] = at[k] + size[k];
}

size_t pack_ffn_table(const struct ffn_plan *p)
{
    return card_round(((size_t)p->count + 1) * sizeof *p->mlp);
}

size_t pack_ffn_bytes(const struct ffn_plan *p, const struct ffn_part *f, int i)
{
    size_t at[AT_END + 1];
    places(p, f, i, at);
    return at[AT_END];
}

void pack_ffn_write(struct ffn_plan *p, const struct ffn_part *f, enum weight_keep keep,
                    int threads, int i, unsigned char *host, const unsigned char *to)
{
    const struct mlp_part *part = part_of(f, i);
    struct cuda_mlp *m = &p->mlp[i];
    size_t at[AT_END + 1];
    places(p, f, i, at);
    bool tiled = p->layout == MATRIX_TILED;
    struct cuda_matrix *matrix[] = {&m->gate, &m->up, &m->down};
    const struct weight_part *from[] = {&part->gate, &part->up, &part->down};
    for (int k = 0; k < 3; k++) {
        size_t data = at[tiled && k == 0 ? AT_UP : AT_GATE + k], scales = at[AT_SCALES + k];
        bool beside = tiled && k < 2; /* gate and up in turn */
        if (!absent(part))
            pack_write(threads, from[k], keep, matrix[k], beside ? 2 : 1, beside ? k : 0,
                       host + data, (float *)(void *)(host + scales));
        matrix[k]->data = to + data;
        matrix[k]->scale = (const float *)(const void *)(to + scales);
    }
    put_extras(part, m, slices_of(p, i), host + at[AT_EXTRAS], to + at[AT_EXTRAS]);
}

const char *pack_ffn_obstacle(const struct ffn_part *f, enum weight_keep keep)
{
    return obstacle(DTYPE_BF16, f, keep, true, &(struct ffn_plan){0});
}

struct ffn_plan pack_ffn_plan(const struct device_config *c, const struct ffn_part *f,
                              enum weight_keep keep)
{
    struct ffn_plan p = {.count = f->n_experts, .hidden = (int)c->limits.hidden};
    p.layout = obstacle(c->act, f, keep, true, &p) ? MATRIX_PLAIN : MATRIX_TILED;
    for (int i = 0; i <= p.count; i++)
        if (!absent(part_of(f, i)))
            p.hidden = (int)part_of(f, i)->gate.k;
    p.mlp = mem_zeroed((size_t)p.count + 1, sizeof *p.mlp);
    p.bytes = pack_ffn_table(&p);
    for (int i = 0; i <= p.count; i++) {
        int n = count_slices(part_of(f, i), p.layout == MATRIX_TILED);
        int *most = i < p.count ? &p.slices : &p.shared_slices;
        *most = n > *most ? n : *most;
    }
    for (int i = 0; i <= p.count; i++) {
        struct cuda_mlp *m = &p.mlp[i];
        describe_mlp(part_of(f, i), &p, keep, m);
        p.bytes += pack_ffn_bytes(&p, f, i);
        if (i < p.count && m->up.n > p.inter)
            p.inter = m->up.n;
    }
    p.inter_shared = p.mlp[p.count].up.n;
    return p;
}

/* ---- parts that come to the same ------------------------------------------------------------- */

/* Of TILED matrices: a slice begins where tensor cores begin a product, or a sum of a group, and groups change
 * at the same places in a part of down. */
static bool same_mlp(const struct mlp_part *whole, const struct mlp_part *part,
                     enum weight_keep keep, int down_type)
{
    bool groups = down_type == MATRIX_GROUP4 || down_type == MATRIX_GROUP8;
    struct cuda_form all = {0}, own = {0};
    if (absent(part))
        return true;
    for (size_t i = 0; i + 1 < whole->n_cuts; i++)
        if (whole->cuts[i] % (groups ? 32 : 16))
            return false;
    if (groups) {
        pack_form(&whole->down, keep, down_type, &all);
        pack_form(&part->down, keep, down_type, &own);
    }
    return memcmp(&all, &own, sizeof all) == 0;
}

/* PLAIN matrices have one kernel, and a row's chain is its own. */
bool pack_ffn_same(enum dtype act, const struct ffn_part *whole, const struct ffn_part *part,
                   enum weight_keep keep)
{
    struct ffn_plan all = {0}, own = {0};
    bool tiled = !obstacle(act, whole, keep, false, &all), empty = absent(&part->shared);
    int first = part->first_expert - whole->first_expert;
    for (int i = 0; i < part->n_experts; i++)
        empty = empty && absent(&part->experts[i]);
    if (empty)
        return true;
    if (!obstacle(act, part, keep, false, &own) != tiled)
        return false;
    if (!tiled)
        return true;
    if (own.type != all.type || own.down_type != all.down_type)
        return false;
    for (int i = 0; i < part->n_experts; i++)
        if (!same_mlp(&whole->experts[first + i], &part->experts[i], keep, all.down_type))
            return false;
    return same_mlp(&whole->shared, &part->shared, keep, all.down_type);
}
