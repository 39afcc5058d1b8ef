#include "data/records.h"

#include "base/files.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "data/unpack.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define HEAD 4096 /* first bytes that tell the format */

struct text {
    char *bytes;
    size_t n, room;
};

struct records {
    char *name;
    gzFile in; /* reads gzip and anything else alike */
    struct unpack unpack;
    dev_t device;
    ino_t inode;
    enum records_format format;
    size_t line;
    struct text now, plain; /* the record; its copy with plain numbers */
    char **columns;         /* of CSV and TSV, */
    char separator;         /* and what stands between them */
    size_t n_columns;
    json_t *fields;
    char problem[256];
};

static void text_add(struct text *t, char c)
{
    if (t->n + 1 >= t->room) {
        t->room = t->room ? 2 * t->room : 256;
        t->bytes = mem_resize(t->bytes, t->room, 1);
    }
    t->bytes[t->n++] = c;
    t->bytes[t->n] = 0;
}

/* ---- what kind of file ---------------------------------------------------------------------- */

#define PYTHON_TABLE                                                                               \
    "python3 -c \"import pandas as p; p.read_%s('%s').to_json('prompts.jsonl', orient='records', " \
    "lines=True, force_ascii=False)\""

static int refuse(const char *name, const char *kind, const char *command, struct err *e)
{
    return err_set(e,
                   "%s: is %s; convert it first: %s; then tandem import prompts.jsonl prompts.h5",
                   name, kind, command);
}

static int refuse_foreign(const char *name, const char *head, size_t n, struct err *e)
{
    static const struct {
        const char *magic;
        size_t bytes;
        const char *kind, *reader, *command;
    } foreign[] = {
        {"PAR1", 4, "a Parquet file", "parquet", NULL},
        {"ARROW1", 6, "an Arrow (Feather) file", "feather", NULL},
        {"PK\3\4", 4, "a zip archive (or a spreadsheet)", NULL, "unzip -p FILE > prompts.jsonl"},
        {"\xff\xfe", 2, "UTF-16 text", NULL, "iconv -f UTF-16 -t UTF-8 FILE > prompts.jsonl"},
        {"\xfe\xff", 2, "UTF-16 text", NULL, "iconv -f UTF-16 -t UTF-8 FILE > prompts.jsonl"},
        {"SQLite format 3", 15, "an SQLite database", NULL,
         "sqlite3 -json FILE 'select * from TABLE' | jq -c '.[]' > prompts.jsonl"},
        {"\x89HDF\r\n\x1a\n", 8, "an HDF5 file", NULL, ""},
    };
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        char command[512];
        if (n < foreign[i].bytes || memcmp(head, foreign[i].magic, foreign[i].bytes) != 0)
            continue;
        if (foreign[i].command && !*foreign[i].command)
            return err_set(
                e,
                "%s: is an HDF5 file already; name it as prompts.file of the job (README "
                "\"Prompts\" says what datasets it needs)",
                name);
        if (foreign[i].command)
            return refuse(name, foreign[i].kind, foreign[i].command, e);
        snprintf(command, sizeof command, PYTHON_TABLE, foreign[i].reader, name);
        return refuse(name, foreign[i].kind, command, e);
    }
    return 0;
}

static enum records_format by_name(const char *name)
{
    static const char *const packed[] = {".gz", ".zst", ".xz", ".bz2"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof packed / sizeof *packed; i++)
        if (files_ends_with(name, packed[i])) {
            n -= strlen(packed[i]);
            break;
        }
    if (n >= 4 && strncasecmp(name + n - 4, ".csv", 4) == 0)
        return RECORDS_CSV;
    return n >= 4 && strncasecmp(name + n - 4, ".tsv", 4) == 0 ? RECORDS_TSV : RECORDS_TEXT;
}

