#include "kernels/card/pack.h"

#include "base/mem.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum dtype pack_type(const struct weight_part *w, enum weight_keep keep)
{
    enum form_kind kind = weight_form(w, keep).kind;
    if (keep == WEIGHT_INT8)
        return DTYPE_I8;
    return kind == FORM_F8 ? DTYPE_F8E4M3 : kind == FORM_BF16 ? DTYPE_BF16 : DTYPE_F32;
}

/* Blocks of 128 that a part touches; at least one, of scale 0, behind a matrix that is empty. */
static size_t blocks(size_t lead, size_t count)
{
    return count > 0 ? (lead + count + MATRIX_BLOCK - 1) / MATRIX_BLOCK : 1;
}

static bool grouped(const struct cuda_matrix *m)
{
    return m->type == MATRIX_GROUP4 || m->type == MATRIX_GROUP8;
}

void pack_describe(const struct weight_part *w, enum weight_keep keep, int type, int layout,
                   struct cuda_matrix *m)
{
    memset(m, 0, sizeof *m);
    /* Kernels reach the columns of a tile's 128 rows by 32 bits. */
    if (w->n > INT_MAX / 4 || w->k > (layout == MATRIX_TILED ? INT_MAX / 256 : INT_MAX / 4))
        die("a matrix of %zu x %zu is too large", w->n, w->k);
    m->n = (int)w->n;
    m->k = (int)w->k;
    m->type = type;
    m->layout = layout;
    if (type == DTYPE_F8E4M3) {
        m->lead = (int)(w->col0 % MATRIX_BLOCK);
        m->row_lead = (int)(w->row0 % MATRIX_BLOCK);
        m->scale_stride = (int)blocks((size_t)m->lead, w->k);
    }
    if (grouped(m))
        pack_form(w, keep, type, &m->form);
    /* At least one chunk, of zeros, so that every matrix has something to multiply with. */
    m->chunks = (m->lead + m->k + MATRIX_CHUNK - 1) / MATRIX_CHUNK;
    m->chunks = m->chunks > 0 ? m->chunks : 1;
}

void pack_linear(const struct device_config *c, const struct weight_part *w, enum weight_keep keep,
                 struct cuda_matrix *m)
{
    int type = c->act == DTYPE_BF16 ? pack_tiled_type(w, keep, true) : DTYPE_F32;
    bool blas = c->blas && type == DTYPE_BF16;
    if (type == DTYPE_F32)
        pack_describe(w, keep, (int)pack_type(w, keep), MATRIX_PLAIN, m);
    else
        pack_describe(w, keep, type, blas ? MATRIX_ROWS : MATRIX_TILED, m);
}

/* On tensor cores all matrices are bf16, whatever the checkpoint has: a matrix has a few scales only. */
void pack_head(const struct device_config *c, const struct weight_part *w, enum weight_keep keep,
               bool can, struct cuda_matrix *m)
{
    if (c->act == DTYPE_BF16 && can)
        pack_describe(w, keep, DTYPE_BF16, MATRIX_TILED, m);
    else
        pack_describe(w, keep, (int)pack_type(w, keep), MATRIX_PLAIN, m);
}

size_t pack_data_bytes(const struct cuda_matrix *m)
{
    size_t rows = (size_t)m->n, columns = (size_t)m->k;
    if (m->layout == MATRIX_TILED) {
        rows = (rows + MATRIX_TILE - 1) / MATRIX_TILE * MATRIX_TILE;
        rows = rows ? rows : MATRIX_TILE;
        columns = (size_t)m->chunks * MATRIX_CHUNK;
    }
    if (grouped(m))
        return card_round(mem_mul(rows / MATRIX_TILE * (size_t)m->chunks, pack_group_bytes(m)));
    return card_round(mem_mul(mem_mul(rows, columns), dtype_size((enum dtype)m->type)));
}

static size_t scale_count(const struct cuda_matrix *m)
{
    if (m->type == DTYPE_I8)
        return (size_t)m->n;
    if (m->type == DTYPE_F8E4M3)
        return mem_mul(blocks((size_t)m->row_lead, (size_t)m->n),
                       (size_t)m->scale_stride * (m->layout == MATRIX_TILED ? 2 : 1));
    return 0;
}

size_t pack_scale_bytes(const struct cuda_matrix *m)
{
    return card_round(mem_mul(scale_count(m), sizeof(float)));
}

