#include "roles/identity.h"

#include "base/config.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/mem.h"
#include "data/gguf_view.h"
#include "model/tensors.h"
#include "output/output.h"
#include "roles/exact_split.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one list for all ranks ----------------------------------------------------------------- */

/* What this rank sees must be what the writer sees; it may see less. */
static int compare(const struct comm *c, const char *path, const struct identity *mine,
                   const struct identity *writers, struct err *e)
{
    char differs[1200] = "";
    for (size_t i = 0; i < mine->n; i++) {
        const struct identity_entry *here = &mine->entries[i];
        const char *there = identity_value(writers, here->name);
        size_t used = strlen(differs);
        if (!there || strcmp(there, here->value) != 0)
            snprintf(differs + used, sizeof differs - used, "%s%.80s is %.120s here, %.120s there",
                     used ? "; " : "", here->name, here->value, there ? there : "absent");
    }
    if (!*differs)
        return 0;
    return err_set(
        e,
        "%.300s: this rank sees something else than rank %d on %s: %s. All ranks must be "
        "given the same files: are they on a file system that all hosts share, and copies "
        "of them complete?",
        path, c->peers[0].rank, c->peers[0].name, differs);
}

/* id: this rank's list, then the writer's. */
static bool agree(struct comm *c, const char *path, struct identity *id)
{
    struct err e = {{0}};
    struct identity writers = {0};
    char *text = comm_broadcast_text(&c->world, c->world.rank == 0 ? identity_json(id) : NULL);
    if (identity_add_json(&writers, text) != 0)
        die("rank 0's identity is no JSON: %.200s", text);
    free(text);
    bool same = comm_agree(c, compare(c, path, id, &writers, &e) == 0, &e);
    identity_free(id);
    *id = writers;
    return same;
}

bool identity_same_job(struct comm *c, const char *version, const struct job *job)
{
    struct identity id = {0};
    char *all = job_json(job);
    identity_add(&id, "the program's version", version);
    if (identity_add_json(&id, all) != 0)
        die("the job is no JSON: %.200s", all);
    free(all);
    bool same = agree(c, job->path, &id);
    identity_free(&id);
    return same;
}

/* ---- kernels -------------------------------------------------------------------------------- */

bool identity_agree_kernels(struct comm *c, struct inputs *in)
{
    struct err e = {{0}};
    const struct backend *const *all = backend_all();
    int32_t mine = 0, *found = mem_new((size_t)c->world.size, sizeof *found);
    in->backend = backend_find(in->job.device, in->job.kernels, &e);
    if (!in->backend)
        err_prefix(&e, "%s", in->job.path);
    bool ok = comm_agree(c, in->backend != NULL, &e);
    while (ok && all[mine] != in->backend) /* from the plain one to the fastest */
        mine++;
    if (ok) {
        comm_allgather(&c->world, &mine, sizeof mine, found);
        int least = 0, most = 0;
        for (int i = 1; i < c->world.size; i++) {
            least = found[i] < found[least] ? i : least;
            most = found[i] > found[most] ? i : most;
        }
        in->backend = all[found[least]];
        if (c->world.rank == 0 && found[least] != found[most])
            fprintf(stderr, "tandem: kernels: %s on all ranks, because %s has no %s\n",
                    in->backend->name, c->peers[least].name, all[found[most]]->name);
    }
    free(found);
    return ok;
}

/* ---- the entries ---------------------------------------------------------------------------- */

static void add_hash(struct identity *id, const char *name, uint64_t hash)
{
    char text[32];
    snprintf(text, sizeof text, "%016" PRIx64, hash);
    identity_add(id, name, text);
}

static void add_number(struct identity *id, const char *name, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, value);
    identity_add(id, name, text);
}

/* Fields of config.json that say how a file was made, not what a model computes. */
static bool says_nothing(const char *field)
{
    static const char *const names[] = {"_name_or_path", "architectures", "auto_map",
                                        "torch_dtype",   "dtype",         "transformers_version",
                                        "use_cache"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(field, names[i]) == 0)
            return true;
    return false;
}

/* "config.text_config.rope_theta" and so on, as they are written: a field whose meaning this program
 * learns later is in the list already. */
static void add_fields(struct identity *id, const char *prefix, json_t *object)
{
    const char *field;
    json_t *value;
    json_object_foreach(object, field, value)
    {
        char name[200];
        snprintf(name, sizeof name, "%s.%.60s", prefix, field);
        if (says_nothing(field))
            continue;
        if (json_is_object(value)) {
            add_fields(id, name, value);
            continue;
        }
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
        if (strlen(text) < 100)
            identity_add(id, name, text);
        else
            add_hash(id, name, hash_string(HASH_START, text));
        free(text);
    }
}

