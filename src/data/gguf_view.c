#include "data/gguf_arch.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct tensor *gguf_tensor(const struct gguf *g, const char *name)
{
    for (size_t i = 0; i < gguf_count(g); i++)
        if (strcmp(gguf_at(g, i)->name, name) == 0)
            return gguf_at(g, i);
    return NULL;
}

static const struct gguf_arch *const all[] = {&gguf_llama,   &gguf_qwen3,      &gguf_qwen3moe,
                                              &gguf_step35,  &gguf_gpt_oss,    &gguf_deepseek2,
                                              &gguf_glm4moe, &gguf_minimax_m2, NULL};

int gguf_unknown(const struct gguf *g, const char *key, const char *said, const char *const *names,
                 struct err *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    char known[256] = "";
    for (size_t i = 0; names[i]; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", names[i]);
    }
    bool text = v && v->type == GGUF_STRING && v->count == 1;
    size_t n = !text ? 0 : v->strings[0].bytes < 60 ? v->strings[0].bytes : 60;
    return err_set(e, "%s: %s is \"%.*s\"; %s %s", gguf_path(g), key, (int)n,
                   text ? v->strings[0].text : "", said, known);
}

const struct gguf_arch *gguf_arch_of(const struct gguf *g, struct err *e)
{
    const struct gguf_value *v = gguf_find(g, "general.architecture");
    const char *names[sizeof all / sizeof *all] = {NULL};
    for (size_t i = 0; all[i]; i++) {
        if (gguf_is_text(v, all[i]->name))
            return all[i];
        names[i] = all[i]->name;
    }
    gguf_unknown(g, "general.architecture", "GGUF files are read of", names, e);
    return NULL;
}

const struct gguf_arch *gguf_arch_find(const char *model_type)
{
    for (size_t i = 0; all[i]; i++)
        if (strcmp(all[i]->model_type, model_type) == 0)
            return all[i];
    return NULL;
}

int gguf_view_open(struct gguf_view **out, const char *path, struct err *e)
{
    struct gguf_view *v = mem_zeroed(1, sizeof *v);
    const struct gguf_arch *arch;
    if (gguf_open(&v->file, path, e) != 0 || !(arch = gguf_arch_of(v->file, e)) ||
        gguf_view_config(v, arch, e) != 0 || gguf_view_tensors(v, arch, e) != 0) {
        gguf_view_close(v);
        return -1;
    }
    *out = v;
    return 0;
}

void gguf_view_close(struct gguf_view *v)
{
    if (!v)
        return;
    for (size_t i = 0; i < v->count; i++)
        free((char *)v->tensors[i].name);
    free(v->tensors);
    json_decref(v->config);
    gguf_close(v->file);
    free(v);
}
