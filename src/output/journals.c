#include "output/journals.h"

#include "base/disk.h"
#include "base/files.h"
#include "base/mem.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A place: number of the file, a bit for error rows, and the offset in units of 8 bytes. */
#define FILES_MAX   65536u
#define ERROR_BIT   ((uint64_t)1 << 47)
#define OFFSET_MASK (ERROR_BIT - 1)

static uint64_t place_of(size_t file, uint64_t at)
{
    return (uint64_t)file << 48 | at / 8;
}

/* ---- taking records in ---------------------------------------------------------------------- */

static bool is_done(const struct journals *js, uint64_t unit)
{
    return js->places[unit] != 0;
}

size_t journals_file(uint64_t place)
{
    return (size_t)(place >> 48);
}

bool journals_is_error(const struct journals *js, uint64_t unit)
{
    return (js->places[unit] & ERROR_BIT) != 0;
}

static int add_completion(struct journals *js, size_t file, uint64_t at,
                          const struct journal_record *r, const char *payload, struct err *e)
{
    struct completion c;
    if (table_unpack(&completion_table, payload, (size_t)r->bytes, &c) != 0)
        return err_set(e, "%s: the completion at offset %" PRIu64 " cannot be understood",
                       js->files[file].path, at);
    bool error = c.finish == FINISH_ERROR;
    table_free(&completion_table, &c);
    if (is_done(js, r->unit) && !journals_is_error(js, r->unit))
        return 0;
    js->n_done += !is_done(js, r->unit);
    js->n_errors += error;
    js->n_errors -= journals_is_error(js, r->unit);
    js->places[r->unit] = place_of(file, at) | (error ? ERROR_BIT : 0);
    return 0;
}

/* Pieces of units that were finished meanwhile are forgotten before the array grows. */
static void make_room(struct journals *js)
{
    size_t kept = 0;
    if (js->n_pieces < js->room_pieces)
        return;
    for (size_t i = 0; i < js->n_pieces; i++)
        if (!is_done(js, js->pieces[i].unit))
            js->pieces[kept++] = js->pieces[i];
    js->n_pieces = kept;
    if (kept * 2 < js->room_pieces)
        return;
    js->room_pieces = js->room_pieces * 2 + 256;
    js->pieces = mem_resize(js->pieces, js->room_pieces, sizeof *js->pieces);
}

static int add_piece(struct journals *js, size_t file, uint64_t at, const struct journal_record *r,
                     const char *payload, struct err *e)
{
    struct piece p;
    if (table_unpack(&piece_table, payload, (size_t)r->bytes, &p) != 0)
        return err_set(e, "%s: the tokens at offset %" PRIu64 " cannot be understood",
                       js->files[file].path, at);
    table_free(&piece_table, &p);
    make_room(js);
    js->pieces[js->n_pieces++] =
        (struct piece_place){r->unit, place_of(file, at), p.begin, p.n_tokens};
    return 0;
}

int journals_add(struct journals *js, size_t file, uint64_t at, const struct journal_record *r,
                 const char *payload, struct err *e)
{
    if (r->kind != RECORD_COMPLETION && r->kind != RECORD_PIECE && r->kind != RECORD_TIMING)
        return 0;
    if (r->kind != RECORD_TIMING && r->unit >= js->units)
        return err_set(e, "%s: has unit %" PRIu64 ", but the job has %" PRIu64,
                       js->files[file].path, r->unit, js->units);
    if (r->kind == RECORD_COMPLETION)
        return add_completion(js, file, at, r, payload, e);
    if (r->kind == RECORD_PIECE)
        return add_piece(js, file, at, r, payload, e);
    if (js->n_timings == js->room_timings) {
        js->room_timings = js->room_timings * 2 + 256;
        js->timings = mem_resize(js->timings, js->room_timings, sizeof *js->timings);
    }
    js->timings[js->n_timings++] = place_of(file, at);
    return 0;
}

static size_t add_file(struct journals *js, const char *path, int fd, uint64_t id)
{
    js->files = mem_resize(js->files, js->n_files + 1, sizeof *js->files);
    js->files[js->n_files] = (struct journal_file){mem_string(path), fd, id};
    return js->n_files++;
}

size_t journals_add_file(struct journals *js, const struct journal *j)
{
    return add_file(js, journal_path(j), journal_file(j), journal_id(j));
}

/* ---- opening -------------------------------------------------------------------------------- */

struct opening {
    struct journals *js;
    uint64_t units; /* of the job; 0: as the header says */
    journals_check check;
    void *context;
    bool header; /* of the file being read was met */
};

