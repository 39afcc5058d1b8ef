#include "data/h5.h"

#include "base/disk.h"
#include "base/files.h"
#include "base/mem.h"
#include "data/append.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void h5_quiet(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* What the stack of reasons is searched for. */
struct reason {
    char innermost[300];
    bool lock;
};

static herr_t look_at(unsigned n, const H5E_error2_t *entry, void *context)
{
    struct reason *r = context;
    if (!entry->desc)
        return 0;
    if (n == 0)
        snprintf(r->innermost, sizeof r->innermost, "%s", entry->desc);
    if (strstr(entry->desc, "unable to lock"))
        r->lock = true;
    return 0;
}

/* HDF5 appends addresses and sizes that help nobody: "..., buf = 0x55, total write size = 96, ...".
 */
static void shorten(char *text)
{
    char *tail = strstr(text, ", buf = ");
    if (!tail)
        tail = strstr(text, ", file descriptor = ");
    if (tail)
        *tail = 0;
    for (char *p = text; *p; p++)
        if (*p == '\n')
            *p = ' ';
}

int h5_err(struct err *e, const char *format, ...)
{
    struct reason r = {.innermost = ""};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, look_at, &r);
    shorten(r.innermost);
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    size_t used = strlen(e->text);
    snprintf(e->text + used, sizeof e->text - used, "%s%s%s%s", *r.innermost ? " (HDF5: " : "",
             r.innermost, *r.innermost ? ")" : "",
             r.lock ? "; if no other program has the file open, its file system does not support "
                      "locks: set HDF5_USE_FILE_LOCKING=FALSE in the environment"
                    : "");
    return err_clean(e);
}

/* HDF5 keeps errno only in words: "file read failed: ..., errno = 5, error message = ...". */
static herr_t look_for_errno(unsigned n, const H5E_error2_t *entry, void *found)
{
    const char *at = entry->desc ? strstr(entry->desc, "errno = ") : NULL;
    if (n == 0 && at)
        *(int *)found = atoi(at + strlen("errno = "));
    return 0;
}

int h5_fault(void)
{
    int found = 0;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, look_for_errno, &found);
    return found;
}

void h5_close(hid_t id)
{
    if (id < 0)
        return;
    hid_t reason = H5Eget_current_stack();
    H5Idec_ref(id);
    if (reason >= 0)
        H5Eset_current_stack(reason);
}

static int want_file(const char *path, struct stat *st, struct err *e)
{
    if (stat(path, st) != 0)
        return files_err_open(path, e);
    if (S_ISREG(st->st_mode))
        return 0;
    return err_set(e, "%s: wanted an HDF5 file, found %s", path,
                   S_ISDIR(st->st_mode) ? "a directory" : "a special file");
}

/* A file that is not HDF5: what is it? */
static int refuse_foreign(const char *path, long long bytes, struct err *e)
{
    char head[64];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(head, 1, sizeof head, f) : 0;
    if (f)
        fclose(f);
    if (files_refuse_pointer(path, head, n, e) != 0)
        return -1;
    return err_set(e,
                   "%s: wanted an HDF5 file, found something else (%lld bytes); `tandem "
                   "import %s prompts.h5` makes one from JSON Lines, tables or text",
                   path, bytes, path);
}

int h5_open(hid_t *out, const char *path, struct err *e)
{
    h5_quiet();
    struct stat st;
    if (want_file(path, &st, e) != 0)
        return -1;
    if (access(path, R_OK) != 0)
        return err_set(e, "%s: cannot be read: %s", path, strerror(errno));
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) {
        struct err why;
        h5_err(&why, "cannot be opened");
        if (H5Fis_hdf5(path) == 0)
            return refuse_foreign(path, (long long)st.st_size, e);
        return err_set(e, "%s: %s", path, why.text);
    }
    *out = file;
    return 0;
}

/* Metadata of the second generation of file formats has checksums; HDF5 1.10 and later read it. */
static void use_checksums(hid_t access)
{
#if H5_VERSION_GE(1, 10, 2)
    H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
#else
    H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
#endif
}

int h5_create(struct h5_output *o, const char *path, struct err *e)
{
    h5_quiet();
    o->pool = NULL;
    o->file = -1;
    /* What an earlier run left, or a try on a disk that refused to remove it, or a link somewhere else. */
    if (disk_remove(path, e) != 0)
        return -1;
    hid_t access = driver_access(&o->state);
    use_checksums(access);
    o->file = H5Fcreate(path, H5F_ACC_EXCL, H5P_DEFAULT, access);
    h5_close(access);
    if (o->file >= 0)
        return 0;
    if (o->state.failure)
        err_set(e, "%s: cannot be created: %s", path, strerror(o->state.failure));
    else
        h5_err(e, "%s: cannot be created", path);
    driver_release(&o->state);
    return -1;
}

