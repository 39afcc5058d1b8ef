/* generate_gguf.c - `tandem generate` into one GGUF file: metadata, names and shapes as its converters
 * write them, random numbers or random blocks of any of its formats. */
#include "model/generate_gguf.h"

#include "base/files.h"
#include "base/mem.h"
#include "data/gguf_arch.h"
#include "model/generate_blocks.h"
#include "model/generate_values.h"
#include "model/gguf_keys.h"
#include "model/rope.h"
#include "model/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALIGN      32
#define CHUNK_ROWS 128
#define NAME_ROOM  96

struct entry {
    char name[NAME_ROOM];
    const struct member *member; /* NULL: the factors of a rotation */
    enum tensor_use use;
    size_t layer;
    const struct codec *codec;
    int dims;
    size_t shape[3]; /* as everywhere, the fastest last */
    size_t offset, bytes;
};

struct file {
    const struct generate_options *o;
    struct model *m;
    const struct gguf_arch *arch;
    struct gguf_bytes values;
    uint64_t n_values;
    struct entry *entries;
    size_t n_entries, room;
};

/* ---- tensors -------------------------------------------------------------------------------- */

/* Where a family knows a tensor under several names, the first that the architecture has too. */
static const char *name_of(const struct file *f, enum model_tensor kind, size_t layer)
{
    const char *pattern, *name = NULL;
    size_t length;
    if (kind == TENSOR_Q_UP && !f->m->layer[layer].attention.q_rank)
        return "attn_q.weight";
    for (int way = 0; !name && (pattern = family_pattern(f->m, kind, way, &length)); way++)
        name = gguf_arch_name(f->arch, pattern, length);
    if (!name)
        die("GGUF files of %s have no name for tensor %d", f->m->family, (int)kind);
    return name;
}

static const struct codec *codec_for(const struct file *f, enum tensor_use use, size_t columns)
{
    if (use != USE_LINEAR && use != USE_TABLE && use != USE_HEAD)
        return &codec_f32;
    const struct codec *c = f->o->blocks ? f->o->blocks : codec_of(f->o->dtype);
    if (use != USE_LINEAR && !c->numbers) /* as its quantizer does: these stay near 8 bits */
        c = columns % 256 == 0 ? &codec_q6_k : &codec_q8_0;
    return generate_blocks_fit(c, columns);
}

static struct entry *add_entry(struct file *f, const char *name, const struct codec *codec,
                               int dims, const size_t *shape)
{
    if (f->n_entries == f->room) {
        f->room = 2 * f->room + 64;
        f->entries = mem_resize(f->entries, f->room, sizeof *f->entries);
    }
    struct entry *e = &f->entries[f->n_entries++];
    *e = (struct entry){.codec = codec, .dims = dims};
    snprintf(e->name, sizeof e->name, "%s", name);
    memcpy(e->shape, shape, (size_t)dims * sizeof *shape);
    size_t numbers = 1;
    for (int i = 0; i < dims; i++)
        numbers = mem_mul(numbers, shape[i]);
    e->bytes = mem_mul(numbers / codec->block, codec->block_bytes);
    return e;
}

static void add_member(void *context, const struct member *member, size_t layer)
{
    struct file *f = context;
    size_t shape[3];
    char name[NAME_ROOM];
    int dims = member_shape(f->m, member, layer, shape);
    bool once = member->tensor == TENSOR_EMBED || member->tensor == TENSOR_FINAL_NORM ||
                member->tensor == TENSOR_LM_HEAD;
    if (once)
        snprintf(name, sizeof name, "%s", name_of(f, member->tensor, 0));
    else
        snprintf(name, sizeof name, "blk.%zu.%s", layer, name_of(f, member->tensor, layer));
    struct entry *e = add_entry(f, name, codec_for(f, member->use, shape[dims - 1]), dims, shape);
    e->member = member;
    e->use = member->use;
    e->layer = layer;
}

/* llama3's scaling: a factor for every pair. */
static void add_factors(struct file *f)
{
    size_t pairs = f->m->ropes[0].dim / 2;
    if (f->m->ropes[0].scaling == ROPE_LLAMA3)
        add_entry(f, "rope_freqs.weight", &codec_f32, 1, &pairs);
}

