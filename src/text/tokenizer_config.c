#include "text/tokenizer_config.h"

#include "base/config.h"
#include "base/files.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEMPLATE_MAX ((size_t)16 << 20) /* a template; more is another file */

static const char *const token_names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                          "pad_token", "cls_token", "mask_token"};

static int read_add_bos(const char *path, const json_t *root, struct tokenizer_config *c,
                        struct err *e)
{
    const json_t *field = json_object_get(root, "add_bos_token");
    if (!field || json_is_null(field))
        return 0;
    if (!json_is_boolean(field))
        return err_set(e, "%s: add_bos_token must be true or false", path);
    c->add_bos = json_is_true(field) ? 1 : 0;
    return 0;
}

/* "<s>", or {"content": "<s>", ...}. */
static void read_tokens(const json_t *root, struct tokenizer_config *c)
{
    for (size_t i = 0; i < sizeof token_names / sizeof *token_names; i++) {
        json_t *token = json_object_get(root, token_names[i]);
        if (json_is_object(token))
            token = json_object_get(token, "content");
        if (json_is_string(token))
            json_object_set(c->tokens, token_names[i], token);
    }
}

static int read_template(const char *path, const json_t *root, struct tokenizer_config *c,
                         struct err *e)
{
    const json_t *field = json_object_get(root, "chat_template"), *item = NULL;
    size_t i;
    if (!field || json_is_null(field))
        return 0;
    if (json_is_array(field)) {
        json_array_foreach(field, i, item)
        {
            const char *name = json_string_value(json_object_get(item, "name"));
            if (name && strcmp(name, "default") == 0)
                break;
        }
        field = i < json_array_size(field) ? json_object_get(item, "template") : NULL;
    }
    if (!json_is_string(field))
        return err_set(e, "%s: chat_template must be a text, or a list with one called \"default\"",
                       path);
    c->template = mem_string(json_string_value(field));
    size_t room = strlen(path) + 32;
    c->template_path = mem_new(room, 1);
    snprintf(c->template_path, room, "%s: chat_template", path);
    return 0;
}

static int read_root(const char *path, const json_t *root, struct tokenizer_config *c,
                     struct err *e)
{
    int status = read_add_bos(path, root, c, e);
    read_tokens(root, c);
    if (status == 0 && !c->template)
        status = read_template(path, root, c, e);
    return status;
}

static int read_config(const char *path, struct tokenizer_config *c, struct err *e)
{
    if (access(path, F_OK) != 0)
        return 0;
    json_t *root = config_read_file(path, e);
    int status = root ? read_root(path, root, c, e) : -1;
    json_decref(root);
    return status;
}

int tokenizer_config_from(const json_t *root, const char *path, struct tokenizer_config *c,
                          struct err *e)
{
    *c = (struct tokenizer_config){.add_bos = -1, .tokens = json_object()};
    int status = read_root(path, root, c, e);
    if (status != 0)
        tokenizer_config_free(c);
    return status;
}

char *tokenizer_config_text(const char *path, size_t *n, struct err *e)
{
    return files_read(path, TEMPLATE_MAX, n, e);
}

int tokenizer_config_read(const char *tokenizer_path, struct tokenizer_config *c, struct err *e)
{
    size_t n;
    *c = (struct tokenizer_config){.add_bos = -1, .tokens = json_object()};
    char *folder = files_directory(tokenizer_path);
    char *config = files_join(folder, "tokenizer_config.json");
    char *template = files_join(folder, "chat_template.jinja");
    int status = 0;
    if (access(template, F_OK) == 0) {
        c->template = tokenizer_config_text(template, &n, e);
        c->template_path = template;
        template = NULL;
        status = c->template ? 0 : -1;
    }
    if (status == 0)
        status = read_config(config, c, e);
    free(folder);
    free(config);
    free(template);
    if (status != 0)
        tokenizer_config_free(c);
    return status;
}

void tokenizer_config_free(struct tokenizer_config *c)
{
    free(c->template);
    free(c->template_path);
    json_decref(c->tokens);
    *c = (struct tokenizer_config){0};
}