/* What separates the names of a table: commas, but in some countries' spreadsheets semicolons. */
static char separator_of(enum records_format format, const char *head, size_t n)
{
    const char *end = memchr(head, '\n', n);
    size_t line = end ? (size_t)(end - head) : n;
    if (format == RECORDS_TSV)
        return '\t';
    if (memchr(head, ',', line))
        return ',';
    return memchr(head, ';', line) ? ';' : memchr(head, '\t', line) ? '\t' : ',';
}

/* An object's brace alone on its line. */
static bool is_spread(const char *head, size_t n)
{
    size_t i = 1;
    while (i < n && (head[i] == ' ' || head[i] == '\t' || head[i] == '\r'))
        i++;
    return n > 1 && *head == '{' && i < n && head[i] == '\n';
}

/* `{` begins JSON Lines, wherever it comes from. */
static int find_format(struct records *r, const char *head, size_t n, struct err *e)
{
    size_t i = n >= 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    if (refuse_foreign(r->name, head, n, e) != 0 || files_refuse_pointer(r->name, head, n, e) != 0)
        return -1;
    r->separator = separator_of(r->format == RECORDS_GUESS ? by_name(r->name) : r->format, head, n);
    while (i < n && isspace((unsigned char)head[i]))
        i++;
    if ((r->format == RECORDS_GUESS || r->format == RECORDS_JSON) && is_spread(head + i, n - i))
        return refuse(r->name, "JSON over several lines; wanted an object a line",
                      "jq -c . FILE > prompts.jsonl", e);
    if (r->format != RECORDS_GUESS)
        return 0;
    if (i < n && head[i] == '[') {
        size_t k = i + 1;
        while (k < n && isspace((unsigned char)head[k]))
            k++;
        if (k < n && head[k] == '{')
            return refuse(r->name, "one JSON array; wanted an object a line",
                          "jq -c '.[]' FILE > prompts.jsonl", e);
    }
    r->format = i < n && head[i] == '{' ? RECORDS_JSON : by_name(r->name);
    return 0;
}

int records_format(const char *name, enum records_format *format)
{
    static const char *const names[] = {[RECORDS_JSON] = "jsonl",
                                        [RECORDS_CSV] = "csv",
                                        [RECORDS_TSV] = "tsv",
                                        [RECORDS_TEXT] = "text"};
    for (int i = RECORDS_JSON; i <= RECORDS_TEXT; i++)
        if (strcmp(name, names[i]) == 0) {
            *format = (enum records_format)i;
            return 0;
        }
    return -1;
}

/* ---- numbers that only their reader should stumble over ------------------------------------- */

static bool is_token_char(char c)
{
    return isalnum((unsigned char)c) || c == '+' || c == '-' || c == '.';
}

/* What stands in place of a bare token that JSON libraries do not take; NULL: nothing has to. */
static const char *instead(const char *token, size_t n, bool *quoted)
{
    bool integer = strspn(token + (*token == '-'), "0123456789") == n - (*token == '-');
    *quoted = false;
    if ((n == 3 && memcmp(token, "NaN", 3) == 0) || (n == 8 && memcmp(token, "Infinity", 8) == 0) ||
        (n == 9 && memcmp(token, "-Infinity", 9) == 0))
        return "null";
    if (!isdigit((unsigned char)token[*token == '-']))
        return NULL;
    *quoted = integer ? n > 18 : isinf(strtod(token, NULL));
    return NULL;
}

static void copy_token(struct text *out, const char *token, size_t n)
{
    bool quoted;
    const char *other = instead(token, n, &quoted);
    if (quoted)
        text_add(out, '"');
    for (size_t i = 0; i < (other ? strlen(other) : n); i++)
        text_add(out, (other ? other : token)[i]);
    if (quoted)
        text_add(out, '"');
}

