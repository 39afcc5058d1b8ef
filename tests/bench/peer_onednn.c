/* peer_onednn.c - oneDNN as a peer: its bf16 matmul, with weights in the format it asks for. */
#include "tests/bench/peer.h"

#define NAME .name = "oneDNN", .dtype = "bf16", .weight_bytes = sizeof(bf16_t)

#ifdef TANDEM_ONEDNN
#include "base/err.h"
#include "base/mem.h"

#include <dnnl.h>
#include <omp.h>
#include <stdlib.h>

static void must(dnnl_status_t status, const char *what)
{
    if (status != dnnl_success)
        die("oneDNN: %s failed with status %d", what, (int)status);
}

/* Where versions differ: 2 has structs for layouts and for operations, 3 handles and functions. */
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t layout;
typedef const_dnnl_memory_desc_t known_layout;

static layout new_layout(const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    layout l;
    must(dnnl_memory_desc_create_with_tag(&l, 2, dims, type, tag), "a memory descriptor");
    return l;
}

static void free_layout(layout l)
{
    dnnl_memory_desc_destroy(l);
}

static dnnl_status_t new_matmul(dnnl_primitive_desc_t *desc, dnnl_engine_t engine, layout x,
                                layout w, layout y)
{
    return dnnl_matmul_primitive_desc_create(desc, engine, x, w, NULL, y, NULL);
}
#else
typedef dnnl_memory_desc_t *layout;
typedef const dnnl_memory_desc_t *known_layout;

static layout new_layout(const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    layout l = mem_new(1, sizeof *l);
    must(dnnl_memory_desc_init_by_tag(l, 2, dims, type, tag), "a memory descriptor");
    return l;
}

static void free_layout(layout l)
{
    free(l);
}

static dnnl_status_t new_matmul(dnnl_primitive_desc_t *desc, dnnl_engine_t engine, layout x,
                                layout w, layout y)
{
    dnnl_matmul_desc_t matmul;
    must(dnnl_matmul_desc_init(&matmul, x, w, NULL, y), "a matmul descriptor");
    return dnnl_primitive_desc_create(desc, &matmul, NULL, engine, NULL);
}
#endif

/* One copy of the weights. */
struct packed {
    void *data;
    dnnl_memory_t memory;
};

struct product {
    struct peer_linear linear;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    size_t count;
    struct packed *w;           /* in the format of `desc` */
    dnnl_primitive_desc_t desc; /* NULL before the first prepare(), as are these */
    dnnl_primitive_t matmul;
    dnnl_memory_t x, y;
};

static bool about(int threads, char *text, size_t size)
{
    const dnnl_version_t *v = dnnl_version();
    bool usable = threads == 1 || v->cpu_runtime == DNNL_RUNTIME_OMP;
    snprintf(text, size, "%d.%d.%d, bf16 weights in the format that it prefers%s", v->major,
             v->minor, v->patch, usable ? "" : "; left out, it was not built for OpenMP");
    return usable;
}

static bool own_threads(void)
{
    return false;
}

static void *open_product(const struct peer_linear *l)
{
    struct product *p = mem_zeroed(1, sizeof *p);
    p->linear = *l;
    p->count = l->cold / mem_mul(mem_mul(l->n, l->k), sizeof(bf16_t)) + 1;
    p->w = mem_zeroed(p->count, sizeof *p->w);
    omp_set_num_threads(l->threads); /* it asks OpenMP; ours always says how many */
    must(dnnl_engine_create(&p->engine, dnnl_cpu, 0), "an engine");
    must(dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags), "a stream");
    return p;
}

static void free_weights(struct product *p)
{
    for (size_t i = 0; i < p->count; i++) {
        dnnl_memory_destroy(p->w[i].memory);
        free(p->w[i].data);
    }
}

static void free_matmul(struct product *p)
{
    dnnl_primitive_destroy(p->matmul);
    dnnl_primitive_desc_destroy(p->desc);
    dnnl_memory_destroy(p->x);
    dnnl_memory_destroy(p->y);
}

static void close_product(void *self)
{
    struct product *p = self;
    if (p->desc) {
        free_weights(p);
        free_matmul(p);
    }
    dnnl_stream_destroy(p->stream);
    dnnl_engine_destroy(p->engine);
    free(p->w);
    free(p);
}

