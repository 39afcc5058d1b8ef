#include "model/model.h"

#include "base/config.h"
#include "base/files.h"
#include "data/gguf_view.h"
#include "model/block.h"
#include "model/family.h"
#include "model/fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- config.json ---------------------------------------------------------------------------- */

/* What a model would need that is not here, of those that are asked for; NULL. */
static const char *lacking(const char *type)
{
    static const struct {
        const char *type, *what;
    } table[] = {
        {"deepseek_v32", "attention to the tokens that an indexer picks"},
        {"glm_moe_dsa", "attention to the tokens that an indexer picks"},
        {"qwen3_next", "layers of linear attention"},
        {"qwen3_5_moe", "layers of linear attention"},
        {"kimi_linear", "layers of linear attention"},
        {"minimax", "layers of linear attention"},
        {"deepseek_v2", "a softmax router with groups and no bias"},
        {"llama4", "attention in chunks, layers without rotation"},
    };
    for (size_t i = 0; type && i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].type, type) == 0)
            return table[i].what;
    return NULL;
}

static const struct family *family_for(const json_t *root, const char *file, struct err *e)
{
    const char *type = json_string_value(json_object_get(root, "model_type"));
    char known[256] = "";
    for (size_t i = 0; family_all()[i]; i++) {
        const char *const *t = family_all()[i]->model_types;
        for (; *t; t++) {
            if (type && strcmp(*t, type) == 0)
                return family_all()[i];
            size_t used = strlen(known);
            snprintf(known + used, sizeof known - used, "%s\"%s\"", used ? ", " : "", *t);
        }
    }
    if (lacking(type))
        err_set(e, "%s: model_type is \"%s\", which is not supported: it needs %s; only %s", file,
                type, lacking(type), known);
    else if (type)
        err_set(e, "%s: model_type is \"%.80s\", which is not supported: only %s", file, type,
                known);
    else
        err_set(e, "%s: model_type is missing: one of %s", file, known);
    return NULL;
}

/* The value of "field" or "object.field". */
static const json_t *find_field(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name), *inner;
    const char *dot = strchr(name, '.');
    char outer[80];
    if (value || !dot)
        return value;
    snprintf(outer, sizeof outer, "%.*s", (int)(dot - name), name);
    inner = json_object_get(object, outer);
    return inner ? find_field(inner, dot + 1) : NULL;
}

/* Says what is ignored: fields that the model's author wrote there for some reason. */
static int name_ignored(struct model *m, const json_t *root, const char *file, const json_t *ignore,
                        struct err *e)
{
    size_t i, used = 0;
    const json_t *name;
    json_array_foreach(ignore, i, name)
    {
        char text[60];
        const char *field = json_string_value(name);
        const json_t *value = field ? find_field(root, field) : NULL;
        if (!value)
            return err_set(e, "%s: there is no field %.80s that model_ignore could mean", file,
                           field ? field : config_text(name, text, sizeof text));
        used += (size_t)snprintf(m->ignored + used, sizeof m->ignored - used, "%s%.80s (%s)",
                                 i ? ", " : "", field, config_text(value, text, sizeof text));
        used = used < sizeof m->ignored ? used : sizeof m->ignored - 1;
    }
    return 0;
}

int model_read_config(struct model *m, const json_t *root, const char *file, const json_t *ignore,
                      struct err *e)
{
    if (!json_is_object(root))
        return err_set(e, "%s: must be a JSON object", file);
    const struct family *f = family_for(root, file, e);
    if (!f)
        return -1;
    memset(m, 0, sizeof *m);
    snprintf(m->family, sizeof m->family, "%s", f->name);
    m->bos = -1;

    struct config c;
    e->text[0] = '\0';
    config_open(&c, file, "", root, e);
    c.ignore = ignore;
    f->read(m, &c);
    config_finish(&c);
    bool failed = config_failed(&c);
    config_close(&c);
    return failed || name_ignored(m, root, file, ignore, e) != 0 ? -1 : model_finish(m, e);
}

static int read_gguf(struct model *m, const char *path, const json_t *ignore, struct err *e)
{
    struct gguf_view *v;
    if (gguf_view_open(&v, path, e) != 0)
        return -1;
    int status = model_read_config(m, v->config, path, ignore, e);
    gguf_view_close(v);
    return status;
}

/* "owner/name": as people call models that are not on their disk. */
static bool is_hub_name(const char *path)
{
    const char *slash = strchr(path, '/');
    return slash && slash != path && slash[1] && !strchr(slash + 1, '/') && *path != '.' &&
           *path != '~';
}

