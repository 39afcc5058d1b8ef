/* Job files that are right: defaults, every key, overrides, and the way back to text. */
#include "job/keys.h"
#include "text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOOD "model: m\nprompts: {file: p.h5}\noutput: {file: o.h5}\n"

static struct job must_read(const char *text, const char *const *sets, size_t n)
{
    struct job job;
    struct err e = {""};
    if (read_text(&job, text, strlen(text), sets, n, &e) != 0)
        fail_msg("%s", e.text);
    return job;
}

static void defaults(void **state)
{
    (void)state;
    struct job job = must_read(GOOD, NULL, 0);
    assert_string_equal(job.model, "m");
    assert_string_equal(job.tokenizer, "m/tokenizer.json");
    assert_string_equal(job.prompts.file, "p.h5");
    assert_string_equal(job.prompts.template_text, "{prompt}");
    assert_int_equal(job.prompts.bos, TRI_AUTO);
    assert_int_equal(job.prompts.first, 0);
    assert_int_equal(job.prompts.count, -1);
    assert_string_equal(job.output.file, "o.h5");
    assert_true(job.output.commit_seconds == 5);
    assert_int_equal(job.layout.attention, 1);
    assert_int_equal(job.layout.expert, 1);
    assert_int_equal(job.layout.tensor, 1);
    assert_false(job.layout.colocated);
    assert_int_equal(job.micro_batches, 0);
    assert_int_equal(job.exchange, EXCHANGE_AUTO);
    assert_int_equal(job.threads, 0);
    assert_string_equal(job.device, "cpu");
    assert_string_equal(job.kernels, "auto");
    assert_int_equal(job.precision.activations, DTYPE_BF16);
    assert_int_equal(job.precision.kv_cache, DTYPE_BF16);
    assert_int_equal(job.precision.dispatch, DTYPE_BF16);
    assert_int_equal(job.precision.combine, DTYPE_F32);
    assert_int_equal(job.precision.weights, JOB_WEIGHTS_KEEP);
    assert_int_equal(job.precision.products, JOB_PRODUCTS_EXACT);
    assert_int_equal(job.schedule.slots, 16);
    assert_int_equal(job.schedule.prefill_chunk, 256);
    assert_int_equal(job.schedule.max_context, 0);
    assert_int_equal(job.schedule.kv_memory, 0);
    assert_true(job.schedule.time_limit == 0);
    assert_true(job.sampling.temperature == 0);
    assert_int_equal(job.sampling.top_k, 0);
    assert_true(job.sampling.top_p == 1);
    assert_int_equal(job.sampling.seed, 0);
    assert_int_equal(job.sampling.samples, 1);
    assert_int_equal(job.sampling.max_new_tokens, 256);
    assert_int_equal(job.sampling.n_stop, 0);
    assert_false(job.sampling.ignore_eos);
    assert_null(job.trace);
    job_free(&job);
}

static const char everything[] =
    "model: dir/\n"
    "tokenizer: t.json\n"
    "prompts: {file: p, template: \"Q: {prompt}\\nA: \\u00e9\\u2028{{}}\", bos: false, first: 7,\n"
    "  count: 9}\n"
    "output: {file: o, commit_seconds: 1.5 min}\n"
    "layout:\n"
    "  attention: 3\n"
    "  ffn: {expert: 2, tensor: 4}\n"
    "  colocated: false\n"
    "  micro_batches: 4\n"
    "  exchange: mpi\n"
    "  threads: 6\n"
    "device: cpu\n"
    "kernels: avx2\n"
    "precision: {activations: f32, kv_cache: fp8, dispatch: fp8, combine: bf16, weights: int8,\n"
    "  products: int8}\n"
    "schedule: {slots: 5, prefill_chunk: 64, max_context: 4096, kv_memory: 1.5 GiB,\n"
    "  time_limit: 23h50m}\n"
    "sampling: {temperature: 0.1, top_k: 40, top_p: .95, seed: 18446744073709551615, samples: 3,\n"
    "  max_new_tokens: 99, stop: [5, '5', \"<|end|>\", a b], ignore_eos: true}\n"
    "trace: 'none'\n";