static int take_header(struct opening *o, const struct journal_record *r, const char *payload,
                       struct err *e)
{
    struct journals *js = o->js;
    const char *path = js->files[js->n_files - 1].path;
    struct journal_header h;
    if (table_unpack(&header_table, payload, (size_t)r->bytes, &h) != 0)
        return err_set(e, "%s: its header cannot be understood", path);
    char *mine = journal_signature();
    int rc = 0;
    if (strcmp(mine, h.signature) != 0)
        rc = err_set(e,
                     "%s: was written by another version of this program; go on with that one, "
                     "or move the directory away to begin anew",
                     path);
    free(mine);
    if (rc == 0 &&
        (h.samples <= 0 || h.kept <= 0 || h.kept > h.samples || h.units < 0 || h.first_prompt < 0))
        rc = err_set(e, "%s: its header says nothing possible", path);
    if (rc == 0 && o->check)
        rc = o->check(o->context, path, &h, e);
    uint64_t units = o->units ? o->units : (uint64_t)h.units;
    if (rc == 0 && units > js->units) {
        js->places = mem_resize(js->places, (size_t)units, sizeof *js->places);
        memset(js->places + js->units, 0, (size_t)(units - js->units) * sizeof *js->places);
        js->units = units;
    }
    table_free(&header_table, &js->header);
    js->header = h;
    o->header = true;
    return rc;
}

static int take_record(void *context, uint64_t at, const struct journal_record *r,
                       const char *payload, struct err *e)
{
    struct opening *o = context;
    struct journals *js = o->js;
    if (r->kind == RECORD_HEADER)
        return take_header(o, r, payload, e);
    if (!o->header)
        return err_set(e,
                       "%s: its header is damaged; move the file away, and what it has will be "
                       "decoded again",
                       js->files[js->n_files - 1].path);
    return journals_add(js, js->n_files - 1, at, r, payload, e);
}

static int open_file(struct opening *o, const char *path, uint64_t id, struct err *e)
{
    struct journals *js = o->js;
    if (js->n_files == FILES_MAX)
        return err_set(e, "%s: is one journal too many: %u", path, FILES_MAX);
    int fd = disk_open(path, O_RDONLY, e);
    if (fd == -2)
        return 0;
    if (fd < 0)
        return -1;
    struct journal_scan found;
    add_file(js, path, fd, id);
    o->header = false;
    if (journal_scan(fd, path, id, take_record, o, &found, e) != 0)
        return -1;
    if (!o->header && found.bytes > 1u << 20)
        return err_set(e,
                       "%s: has nothing that can be read; was it renamed? Move it away to have its "
                       "completions decoded again",
                       path);
    if (found.damaged)
        fprintf(stderr,
                "tandem: warning: %s: damaged at offset %" PRIu64 " (%" PRIu64 " bytes in all); "
                "what stood there is decoded again\n",
                path, found.damaged_at, found.damaged);
    if (found.cut)
        fprintf(stderr,
                "tandem: %s: the last %" PRIu64 " bytes are of a commit that was not finished\n",
                path, found.cut);
    js->damaged += found.damaged;
    return 0;
}

int journals_open(struct journals *js, const char *directory, uint64_t units, journals_check check,
                  void *context, struct err *e)
{
    struct opening o = {.js = js, .units = units, .check = check, .context = context};
    char **names;
    size_t n;
    *js = (struct journals){.next_number = 1, .units = units};
    js->places = mem_zeroed((size_t)units, sizeof *js->places);
    if (disk_list(directory, &names, &n, e) != 0) {
        journals_close(js);
        return -1;
    }
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        uint64_t number, id;
        if (!journal_name(names[i], &number, &id))
            continue;
        char *path = files_join(directory, names[i]);
        rc = open_file(&o, path, id, e);
        js->next_number = number + 1; /* names are sorted */
        free(path);
    }
    disk_list_free(names, n);
    if (rc != 0)
        journals_close(js);
    return rc;
}

void journals_close(struct journals *js)
{
    for (size_t i = 0; i < js->n_files; i++) {
        close(js->files[i].fd);
        free(js->files[i].path);
    }
    free(js->files);
    table_free(&header_table, &js->header);
    free(js->places);
    free(js->pieces);
    free(js->timings);
    free(js->buffer.data);
    *js = (struct journals){0};
}

/* ---- reading -------------------------------------------------------------------------------- */

/* The payload of the record at a place, which must be of that kind. NULL: a message. */
static const char *read_place(struct journals *js, uint64_t place, enum record_kind kind,
                              struct journal_record *r, struct err *e)
{
    const struct journal_file *f = &js->files[journals_file(place)];
    uint64_t at = (place & OFFSET_MASK) * 8;
    if (journal_read(f->fd, f->path, f->id, at, r, &js->buffer, e) != 0)
        return NULL;
    if (r->kind != kind)
        die("%s: the record at %" PRIu64 " is of kind %u, not %u", f->path, at, r->kind, kind);
    return js->buffer.data + sizeof *r;
}

