/* pack_groups.c - grouped forms of checkpoints (kernels/weights/form.h) as GROUP4 and GROUP8 (matrix.h). */
#include "kernels/card/pack.h"

#include <string.h>

/* How often the numbers of groups of `size` change in a chunk; 0: they do so at places that no kernel knows. */
static int changes(size_t size, size_t k)
{
    if (size >= k || size % MATRIX_CHUNK == 0)
        return 1;
    return size == 16 || size == 32 ? (int)(MATRIX_CHUNK / size) : 0;
}

/* What the codes of 4 bits stand for, less their zero; -1: something else. */
static int codes_of(const struct weight_form *f)
{
    static const int8_t doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    if (memcmp(f->values, codec_curve, sizeof codec_curve) == 0)
        return CODES_CURVE;
    if (memcmp(f->values, doubled, sizeof doubled) == 0)
        return CODES_E2M1;
    for (int i = 1; i < 16; i++) /* codes that do not occur are 0 */
        if (f->values[i] != f->values[0] + i && f->values[i] != 0)
            return -1;
    return f->values[0] <= 0 ? CODES_LINEAR : -1;
}

/* Sets `to` and says whether there are kernels for such groups. */
static bool form_of(const struct weight_form *f, size_t k, int type, struct cuda_form *to)
{
    int codes = f->kind == FORM_I4 ? codes_of(f) : CODES_LINEAR;
    *to = (struct cuda_form){.factor = (uint8_t)f->factor,
                             .outers = (uint8_t)changes(f->outer, k),
                             .groups = (uint8_t)changes(f->inner, k),
                             .scales = f->scales,
                             .mins = f->mins == MINS_INNER || f->mins == MINS_SHARED,
                             .less = f->mins == MINS_OUTER || f->mins == MINS_INNER};
    if (type == MATRIX_GROUP4) { /* GROUP8 has the values themselves */
        to->codes = (uint8_t)codes;
        to->zero = codes == CODES_LINEAR ? (uint8_t)-f->values[0] : 0;
    }
    int factors = to->outers * (to->less ? 2 : 1), small = to->groups * (to->scales + to->mins);
    int bytes = MATRIX_TILE * (factors * (int)dtype_size(f->factor) + small);
    to->bytes = (uint16_t)bytes;
    return codes >= 0 && to->outers > 0 && to->groups > 0 && bytes <= MATRIX_FORM &&
           (f->mins != MINS_SHARED || codes == CODES_LINEAR);
}

int pack_tiled_type(const struct weight_part *w, enum weight_keep keep, bool read)
{
    struct weight_form f = weight_form(w, keep);
    struct cuda_form form;
    if (f.kind == FORM_F8 && read && !pack_even(w))
        return DTYPE_F32;
    if (f.kind != FORM_I8 && f.kind != FORM_I4)
        return (int)pack_type(w, keep);
    if (f.kind == FORM_I8 && f.inner >= w->k && !f.scales && f.mins == MINS_NONE)
        return DTYPE_I8;
    int type = f.kind == FORM_I4 ? MATRIX_GROUP4 : MATRIX_GROUP8;
    return form_of(&f, w->k, type, &form) ? type : DTYPE_F32;
}

const char *pack_obstacle(const struct weight_part *w, enum weight_keep keep)
{
    if (pack_tiled_type(w, keep, true) != DTYPE_F32)
        return NULL;
    switch (weight_form(w, keep).kind) {
    case FORM_F8:
        return "FP8 scales of a row that are 2^64 apart, or none that a sum can have";
    case FORM_I8:
    case FORM_I4:
        return "groups of a kind that tensor cores' kernels do not know";
    default:
        return "numbers of 32 bits, which F16 becomes too";
    }
}

void pack_form(const struct weight_part *w, enum weight_keep keep, int type, struct cuda_form *form)
{
    struct weight_form f = weight_form(w, keep);
    /* Of a matrix that is not there: zeros. */
    if (f.kind != FORM_I8 && f.kind != FORM_I4)
        f = (struct weight_form){.kind = FORM_I4,
                                 .values = codec_identity,
                                 .factor = DTYPE_BF16,
                                 .outer = MATRIX_CHUNK,
                                 .inner = MATRIX_CHUNK};
    form_of(&f, w->k, type, form);
}