static void check_everything(const struct job *job)
{
    assert_string_equal(job->model, "dir/");
    assert_string_equal(job->tokenizer, "t.json");
    assert_string_equal(job->prompts.template_text, "Q: {prompt}\nA: \u00e9\u2028{{}}");
    assert_int_equal(job->prompts.bos, TRI_FALSE);
    assert_int_equal(job->prompts.first, 7);
    assert_int_equal(job->prompts.count, 9);
    assert_true(job->output.commit_seconds == 90);
    assert_int_equal(job->layout.attention, 3);
    assert_int_equal(job->layout.expert, 2);
    assert_int_equal(job->layout.tensor, 4);
    assert_int_equal(job->micro_batches, 4);
    assert_int_equal(job->exchange, EXCHANGE_MPI);
    assert_int_equal(job->threads, 6);
    assert_string_equal(job->kernels, "avx2");
    assert_int_equal(job->precision.activations, DTYPE_F32);
    assert_int_equal(job->precision.kv_cache, DTYPE_F8E4M3);
    assert_int_equal(job->precision.dispatch, DTYPE_F8E4M3);
    assert_int_equal(job->precision.combine, DTYPE_BF16);
    assert_int_equal(job->precision.weights, JOB_WEIGHTS_INT8);
    assert_int_equal(job->precision.products, JOB_PRODUCTS_INT8);
    assert_int_equal(job->schedule.slots, 5);
    assert_int_equal(job->schedule.prefill_chunk, 64);
    assert_int_equal(job->schedule.max_context, 4096);
    assert_true(job->schedule.kv_memory == (size_t)3 << 29);
    assert_true(job->schedule.time_limit == 85800);
    assert_true(job->sampling.temperature == 0.1);
    assert_int_equal(job->sampling.top_k, 40);
    assert_true(job->sampling.top_p == 0.95);
    assert_true(job->sampling.seed == UINT64_MAX);
    assert_int_equal(job->sampling.samples, 3);
    assert_int_equal(job->sampling.max_new_tokens, 99);
    assert_true(job->sampling.ignore_eos);
    assert_string_equal(job->trace, "none");
    assert_int_equal(job->sampling.n_stop, 4);
    assert_null(job->sampling.stop[0].text);
    assert_int_equal(job->sampling.stop[0].id, 5);
    assert_string_equal(job->sampling.stop[1].text, "5");
    assert_string_equal(job->sampling.stop[2].text, "<|end|>");
    assert_string_equal(job->sampling.stop[3].text, "a b");
}

static void every_key_and_back(void **state)
{
    (void)state;
    struct job job = must_read(everything, NULL, 0);
    check_everything(&job);
    char *text = job_yaml(&job);
    struct job again = must_read(text, NULL, 0);
    check_everything(&again);
    char *text_again = job_yaml(&again);
    assert_string_equal(text, text_again);
    free(text);
    free(text_again);
    job_free(&job);
    job_free(&again);
}

static void colocated_and_back(void **state)
{
    (void)state;
    struct job job = must_read(GOOD "layout: {colocated: true, attention: 4}\n", NULL, 0);
    assert_true(job.layout.colocated);
    assert_int_equal(layout_ranks(&job.layout), 4);
    assert_int_equal(job.micro_batches, 0);
    char *text = job_yaml(&job);
    struct job again = must_read(text, NULL, 0);
    char *text_again = job_yaml(&again);
    assert_string_equal(text, text_again);
    free(text);
    free(text_again);
    job_free(&job);
    job_free(&again);
}

/* Whether an uncommented line of the file begins, after spaces, with "name:". */
static bool has_line(const char *text, const char *name)
{
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        const char *word = line + strspn(line, " ");
        size_t n = strlen(name);
        if (strncmp(word, name, n) == 0 && word[n] == ':')
            return true;
    }
    return false;
}