static int add_gguf_config(struct identity *id, const struct inputs *in, struct err *e)
{
    struct gguf_view *view;
    if (gguf_view_open(&view, in->job.model, e) != 0)
        return -1;
    add_fields(id, "config", view->config);
    gguf_view_close(view);
    return 0;
}

static int add_config(struct identity *id, const struct inputs *in, struct err *e)
{
    if (gguf_is_path(in->job.model))
        return add_gguf_config(id, in, e);
    char *path = files_join(in->job.model, "config.json");
    json_t *root = config_read_file(path, e);
    if (root)
        add_fields(id, "config", root);
    json_decref(root);
    free(path);
    return root ? 0 : -1;
}

/* What prompts are made of besides their rows; the same on all ranks that read them. */
static void add_prompting(struct identity *id, const struct inputs *in)
{
    const struct prompting *p = &in->prompting;
    add_hash(id, "tokenizer", p->tokenizer ? tokenizer_hash(p->tokenizer) : 0);
    add_hash(id, "chat template", p->conversation.hash);
    add_number(id, "bos", p->bos);
    char stops[12 * (2 * MODEL_MAX_EOS)] = "";
    for (int i = 0; i < p->n_stop; i++) {
        size_t used = strlen(stops);
        snprintf(stops + used, sizeof stops - used, "%s%d", used ? "," : "", p->stop[i]);
    }
    identity_add(id, "stop tokens", stops);
}

static int add_prompts(struct identity *id, const struct inputs *in, bool read, struct err *e)
{
    const struct probe *probe = &in->probe;
    uint64_t hash = prompts_hash_start(in->prompts);
    add_number(id, "completions", (int64_t)in->units);
    add_number(id, "first prompt", (int64_t)in->job.prompts.first);
    if (!read)
        return 0;
    if (probe->done && probe->first == in->job.prompts.first && probe->n == in->n_prompts &&
        stamp_same(&probe->stamp, &in->prompts_file.stamps[0]))
        hash = probe->hash;
    else if (prompts_hash(in->prompts, in->job.prompts.first, in->n_prompts, &hash, e) != 0)
        return -1;
    add_hash(id, "prompts", hash);
    return 0;
}

static void add_split(struct identity *id, const struct inputs *in)
{
    char split[64] = "any";
    if (!exact_split(in))
        snprintf(split, sizeof split, "%d x %d", in->job.layout.expert, in->job.layout.tensor);
    identity_add(id, "layout.ffn", split);
}

/* Everything that needs no reading of large files. */
static int add_small(struct identity *id, const struct inputs *in, struct err *e)
{
    char *sampling = job_sampling_json(&in->job);
    if (identity_add_json(id, sampling) != 0)
        die("the sampling section is no JSON: %.200s", sampling);
    free(sampling);
    add_split(id, in);
    identity_add(id, "device", in->job.device);
    identity_add(id, "kernels", strcmp(in->job.device, "cuda") == 0 ? OPS_BITS_CUDA : OPS_BITS_CPU);
    identity_add(id, "cublas", in->job.cublas ? "true" : "false");
    return add_config(id, in, e);
}

/* ---- large files ---------------------------------------------------------------------------- */

/* Whether this rank's files have the writer's stamps. */
static bool same_files(const struct comm *c, const struct stamps *mine)
{
    uint64_t n = mine->n;
    comm_broadcast(&c->world, 0, &n, sizeof n);
    struct stamp *writers = mem_new(n, sizeof *writers);
    if (c->world.rank == 0)
        memcpy(writers, mine->stamps, n * sizeof *writers);
    comm_broadcast(&c->world, 0, writers, n * sizeof *writers);
    bool same = n == mine->n;
    for (size_t i = 0; i < n && same; i++)
        same = stamp_same(&mine->stamps[i], &writers[i]);
    free(writers);
    return same;
}