int h5_read_output(struct h5_output *o, const char *path, struct err *e)
{
    h5_quiet();
    struct stat st;
    *o = (struct h5_output){.file = -1};
    if (want_file(path, &st, e) != 0) {
        o->state.failure = EINVAL; /* no file: not one that others wrote */
        return -1;
    }
    hid_t access = driver_access(&o->state);
    o->file = H5Fopen(path, H5F_ACC_RDONLY, access);
    if (o->file < 0)
        h5_err(e, "%s: cannot be opened", path);
    h5_close(access);
    if (o->file < 0)
        driver_release(&o->state);
    return o->file < 0 ? -1 : 0;
}

int h5_finish(struct h5_output *o, const char *path, struct err *e)
{
    int rc = 0;
    append_pool_free(o->pool);
    o->pool = NULL;
    if (H5Fclose(o->file) < 0)
        rc = h5_err(e, "%s: cannot be written", path);
    if (o->state.failure)
        rc = err_set(e, "%s: cannot be written: %s", path, strerror(o->state.failure));
    o->file = -1;
    driver_release(&o->state);
    return rc;
}

void h5_abandon(struct h5_output *o)
{
    if (o->file < 0)
        return;
    append_pool_free(o->pool);
    o->pool = NULL;
    h5_close(o->file);
    o->file = -1;
    driver_release(&o->state);
}

bool h5_has(hid_t file, const char *name)
{
    return H5Lexists(file, name, H5P_DEFAULT) > 0;
}

/* What h5_list() passes on. */
struct list {
    char *text;
    size_t size;
};

static herr_t add_name(hid_t file, const char *name, const H5L_info_t *info, void *context)
{
    const struct list *l = context;
    size_t used = strlen(l->text);
    (void)file;
    (void)info;
    if (used + strlen(name) + sizeof ", \"\", ..." >= l->size) {
        snprintf(l->text + used, l->size - used, "%s...", used ? ", " : "");
        return 1;
    }
    snprintf(l->text + used, l->size - used, "%s\"%s\"", used ? ", " : "", name);
    return 0;
}

const char *h5_list(hid_t file, char *text, size_t size)
{
    struct list list = {text, size};
    hsize_t at = 0;
    *text = 0;
    (void)H5Literate(file, H5_INDEX_NAME, H5_ITER_INC, &at, add_name, &list);
    return *text ? text : "nothing";
}

hid_t h5_string_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0 || H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)
        die("HDF5 cannot make a string type");
    return type;
}

static int put(hid_t object, const char *name, hid_t type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    int rc = attribute >= 0 && H5Awrite(attribute, type, value) >= 0 ? 0 : -1;
    h5_close(attribute);
    h5_close(space);
    return rc;
}

int h5_put_string(hid_t object, const char *name, const char *value)
{
    hid_t type = h5_string_type();
    int rc = put(object, name, type, &value);
    h5_close(type);
    return rc;
}

int h5_put_u64(hid_t object, const char *name, uint64_t value)
{
    return put(object, name, H5T_NATIVE_UINT64, &value);
}

/* The attribute when it is there, of one element and of the class wanted; else a negative number.
 */
static hid_t open_attribute(hid_t object, const char *name, H5T_class_t class, hid_t *type)
{
    if (H5Aexists(object, name) <= 0)
        return -1;
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0)
        return -1;
    *type = H5Aget_type(attribute);
    hid_t space = H5Aget_space(attribute);
    bool fits = H5Tget_class(*type) == class && H5Sget_simple_extent_npoints(space) == 1;
    H5Sclose(space);
    if (!fits) {
        H5Tclose(*type);
        H5Aclose(attribute);
        return -1;
    }
    return attribute;
}

char *h5_get_string(hid_t object, const char *name)
{
    hid_t type;
    hid_t attribute = open_attribute(object, name, H5T_STRING, &type);
    if (attribute < 0)
        return NULL;
    char *result = NULL;
    if (H5Tis_variable_str(type) > 0) {
        char *value = NULL;
        if (H5Aread(attribute, type, &value) >= 0 && value) {
            result = mem_string(value);
            H5free_memory(value);
        }
    } else {
        size_t size = H5Tget_size(type);
        result = mem_zeroed(size + 1, 1);
        if (H5Aread(attribute, type, result) < 0) {
            free(result);
            result = NULL;
        }
    }
    H5Tclose(type);
    H5Aclose(attribute);
    return result;
}

bool h5_get_u64(hid_t object, const char *name, uint64_t *value)
{
    hid_t type;
    hid_t attribute = open_attribute(object, name, H5T_INTEGER, &type);
    if (attribute < 0)
        return false;
    bool ok = H5Aread(attribute, H5T_NATIVE_UINT64, value) >= 0;
    H5Tclose(type);
    H5Aclose(attribute);
    return ok;
}
