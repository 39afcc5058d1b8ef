#include "data/gguf_view.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

const struct tensor *gguf_tensor(const struct gguf *g, const char *name)
{
    for (size_t i = 0; i < gguf_count(g); i++)
        if (strcmp(gguf_at(g, i)->name, name) == 0)
            return gguf_at(g, i);
    return NULL;
}

int gguf_view_open(struct gguf_view **out, const char *path, struct err *e)
{
    struct gguf_view *v = mem_zeroed(1, sizeof *v);
    enum gguf_arch arch;
    if (gguf_open(&v->file, path, e) != 0 || (arch = gguf_arch_of(v->file, e)) == 0 ||
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
