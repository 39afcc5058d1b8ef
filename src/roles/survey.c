#include "roles/survey.h"

#include "base/files.h"
#include "output/output.h"
#include "output/reasons.h"
#include "roles/feeder.h"
#include "roles/identity.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* ---- prompts -------------------------------------------------------------------------------- */

#define LENGTHS   32 /* lengths from 2^i to 2^(i+1) - 1 */
#define BAR_WIDTH 40

struct lengths {
    uint64_t n, sum, least, most, counts[LENGTHS];
    uint64_t failed, completion_tokens;
    uint64_t samples;
    struct reasons reasons;
};

static void add_row(void *context, const struct fed *fed)
{
    struct lengths *l = context;
    int bin = 0;
    if (fed->error) {
        l->failed++;
        reasons_add(&l->reasons, fed->error, 1);
        return;
    }
    while (fed->n >> (bin + 1) && bin < LENGTHS - 1)
        bin++;
    l->counts[bin]++;
    l->sum += fed->n;
    l->least = l->n == 0 || fed->n < l->least ? fed->n : l->least;
    l->most = fed->n > l->most ? fed->n : l->most;
    l->n++;
    if (!fed->prompt_only)
        l->completion_tokens += (fed->limit - fed->n) * l->samples;
}

static void print_lengths(const struct lengths *l, FILE *out)
{
    uint64_t most = 1;
    for (int i = 0; i < LENGTHS; i++)
        most = l->counts[i] > most ? l->counts[i] : most;
    fprintf(out,
            "lengths     %" PRIu64 " prompt%s of %" PRIu64 " to %" PRIu64
            " tokens, %.1f on average\n",
            l->n, l->n == 1 ? "" : "s", l->least, l->most, (double)l->sum / (double)l->n);
    for (int i = 0; i < LENGTHS; i++) {
        char bar[BAR_WIDTH + 1] = "";
        if (l->counts[i] == 0)
            continue;
        int width = (int)ceil(BAR_WIDTH * (double)l->counts[i] / (double)most);
        memset(bar, '#', (size_t)width);
        bar[width] = 0;
        fprintf(out, "%12" PRIu64 " to %-9" PRIu64 " %-*s %" PRIu64 "\n", UINT64_C(1) << i,
                (UINT64_C(2) << i) - 1, BAR_WIDTH, bar, l->counts[i]);
    }
}

static void print_failures(const struct lengths *l, FILE *out)
{
    if (l->failed)
        fprintf(out, "%s    %" PRIu64 " of %" PRIu64 " prompts %s error row%s:\n",
                l->n ? "failures" : "WARNING ", l->failed, l->failed + l->n,
                l->failed == 1 ? "will be an" : "will be", l->failed == 1 ? "" : "s");
    for (uint64_t i = 0; i < l->reasons.n; i++)
        fprintf(out, "%12" PRIu64 " x %s\n", l->reasons.all[i].count, l->reasons.all[i].text);
}

int survey_prompts(const struct inputs *in, FILE *out, uint64_t *most, struct err *e)
{
    struct lengths l = {.samples = in->units / (in->n_prompts ? in->n_prompts : 1)};
    const struct feeder_job job = {.job = &in->job,
                                   .prompting = &in->prompting,
                                   .prompts = in->prompts,
                                   .file = &in->prompts_file,
                                   .max_context = in->max_context};
    if (feeder_survey(&job, in->n_prompts, add_row, &l, e) != FEEDER_FINE)
        return -1;
    if (l.n)
        print_lengths(&l, out);
    print_failures(&l, out);
    *most = l.completion_tokens;
    return 0;
}

/* ---- the output ----------------------------------------------------------------------------- */

struct this_job {
    const struct inputs *in;
    struct identity *identity;
};

static int shorter(void *context, uint64_t units, struct identity *id, struct err *e)
{
    const struct this_job *job = context;
    return identity_shorter(job->in, job->identity, units, id, e);
}

static void read_weights(void *context)
{
    const struct this_job *job = context;
    identity_read_weights(job->in, 1, job->identity);
}

static void print_there(const struct output_there *there, const struct job *job, FILE *out)
{
    const char *path = job->output.file;
    size_t n = strlen(path);
    if (there->finished)
        fprintf(out, "output      %s: is finished, `tandem run` will say so\n", path);
    else if (there->done)
        fprintf(out, "output      %s: %" PRIu64 " completion%s there, the others will be added\n",
                path, there->done, there->done == 1 ? " is" : "s are");
    else
        fprintf(out, "output      %s: nothing is there yet\n", path);
    if (there->errors)
        fprintf(out, "            %" PRIu64 " of them failed (`tandem run --retry-errors`)\n",
                there->errors);
    if (*there->who)
        fprintf(out, "WARNING     it is being written now: %s\n", there->who);
    if (!(n > 3 && strcmp(path + n - 3, ".h5") == 0) &&
        !(n > 5 && strcmp(path + n - 5, ".hdf5") == 0))
        fprintf(out,
                "note        the output is HDF5, whatever it is called; `tandem export` makes JSON "
                "Lines\n");
}

int survey_output(struct inputs *in, FILE *out, struct err *e)
{
    struct identity identity, attributes = {0};
    struct output_there there;
    if (identity_alone(in, &identity, e) != 0) {
        identity_free(&identity);
        return -1;
    }
    struct this_job this_job = {in, &identity};
    char *stamp = identity_weights_stamp(in);
    identity_add(&attributes, OUTPUT_WEIGHTS_STAMP, stamp);
    free(stamp);
    const struct output_job job = {.path = in->job.output.file,
                                   .identity = &identity,
                                   .attributes = &attributes,
                                   .first_prompt = in->job.prompts.first,
                                   .samples = (uint64_t)job_decoded(&in->job),
                                   .kept = (uint64_t)in->job.sampling.samples,
                                   .units = in->units,
                                   .shorter = shorter,
                                   .read_weights = read_weights,
                                   .context = &this_job};
    int rc = output_look(&job, &there, e);
    if (rc == 0)
        print_there(&there, &in->job, out);
    identity_free(&identity);
    identity_free(&attributes);
    return rc;
}

/* ---- the disk ------------------------------------------------------------------------------- */

/* Of a token: id and logprob, and its text; of a completion the rest. Once in the journal, once in what is
 * merged from it. */
#define TOKEN_BYTES (2 * (8 + 5))
#define ROW_BYTES   (2 * 250)

void survey_disk(const struct inputs *in, uint64_t most, FILE *out)
{
    char *directory = files_directory(in->job.output.file);
    struct statvfs disk;
    struct stat prompts = {.st_size = 0};
    if (prompts_kept(in->prompts))
        stat(in->job.prompts.file, &prompts);
    double need =
        (double)most * TOKEN_BYTES + (double)in->units * ROW_BYTES + (double)prompts.st_size;
    if (statvfs(directory, &disk) == 0) {
        double left = (double)disk.f_bavail * (double)disk.f_frsize;
        fprintf(out,
                "disk        less than %.1f MB, for at most %" PRIu64
                " tokens; %.0f MB are free in %s\n",
                ceil(need / 1e5) / 10, most, left / 1e6, directory);
        if (need > left)
            fprintf(
                out,
                "WARNING     the disk may become full; the job would wait for room, and go on\n");
    }
    free(directory);
}