size_t pack_group_bytes(const struct cuda_matrix *m)
{
    return MATRIX_TILE * MATRIX_CHUNK / (m->type == MATRIX_GROUP4 ? 2 : 1) + (size_t)m->form.bytes;
}

/* The code of column `in` of a chunk, for row r of the tile. */
static void put_code(uint8_t *chunk, int in, int r, uint8_t code)
{
    int part = in / 16, c = in % 16, lane = r % 8 * 4 + c % 8 / 2;
    int bit = (c / 8 * 2 + r / 8) * 4 + c % 2 * 16;
    uint8_t *at = chunk + part / 2 * 256 + lane * 8 + part % 2 * 4 + bit / 8;
    *at = (uint8_t)(*at | code << bit % 8);
}

static void put_codes(const struct cuda_matrix *m, const struct weight_form *f, int r,
                      const int8_t *codes, size_t n, uint8_t *chunk)
{
    uint16_t place[MATRIX_CHUNK];
    pack_places(r, 1, place);
    for (size_t i = 0; i < n; i++)
        if (m->type == MATRIX_GROUP4)
            put_code(chunk, (int)i, r, (uint8_t)codes[i]);
        else
            chunk[place[i]] = (uint8_t)(f->kind == FORM_I4 ? f->values[codes[i]] : codes[i]);
}

static void put_factor(enum dtype type, float value, uint8_t *array, size_t at)
{
    uint16_t half = type == DTYPE_F16 ? f16_from_f32(value) : bf16_from_f32(value);
    if (type == DTYPE_F32)
        memcpy(array + at * 4, &value, 4);
    else
        memcpy(array + at * 2, &half, 2);
}

/* The numbers of the groups of a chunk, of which `n` columns are there, for row r. */
static void put_groups(const struct cuda_matrix *m, const struct weight_form *f, int r,
                       const struct form_group *groups, size_t column, size_t n, uint8_t *to)
{
    const struct cuda_form *form = &m->form;
    size_t row = (size_t)r, factors = (size_t)form->outers * MATRIX_TILE;
    for (size_t i = 0; i < form->outers && i * MATRIX_CHUNK / form->outers < n; i++) {
        const struct form_group *g = &groups[(column + i * MATRIX_CHUNK / form->outers) / f->inner];
        put_factor(f->factor, g->d, to, i * MATRIX_TILE + row);
        if (form->less)
            put_factor(f->factor, g->m, to, factors + i * MATRIX_TILE + row);
    }
    to += factors * dtype_size(f->factor) * (form->less ? 2 : 1);
    for (size_t i = 0; i < form->groups && i * MATRIX_CHUNK / form->groups < n; i++) {
        const struct form_group *g = &groups[(column + i * MATRIX_CHUNK / form->groups) / f->inner];
        uint8_t *at = to + i * MATRIX_TILE + row;
        if (form->scales)
            *at = (uint8_t)g->scale;
        if (form->mins)
            at[form->scales ? (size_t)form->groups * MATRIX_TILE : 0] = (uint8_t)g->min;
    }
}

void pack_group_row(const struct cuda_matrix *m, const struct weight_form *f, size_t tile, int r,
                    const int8_t *codes, const struct form_group *groups, void *data)
{
    size_t bytes = pack_group_bytes(m);
    for (size_t c = 0; c < (size_t)m->chunks; c++) {
        size_t column = c * MATRIX_CHUNK, left = (size_t)m->k - column;
        size_t n = left < MATRIX_CHUNK ? left : MATRIX_CHUNK;
        uint8_t *chunk = (uint8_t *)data + (tile * (size_t)m->chunks + c) * bytes;
        put_codes(m, f, r, codes + column, n, chunk);
        put_groups(m, f, r, groups, column, n, chunk + bytes - m->form.bytes);
    }
}