/* A copy of a line of JSON in which every bare token is one that jansson takes. */
static void plain_numbers(struct text *out, const char *line, size_t n)
{
    out->n = 0;
    text_add(out, ' ');
    for (size_t i = 0; i < n;) {
        size_t k = i;
        if (line[i] == '"') {
            for (k++; k < n && line[k] != '"'; k++)
                k += line[k] == '\\';
            for (k = k < n ? k + 1 : n; i < k; i++)
                text_add(out, line[i]);
        } else if (is_token_char(line[i])) {
            while (k < n && is_token_char(line[k]))
                k++;
            copy_token(out, line + i, k - i);
            i = k;
        } else {
            text_add(out, line[i++]);
        }
    }
}

/* ---- lines ---------------------------------------------------------------------------------- */

/* One line without its end into r->now. 1, 0 at the end, -1. */
static int read_line(struct records *r, struct err *e)
{
    int c, error;
    r->now.n = 0;
    while ((c = gzgetc(r->in)) >= 0 && c != '\n')
        text_add(&r->now, (char)c);
    const char *why = gzerror(r->in, &error);
    if (error != Z_OK && error != Z_STREAM_END)
        return err_set(e, "%s:%zu: cannot be read on: %s", r->name, r->line + 1,
                       error == Z_ERRNO ? strerror(errno) : why);
    if (c < 0 && r->now.n == 0)
        return unpack_ended(&r->unpack, r->name, e);
    r->line++;
    if (r->line == 1 && r->now.n >= 3 && memcmp(r->now.bytes, "\xef\xbb\xbf", 3) == 0) {
        memmove(r->now.bytes, r->now.bytes + 3, r->now.n - 3);
        r->now.n -= 3;
    }
    if (r->now.n && r->now.bytes[r->now.n - 1] == '\r')
        r->now.n--;
    text_add(&r->now, 0);
    r->now.n--;
    return 1;
}

static bool is_blank(const struct text *t)
{
    return strspn(t->bytes, " \t") == t->n;
}

static bool is_utf8(struct records *r, const char *s, size_t n)
{
    size_t bad;
    if (utf8_check(s, n, &bad) == 0)
        return true;
    snprintf(r->problem, sizeof r->problem, "wanted UTF-8, found byte 0x%02x in column %zu",
             (unsigned char)s[bad], bad + 1);
    return false;
}

static void text_record(struct records *r)
{
    if (is_utf8(r, r->now.bytes, r->now.n))
        r->fields = json_pack("{s:o, s:I}", "text", json_stringn(r->now.bytes, r->now.n), "id",
                              (json_int_t)r->line);
}

