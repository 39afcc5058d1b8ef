#include "model/generate.h"

#include "base/files.h"
#include "base/mem.h"
#include "data/gguf.h"
#include "model/block.h"
#include "model/family.h"
#include "model/generate_gguf.h"
#include "model/generate_values.h"
#include "model/writer.h"

#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define STRIP_ROWS FAMILY_BLOCK /* rows made at once: a row of blocks */

/* ---- the tensors ---------------------------------------------------------------------------- */

/* Which tensor of the model an entry of the list of shards is. */
struct source {
    enum model_tensor kind;
    enum tensor_use use;
    size_t layer, expert; /* expert: of a tensor that has only this one */
    bool scale;           /* its block scales, written together with it */
    enum packing packing; /* part of a packed one */
    struct packed_part part;
    size_t inputs, matrix[2]; /* of the matrix, or the one that the part belongs to */
};

struct plan {
    const struct generate_options *o;
    struct model *model; /* as its config.json is read */
    struct writer files;
    struct source *sources; /* [files.count] */
};

static enum dtype dtype_of(const struct generate_options *o, const struct source *s)
{
    if (s->kind == TENSOR_ROUTER_BIAS)
        return DTYPE_F32;
    return o->dtype == DTYPE_F8E4M3 && s->use != USE_LINEAR ? DTYPE_BF16 : o->dtype;
}

/* Of the tensor that was just added. */
static void keep_source(struct plan *p, struct source source)
{
    p->sources = mem_resize(p->sources, p->files.count, sizeof *p->sources);
    p->sources[p->files.count - 1] = source;
}

static void plan_add(struct plan *p, const char *name, enum dtype dtype, int dims,
                     const size_t *shape, struct source source)
{
    writer_add(&p->files, name, dtype, dims, shape, source.scale);
    keep_source(p, source);
}

static bool is_expert(enum model_tensor kind)
{
    return kind == TENSOR_EXPERT_GATE || kind == TENSOR_EXPERT_UP || kind == TENSOR_EXPERT_DOWN;
}

/* The tensors that stand for a packed matrix, or for several of one size; false: it is not packed. */
static bool plan_packed(struct plan *p, const char *name, int dims, const size_t *shape,
                        struct source source)
{
    struct packed_part parts[PACKED_PARTS];
    const size_t *matrix = shape + dims - 2;
    size_t stem = strlen(name), tail = strlen(".weight");
    bool named = stem > tail && strcmp(name + stem - tail, ".weight") == 0;
    if (source.use != USE_LINEAR || (p->o->packing == PACKING_MXFP4 && !is_expert(source.kind)))
        return false;
    source.packing = p->o->packing;
    int n = generate_parts(source.packing, matrix[0], matrix[1], parts);
    if (n == 0)
        return false;
    tail = named ? tail : 0;
    memcpy(source.matrix, matrix, sizeof source.matrix);
    for (int i = 0; i < n; i++) {
        char whole[FAMILY_NAME_MAX + 64];
        size_t sizes[3] = {shape[0], parts[i].rows, parts[i].columns};
        bool row = parts[i].is == PACKED_SHAPE;
        source.part = parts[i];
        snprintf(whole, sizeof whole, "%.*s%s", (int)(stem - tail), name, parts[i].suffix);
        writer_add_other(&p->files, whole, parts[i].type, parts[i].width, row ? 1 : dims,
                         dims == 3 && !row ? sizes : sizes + 1, i > 0);
        p->files.tensors[p->files.count - 1].inner = parts[i].inner;
        keep_source(p, source);
    }
    return true;
}

static bool plan_one(struct plan *p, const struct member *member, size_t layer, size_t expert)
{
    char name[FAMILY_NAME_MAX + 32];
    size_t all[3], *shape = all;
    int dims = member_shape(p->model, member, layer, all);
    struct family_place place;
    /* Queries that come straight from x have a name of their own where both kinds are possible. */
    int way = member->tensor == TENSOR_Q_UP && p->model->layer[layer].attention.q_rank == 0;
    if (family_name(p->model, member->tensor, layer, expert, way, name, &place) != 0)
        family_name(p->model, member->tensor, layer, expert, 0, name, &place);
    const bool single = place.single;
    if (place.rows == ROWS_SECOND_HALF || place.rows == ROWS_ODD) /* in the tensor of the others */
        return single;
    if (place.rows != ROWS_ALL)
        shape[dims - (member->use == USE_BIAS ? 1 : 2)] *= 2;
    if (single && dims == 3) {
        shape++;
        dims--;
    }
    struct source source = {.kind = member->tensor,
                            .use = member->use,
                            .layer = layer,
                            .expert = single ? expert : 0,
                            .inputs = shape[dims - 1]};
    enum dtype dtype = dtype_of(p->o, &source);
    if (plan_packed(p, name, dims, shape, source))
        return single;
    if (place.turned) {
        size_t outputs = shape[dims - 2];
        shape[dims - 2] = shape[dims - 1];
        shape[dims - 1] = outputs;
    }
    plan_add(p, name, dtype, dims, shape, source);
    if (dtype == DTYPE_F8E4M3) {
        strcat(name, "_scale_inv");
        for (int i = dims - 2; i < dims; i++)
            shape[i] = (shape[i] + FAMILY_BLOCK - 1) / FAMILY_BLOCK;
        source.scale = true;
        plan_add(p, name, DTYPE_F32, dims, shape, source);
    }
    return single;
}

