#include "model/family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* family_step3 and so on, each from the file of that name. */
#define FAMILIES(X)                                                                                \
    X(step3)                                                                                       \
    X(step3p5) X(qwen3_moe) X(qwen3) X(llama) X(deepseek3) X(glm4_moe) X(minimax_m2) X(gpt_oss)
#define DECLARED(name) extern const struct family family_##name;
#define LISTED(name)   &family_##name,

FAMILIES(DECLARED)
static const struct family *const all[] = {FAMILIES(LISTED) NULL};

const struct family *const *family_all(void)
{
    return all;
}

const struct family *family_find(const char *name)
{
    for (size_t i = 0; all[i]; i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    return NULL;
}

const struct family *family_of(const struct model *m)
{
    const struct family *f = family_find(m->family);
    if (!f)
        die("no model family \"%s\"", m->family);
    return f;
}

static bool in_layer(enum model_tensor kind)
{
    return kind != TENSOR_EMBED && kind != TENSOR_FINAL_NORM && kind != TENSOR_LM_HEAD;
}

/* The text of alternative `way`, *length bytes; NULL when there are fewer. */
static const char *alternative(const char *names, int way, size_t *length)
{
    for (; names && way > 0; way--) {
        names = strchr(names, '|');
        names = names ? names + 1 : NULL;
    }
    *length = names ? strcspn(names, "|") : 0;
    return names;
}

const char *family_pattern(const struct model *m, enum model_tensor kind, int way, size_t *length)
{
    return alternative(family_of(m)->names[kind], way, length);
}

void family_names(char text[FAMILY_NAMES_TEXT])
{
    size_t used = 0;
    for (size_t i = 0; all[i] && used < FAMILY_NAMES_TEXT; i++)
        used += (size_t)snprintf(text + used, FAMILY_NAMES_TEXT - used, "%s%s",
                                 i == 0       ? ""
                                 : all[i + 1] ? ", "
                                              : " or ",
                                 all[i]->name);
}

static enum family_rows rows_of(const char *mark)
{
    bool second = mark && mark[1] == '1';
    if (!mark)
        return ROWS_ALL;
    return *mark == '@' ? (second ? ROWS_SECOND_HALF : ROWS_FIRST_HALF)
                        : (second ? ROWS_ODD : ROWS_EVEN);
}

int family_name(const struct model *m, enum model_tensor kind, size_t layer, size_t expert, int way,
                char name[FAMILY_NAME_MAX], struct family_place *place)
{
    const struct family *f = family_of(m);
    size_t length;
    const char *text = alternative(f->names[kind], way, &length);
    if (!text)
        return -1;
    place->turned = *text == '^';
    text += place->turned;
    length -= place->turned;
    const char *number = memchr(text, '#', length), *at = memchr(text, '@', length);
    at = at ? at : memchr(text, '~', length);
    place->rows = rows_of(at);
    place->single = number != NULL;
    length = at ? (size_t)(at - text) : length;
    char prefix[64] = "";
    if (in_layer(kind))
        snprintf(prefix, sizeof prefix, "%s%zu.", f->layer_prefix, layer);
    int n = number ? snprintf(name, FAMILY_NAME_MAX, "%s%.*s%zu%.*s", prefix, (int)(number - text),
                              text, expert, (int)(text + length - number - 1), number + 1)
                   : snprintf(name, FAMILY_NAME_MAX, "%s%.*s", prefix, (int)length, text);
    if (n < 0 || n >= FAMILY_NAME_MAX)
        die("a tensor name of family %s is longer than %d bytes", f->name, FAMILY_NAME_MAX - 1);
    return 0;
}