static void json_record(struct records *r)
{
    json_error_t why;
    if (!is_utf8(r, r->now.bytes, r->now.n))
        return;
    plain_numbers(&r->plain, r->now.bytes, r->now.n);
    json_t *v =
        json_loadb(r->plain.bytes, r->plain.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (json_is_object(v)) {
        r->fields = v;
        return;
    }
    if (v)
        snprintf(r->problem, sizeof r->problem, "wanted one JSON object a line, found %s",
                 records_type(v));
    else
        snprintf(r->problem, sizeof r->problem, "not valid JSON: %.200s", why.text);
    json_decref(v);
}

/* ---- CSV ------------------------------------------------------------------------------------ */

/* Cuts r->now, a record of CSV that may still go on in the next lines, into cells. Quotes are
 * removed in place: a cell never grows. 1: whole; 0: an open quote, read on. */
static int cut_cells(struct records *r, struct text *line, char ***cells, size_t *n)
{
    char separator = r->separator, *to = line->bytes;
    const char *from = line->bytes, *end = line->bytes + line->n;
    for (*n = 0;; from++) {
        *cells = mem_resize(*cells, *n + 1, sizeof **cells);
        (*cells)[(*n)++] = to;
        bool quoted = from < end && *from == '"';
        for (from += quoted; from < end && (quoted || *from != separator); from++) {
            if (quoted && *from == '"' && from + 1 < end && from[1] == '"')
                from++;
            else if (quoted && *from == '"') {
                quoted = false;
                continue;
            }
            *to++ = *from;
        }
        if (quoted)
            return 0;
        bool last = from >= end;
        *to++ = 0;
        if (last)
            return 1;
    }
}

/* Lines until quotes are closed, into `whole`; then its cells. 1, 0 at the end, -1. */
static int read_cells(struct records *r, struct text *whole, char ***cells, size_t *n, size_t *line,
                      struct err *e)
{
    whole->n = 0;
    for (int status; (status = read_line(r, e)) != 0;) {
        if (status < 0)
            return -1;
        if (whole->n == 0 && is_blank(&r->now))
            continue;
        if (whole->n == 0)
            *line = r->line;
        else
            text_add(whole, '\n');
        for (size_t i = 0; i < r->now.n; i++)
            text_add(whole, r->now.bytes[i]);
        size_t quotes = 0;
        for (size_t i = 0; i < whole->n; i++)
            quotes += whole->bytes[i] == '"';
        if (quotes % 2 == 0) {
            text_add(whole, 0);
            whole->n--;
            return cut_cells(r, whole, cells, n)
                       ? 1
                       : err_set(e, "%s:%zu: a quote is not closed", r->name, *line);
        }
    }
    return whole->n == 0 ? 0 : err_set(e, "%s:%zu: a quote is not closed", r->name, *line);
}

static int read_header(struct records *r, struct err *e)
{
    struct text whole = {0};
    char **cells = NULL;
    size_t line = 1;
    int status = read_cells(r, &whole, &cells, &r->n_columns, &line, e);
    r->columns = mem_zeroed(r->n_columns + 1, sizeof *r->columns);
    for (size_t i = 0; status > 0 && i < r->n_columns; i++) {
        r->columns[i] = mem_string(cells[i]);
        if (utf8_check(cells[i], strlen(cells[i]), NULL) != 0)
            status =
                err_set(e, "%s:%zu: the name of column %zu is not UTF-8", r->name, line, i + 1);
    }
    free(cells);
    free(whole.bytes);
    return status < 0 ? -1 : 0;
}

static int csv_record(struct records *r, struct record *out, struct err *e)
{
    char **cells = NULL;
    size_t n = 0;
    int status = read_cells(r, &r->plain, &cells, &n, &out->line, e);
    if (status > 0 && n != r->n_columns) {
        snprintf(r->problem, sizeof r->problem, "wanted %zu cells as in the header, found %zu",
                 r->n_columns, n);
    } else if (status > 0) {
        r->fields = json_object();
        for (size_t i = 0; i < n && is_utf8(r, cells[i], strlen(cells[i])); i++)
            json_object_set_new(r->fields, r->columns[i], json_string(cells[i]));
    }
    free(cells);
    return status;
}

/* ---- open, next, close ---------------------------------------------------------------------- */

static gzFile open_stream(struct records *r, const char *path, struct err *e)
{
    struct stat st;
    int file = strcmp(path, "-") == 0 ? dup(0) : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &st) != 0 || S_ISDIR(st.st_mode)) {
        err_set(e, "%s: cannot be opened: %s", r->name,
                file < 0 ? strerror(errno) : "it is a directory");
        if (file >= 0)
            close(file);
        return NULL;
    }
    r->device = st.st_dev;
    r->inode = st.st_ino;
    gzFile in = gzdopen(file, "rb");
    if (!in)
        die("out of memory");
    gzbuffer(in, 1 << 17);
    return in;
}

/* The first bytes, to look at; they are put back, since pipes cannot be read twice. -1. */
static int peek(struct records *r, char *head, size_t size, struct err *e)
{
    int n = gzread(r->in, head, (unsigned)size), ignored;
    if (n < 0)
        return err_set(e, "%s: cannot be read: %s", r->name, gzerror(r->in, &ignored));
    for (int i = n; i > 0; i--)
        if (gzungetc((unsigned char)head[i - 1], r->in) < 0)
            die("%s: %d bytes could not be put back", r->name, i);
    return n;
}