void pack_places(int r, size_t size, uint16_t place[MATRIX_CHUNK])
{
    for (int c = 0; c < MATRIX_CHUNK; c++) {
        int part = c / 16, in = c % 16, lane = r % 8 * 4 + in % 8 / 2;
        int element = in / 8 * 4 + r / 8 * 2 + in % 2;
        if (size == 2)
            place[c] = (uint16_t)(part * 256 + lane * 8 + element);
        else
            place[c] = (uint16_t)(part / 2 * 512 + lane * 16 + part % 2 * 8 + element);
    }
}

/* Writes an e4m3 code into the word it shares with three others (number.cuh: e4m3x4_split), whose bits are
 * still 0; `at` counts codes. */
static void split_code(uint32_t *words, size_t at, uint8_t code)
{
    uint32_t sign = code >> 7, high = code >> 4 & 7, rest = code & 127, low = code & 15;
    uint32_t half = at % 4 < 2 ? sign << 15 | rest << 4 : sign << 11 | high << 12 | low;
    words[at / 4] |= half << at % 2 * 16;
}

static void tile_row(const struct cuda_matrix *m, size_t tile, int r, const void *row, void *data)
{
    size_t size = dtype_size((enum dtype)m->type), chunk = MATRIX_TILE * MATRIX_CHUNK;
    uint16_t place[MATRIX_CHUNK];
    pack_places(r, size, place);
    for (int i = 0, column = m->lead; i < m->k;) {
        int in = column % MATRIX_CHUNK, left = m->k - i;
        int count = MATRIX_CHUNK - in < left ? MATRIX_CHUNK - in : left;
        size_t at = (tile * (size_t)m->chunks + (size_t)(column / MATRIX_CHUNK)) * chunk;
        for (int c = 0; c < count; c++)
            if (size == 2)
                ((uint16_t *)data)[at + place[in + c]] = ((const uint16_t *)row)[i + c];
            else if (m->type == DTYPE_F8E4M3)
                split_code(data, at + place[in + c], ((const uint8_t *)row)[i + c]);
            else
                ((uint8_t *)data)[at + place[in + c]] = ((const uint8_t *)row)[i + c];
        i += count;
        column += count;
    }
}

static void write_row(const struct cuda_matrix *m, size_t j, int step, int offset, const void *row,
                      void *data)
{
    size_t size = dtype_size((enum dtype)m->type), n = (size_t)m->n, k = (size_t)m->k;
    if (m->layout == MATRIX_TILED)
        tile_row(m, j / MATRIX_TILE * (size_t)step + (size_t)offset, (int)(j % MATRIX_TILE), row,
                 data);
    else if (m->layout == MATRIX_ROWS)
        memcpy((char *)data + j * k * size, row, k * size);
    else
        for (size_t i = 0; i < k; i++)
            memcpy((char *)data + (i * n + j) * size, (const char *)row + i * size, size);
}

/* The scale of block row i and block column j of a part; 0 where there is none. */
static float block_scale(const struct weight_part *w, size_t i, size_t j)
{
    size_t lead = w->col0 % MATRIX_BLOCK, row_lead = w->row0 % MATRIX_BLOCK;
    size_t row = i ? i * MATRIX_BLOCK - row_lead : 0, column = j ? j * MATRIX_BLOCK - lead : 0;
    return row < w->n && column < w->k ? weight_scale(w, row, column) : 0;
}

static void copy_scales(const struct weight_part *w, const struct cuda_matrix *m, float *scale)
{
    size_t rows = blocks((size_t)m->row_lead, w->n), columns = (size_t)m->scale_stride;
    for (size_t i = 0; i < rows; i++) {
        if (m->layout != MATRIX_TILED) {
            for (size_t j = 0; j < columns; j++)
                *scale++ = block_scale(w, i, j);
            continue;
        }
        float *ratio = scale + columns, before = 0;
        for (size_t j = 0; j < columns && before == 0; j++)
            before = block_scale(w, i, j);
        before = before == 0 ? 1 : before;
        for (size_t j = 0; j < columns; j++) {
            float own = block_scale(w, i, j);
            scale[j] = own == 0 ? before : own;
            ratio[j] = before / scale[j];
            before = scale[j];
        }
        scale = ratio + columns;
    }
}

/* TILED sums count in units of the scales (gemm.cuh), so these must be of about one size: a factor of 2^64
 * leaves products and sums a place in f32. */
bool pack_even(const struct weight_part *w)
{
    size_t lead = w->col0 % MATRIX_BLOCK, row_lead = w->row0 % MATRIX_BLOCK;
    for (size_t i = 0; w->scale && i < blocks(row_lead, w->n); i++) {
        float least = INFINITY, most = 0;
        for (size_t j = 0; j < blocks(lead, w->k); j++) {
            float size = fabsf(block_scale(w, i, j));
            if (!(size < INFINITY))
                return false;
            least = size > 0 && size < least ? size : least;
            most = size > most ? size : most;
        }
        if (most > 0 && !(most <= 0x1p64f * least && least >= FLT_MIN))
            return false;
    }
    return true;
}