static void plan_member(void *context, const struct member *member, size_t layer)
{
    struct plan *p = context;
    size_t experts = (size_t)p->model->layer[layer].ffn.router.experts;
    bool single = true;
    for (size_t e = 0; e == 0 || (single && member->dims == 3 && e < experts); e++)
        single = plan_one(p, member, layer, e);
}

static json_t *config_of(const struct generate_options *o)
{
    json_t *config = family_find(o->model.family)->write(&o->model, o->dtype);
    if (o->packing)
        json_object_set_new(config, "quantization_config", generate_quantization(o->packing));
    return config;
}

/* The config goes the way of any other, so a shape that cannot be read again is not written. */
static int plan_make(struct plan *p, const struct generate_options *o, struct err *e)
{
    static const char *const what = "the model to generate";
    *p = (struct plan){.o = o, .model = mem_zeroed(1, sizeof *p->model)};
    writer_init(&p->files, o->directory);
    const struct family *family = family_find(o->model.family);
    if (o->blocks && !(family->mxfp4 && o->packing == PACKING_MXFP4))
        return err_set(e, "%s: dtype %s is for GGUF%s; name a file, like MODEL.gguf", what,
                       o->blocks->name, o->packing ? " and gpt_oss" : "");
    if (o->dtype != DTYPE_F32 && o->dtype != DTYPE_BF16 && o->dtype != DTYPE_F8E4M3)
        return err_set(e, "%s: dtype can be f32, bf16 or fp8, not %s", what, dtype_name(o->dtype));
    if (family->mxfp4 && ((o->packing && o->packing != PACKING_MXFP4) || o->dtype == DTYPE_F8E4M3))
        return err_set(e, "%s: dtype of %s can be mxfp4, bf16 or f32", what, o->model.family);
    for (size_t l = o->model.layers; l < MODEL_MAX_LAYERS; l++)
        if (o->model.moe[l])
            return err_set(e, "%s: layer %zu is to have experts, but there are %zu layers", what, l,
                           o->model.layers);
    json_t *config = config_of(o);
    int status = model_read_config(p->model, config, what, NULL, e);
    json_decref(config);
    if (status != 0 || generate_used(o, p->model, e) != 0)
        return -1;
    members_visit(p->model, plan_member, p);
    members_visit_mtp(p->model, plan_member, p);
    writer_plan(&p->files, o->file_bytes);
    return 0;
}

static void plan_free(struct plan *p)
{
    writer_free(&p->files);
    free(p->sources);
    free(p->model);
}

static bool is_gguf(const struct generate_options *o)
{
    return o->directory && gguf_is_path(o->directory);
}

size_t generate_bytes(const struct generate_options *o)
{
    size_t parameters;
    if (is_gguf(o))
        return generate_gguf_bytes(o, &parameters);
    struct plan p;
    struct err e;
    size_t bytes = plan_make(&p, o, &e) == 0 ? writer_bytes(&p.files) : 0;
    plan_free(&p);
    return bytes;
}

static size_t parameters_of(const struct plan *p, size_t tensor)
{
    const struct source *s = &p->sources[tensor];
    size_t n = p->files.tensors[tensor].bytes / p->files.tensors[tensor].width;
    if (s->scale || (s->packing && s->part.is != PACKED_CODES))
        return 0;
    return s->packing ? generate_codes(s->packing, n) : n;
}

size_t generate_parameters(const struct generate_options *o)
{
    struct plan p;
    struct err e;
    size_t n = 0;
    if (is_gguf(o)) {
        generate_gguf_bytes(o, &n);
        return n;
    }
    if (plan_make(&p, o, &e) == 0)
        for (size_t i = 0; i < p.files.count; i++)
            n += parameters_of(&p, i);
    plan_free(&p);
    return n;
}

/* ---- strips --------------------------------------------------------------------------------- */

/* Up to STRIP_ROWS rows of a matrix; `matrix` counts the matrices of a stacked tensor. */
struct strip {
    size_t tensor, matrix, row, rows;
};

