#include "data/append.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "data/h5.h"

#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define CHUNK_BYTES  (512u << 10) /* half of HDF5's chunk cache */
#define CHUNK_ROWS   (64u << 10)  /* most elements of a chunk: small types */
#define STRING_ROWS  1024u        /* strings gathered, and elements of their chunk */
#define STRING_BYTES (8u << 20)   /* written earlier when they are long */
#define POOL_MAX     128          /* chunks that wait at most, */
#define POOL_THREAD  4            /* and for every thread: waking them costs */
#define GZIP_LEVEL   4

struct append {
    char *name;
    struct h5_output *output;
    hid_t dataset, type;
    bool strings, grows;
    size_t element, total, room, held, written, text_bytes;
    uint64_t sum;
    char *data;
};

/* One chunk that waits: its elements, then its bytes in the file. */
struct waiting {
    struct append *of;
    size_t begin, n; /* elements */
    unsigned char *raw, *packed;
    size_t packed_bytes;
};

struct append_pool {
    size_t n, most;
    struct waiting chunks[POOL_MAX];
};

static struct append_pool *pool_of(struct h5_output *o)
{
    if (!o->pool) {
        size_t most = POOL_THREAD * (size_t)omp_get_max_threads();
        o->pool = mem_zeroed(1, sizeof *o->pool);
        o->pool->most = most < POOL_MAX ? most : POOL_MAX;
    }
    return o->pool;
}

void append_pool_free(struct append_pool *pool)
{
    for (size_t i = 0; pool && i < POOL_MAX; i++) {
        free(pool->chunks[i].raw);
        free(pool->chunks[i].packed);
    }
    free(pool);
}

/* ---- the filters of a chunk ----------------------------------------------------------------- */

/* HDF5's checksum: Fletcher's of 32 bits over words of 16 with the high byte first. */
static uint32_t fletcher32(const unsigned char *p, size_t n)
{
    uint32_t a = 0, b = 0;
    for (size_t words = n / 2, some; words; words -= some) {
        some = words < 360 ? words : 360; /* after so many the sums may overflow */
        for (size_t i = 0; i < some; i++, p += 2) {
            a += (uint32_t)p[0] << 8 | p[1];
            b += a;
        }
        a = (a & 0xffff) + (a >> 16);
        b = (b & 0xffff) + (b >> 16);
    }
    if (n % 2) {
        a += (uint32_t)*p << 8;
        b += a;
        a = (a & 0xffff) + (a >> 16);
        b = (b & 0xffff) + (b >> 16);
    }
    a = (a & 0xffff) + (a >> 16);
    b = (b & 0xffff) + (b >> 16);
    return b << 16 | a;
}

/* HDF5's shuffle: first bytes of all elements, then second bytes, and so on. */
static void shuffle(const unsigned char *from, unsigned char *to, size_t elements, size_t size)
{
    for (size_t k = 0; k < size; k++)
        for (size_t i = 0; i < elements; i++)
            *to++ = from[i * size + k];
}

static void pack(struct waiting *c)
{
    size_t element = c->of->element, raw = c->of->room * element;
    unsigned char *shuffled = mem_new(raw, 1);
    memset(c->raw + c->n * element, 0, raw - c->n * element);
    shuffle(c->raw, shuffled, c->of->room, element);
    uLongf bytes = compressBound(raw);
    if (compress2(c->packed, &bytes, shuffled, raw, GZIP_LEVEL) != Z_OK)
        die("zlib cannot compress %zu bytes", raw);
    uint32_t sum = fletcher32(c->packed, bytes);
    for (int i = 0; i < 4; i++)
        c->packed[bytes++] = (unsigned char)(sum >> 8 * i);
    c->packed_bytes = bytes;
    free(shuffled);
}

/* ---- writing -------------------------------------------------------------------------------- */

static hid_t creation(const struct append *a)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk = a->room;
    if (!a->grows && a->total == 0)
        return plist; /* nothing cannot be cut into chunks */
    if (H5Pset_chunk(plist, 1, &chunk) < 0 || H5Pset_shuffle(plist) < 0 ||
        H5Pset_deflate(plist, GZIP_LEVEL) < 0 || (!a->strings && H5Pset_fletcher32(plist) < 0))
        die("HDF5 was built without gzip");
    return plist;
}

/* Elements of a chunk: no more than a dataset that cannot grow has. */
static size_t choose_room(const struct append *a)
{
    size_t room = a->strings ? STRING_ROWS : CHUNK_BYTES / a->element;
    if (room > CHUNK_ROWS)
        room = CHUNK_ROWS;
    if (!a->grows && room > a->total)
        room = a->total;
    return room ? room : 1;
}