int model_read(struct model *m, const char *directory, const json_t *ignore, struct err *e)
{
    if (gguf_is_path(directory))
        return read_gguf(m, directory, ignore, e);
    char *file = files_join(directory, "config.json");
    json_t *root = config_read_file(file, e);
    int status = root ? model_read_config(m, root, file, ignore, e) : -1;
    if (!root && !files_exist(file) && !files_exist(directory) && is_hub_name(directory))
        err_set(e,
                "%s: there is no such directory; if it is the name of a model on a hub, fetch it "
                "first: `hf download %s --local-dir DIRECTORY`",
                directory, directory);
    else if (!root && !files_exist(file))
        err_set(e,
                "%s: cannot be read (%m); a model is a directory with config.json and safetensors "
                "files, or a file that ends in .gguf",
                file);
    json_decref(root);
    free(file);
    return status;
}

/* ---- what follows from the layers ------------------------------------------------------------ */

static int place_cache(struct model *m, struct attention_spec *a, struct err *e)
{
    const struct attn_spec *s = &a->attn;
    for (a->cache = 0; a->cache < m->n_caches; a->cache++) {
        const struct kv_shape *c = &m->caches[a->cache];
        if (c->kv_heads == s->kv_heads && c->key_dim == s->key_dim &&
            c->value_dim == s->value_dim && c->value_in_key == s->value_in_key &&
            c->window == s->window)
            break;
    }
    if (a->cache == MODEL_MAX_CACHES)
        return err_set(e, "the model's layers need more than %d kinds of KV caches",
                       MODEL_MAX_CACHES);
    if (a->cache == m->n_caches)
        m->caches[m->n_caches++] = (struct kv_shape){.kv_heads = s->kv_heads,
                                                     .key_dim = s->key_dim,
                                                     .value_dim = s->value_dim,
                                                     .value_in_key = s->value_in_key,
                                                     .window = s->window};
    a->cache_layer = (int)m->caches[a->cache].layers++;
    return 0;
}

static void raise_to(size_t *most, size_t n)
{
    if (n > *most)
        *most = n;
}

static void look_at(struct model_most *most, const struct layer_spec *l)
{
    const struct attention_spec *a = &l->attention;
    size_t heads = (size_t)a->attn.heads, key = (size_t)a->attn.key_dim;
    size_t value = (size_t)a->attn.value_dim;
    raise_to(&most->heads, heads);
    raise_to(&most->head_dim, key);
    raise_to(&most->head_dim, value);
    raise_to(&most->head_dim, a->nope_dim);
    raise_to(&most->head_dim, a->head_value_dim);
    raise_to(&most->q_width, heads * (key > value ? key : value));
    raise_to(&most->q_width, heads * (a->nope_dim + (size_t)a->attn.rope_dim));
    raise_to(&most->q_width, heads * a->head_value_dim);
    raise_to(&most->q_width, a->q_rank);
    raise_to(&most->experts, (size_t)l->ffn.router.experts);
    raise_to(&most->topk, (size_t)l->ffn.router.topk);
    raise_to(l->ffn.router.experts ? &most->inter : &most->dense_inter, l->ffn.inter);
    raise_to(&most->shared_inter, l->ffn.shared_inter);
}

size_t model_mtp_loaded(const struct model *m)
{
    return m->drafts < m->mtp.layers ? m->drafts : m->mtp.layers;
}

size_t model_weights_of(const struct model *m, size_t layer)
{
    size_t end = m->layers + m->mtp.layers;
    return layer < end ? layer : end - 1;
}

int model_use_mtp(struct model *m, size_t drafts, struct err *e)
{
    m->drafts = drafts;
    if (drafts > 0)
        raise_to(&m->most.q_width, 2 * m->hidden); /* what is projected to a layer's input */
    for (size_t l = m->layers; l < m->layers + drafts; l++) {
        m->layer[l] = m->layer[model_weights_of(m, l)];
        m->moe[l] = m->layer[l].ffn.router.experts > 0;
        look_at(&m->most, &m->layer[l]);
        if (place_cache(m, &m->layer[l].attention, e) != 0)
            return -1;
    }
    return 0;
}

int model_finish(struct model *m, struct err *e)
{
    m->n_caches = 0;
    m->most = (struct model_most){0};
    for (size_t l = 0; l < m->layers; l++) {
        m->moe[l] = m->layer[l].ffn.router.experts > 0;
        look_at(&m->most, &m->layer[l]);
        if (place_cache(m, &m->layer[l].attention, e) != 0)
            return -1;
    }
    return 0;
}