static size_t tensor_rows(const struct writer_tensor *t)
{
    return t->dims >= 2 ? t->shape[t->dims - 2] : 1;
}

static size_t columns_of(const struct writer_tensor *t)
{
    return t->shape[t->dims - 1];
}

/* Makes the list of a file; *widest: elements of the largest strip. */
static struct strip *strips_of(const struct plan *p, size_t file, size_t *count, size_t *widest)
{
    struct strip *strips = NULL;
    *count = *widest = 0;
    for (size_t i = 0; i < p->files.count; i++) {
        const struct writer_tensor *t = &p->files.tensors[i];
        if (t->file != file || p->sources[i].scale || t->bytes == 0)
            continue;
        size_t rows = tensor_rows(t), columns = columns_of(t);
        size_t each = (rows + STRIP_ROWS - 1) / STRIP_ROWS;
        size_t matrices = t->dims == 3 ? t->shape[0] : 1;
        strips = mem_resize(strips, *count + mem_mul(each, matrices), sizeof *strips);
        for (size_t s = 0; s < each * matrices; s++) {
            size_t row = s % each * STRIP_ROWS;
            size_t n = rows - row < STRIP_ROWS ? rows - row : STRIP_ROWS;
            strips[(*count)++] = (struct strip){i, s / each, row, n};
            if (mem_mul(n, columns) > *widest)
                *widest = n * columns;
        }
    }
    return strips;
}

/* Makes the strip's numbers: x[rows][columns]. */
static void strip_values(const struct plan *p, const struct strip *s, float *x)
{
    const struct writer_tensor *t = &p->files.tensors[s->tensor];
    const struct source *from = &p->sources[s->tensor];
    size_t columns = columns_of(t);
    size_t first = ((from->expert + s->matrix) * tensor_rows(t) + s->row) * columns;
    generate_numbers(p->model, p->o->seed, from->kind, from->use, from->layer, from->inputs, first,
                     s->rows * columns, x);
}

/* To FP8: one scale for every FAMILY_BLOCK columns, since a strip is one row of blocks. */
static void strip_to_fp8(const struct plan *p, const struct strip *s, const float *x, f8e4m3_t *to,
                         float *scales)
{
    const struct writer_tensor *t = &p->files.tensors[s->tensor];
    const struct source *from = &p->sources[s->tensor];
    size_t columns = columns_of(t), blocks = (columns + FAMILY_BLOCK - 1) / FAMILY_BLOCK;
    size_t block_rows = (tensor_rows(t) + FAMILY_BLOCK - 1) / FAMILY_BLOCK;
    for (size_t b = 0; b < blocks; b++) {
        size_t begin = b * FAMILY_BLOCK;
        size_t end = columns - begin < FAMILY_BLOCK ? columns : begin + FAMILY_BLOCK;
        float most = 0;
        for (size_t r = 0; r < s->rows; r++)
            for (size_t i = begin; i < end; i++)
                most = fmaxf(most, fabsf(x[r * columns + i]));
        float unscale = most > 0 ? 448.0f / most : 1.0f;
        size_t block =
            ((from->expert + s->matrix) * block_rows + s->row / FAMILY_BLOCK) * blocks + b;
        uint32_t words[4];
        generate_words(p->o->seed, generate_stream(from->kind, from->layer), FOR_BLOCK, block,
                       words);
        scales[b] = generate_gain(words[0]) / unscale;
        for (size_t r = 0; r < s->rows; r++)
            for (size_t i = begin; i < end; i++)
                to[r * columns + i] = f8e4m3_from_f32(x[r * columns + i] * unscale);
    }
}

/* Into room for as many floats, which are no smaller but for a shape. */
static void strip_packed(const struct plan *p, const struct strip *s, void *to)
{
    const struct writer_tensor *t = &p->files.tensors[s->tensor];
    const struct source *from = &p->sources[s->tensor];
    size_t columns = columns_of(t);
    size_t first = from->part.is == PACKED_SHAPE
                       ? 0
                       : ((from->expert + s->matrix) * tensor_rows(t) + s->row) * columns;
    generate_fill(from->packing, &from->part, from->matrix, p->o->seed,
                  generate_stream(from->kind, from->layer),
                  generate_deviation(p->model, from->use, from->inputs), first, s->rows * columns,
                  to);
}

