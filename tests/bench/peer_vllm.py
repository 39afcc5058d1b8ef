#!/usr/bin/env python3
"""peer_vllm.py MODEL VOCAB THREADS CONTEXT BATCH... - decode steps of vLLM on CPUs, for peers.sh.

MODEL is a checkpoint's directory. All sequences of a batch begin with the same CONTEXT tokens by chance, which vLLM
computes once (prefix caching). Steps in which every sequence draws one token, by temperature and top_p, are measured.
One line "ready VERSION", then for every line on stdin one line of figures: tokens/s of each batch, as the median step."""
import os
import statistics
import sys
import time

path, vocab, threads, context, *batches = sys.argv[1], *(int(v) for v in sys.argv[2:])
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{threads - 1}")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # its steps are ours to time
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ["HF_HUB_OFFLINE"] = "1"

figures = os.fdopen(os.dup(1), "w")  # what is printed meanwhile, by whomever, is no figure
os.dup2(2, 1)

import vllm  # noqa: E402

STEPS, SECONDS, SKIPPED = 40, 2.5, 2  # steps of a measurement: at most, about, and before it
RANDOM, REQUEST = 1, 0


def token():
    global RANDOM
    RANDOM = (RANDOM * 1103515245 + 12345) % 2**31
    return RANDOM % vocab


def measure(engine, prompt, n):
    """Tokens per second of n sequences."""
    global REQUEST
    drawn = vllm.SamplingParams(temperature=0.8, top_p=0.95, max_tokens=SKIPPED + STEPS + 64, ignore_eos=True, detokenize=False)
    names = [str(REQUEST + i) for i in range(n)]
    REQUEST += n
    for name in names:
        engine.add_request(name, {"prompt_token_ids": prompt + [token()]}, drawn)
    lengths, times, begun = {}, [], None
    while len(times) < SKIPPED + 5 or (len(times) < STEPS and time.perf_counter() - begun < SECONDS):
        if not engine.has_unfinished_requests():
            sys.exit(f"peer_vllm: of {n} sequences only {len(times)} steps brought each a token")
        start = time.perf_counter()
        said = engine.step()
        took = time.perf_counter() - start
        now = {o.request_id: len(o.outputs[0].token_ids) for o in said}
        if len(now) == n and all(now[name] == lengths.get(name, -1) + 1 for name in names):
            begun = begun or start
            times.append(took)
        lengths.update(now)
    engine.abort_request(names)
    while engine.has_unfinished_requests():
        engine.step()
    return n / statistics.median(times[SKIPPED:])


def main():
    options = vllm.EngineArgs(
        model=path,
        skip_tokenizer_init=True,
        dtype="bfloat16",
        max_model_len=context + SKIPPED + STEPS + 128,
        max_num_seqs=max(batches),
        max_num_batched_tokens=max(2048, max(batches)),
        enable_prefix_caching=True,
        disable_log_stats=True,
    )
    engine = vllm.LLMEngine.from_engine_args(options)
    prompt = [token() for _ in range(context)]
    for n in batches:
        measure(engine, prompt, n)
    print("ready vLLM", vllm.__version__, file=figures, flush=True)
    for _ in sys.stdin:
        print(*(f"{measure(engine, prompt, n):.3f}" for n in batches), file=figures, flush=True)


main()