bool identity_agree(struct comm *c, struct inputs *in, struct identity *id)
{
    struct err e = {{0}};
    bool writer = c->world.rank == 0;
    bool same_weights = same_files(c, &in->weights),
         same_prompts = same_files(c, &in->prompts_file);
    uint64_t copies = !same_weights;
    comm_largest(&c->world, &copies, 1);
    *id = (struct identity){0};
    int status = add_small(id, in, &e);
    identity_add(id, OUTPUT_WEIGHTS, IDENTITY_LATER);
    if (status == 0 && copies && (writer || !same_weights))
        add_hash(id, OUTPUT_WEIGHTS, checkpoint_hash(in->checkpoint));
    if (status == 0 && in->prompts) {
        add_prompting(id, in);
        status = add_prompts(id, in, writer || !same_prompts, &e);
    }
    if (!comm_agree(c, status == 0, &e) || !agree(c, in->job.path, id))
        return false;
    identity_add(id, OUTPUT_WEIGHTS, IDENTITY_LATER);
    const char *units = identity_value(id, "completions");
    in->units = strtoull(units ? units : "", NULL, 10);
    in->n_prompts = in->units / job_decoded(&in->job);
    return true;
}

/* ---- weights -------------------------------------------------------------------------------- */

char *identity_weights_stamp(const struct inputs *in)
{
    char text[32];
    snprintf(
        text, sizeof text, "%016" PRIx64,
        hash_bytes(HASH_START, in->weights.stamps, in->weights.n * sizeof *in->weights.stamps));
    return mem_string(text);
}

struct fingerprint *identity_fingerprint(const struct inputs *in, int threads)
{
    size_t n;
    const struct tensor **used = tensors_used(&in->model, in->checkpoint, &n);
    return fingerprint_new(used, n, FINGERPRINT_BLOCK, threads);
}

void identity_read_weights(const struct inputs *in, int threads, struct identity *id)
{
    struct fingerprint *f = identity_fingerprint(in, threads);
    fingerprint_rest(f);
    add_hash(id, OUTPUT_WEIGHTS, fingerprint_sum(f));
    fingerprint_free(f);
}

/* most, least: of every block what any rank has; -1 when this rank's is not all others'. */
static int compare_blocks(const struct fingerprint *f, const uint64_t *mine, const uint64_t *least,
                          const uint64_t *most, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        size_t offset;
        if (!mine[i] || least[i] == most[i])
            continue;
        const struct tensor *t = fingerprint_at(f, i, &offset);
        return err_set(e,
                       "%s: tensor %s: ranks have loaded different bytes, from byte %zu of it on. "
                       "All ranks must be given the same files: are copies of them complete?",
                       t->file, t->name, offset);
    }
    return 0;
}

bool identity_agree_weights(struct comm *c, struct fingerprint *loaded, struct identity *id)
{
    struct err e = {{0}};
    size_t n;
    uint64_t sum = 0, *mine = fingerprint_blocks(loaded, &n);
    uint64_t *most = mem_new(n, sizeof *most), *least = mem_new(n, sizeof *least);
    for (size_t i = 0; i < n; i++) {
        most[i] = mine[i];
        least[i] = mine[i] ? ~mine[i] : 0; /* the largest of what is left is the least */
    }
    comm_largest(&c->world, most, n);
    comm_largest(&c->world, least, n);
    for (size_t i = 0; i < n; i++)
        least[i] = ~least[i];
    bool same = comm_agree(c, compare_blocks(loaded, mine, least, most, n, &e) == 0, &e);
    if (same && comm_is_first(c)) {
        memcpy(mine, most, n * sizeof *mine);
        fingerprint_rest(loaded); /* what says a shape is used, and loaded by nobody */
        sum = fingerprint_sum(loaded);
    }
    comm_broadcast(&c->world, 0, &sum, sizeof sum);
    add_hash(id, OUTPUT_WEIGHTS, sum);
    free(most);
    free(least);
    return same;
}

/* ---- without other ranks -------------------------------------------------------------------- */

int identity_alone(const struct inputs *in, struct identity *id, struct err *e)
{
    *id = (struct identity){0};
    if (add_small(id, in, e) != 0)
        return -1;
    identity_add(id, OUTPUT_WEIGHTS, IDENTITY_LATER);
    add_prompting(id, in);
    return add_prompts(id, in, true, e);
}

int identity_shorter(const struct inputs *in, const struct identity *id, uint64_t units,
                     struct identity *shorter, struct err *e)
{
    uint64_t hash = prompts_hash_start(in->prompts);
    uint64_t rows = units / job_decoded(&in->job);
    if (prompts_hash(in->prompts, in->job.prompts.first, rows, &hash, e) != 0)
        return -1;
    for (size_t i = 0; i < id->n; i++)
        identity_add(shorter, id->entries[i].name, id->entries[i].value);
    add_number(shorter, "completions", (int64_t)units);
    add_hash(shorter, "prompts", hash);
    return 0;
}