static void example_names_every_key_with_its_default(void **state)
{
    (void)state;
    size_t bytes;
    char *text = read_file("jobs/example.yaml", &bytes);
    for (size_t i = 0; i < keys_count; i++)
        if (!has_line(text, keys[i].name))
            fail_msg("jobs/example.yaml lacks %s", keys[i].name);
    struct job example = must_read(text, NULL, 0);
    struct job bare = must_read("model: input/demo\nprompts: {file: input/prompts.h5}\n"
                                "output: {file: output/example.h5}\n",
                                NULL, 0);
    char *a = job_yaml(&example), *b = job_yaml(&bare);
    assert_string_equal(a, b);
    free(a);
    free(b);
    free(text);
    job_free(&example);
    job_free(&bare);
}

static void the_jobs_of_the_repository(void **state)
{
    (void)state;
    static const char *const paths[] = {"jobs/demo.yaml", "jobs/colocated.yaml",
                                        "jobs/step3-4node.yaml"};
    static const int ranks[] = {2, 1, 32};
    for (int i = 0; i < 3; i++) {
        struct job job;
        struct err e = {""};
        if (job_read(&job, paths[i], NULL, 0, &e) != 0)
            fail_msg("%s", e.text);
        assert_string_equal(job.path, paths[i]);
        assert_int_equal(layout_ranks(&job.layout), ranks[i]);
        job_free(&job);
    }
}

static void overrides(void **state)
{
    (void)state;
    static const char *const sets[] = {
        "schedule.slots=3",
        "schedule.slots=4",
        "sampling.stop=[7, x]",
        "trace=",
        "model=a b",
        "prompts.template='{prompt}='",
        "layout.ffn.expert=",
    };
    struct job job = must_read(GOOD "schedule: {slots: many}\ntrace: t.json\n"
                                    "layout: {ffn: {expert: 3}}\n",
                               sets, sizeof sets / sizeof *sets);
    assert_int_equal(job.schedule.slots, 4); /* the last one counts, and not the file's */
    assert_int_equal(job.sampling.n_stop, 2);
    assert_int_equal(job.sampling.stop[0].id, 7);
    assert_string_equal(job.sampling.stop[1].text, "x");
    assert_null(job.trace);
    assert_string_equal(job.model, "a b");
    assert_string_equal(job.tokenizer, "a b/tokenizer.json");
    assert_string_equal(job.prompts.template_text, "{prompt}=");
    assert_int_equal(job.layout.expert, 1);
    job_free(&job);
}

static void sections_may_be_empty(void **state)
{
    (void)state;
    struct job job =
        must_read(GOOD "schedule:\n  # slots: 4\nlayout:\n  ffn:\nsampling: {}\n", NULL, 0);
    assert_int_equal(job.schedule.slots, 16);
    job_free(&job);
    job = must_read("{model: m/, prompts: {file: p}, output: {file: o}}", NULL, 0);
    assert_string_equal(job.tokenizer, "m/tokenizer.json");
    job_free(&job);
}

static char *sampling_of(const char *text)
{
    struct job job = must_read(text, NULL, 0);
    char *json = job_sampling_json(&job);
    job_free(&job);
    return json;
}