static void place(struct file *f)
{
    size_t at = 0;
    for (size_t i = 0; i < f->n_entries; i++) {
        f->entries[i].offset = at;
        at += (f->entries[i].bytes + ALIGN - 1) / ALIGN * ALIGN;
    }
}

/* ---- writing -------------------------------------------------------------------------------- */

static struct gguf_bytes header_of(const struct file *f)
{
    struct gguf_bytes b = {0};
    gguf_bytes_add(&b, "GGUF", 4);
    gguf_bytes_u32(&b, 3);
    gguf_bytes_u64(&b, f->n_entries);
    gguf_bytes_u64(&b, f->n_values);
    gguf_bytes_add(&b, f->values.data, f->values.n);
    for (size_t i = 0; i < f->n_entries; i++) {
        const struct entry *e = &f->entries[i];
        gguf_bytes_text(&b, e->name);
        gguf_bytes_u32(&b, (uint32_t)e->dims);
        for (int d = e->dims - 1; d >= 0; d--)
            gguf_bytes_u64(&b, e->shape[d]);
        gguf_bytes_u32(&b, gguf_type_id(e->codec));
        gguf_bytes_u64(&b, e->offset);
    }
    static const uint8_t zeros[ALIGN];
    gguf_bytes_add(&b, zeros, (ALIGN - b.n % ALIGN) % ALIGN);
    return b;
}

/* Which row of Hugging Face's order is row `row` here. */
static size_t turned_row(const struct file *f, const struct entry *e, size_t row)
{
    enum model_tensor kind = e->member->tensor;
    size_t d = (size_t)f->m->layer[e->layer].attention.attn.key_dim;
    if (!f->arch->row_pairs || (kind != TENSOR_Q_UP && kind != TENSOR_K))
        return row;
    size_t in = row % d;
    return row - in + in / 2 + in % 2 * (d / 2);
}

static void make_rows(const struct file *f, const struct entry *e, size_t first, size_t n,
                      float *numbers, uint8_t *to)
{
    size_t columns = e->shape[e->dims - 1];
    size_t bytes = columns / e->codec->block * e->codec->block_bytes;
    uint32_t stream = e->member ? generate_stream(e->member->tensor, e->layer) : 0;
    for (size_t r = first; r < first + n; r++, to += bytes) {
        if (!e->member) {
            for (size_t j = 0; j < columns; j++)
                ((float *)(void *)to)[j] = (float)rope_stretch(&f->m->ropes[0], j);
        } else if (e->codec->numbers) {
            generate_numbers(f->m, f->o->seed, e->member->tensor, e->use, e->layer, columns,
                             turned_row(f, e, r) * columns, columns, numbers);
            generate_blocks_store(e->codec, numbers, columns, to);
        } else {
            generate_blocks(e->codec, f->o->seed, stream, turned_row(f, e, r) * columns, columns,
                            generate_deviation(f->m, e->use, columns), to);
        }
    }
}

static int write_entry(const struct file *f, const struct entry *e, int fd, size_t begins,
                       struct err *err)
{
    const int threads = f->o->threads > 0 ? f->o->threads : omp_get_max_threads();
    size_t columns = e->shape[e->dims - 1], rows = 1;
    for (int d = 0; d + 1 < e->dims; d++)
        rows *= e->shape[d];
    size_t bytes = columns / e->codec->block * e->codec->block_bytes;
    int status = 0;
#pragma omp parallel num_threads(threads)
    {
        float *numbers = mem_new(columns, sizeof *numbers);
        uint8_t *to = mem_new(mem_mul(bytes, CHUNK_ROWS), 1);
        struct err mine = {""};
#pragma omp for schedule(dynamic)
        for (size_t r = 0; r < rows; r += CHUNK_ROWS) {
            size_t n = rows - r < CHUNK_ROWS ? rows - r : CHUNK_ROWS;
            make_rows(f, e, r, n, numbers, to);
            if (mine.text[0] == '\0')
                (void)writer_write(fd, to, n * bytes, begins + e->offset + r * bytes,
                                   f->o->directory, &mine);
        }
#pragma omp critical
        if (mine.text[0] != '\0') {
            *err = mine;
            status = -1;
        }
        free(numbers);
        free(to);
    }
    return status;
}