int append_open(struct append **out, struct h5_output *output, hid_t where,
                const struct append_spec *spec, struct err *e)
{
    struct append *a = mem_zeroed(1, sizeof *a);
    a->name = mem_string(spec->name);
    a->type = H5Tcopy(spec->type);
    a->strings = spec->strings;
    a->grows = spec->total == APPEND_GROWS;
    a->total = spec->total;
    a->output = output;
    a->sum = HASH_START;
    a->element = spec->strings ? sizeof(char *) : H5Tget_size(spec->type);
    a->room = choose_room(a);
    a->data = mem_new(a->room, a->element);
    hsize_t now = a->grows ? 0 : spec->total, most = a->grows ? H5S_UNLIMITED : now;
    hid_t space = H5Screate_simple(1, &now, &most), plist = creation(a);
    a->dataset = H5Dcreate2(where, spec->name, a->type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    int rc = 0;
    if (a->dataset < 0 || (spec->unit && h5_put_string(a->dataset, "unit", spec->unit) != 0) ||
        (spec->description && h5_put_string(a->dataset, "description", spec->description) != 0))
        rc = h5_err(e, "dataset \"%s\" cannot be created", spec->name);
    H5Pclose(plist);
    H5Sclose(space);
    if (rc != 0) {
        append_drop(a);
        return -1;
    }
    *out = a;
    return 0;
}

/* After a call of HDF5: did it fail, or did the driver? */
static int check(const struct append *a, herr_t status, struct err *e)
{
    if (status < 0)
        return h5_err(e, "dataset \"%s\" cannot be written", a->name);
    if (a->output->state.failure)
        return err_set(e, "dataset \"%s\" cannot be written: %s", a->name,
                       strerror(a->output->state.failure));
    return 0;
}

/* The dataset's elements up to `end` exist afterwards. */
static int extend(struct append *a, size_t end, struct err *e)
{
    hsize_t size = end;
    if (a->grows)
        return check(a, H5Dset_extent(a->dataset, &size), e);
    if (end > a->total)
        die("dataset \"%s\": %zu elements were announced, %zu came", a->name, a->total, end);
    return 0;
}

static int write_chunk(struct waiting *c, struct err *e)
{
    struct append *a = c->of;
    hsize_t at = c->begin;
    if (extend(a, c->begin + c->n, e) != 0)
        return -1;
    a->sum = hash_bytes(a->sum, c->packed, c->packed_bytes);
    return check(a, H5Dwrite_chunk(a->dataset, H5P_DEFAULT, 0, &at, c->packed_bytes, c->packed), e);
}

/* All that waits, of whatever dataset, is compressed and written. */
static int empty_pool(struct append_pool *pool, struct err *e)
{
    int n = (int)pool->n, rc = 0;
    pool->n = 0;
#pragma omp parallel for schedule(dynamic, 1) if (n > 1)
    for (int i = 0; i < n; i++)
        pack(&pool->chunks[i]);
    for (int i = 0; i < n && rc == 0; i++)
        rc = write_chunk(&pool->chunks[i], e);
    return rc;
}

static int put_in_pool(struct append *a, struct err *e)
{
    struct append_pool *pool = pool_of(a->output);
    struct waiting *c = &pool->chunks[pool->n++];
    size_t most = mem_mul(a->room, a->element);
    if (most < CHUNK_BYTES)
        most = CHUNK_BYTES; /* of the next dataset, perhaps */
    if (!c->raw) {
        c->raw = mem_new(most, 1);
        c->packed = mem_new(compressBound(most) + 4, 1);
    }
    *c = (struct waiting){a, a->written, a->held, c->raw, c->packed, 0};
    memcpy(c->raw, a->data, a->held * a->element);
    return pool->n == pool->most ? empty_pool(pool, e) : 0;
}

static void forget(struct append *a)
{
    if (a->strings)
        for (size_t i = 0; i < a->held; i++)
            free(((char **)a->data)[i]);
    a->held = a->text_bytes = 0;
}

static int write_strings(struct append *a, struct err *e)
{
    hsize_t from = a->written, count = a->held;
    if (extend(a, a->written + a->held, e) != 0)
        return -1;
    hid_t file_space = H5Dget_space(a->dataset);
    hid_t space = H5Screate_simple(1, &count, NULL);
    H5Sselect_hyperslab(file_space, H5S_SELECT_SET, &from, NULL, &count, NULL);
    int rc = check(a, H5Dwrite(a->dataset, a->type, space, file_space, H5P_DEFAULT, a->data), e);
    H5Sclose(space);
    H5Sclose(file_space);
    return rc;
}

/* What is held leaves: a chunk of numbers into the pool, strings into the file. */
static int leave(struct append *a, struct err *e)
{
    int rc = a->held == 0 ? 0 : a->strings ? write_strings(a, e) : put_in_pool(a, e);
    a->written += a->held;
    forget(a);
    return rc;
}

int append_put(struct append *a, const void *elements, size_t n, struct err *e)
{
    const char *from = elements;
    while (n) {
        size_t room = a->room - a->held;
        size_t take = n < room ? n : room;
        memcpy(a->data + a->held * a->element, from, take * a->element);
        a->held += take;
        from += take * a->element;
        n -= take;
        if (a->held == a->room && leave(a, e) != 0)
            return -1;
    }
    return 0;
}

int append_string(struct append *a, const char *text, struct err *e)
{
    char *copy = mem_string(text);
    memcpy(a->data + a->held * a->element, &copy, sizeof copy);
    a->held++;
    a->text_bytes += strlen(text);
    a->sum = hash_string(a->sum, text);
    return a->held == a->room || a->text_bytes > STRING_BYTES ? leave(a, e) : 0;
}

void append_drop(struct append *a)
{
    if (!a)
        return;
    forget(a);
    if (a->output->pool)
        a->output->pool->n = 0; /* its chunks may be this dataset's: all of the file is worthless */
    if (a->dataset >= 0)
        H5Dclose(a->dataset);
    H5Tclose(a->type);
    free(a->data);
    free(a->name);
    free(a);
}

int append_flush(struct append *a, struct err *e)
{
    int rc = leave(a, e);
    if (rc == 0 && !a->grows && a->written != a->total)
        die("dataset \"%s\": %zu elements were announced, %zu came", a->name, a->total, a->written);
    return rc;
}

int append_settle(struct h5_output *output, struct err *e)
{
    return output->pool ? empty_pool(output->pool, e) : 0;
}

uint64_t append_sum(const struct append *a)
{
    return a->sum;
}

int append_text(struct append *a, const char *text, struct err *e)
{
    if (!text || utf8_check(text, strlen(text), NULL) == 0)
        return append_string(a, text ? text : "", e);
    char *valid;
    size_t bytes;
    utf8_lossy(text, strlen(text), &valid, &bytes);
    int rc = append_string(a, valid, e);
    free(valid);
    return rc;
}

int append_close(struct append *a, struct err *e)
{
    if (!a)
        return 0;
    int rc = append_flush(a, e);
    if (rc == 0)
        rc = append_settle(a->output, e);
    append_drop(a);
    return rc;
}

/* ---- reading back --------------------------------------------------------------------------- */

static int sum_chunks(hid_t dataset, size_t n, size_t room, uint64_t *sum)
{
    unsigned char *chunk = NULL;
    size_t held = 0;
    int rc = 0;
    for (hsize_t at = 0; at < n && rc == 0; at += room) {
        hsize_t bytes = 0;
        uint32_t mask = 0;
        rc = H5Dget_chunk_storage_size(dataset, &at, &bytes) < 0 || bytes == 0 ? -1 : 0;
        if (rc == 0 && bytes > held) {
            free(chunk);
            held = (size_t)bytes;
            chunk = mem_new(held, 1);
        }
        if (rc == 0 && (H5Dread_chunk(dataset, H5P_DEFAULT, &at, &mask, chunk) < 0 || mask != 0))
            rc = -1;
        if (rc == 0)
            *sum = hash_bytes(*sum, chunk, (size_t)bytes);
    }
    free(chunk);
    return rc;
}

static int sum_strings(hid_t dataset, hid_t type, size_t n, uint64_t *sum)
{
    char *rows[STRING_ROWS];
    int rc = 0;
    for (hsize_t at = 0, count; at < n && rc == 0; at += count) {
        count = n - at < STRING_ROWS ? n - at : STRING_ROWS;
        hid_t file_space = H5Dget_space(dataset), space = H5Screate_simple(1, &count, NULL);
        H5Sselect_hyperslab(file_space, H5S_SELECT_SET, &at, NULL, &count, NULL);
        rc = H5Dread(dataset, type, space, file_space, H5P_DEFAULT, rows) < 0 ? -1 : 0;
        for (hsize_t i = 0; i < count && rc == 0; i++)
            *sum = hash_string(*sum, rows[i] ? rows[i] : "");
        if (rc == 0)
            H5Dvlen_reclaim(type, space, H5P_DEFAULT, rows);
        h5_close(space);
        h5_close(file_space);
    }
    return rc;
}

int append_verify(hid_t file, const char *name, bool strings, uint64_t sum, struct err *e)
{
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    if (dataset < 0)
        return h5_err(e, "dataset \"%s\" cannot be read back", name);
    hid_t space = H5Dget_space(dataset), plist = H5Dget_create_plist(dataset),
          type = h5_string_type();
    hsize_t n = (hsize_t)H5Sget_simple_extent_npoints(space), room = 1;
    if (H5Pget_layout(plist) == H5D_CHUNKED)
        H5Pget_chunk(plist, 1, &room);
    uint64_t found = HASH_START;
    int rc = strings ? sum_strings(dataset, type, (size_t)n, &found)
                     : sum_chunks(dataset, (size_t)n, (size_t)room, &found);
    if (rc != 0)
        rc = h5_err(e, "dataset \"%s\" cannot be read back", name);
    else if (found != sum)
        rc = err_set(e, "dataset \"%s\" does not read back as it was written", name);
    h5_close(type);
    h5_close(plist);
    h5_close(space);
    h5_close(dataset);
    return rc;
}