static void what_decides_a_completion(void **state)
{
    (void)state;
    static const char *const same[] = {
        GOOD "schedule: {slots: 3}\n", GOOD "layout: {attention: 7}\ntrace: x\n",
        GOOD "device: cuda\nprecision: {combine: f32}\n", GOOD "sampling: {top_p: 1.0, seed: 0}\n"};
    static const char *const other[] = {
        GOOD "sampling: {seed: 1}\n",
        GOOD "sampling: {temperature: 0.5}\n",
        GOOD "sampling: {top_k: 5}\n",
        GOOD "sampling: {top_p: 0.5}\n",
        GOOD "sampling: {samples: 2}\n",
        GOOD "sampling: {max_new_tokens: 2}\n",
        GOOD "sampling: {stop: [1]}\n",
        GOOD "sampling: {stop: ['1']}\n",
        GOOD "sampling: {ignore_eos: true}\n",
        GOOD "schedule: {max_context: 99}\n",
        GOOD "precision: {activations: f32}\n",
        GOOD "precision: {dispatch: fp8}\n",
        GOOD "device: cuda\n", /* sums travel in bf16 */
        GOOD "precision: {products: int8}\n",
        GOOD "chat: {system: S}\n",
        GOOD "chat: {template: t.jinja}\n",
        GOOD "chat: {template_kwargs: {a: [1, true, 'x', 1.5, null]}}\n",
        "model: m\nprompts: {file: p.h5, special: text}\noutput: {file: o.h5}\n",
        "model: m\nprompts: {file: p.h5}\noutput: {file: o.h5, special_tokens: true}\n",
        "model: m\nprompts: {file: p.h5, bos: true}\noutput: {file: o.h5}\n",
        "model: m\nprompts: {file: p.h5, template: 'x{prompt}'}\noutput: {file: o.h5}\n",
    };
    char *json = sampling_of(GOOD);
    assert_non_null(strstr(json, "\"precision.dispatch\":\"bf16\","));
    assert_non_null(strstr(json, "\"prompts.template\":\"{prompt}\","));
    assert_non_null(strstr(json, "\"sampling.stop\":[],"));
    assert_null(strstr(json, "schedule.slots"));
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char *text = sampling_of(same[i]);
        assert_string_equal(text, json);
        free(text);
    }
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        char *text = sampling_of(other[i]);
        assert_string_not_equal(text, json);
        free(text);
    }
    free(json);
}

/* Parts cut the rows without holes; slurm says which one this is, also in paths. */
static void test_parts(void **state)
{
    (void)state;
    static const char *const numbers[] = {"1/3", "2/3", "3/3"};
    struct job job;
    struct err e;
    uint64_t next = 5, first, n;
    for (int i = 0; i < 3; i++) {
        char part[32];
        snprintf(part, sizeof part, "prompts.part=%s", numbers[i]);
        const char *sets[] = {part, "prompts.first=5", "prompts.count=10"};
        assert_int_equal(job_read(&job, "jobs/example.yaml", sets, 3, &e), 0);
        assert_int_equal(job_rows(&job, 100, &first, &n, &e), 0);
        assert_int_equal(first, next);
        next += n;
        assert_int_equal(job_rows(&job, 4, &first, &n, &e), -1);
        job_free(&job);
    }
    assert_int_equal(next, 15);
    const char *slurm[] = {"prompts.part=slurm", "output.file=o-%A-%a.h5"};
    unsetenv("SLURM_ARRAY_TASK_ID");
    assert_int_equal(job_read(&job, "jobs/example.yaml", slurm, 2, &e), -1);
    assert_non_null(strstr(e.text, "no task of a Slurm job array"));
    setenv("SLURM_ARRAY_TASK_ID", "14", 1);
    setenv("SLURM_ARRAY_TASK_MIN", "10", 1);
    setenv("SLURM_ARRAY_TASK_STEP", "2", 1);
    setenv("SLURM_ARRAY_TASK_COUNT", "4", 1);
    setenv("SLURM_ARRAY_JOB_ID", "77", 1);
    assert_int_equal(job_read(&job, "jobs/example.yaml", slurm, 2, &e), 0);
    assert_int_equal(job.prompts.part, 3);
    assert_int_equal(job.prompts.parts, 4);
    assert_string_equal(job.output.file, "o-77-14.h5");
    job_free(&job);
    static const char *const wrong[] = {"prompts.part=0/3", "prompts.part=4/3", "prompts.part=1/3x",
                                        "prompts.part=half"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(job_read(&job, "jobs/example.yaml", &wrong[i], 1, &e), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_key_and_back),
        cmocka_unit_test(colocated_and_back),
        cmocka_unit_test(example_names_every_key_with_its_default),
        cmocka_unit_test(the_jobs_of_the_repository),
        cmocka_unit_test(overrides),
        cmocka_unit_test(sections_may_be_empty),
        cmocka_unit_test(what_decides_a_completion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
