/* Job files that are wrong, and the whole message each of them gets. */
#include "text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GOOD "model: m\nprompts: {file: p.h5}\noutput: {file: o.h5}\n" /* three lines */

struct bad {
    const char *text;
    const char *set; /* one --set, or NULL */
    const char *message;
};

static const struct bad all[] = {
    /* one value where a section is thought */
    {GOOD, "model.path=x", "--set model.path=x: unknown key 'model.path': model is one value"},
    {GOOD, "sampling.format.regex=x",
     "--set sampling.format.regex=x: unknown key 'sampling.format.regex': sampling.format is one "
     "value, as sampling.format='{regex: ...}'"},

    /* files that are no mapping */
    {"", NULL, "job.yaml: is empty; jobs/example.yaml names every key"},
    {"# only a comment\n\n", NULL, "job.yaml: is empty; jobs/example.yaml names every key"},
    {"null\n", NULL, "job.yaml: is empty; jobs/example.yaml names every key"},
    {"- model\n- prompts\n", NULL,
     "job.yaml:1:1: a job file has lines like \"model: directory\", found a list"},
    {"\n  hello\n", NULL,
     "job.yaml:2:3: a job file has lines like \"model: directory\", found 'hello'"},
    {GOOD "---\nmodel: n\n", NULL,
     "job.yaml:4:1: a second document begins here; there can only be one"},

    /* not YAML */
    {GOOD "schedule:\n\tslots: 4\n", NULL,
     "job.yaml:5:1: not YAML: found character that cannot start any token (while scanning for the "
     "next token that began on line 5); a tab cannot indent, use spaces"},
    {GOOD "schedule: {slots: 4\n", NULL,
     "job.yaml:5:1: not YAML: did not find expected ',' or '}' (while parsing a flow mapping that "
     "began on line 4)"},
    {GOOD "trace: \"t.json\n", NULL,
     "job.yaml:5:1: not YAML: found unexpected end of stream (while scanning a quoted scalar that "
     "began on line 4)"},
    {GOOD "  device: cpu\n", NULL,
     "job.yaml:4:3: not YAML: did not find expected key (while parsing a block mapping that began "
     "on line 1)"},
    {"model: \xff\n", NULL,
     "job.yaml: byte 7: invalid leading UTF-8 octet; a job file is UTF-8 text"},
    {"model: a\x07z\n", NULL,
     "job.yaml: byte 8: control characters are not allowed; a job file is UTF-8 text"},

    /* YAML that job files do without */
    {"model: &m m\n", NULL,
     "job.yaml:1:8: anchors (&) and aliases (*) are not supported; write the value out, or put it "
     "in quotes"},
    {GOOD "trace: *m\n", NULL,
     "job.yaml:4:8: anchors (&) and aliases (*) are not supported; write the value out, or put it "
     "in quotes"},
    {"model: !!str m\n", NULL,
     "job.yaml:1:8: tags (!) are not supported; leave it out, or put the value in quotes"},
    {GOOD "schedule: !x {slots: 1}\n", NULL,
     "job.yaml:4:11: tags (!) are not supported; leave it out, or put the value in quotes"},
    {GOOD "? [a, b]\n: c\n", NULL, "job.yaml:4:3: a key must be a word"},
    {"model: \"a\\0b\"\n", NULL, "job.yaml:1:8: a NUL character cannot be part of a value"},
    {GOOD "trace: [[[[[[[[[[[[[[[[[[a]]]]]]]]]]]]]]]]]]\n", NULL,
     "job.yaml:4:24: nested too deeply"},

    /* keys */
    {GOOD "schedule:\n  slotz: 4\n", NULL,
     "job.yaml:5:3: unknown key 'slotz' in schedule; did you mean 'slots'?"},
    {"\"mo\\ndel\": m\n", NULL, "job.yaml:1:1: unknown key 'mo?del'; did you mean 'model'?"},
    {"modle: m\n", NULL, "job.yaml:1:1: unknown key 'modle'; did you mean 'model'?"},
    {GOOD "Device: cpu\n", NULL, "job.yaml:4:1: unknown key 'Device'; did you mean 'device'?"},
    {GOOD "slots: 4\n", NULL, "job.yaml:4:1: unknown key 'slots'; there is 'slots' in schedule"},
    {GOOD "schedule.slots: 4\n", NULL,
     "job.yaml:4:1: unknown key 'schedule.slots'; there is 'slots' in schedule"},
    {GOOD "layout:\n  file: 4\n", NULL,
     "job.yaml:5:3: unknown key 'file' in layout; there is 'file' in prompts and in output"},
    {GOOD "schedule: {device: cpu}\n", NULL,
     "job.yaml:4:12: unknown key 'device' in schedule; there is 'device' at the top level"},
    {GOOD "layout: {ffn: {experts: 2}}\n", NULL,
     "job.yaml:4:16: unknown key 'experts' in layout.ffn; did you mean 'expert'?"},
    {GOOD "precision: {everything: f32}\n", NULL,
     "job.yaml:4:13: unknown key 'everything' in precision; known are activations, kv_cache, "
     "dispatch, combine, weights, products"},
    {GOOD "<<: {a: 1}\n", NULL,
     "job.yaml:4:1: unknown key '<<'; known are model, tokenizer, model_ignore, model_mtp, "
     "prompts, "
     "chat, output, layout, "
     "device, cublas, graphs, kernels, precision, schedule, speculate, sampling, score, trace, "
     "trace_steps"},
    {GOOD "model: n\n", NULL,
     "job.yaml:4:1: key 'model' is there twice; it was first given on line 1"},
    {GOOD "layout: {ffn: {expert: 1, expert: 2}}\n", NULL,
     "job.yaml:4:27: key 'expert' is there twice; it was first given on line 4"},
    {"prompts: {file: p}\noutput: {file: o}\n", NULL,
     "job.yaml: 'model' is missing: the checkpoint directory (jobs/example.yaml names every key)"},
    {"model: m\noutput: {file: o}\n", NULL,
     "job.yaml: 'prompts.file' is missing: the HDF5 file with the prompts (jobs/example.yaml names "
     "every key)"},
    {"model: m\nprompts: {file: p}\noutput:\n", NULL,
     "job.yaml: 'output.file' is missing: the HDF5 file to write (jobs/example.yaml names every "
     "key)"},
    {GOOD "schedule: 4\n", NULL,
     "job.yaml:4:11: schedule wants keys below it (slots, prefill_chunk, ...), found '4'"},
    {GOOD "layout:\n  ffn: [1, 2]\n", NULL,
     "job.yaml:5:8: layout.ffn wants keys below it (expert, tensor), found a list"},

    /* values */
    {GOOD "schedule: {slots: many}\n", NULL,
     "job.yaml:4:19: schedule.slots: wants an integer from 1 to 1048576, found 'many'"},
    {GOOD "schedule: {slots: 0}\n", NULL,
     "job.yaml:4:19: schedule.slots: wants an integer from 1 to 1048576, found '0'"},
    {GOOD "schedule: {slots: 1.5}\n", NULL,
     "job.yaml:4:19: schedule.slots: wants an integer from 1 to 1048576, found '1.5'"},
    {GOOD "schedule: {slots: 0x10}\n", NULL,
     "job.yaml:4:19: schedule.slots: wants an integer from 1 to 1048576, found '0x10'"},
    {GOOD "schedule: {slots: 99999999999999999999}\n", NULL,
     "job.yaml:4:19: schedule.slots: wants an integer from 1 to 1048576, found "
     "'99999999999999999999'"},
    {GOOD "schedule: {slots: '16'}\n", NULL,
     "job.yaml:4:19: schedule.slots: wants an integer from 1 to 1048576, found '16' in quotes, "
     "which is a text"},
    {GOOD "schedule:\n  slots:\n", NULL,
     "job.yaml:5:9: schedule.slots: wants an integer from 1 to 1048576, found nothing"},
    {GOOD "schedule: {slots: {a: 1}}\n", NULL,
     "job.yaml:4:19: schedule.slots: wants an integer from 1 to 1048576, found a mapping"},
    {GOOD "layout: {micro_batches: 5}\n", NULL,
     "job.yaml:4:25: layout.micro_batches: wants an integer from 1 to 4, or auto, found '5'"},
    {GOOD "layout: {attention: -1}\n", NULL,
     "job.yaml:4:21: layout.attention: wants an integer from 1 to 65536, found '-1'"},
    {GOOD "layout: {colocated: yes}\n", NULL,
     "job.yaml:4:21: layout.colocated: wants true or false, found 'yes'"},
    {GOOD "layout: {exchange: ncll}\n", NULL,
     "job.yaml:4:20: layout.exchange: wants auto, local, shared, mpi or nccl, found 'ncll'; did "
     "you mean "
     "'nccl'?"},
    {GOOD "device: gpu\n", NULL,
     "job.yaml:4:9: device: wants cpu or cuda, found 'gpu'; did you mean "
     "'cuda'?"},
    {GOOD "kernels: avx-512\n", NULL,
     "job.yaml:4:10: kernels: wants auto, plain, avx2 or avx512, found 'avx-512'; did you mean "
     "'avx512'?"},
    {GOOD "precision: {activations: fp8}\n", NULL,
     "job.yaml:4:26: precision.activations: wants bf16 or f32, found 'fp8'"},
    {GOOD "precision: {kv_cache: fp16}\n", NULL,
     "job.yaml:4:23: precision.kv_cache: wants bf16, f32 or fp8, found 'fp16'; did you mean "
     "'bf16'?"},
    {GOOD "precision: {products: int4}\n", NULL,
     "job.yaml:4:23: precision.products: wants exact or int8, found 'int4'; did you mean 'int8'?"},
    {GOOD "device: cuda\nprecision: {products: int8}\n", NULL,
     "job.yaml:5:23: precision.products: int8 is for device: cpu; with device: cuda leave it at "
     "exact"},
    {GOOD "precision: {combine: fp8}\n", NULL,
     "job.yaml:4:22: precision.combine: wants auto, bf16 or f32, found 'fp8'"},
    {GOOD "schedule: {kv_memory: 4 gigs}\n", NULL,
     "job.yaml:4:23: schedule.kv_memory: wants a size such as '4 GiB', up to 1024 TiB, or auto, "
     "found '4 gigs'"},
    {GOOD "schedule: {kv_memory: 4000 TiB}\n", NULL,
     "job.yaml:4:23: schedule.kv_memory: wants a size such as '4 GiB', up to 1024 TiB, or auto, "
     "found '4000 TiB'"},
    {GOOD "schedule: {kv_memory: -1}\n", NULL,
     "job.yaml:4:23: schedule.kv_memory: wants a size such as '4 GiB', up to 1024 TiB, or auto, "
     "found '-1'"},
    {GOOD "schedule: {time_limit: 50m23h}\n", NULL,
     "job.yaml:4:24: schedule.time_limit: wants a duration such as '23h50m' or '90 s', from 1 s to "
     "31536000 s, or none, found '50m23h'"},
    {GOOD "output: {commit_seconds: 5}\n", NULL,
     "job.yaml:4:1: key 'output' is there twice; it was first given on line 3"},
    {GOOD "sampling: {temperature: nan}\n", NULL,
     "job.yaml:4:25: sampling.temperature: wants a number from 0 to 1000, found 'nan'"},
    {GOOD "sampling: {temperature: 1e999}\n", NULL,
     "job.yaml:4:25: sampling.temperature: wants a number from 0 to 1000, found '1e999'"},
    {GOOD "sampling: {top_p: 0}\n", NULL,
     "job.yaml:4:19: sampling.top_p: wants a number from 1e-06 to 1, found '0'"},
    {GOOD "sampling: {seed: 18446744073709551616}\n", NULL,
     "job.yaml:4:18: sampling.seed: wants an integer from 0 to 18446744073709551615, found "
     "'18446744073709551616'"},
    {GOOD "chat: {template_kwargs: 5}\n", NULL,
     "job.yaml:4:25: chat.template_kwargs: wants a mapping, or none, found '5'"},
    {GOOD "chat: {template_kwargs: {a: 1, a: 2}}\n", NULL,
     "job.yaml:4:32: key 'a' is there twice; it was first given on line 4"},
    {GOOD "sampling: {stop: 5}\n", NULL,
     "job.yaml:4:18: sampling.stop: wants a list of at most 16 tokens, each its id (5) or its text "
     "(\"<|end|>\"), or none, found '5'; a list has brackets: [5, \"<|end|>\"]"},
    {GOOD "sampling: {stop: [-5]}\n", NULL,
     "job.yaml:4:18: sampling.stop: wants a list of at most 16 tokens, each its id (5) or its text "
     "(\"<|end|>\"), or none, found '-5' in the list; ids begin at 0"},
    {GOOD "sampling: {stop: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}\n", NULL,
     "job.yaml:4:18: sampling.stop: wants a list of at most 16 tokens, each its id (5) or its text "
     "(\"<|end|>\"), or none, found a list of more"},
    {GOOD "trace_steps: 9-3\n", NULL,
     "job.yaml:4:14: trace_steps wants the first and the last step, as 100-200, or all; found "
     "'9-3'"},
    {GOOD "trace_steps: -3\n", NULL,
     "job.yaml:4:14: trace_steps wants the first and the last step, as 100-200, or all; found "
     "'-3'"},
    {GOOD "trace: a\n", "trace=\"\"", "--set trace=\"\": trace: wants a text, or none, found ''"},
    {"model: m\nprompts:\n  file: p\n  template: {prompt}\noutput: {file: o}\n", NULL,
     "job.yaml:4:13: prompts.template: wants a text, found a mapping; braces begin a mapping in "
     "YAML: put the text in quotes"},
    {"model: m\nprompts: {file: p, template: 'Q: {promt}'}\noutput: {file: o}\n", NULL,
     "job.yaml:2:30: prompts.template: column 4: unknown placeholder \"{promt}\"; a template has "
     "{prompt} only, and {{ and }} are literal braces"},
    {"model: m\nprompts: {file: p, count: 0}\noutput: {file: o}\n", NULL,
     "job.yaml:2:27: prompts.count: wants an integer from 1 to 9007199254740992, or all, found "
     "'0'"},

    /* contradictions */
    {GOOD "layout: {colocated: true, ffn: {tensor: 2}}\n", NULL,
     "job.yaml:4:41: layout.ffn.tensor contradicts layout.colocated: true, where every rank holds "
     "a "
     "whole FFN; leave one of them out"},
    {GOOD "layout: {colocated: true, exchange: mpi}\n", NULL,
     "job.yaml:4:37: layout.exchange: a colocated layout has nothing to send; leave it at auto"},
    {GOOD "layout: {exchange: local}\n", NULL,
     "job.yaml:4:20: layout.exchange: local works inside one process, but attention and FFN are "
     "separate ranks here; take shared, mpi or nccl, or layout.colocated: true"},
    {GOOD "layout: {exchange: nccl}\n", NULL,
     "job.yaml:4:20: layout.exchange: nccl moves device memory and needs device: cuda"},
    {GOOD "layout: {attention: 65536, ffn: {expert: 65536, tensor: 65536}}\n", NULL,
     "job.yaml:4:21: layout: 4295032832 ranks are more than the 1000000 that can be"},
    {GOOD "device: cuda\nkernels: avx2\n", NULL,
     "job.yaml:5:10: kernels: avx2 is for device: cpu; with device: cuda leave it at auto"},
    {"model: m\nprompts: {file: a.h5}\noutput: {file: a.h5}\n", NULL,
     "job.yaml:3:16: output.file is prompts.file: the prompts would be overwritten"},
    {GOOD "trace: o.h5\n", NULL,
     "job.yaml:4:8: trace is the same file as output.file or prompts.file"},

    /* the command line */
    {GOOD, "schedule.slots",
     "--set schedule.slots: wants key=value, such as --set schedule.slots=8"},
    {GOOD, "schedule.slots=x",
     "--set schedule.slots=x: schedule.slots: wants an integer from 1 to 1048576, found 'x'"},
    {GOOD, "schedule.slotz=4",
     "--set schedule.slotz=4: unknown key 'slotz' in schedule; did you mean 'slots'?"},
    {GOOD, "slots=4", "--set slots=4: unknown key 'slots'; there is 'slots' in schedule"},
    {GOOD, "shedule.slots=4",
     "--set shedule.slots=4: unknown key 'shedule.slots'; did you mean 'schedule.slots'?"},
    {GOOD, "layout={attention: 2}",
     "--set layout={attention: 2}: 'layout' is a section; name one of its keys, or say layout=none "
     "to "
     "leave it out"},
    {GOOD, "sampling.stop=[1, 2",
     "--set sampling.stop:2:1: not YAML: did not find expected ',' or ']' (while parsing a flow "
     "sequence that began on line 1)"},
    {GOOD, "=4",
     "--set =4: unknown key ''; known are model, tokenizer, model_ignore, model_mtp, prompts, "
     "chat, output, layout, "
     "device, cublas, graphs, kernels, precision, schedule, speculate, sampling, score, trace, "
     "trace_steps"},
    {GOOD, "sampling.format.regex=a",
     "--set sampling.format.regex=a: unknown key 'sampling.format.regex': sampling.format is one "
     "value, as "
     "sampling.format='{regex: ...}'"},
    {GOOD, "model=",
     "job.yaml: 'model' is missing: the checkpoint directory (jobs/example.yaml names every key)"},
    {GOOD, "output.file=p.h5",
     "--set output.file=p.h5: output.file is prompts.file: the prompts would be overwritten"},
};