static known_layout layout_of(dnnl_primitive_desc_t desc, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(desc, what, 0);
}

/* All copies anew, in the format that `desc` wants. */
static void pack(struct product *p, dnnl_primitive_desc_t desc)
{
    known_layout format = layout_of(desc, dnnl_query_weights_md);
    layout plain = new_layout((dnnl_dims_t){(dnnl_dim_t)p->linear.k, (dnnl_dim_t)p->linear.n},
                              dnnl_bf16, dnnl_ba);
    dnnl_memory_t from;
    dnnl_primitive_desc_t reorder_desc;
    dnnl_primitive_t reorder;
    must(dnnl_memory_create(&from, plain, p->engine, (void *)p->linear.w), "memory");
    must(dnnl_reorder_primitive_desc_create(&reorder_desc, plain, p->engine, format, p->engine,
                                            NULL),
         "a reorder descriptor");
    must(dnnl_primitive_create(&reorder, reorder_desc), "a reorder");
    for (size_t i = 0; i < p->count; i++) {
        struct packed *w = &p->w[i];
        w->data = mem_aligned(dnnl_memory_desc_get_size(format), 1);
        must(dnnl_memory_create(&w->memory, format, p->engine, w->data), "memory");
        dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, w->memory}};
        must(dnnl_primitive_execute(reorder, p->stream, 2, args), "packing weights");
    }
    must(dnnl_stream_wait(p->stream), "packing weights");
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(reorder_desc);
    dnnl_memory_destroy(from);
    free_layout(plain);
}

static bool prepare(void *self, size_t rows, const bf16_t *x, char *how, size_t size)
{
    struct product *p = self;
    dnnl_dim_t m = (dnnl_dim_t)rows, n = (dnnl_dim_t)p->linear.n, k = (dnnl_dim_t)p->linear.k;
    layout of_x = new_layout((dnnl_dims_t){m, k}, dnnl_bf16, dnnl_ab);
    layout of_w = new_layout((dnnl_dims_t){k, n}, dnnl_bf16, dnnl_format_tag_any);
    layout of_y = new_layout((dnnl_dims_t){m, n},
                             p->linear.y_dtype == DTYPE_F32 ? dnnl_f32 : dnnl_bf16, dnnl_ab);
    dnnl_primitive_desc_t desc;
    dnnl_status_t status = new_matmul(&desc, p->engine, of_x, of_w, of_y);
    free_layout(of_x);
    free_layout(of_w);
    free_layout(of_y);
    if (status == dnnl_unimplemented)
        return false;
    must(status, "a matmul");
    /* The format depends on the number of rows too, but seldom changes with it. */
    bool packed = p->desc && dnnl_memory_desc_equal(layout_of(desc, dnnl_query_weights_md),
                                                    layout_of(p->desc, dnnl_query_weights_md));
    if (!packed) {
        if (p->desc)
            free_weights(p);
        pack(p, desc);
    }
    if (p->desc)
        free_matmul(p);
    p->desc = desc;
    must(dnnl_primitive_create(&p->matmul, desc), "a matmul");
    must(dnnl_memory_create(&p->x, layout_of(desc, dnnl_query_src_md), p->engine, (void *)x),
         "memory");
    must(dnnl_memory_create(&p->y, layout_of(desc, dnnl_query_dst_md), p->engine, p->linear.y),
         "memory");
    const char *name = "";
    must(dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &name), "its name");
    snprintf(how, size, "%s", name);
    return true;
}

static void run(void *self, size_t i)
{
    struct product *p = self;
    dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, p->x}, {DNNL_ARG_WEIGHTS, p->w[i % p->count].memory}, {DNNL_ARG_DST, p->y}};
    must(dnnl_primitive_execute(p->matmul, p->stream, 3, args), "a product");
    must(dnnl_stream_wait(p->stream), "a product");
}

const struct peer peer_onednn = {NAME,
                                 .about = about,
                                 .own_threads = own_threads,
                                 .open = open_product,
                                 .close = close_product,
                                 .prepare = prepare,
                                 .run = run};
#else
const struct peer peer_onednn = {NAME, .package = "libdnnl-dev"};
#endif