static int write_file(const struct file *f, struct err *e)
{
    static const uint8_t zero;
    struct gguf_bytes header = header_of(f);
    int fd = open(f->o->directory, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    int status =
        fd < 0 ? err_set(e, "%s: cannot be created: %s", f->o->directory, strerror(errno)) : 0;
    /* The header comes last, so that half a file is none. */
    for (size_t i = 0; i < f->n_entries && status == 0; i++)
        status = write_entry(f, &f->entries[i], fd, header.n, e);
    const struct entry *last = &f->entries[f->n_entries - 1];
    size_t end = header.n + last->offset + (last->bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (status == 0 && last->bytes % ALIGN)
        status = writer_write(fd, &zero, 1, end - 1, f->o->directory, e);
    if (status == 0)
        status = writer_write(fd, header.data, header.n, 0, f->o->directory, e);
    if (fd >= 0 && close(fd) != 0 && status == 0)
        status = err_set(e, "%s: could not be written: %s", f->o->directory, strerror(errno));
    if (fd >= 0 && status != 0)
        unlink(f->o->directory); /* it is ours (O_EXCL), and in the way of the next try */
    free(header.data);
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static bool is_arch(const struct file *f, const char *arch)
{
    return strcmp(f->arch->name, arch) == 0;
}

/* What GGUF has no key for. */
static int refuse(const struct file *f, struct err *e)
{
    const struct generate_options *o = f->o;
    const struct model *m = f->m;
    const char *what = NULL;
    bool tail = true;
    for (size_t l = gguf_dense_layers(m); l < m->layers; l++)
        tail = tail && m->layer[l].ffn.router.experts;
    if (!f->arch)
        what =
            "llama.cpp has no GGUF of this family; a name without .gguf is written as safetensors";
    else if ((o->packing && o->packing != PACKING_MXFP4) || o->dtype == DTYPE_F8E4M3)
        what = "dtype must be one of GGUF: f32, f16, bf16, q8_0, q4_0, q4_k, ...";
    else if (o->tokenizer)
        what = "a GGUF file is written without a tokenizer; let the job name it (tokenizer: "
               "DIRECTORY)";
    else if (!tail || (is_arch(f, "qwen3moe") && gguf_dense_layers(m) > 0))
        what = "moe_layers must be all of them, or in families with dense layers all but the first";
    else if (is_arch(f, "qwen3moe") && !m->layer[0].ffn.router.renormalize)
        what = "renormalize must be true in this family's GGUF";
    else if (is_arch(f, "step35") && o->model.rope_factor > 1)
        what = "rope_factor must be 1: this family's GGUF is stretched as the release is";
    return what ? err_set(e, "%s: %s", o->directory, what) : 0;
}

static void file_free(struct file *f)
{
    free(f->values.data);
    free(f->entries);
    free(f->m);
}

/* All but the numbers. */
static int file_make(struct file *f, const struct generate_options *o, struct err *e)
{
    *f = (struct file){.o = o, .m = mem_zeroed(1, sizeof *f->m)};
    const struct family *family = family_find(o->model.family);
    f->arch = gguf_arch_find(family->model_types[0]);
    json_t *config = family->write(&o->model, o->dtype);
    json_object_del(config, "quantization_config");
    int status = model_read_config(f->m, config, "the model to generate", NULL, e);
    json_decref(config);
    if (status != 0 || refuse(f, e) != 0 || generate_used(o, f->m, e) != 0)
        return -1;
    f->m->gain_offset = 0; /* converters add it */
    f->n_values = gguf_keys(&f->values, f->m, f->arch->name);
    members_visit(f->m, add_member, f);
    members_visit_mtp(f->m, add_member, f);
    add_factors(f);
    place(f);
    return 0;
}

int generate_gguf(const struct generate_options *o, struct err *e)
{
    struct file f;
    int status = file_make(&f, o, e) == 0 && write_file(&f, e) == 0 ? 0 : -1;
    file_free(&f);
    return status;
}

size_t generate_gguf_bytes(const struct generate_options *o, size_t *parameters)
{
    struct file f;
    struct err e;
    size_t bytes = 0;
    *parameters = 0;
    if (file_make(&f, o, &e) == 0)
        for (size_t i = 0; i < f.n_entries; i++) {
            bytes += f.entries[i].bytes;
            *parameters +=
                f.entries[i].bytes / f.entries[i].codec->block_bytes * f.entries[i].codec->block;
        }
    file_free(&f);
    return bytes;
}