static void every_message(void **state)
{
    (void)state;
    size_t wrong = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct job job;
        struct err e = {""};
        int status =
            read_text(&job, all[i].text, strlen(all[i].text), &all[i].set, all[i].set ? 1 : 0, &e);
        if (status == 0)
            job_free(&job);
        if (status == -1 && strcmp(e.text, all[i].message) == 0)
            continue;
        wrong++;
        print_error("case %zu, wanted:\n  %s\nfound:\n  %s\n", i, all[i].message,
                    status == 0 ? "no error" : e.text);
    }
    assert_int_equal(wrong, 0);
}

static void files_that_cannot_be_read(void **state)
{
    (void)state;
    struct job job;
    struct err e = {""};
    assert_int_equal(job_read(&job, "/nonexistent/a.yaml", NULL, 0, &e), -1);
    assert_string_equal(e.text, "/nonexistent/a.yaml: cannot be read: No such file or directory");
    assert_int_equal(job_read(&job, "/tmp", NULL, 0, &e), -1);
    assert_string_equal(e.text, "/tmp: cannot be read: Is a directory; a file was meant");
    size_t bytes = 300000;
    char *text = malloc(bytes);
    memset(text, '#', bytes);
    assert_int_equal(read_text(&job, text, bytes, NULL, 0, &e), -1);
    assert_string_equal(e.text, "job.yaml: is larger than 256 KiB: another file was meant");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message),
        cmocka_unit_test(files_that_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