int journals_completion(struct journals *js, uint64_t unit, struct completion *out, struct err *e)
{
    struct journal_record r;
    const char *payload = read_place(js, js->places[unit], RECORD_COMPLETION, &r, e);
    if (!payload)
        return -1;
    if (r.unit != unit || table_unpack(&completion_table, payload, (size_t)r.bytes, out) != 0)
        die("the record of unit %" PRIu64 " is not what it was", unit);
    out->unit = unit;
    return 0;
}

int journals_timings(struct journals *js, size_t i, struct timing **rows, size_t *n, struct err *e)
{
    struct journal_record r;
    const char *payload = read_place(js, js->timings[i], RECORD_TIMING, &r, e);
    if (!payload)
        return -1;
    size_t one;
    const struct timing none = {0};
    struct bytes b = {0};
    table_pack(&timing_table, &none, &b);
    one = b.used;
    free(b.data);
    *n = (size_t)r.bytes / one;
    *rows = mem_new(*n, sizeof **rows);
    for (size_t k = 0; k < *n; k++)
        if (table_unpack(&timing_table, payload + k * one, one, &(*rows)[k]) != 0)
            die("a record of timings cannot be understood");
    return 0;
}

static int by_unit(const void *a, const void *b)
{
    const struct piece_place *p = a, *q = b;
    if (p->unit != q->unit)
        return p->unit < q->unit ? -1 : 1;
    if (p->begin != q->begin)
        return p->begin < q->begin ? -1 : 1;
    return p->place < q->place ? -1 : p->place > q->place;
}

/* Appends what the piece at a place has beyond the tokens that `whole` has already. */
static int extend(struct journals *js, const struct piece_place *at, struct piece *whole,
                  struct err *e)
{
    struct journal_record r;
    struct piece p;
    const char *payload = read_place(js, at->place, RECORD_PIECE, &r, e);
    if (!payload)
        return -1;
    if (table_unpack(&piece_table, payload, (size_t)r.bytes, &p) != 0)
        die("the piece of unit %" PRIu64 " is not what it was", at->unit);
    size_t n = whole->n_tokens, skip = n - p.begin, more = p.n_tokens - skip;
    if (n == 0) {
        whole->admitted = p.admitted;
        whole->first_token = p.first_token;
    }
    whole->tokens = mem_resize(whole->tokens, n + more, sizeof *whole->tokens);
    whole->logprobs = mem_resize(whole->logprobs, n + more, sizeof *whole->logprobs);
    memcpy(whole->tokens + n, p.tokens + skip, more * sizeof *p.tokens);
    memcpy(whole->logprobs + n, p.logprobs + skip, more * sizeof *p.logprobs);
    whole->n_tokens += (uint32_t)more;
    size_t each = p.n_tokens ? p.n_top / p.n_tokens : 0, had = whole->n_top, adds = more * each;
    whole->top_tokens = mem_resize(whole->top_tokens, had + adds, sizeof *whole->top_tokens);
    whole->top_logprobs = mem_resize(whole->top_logprobs, had + adds, sizeof *whole->top_logprobs);
    if (adds) {
        memcpy(whole->top_tokens + had, p.top_tokens + skip * each, adds * sizeof *p.top_tokens);
        memcpy(whole->top_logprobs + had, p.top_logprobs + skip * each,
               adds * sizeof *p.top_logprobs);
    }
    whole->n_top += (uint32_t)adds;
    table_free(&piece_table, &p);
    return 0;
}

int journals_pieces(struct journals *js, journals_use_piece use, void *context, struct err *e)
{
    if (js->n_pieces)
        qsort(js->pieces, js->n_pieces, sizeof *js->pieces, by_unit);
    for (size_t i = 0, next; i < js->n_pieces; i = next) {
        struct piece whole = {.unit = js->pieces[i].unit};
        int rc = 0;
        for (next = i; next < js->n_pieces && js->pieces[next].unit == whole.unit; next++) {
            const struct piece_place *p = &js->pieces[next];
            /* Behind a gap, which damage leaves, nothing can be used. */
            bool joins = p->begin <= whole.n_tokens && p->begin + p->n > whole.n_tokens;
            if (rc == 0 && joins && !is_done(js, whole.unit))
                rc = extend(js, p, &whole, e);
        }
        if (rc == 0 && whole.n_tokens)
            use(context, &whole);
        table_free(&piece_table, &whole);
        if (rc != 0)
            return rc;
    }
    return 0;
}