static int strip_write(const struct plan *p, const struct strip *s, int fd, float *x, void *to,
                       struct err *e)
{
    const struct writer_tensor *t = &p->files.tensors[s->tensor];
    size_t columns = columns_of(t), n = s->rows * columns, size = t->width;
    size_t offset = t->offset + (s->matrix * tensor_rows(t) + s->row) * columns * size;
    if (p->sources[s->tensor].packing) {
        strip_packed(p, s, x);
        return writer_write(fd, x, n * size, offset, t->name, e);
    }
    strip_values(p, s, x);
    if (t->dtype == DTYPE_F32)
        return writer_write(fd, x, n * size, offset, t->name, e);
    if (t->dtype == DTYPE_BF16) {
        for (size_t i = 0; i < n; i++)
            ((bf16_t *)to)[i] = bf16_from_f32(x[i]);
        return writer_write(fd, to, n * size, offset, t->name, e);
    }
    const struct writer_tensor *scale = t + 1; /* plan_tensor() put it there */
    size_t blocks = columns_of(scale);
    float *scales = mem_new(blocks, sizeof *scales);
    strip_to_fp8(p, s, x, to, scales);
    int status = writer_write(fd, to, n * size, offset, t->name, e);
    size_t row = s->matrix * tensor_rows(scale) + s->row / FAMILY_BLOCK;
    if (status == 0)
        status = writer_write(fd, scales, blocks * sizeof *scales,
                              scale->offset + row * blocks * sizeof *scales, scale->name, e);
    free(scales);
    return status;
}

static int file_write(struct plan *p, size_t file, struct err *e)
{
    const int threads = p->o->threads > 0 ? p->o->threads : omp_get_max_threads();
    size_t count, widest;
    int fd = writer_create(&p->files, file, e);
    if (fd < 0)
        return -1;
    struct strip *strips = strips_of(p, file, &count, &widest);
    int status = 0;
#pragma omp parallel num_threads(threads)
    {
        float *x = mem_new(widest + 2, sizeof *x); /* a shape's two numbers are wider */
        void *to = mem_new(widest, sizeof(bf16_t));
        struct err mine = {""};
#pragma omp for schedule(dynamic)
        for (size_t i = 0; i < count; i++)
            if (mine.text[0] == '\0')
                (void)strip_write(p, &strips[i], fd, x, to, &mine);
#pragma omp critical
        if (mine.text[0] != '\0') {
            *e = mine;
            status = -1;
        }
        free(x);
        free(to);
    }
    free(strips);
    if (close(fd) != 0 && status == 0)
        status = err_set(e, "%s: a weight file could not be written: %s", p->o->directory,
                         strerror(errno));
    return status;
}

/* ---- the directory -------------------------------------------------------------------------- */

static int prepare_directory(const struct generate_options *o, struct err *e)
{
    if (mkdir(o->directory, 0777) != 0 && errno != EEXIST)
        return err_set(e, "%s: cannot be made: %s", o->directory, strerror(errno));
    char *path = files_join(o->directory, "config.json");
    bool there = files_exist(path);
    free(path);
    if (there)
        return err_set(e,
                       "%s/config.json: is there already; remove that model or choose another "
                       "directory",
                       o->directory);
    struct statvfs fs;
    size_t needed = generate_bytes(o);
    if (statvfs(o->directory, &fs) == 0 &&
        (double)fs.f_bavail * (double)fs.f_frsize < (double)needed)
        return err_set(e, "%s: the checkpoint takes %.1f GB, but only %.1f GB are free there",
                       o->directory, (double)needed * 1e-9,
                       (double)fs.f_bavail * (double)fs.f_frsize * 1e-9);
    return 0;
}

static int copy_tokenizer(const struct generate_options *o, struct err *e)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json",
                                        "chat_template.jinja"};
    int status = 0;
    for (size_t i = 0; o->tokenizer && status == 0 && i < sizeof names / sizeof *names; i++) {
        char *from = files_join(o->tokenizer, names[i]);
        if (i == 0 || files_exist(from)) {
            size_t n;
            char *text = files_read(from, FILES_BYTES_MAX, &n, e);
            status = text ? files_write(o->directory, names[i], text, n, e) : -1;
            free(text);
        }
        free(from);
    }
    return status;
}

static int write_files(struct plan *p, struct err *e)
{
    int status = 0;
    for (size_t f = 0; f < p->files.files && status == 0; f++)
        status = file_write(p, f, e);
    return status == 0 ? writer_write_index(&p->files, e) : status;
}

int generate_checkpoint(const struct generate_options *o, struct err *e)
{
    struct plan p;
    if (is_gguf(o))
        return generate_gguf(o, e);
    int status = plan_make(&p, o, e);
    if (status == 0)
        status = prepare_directory(o, e);
    if (status == 0)
        status = copy_tokenizer(o, e);
    if (status == 0)
        status = write_files(&p, e);
    plan_free(&p);
    if (status != 0)
        return -1;
    char *path = files_join(o->directory, "config.json");
    json_t *config = config_of(o);
    if (json_dump_file(config, path, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) != 0)
        status = err_set(e, "%s: cannot be written: %s", path, strerror(errno));
    json_decref(config);
    free(path);
    return status;
}
