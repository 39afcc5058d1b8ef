#include "text/tokenizer_config.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int read_field(const char *path, const json_t *root, bool *add_bos, struct err *e)
{
    const json_t *field = json_object_get(root, "add_bos_token");
    if (!field || json_is_null(field))
        return 0;
    if (!json_is_boolean(field))
        return err_set(e, "%s: add_bos_token must be true or false", path);
    *add_bos = json_is_true(field);
    return 0;
}

int tokenizer_config_add_bos(const char *tokenizer_path, bool *add_bos, struct err *e)
{
    char path[4096];
    const char *slash = strrchr(tokenizer_path, '/');
    int folder = slash ? (int)(slash - tokenizer_path) + 1 : 0;
    json_error_t where;
    *add_bos = false;
    snprintf(path, sizeof path, "%.*stokenizer_config.json", folder, tokenizer_path);
    if (access(path, F_OK) != 0)
        return 0;
    json_t *root = json_load_file(path, 0, &where);
    if (!root)
        return err_set(e, "%s:%d:%d: %s", path, where.line, where.column, where.text);
    int status = read_field(path, root, add_bos, e);
    json_decref(root);
    return status;
}