/* Opened, unpacked, and its first bytes. */
static int open_head(struct records *r, const char *path, char *head, size_t size, struct err *e)
{
    if ((r->in = open_stream(r, path, e)) == NULL)
        return -1;
    int n = peek(r, head, size, e);
    const char *program = n > 0 ? unpack_program(head, (size_t)n) : NULL;
    if (!program)
        return n;
    gzFile plain = unpack_open(&r->unpack, program, r->in, r->name, e);
    if (!plain)
        return -1;
    r->in = plain;
    return peek(r, head, size, e);
}

int records_open(struct records **out, const char *path, enum records_format format, struct err *e)
{
    char head[HEAD];
    struct records *r = mem_zeroed(1, sizeof *r);
    *out = r;
    r->format = format;
    r->name = mem_string(strcmp(path, "-") == 0 ? "standard input" : path);
    int n = open_head(r, path, head, sizeof head, e);
    int status = n < 0 ? -1 : find_format(r, head, (size_t)n, e);
    if (status == 0 && (r->format == RECORDS_CSV || r->format == RECORDS_TSV))
        status = read_header(r, e);
    if (status != 0) {
        records_close(r);
        *out = NULL;
    }
    return status;
}

int records_next(struct records *r, struct record *out, struct err *e)
{
    int status;
    json_decref(r->fields);
    r->fields = NULL;
    *r->problem = 0;
    if (r->format == RECORDS_CSV || r->format == RECORDS_TSV) {
        status = csv_record(r, out, e);
    } else {
        while ((status = read_line(r, e)) > 0 && is_blank(&r->now))
            ;
        out->line = r->line;
        if (status > 0 && r->format == RECORDS_JSON)
            json_record(r);
        else if (status > 0)
            text_record(r);
    }
    out->problem = *r->problem ? r->problem : NULL;
    out->fields = out->problem ? NULL : r->fields;
    return status;
}

void records_close(struct records *r)
{
    if (!r)
        return;
    if (r->in)
        gzclose(r->in);
    unpack_close(&r->unpack);
    for (size_t i = 0; r->columns && i < r->n_columns; i++)
        free(r->columns[i]);
    free(r->columns);
    free(r->now.bytes);
    free(r->plain.bytes);
    json_decref(r->fields);
    free(r->name);
    free(r);
}

enum records_format records_kind(const struct records *r)
{
    return r->format;
}

const char *records_name(const struct records *r)
{
    return r->name;
}

size_t records_lines(const struct records *r)
{
    return r->line;
}

bool records_is_file(const struct records *r, const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_dev == r->device &&
           st.st_ino == r->inode;
}

/* ---- members -------------------------------------------------------------------------------- */

json_t *records_member(json_t *object, const char *path)
{
    json_t *whole = json_is_array(object) ? json_array_get(object, strtoul(path, NULL, 10))
                                          : json_object_get(object, path);
    const char *dot = strchr(path, '.');
    if (!dot || (whole && json_is_object(object)))
        return whole;
    char *first = mem_string_n(path, (size_t)(dot - path));
    json_t *inner = json_is_array(object) ? whole : json_object_get(object, first);
    free(first);
    return inner ? records_member(inner, dot + 1) : NULL;
}

const char *records_type(const json_t *v)
{
    static const char *const names[] = {"an object",  "an array", "a string", "an integer",
                                        "a fraction", "true",     "false",    "null"};
    return v ? names[json_typeof(v)] : "nothing";
}

void records_names(json_t *record, char *text, size_t size)
{
    const char *name;
    json_t *value;
    size_t n = 0;
    *text = 0;
    json_object_foreach(record, name, value) if (n < size) n +=
        (size_t)snprintf(text + n, size - n, "%s\"%.40s\"", n ? ", " : "", name);
}
