/* family.h - what a model family is: its config fields and the names of its tensors.
 *
 * One constant table per family, in its own file; the rest of the program sees only struct model
 * and enum model_tensor. A new family of known mechanisms is one new file and one line in family.c.
 * Pure functions of constant tables; any rank and thread.
 */
#ifndef TANDEM_MODEL_FAMILY_H
#define TANDEM_MODEL_FAMILY_H

#include "base/dtype.h"
#include "base/config.h"
#include "model/model.h"

#define FAMILY_NAME_MAX 160 /* bytes of a tensor name */
#define FAMILY_BLOCK    128 /* rows and columns of a block of FP8 weights */

/* The shape of a random model (`tandem generate`): what any family's config.json is made of. Fields
 * that a family does not have are not looked at. */
struct family_sizes {
    char family[32];
    size_t hidden, layers, vocab, context, heads, kv_heads, head_dim, q_rank;
    size_t kv_rank, nope_dim, rope_dim, value_dim; /* MLA */
    size_t window;                                 /* of sliding layers */
    size_t mtp;                                    /* MTP layers */
    size_t dense_inter, expert_inter, shared_inter;
    struct router_spec router; /* experts, topk, renormalize, factor, groups, topk_groups */
    bool moe[MODEL_MAX_LAYERS];
    bool tied;
    float norm_eps;
    double limit;                   /* clamps of the last MoE layer; 0: none */
    double rope_theta, rope_factor; /* factor above 1: the family's own way to longer contexts */
    int32_t bos, eos[MODEL_MAX_EOS];
    int n_eos;
};

struct family {
    const char *name;               /* "step3" */
    const char *published;          /* models it was published as, for messages and --help */
    const char *const *model_types; /* config.json's model_type; NULL-terminated */
    const char *layer_prefix;       /* "model.layers." */

    /* Of every tensor: its whole name, or what follows "<layer_prefix>N."; NULL: the family has none.
     * # stands for the number of an expert, without it all experts are in one tensor. Several
     * names, separated by |, are ways in which it is found in files; "NAME@0" and "NAME@1" are the
     * first and the second half of a tensor's rows, "NAME~0" and "NAME~1" its even and its odd ones; "^NAME":
     * numbers that are not packed stand there transposed, inputs as rows. */
    const char *const *names; /* [TENSOR_KINDS] */
    const char *const
        *skipped; /* prefixes of tensors that are not the decoder's; NULL-terminated */

    bool mxfp4; /* experts are published so (model/packed.h) */

    /* What MTP layers may have besides, behind "<layer_prefix>N.": copies of what the model has once,
     * which are not read; NULL-terminated, NULL: nothing. */
    const char *const *mtp_copies;

    /* Fills layers, ropes and the rest of *m but `family` from config.json's top level. Errors go to
     * c; what it asked for is known. */
    void (*read)(struct model *m, struct config *c);

    /* What a random model of the family is like; `s` holds general defaults. And which layers have
     * experts when nobody says. */
    void (*defaults)(struct family_sizes *s);
    bool (*moe)(const struct family_sizes *s, size_t layer);
    /* The config.json of these sizes; dtype: what the weights are stored in. A new reference. */
    json_t *(*write)(const struct family_sizes *s, enum dtype dtype);
};

/* All families, NULL at the end. */
const struct family *const *family_all(void);

/* By name; NULL when there is none. */
const struct family *family_find(const char *name);

/* The family of a model that was read; die() when there is none. */
const struct family *family_of(const struct model *m);

/* "step3, ... or gpt_oss". */
#define FAMILY_NAMES_TEXT 256
void family_names(char text[FAMILY_NAMES_TEXT]);

/* Which rows of a tensor are meant. */
enum family_rows { ROWS_ALL, ROWS_FIRST_HALF, ROWS_SECOND_HALF, ROWS_EVEN, ROWS_ODD };

/* What a name says besides. */
struct family_place {
    enum family_rows rows;
    bool single; /* one expert in a tensor; else all are in it, or it has none */
    bool turned; /* inputs are rows, unless it is packed */
};

/* Name `way` (0, 1, ...) of a tensor; expert is looked at when `#` stands in it. -1: no such way. */
int family_name(const struct model *m, enum model_tensor kind, size_t layer, size_t expert, int way,
                char name[FAMILY_NAME_MAX], struct family_place *place);

/* The same name as `names` has it: with its marks, *length bytes; NULL: no such way. */
const char *family_pattern(const struct model *m, enum model_tensor kind, int way, size_t *length);

#endif