/* Codes of blocks whose scale is 0. */
static void clear_dead(const struct weight_part *w, size_t j, uint8_t *codes)
{
    size_t lead = w->col0 % MATRIX_BLOCK;
    for (size_t i = 0; i < w->k; i += MATRIX_BLOCK - (lead + i) % MATRIX_BLOCK) {
        size_t left = w->k - i, block = MATRIX_BLOCK - (lead + i) % MATRIX_BLOCK;
        if (weight_scale(w, j, i) == 0)
            memset(codes + i, 0, left < block ? left : block);
    }
}

/* TILED e4m3 becomes bf16 by arithmetic that knows no NaN. */
static void refuse_nan(const uint8_t *row, size_t k)
{
    for (size_t i = 0; i < k; i++)
        if ((row[i] & 0x7f) == 0x7f)
            die("a weight of the checkpoint is NaN (e4m3 code 0x%02x)", row[i]);
}

/* Row j in the matrix's format, in one of the two buffers. */
static const void *read_row(const struct weight_part *w, enum weight_keep keep, enum dtype type,
                            size_t j, float *values, int8_t *codes, float *scale)
{
    if (type == DTYPE_I8) {
        struct weight_form f = weight_form(w, keep);
        struct form_group g = {0};
        weight_row_grouped(w, keep, &f, j, codes, &g, values);
        scale[j] = g.d;
        return codes;
    }
    if (type == DTYPE_F8E4M3) {
        weight_row_f8(w, j, (uint8_t *)codes);
        return codes;
    }
    weight_row_kept(w, keep, j, values);
    if (type == DTYPE_BF16)
        for (size_t i = 0; i < w->k; i++) { /* in place: each number is behind its own f32 */
            bf16_t half = bf16_from_f32(values[i]);
            memcpy((char *)values + i * sizeof half, &half, sizeof half);
        }
    return values;
}

static void write_groups(const struct weight_part *w, enum weight_keep keep,
                         const struct cuda_matrix *m, size_t from, size_t to, int step, int offset,
                         void *data)
{
    struct weight_form f = weight_form(w, keep);
    float *values = mem_new(w->k, sizeof *values);
    int8_t *codes = mem_new(w->k, sizeof *codes);
    struct form_group *groups = mem_new(form_groups(w->k, f.inner), sizeof *groups);
    for (size_t j = from; j < to; j++) {
        weight_row_grouped(w, keep, &f, j, codes, groups, values);
        pack_group_row(m, &f, j / MATRIX_TILE * (size_t)step + (size_t)offset,
                       (int)(j % MATRIX_TILE), codes, groups, data);
    }
    free(values);
    free(codes);
    free(groups);
}

static void write_rows(const struct weight_part *w, enum weight_keep keep,
                       const struct cuda_matrix *m, size_t from, size_t to, int step, int offset,
                       void *data, float *scale)
{
    if (grouped(m)) {
        write_groups(w, keep, m, from, to, step, offset, data);
        return;
    }
    enum dtype type = (enum dtype)m->type;
    float *values = mem_new(w->k, sizeof *values);
    int8_t *codes = mem_new(w->k, sizeof *codes);
    for (size_t j = from; j < to; j++) {
        const void *row = read_row(w, keep, type, j, values, codes, scale);
        if (type == DTYPE_F8E4M3 && m->layout == MATRIX_TILED) {
            refuse_nan(row, w->k);
            clear_dead(w, j, (uint8_t *)codes);
        }
        write_row(m, j, step, offset, row, data);
    }
    free(values);
    free(codes);
}

/* Rows of a tile lie together in `data`, so each is one thread's. */
void pack_write(int threads, const struct weight_part *w, enum weight_keep keep,
                const struct cuda_matrix *m, int step, int offset, void *data, float *scale)
{
    if (w->k == 0)
        return;
    if (m->type == DTYPE_F8E4M3)
        copy_scales(w, m, scale);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (size_t tile = 0; tile < (w->n + MATRIX_TILE - 1) / MATRIX_TILE; tile++) {
        size_t from = tile * MATRIX_TILE, left = w->n - from;
        write_rows(w, keep, m, from, from + (left < MATRIX_TILE ? left : MATRIX_TILE), step, offset,
                   data, scale);
    }
}
