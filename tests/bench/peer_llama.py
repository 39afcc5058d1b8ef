#!/usr/bin/env python3
"""peer_llama.py MODEL.gguf VOCAB THREADS CONTEXT BATCH... - decode steps of llama.cpp, for peers.sh.

Of every batch the caches are filled first: one sequence with CONTEXT tokens by chance, and copies of its cache for
the others. Then one line "ready VERSION", and for every line on stdin one line of figures: tokens/s of each batch, as the median
step, a token for every sequence, drawn by temperature and top_p from its logits."""
import ctypes
import statistics
import sys
import time

import llama_cpp as L

STEPS, SECONDS, SKIPPED = 40, 2.5, 2  # steps of a measurement: at most, about, and before it
RANDOM = 1


def token(vocab):
    global RANDOM
    RANDOM = (RANDOM * 1103515245 + 12345) % 2**31
    return RANDOM % vocab


def fill_batch(batch, rows):
    """rows: (token, position, sequence, are its logits wanted)."""
    for i, (number, place, sequence, wanted) in enumerate(rows):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = number, place, 1
        batch.seq_id[i][0] = sequence
        batch.logits[i] = wanted
    batch.n_tokens = len(rows)


class Case:
    def __init__(self, model, vocab, threads, context, sequences):
        p = L.llama_context_default_params()
        p.n_ctx = sequences * ((context + 2 * STEPS + 255) // 256 * 256)
        p.n_batch = p.n_ubatch = max(512, sequences)
        p.n_seq_max = sequences
        p.n_threads = p.n_threads_batch = threads
        p.kv_unified = False
        self.context, self.vocab, self.n, self.length = L.llama_init_from_model(model, p), vocab, sequences, context
        if not self.context:
            sys.exit("peer_llama: no context")
        self.batch = L.llama_batch_init(max(512, sequences), 0, 1)
        self.chain = L.llama_sampler_chain_init(L.llama_sampler_chain_default_params())
        for sampler in (L.llama_sampler_init_top_p(0.95, 1), L.llama_sampler_init_temp(0.8), L.llama_sampler_init_dist(1)):
            L.llama_sampler_chain_add(self.chain, sampler)
        for first in range(0, context, 512):
            end = min(context, first + 512)
            self.decode([(token(vocab), i, 0, i + 1 == end) for i in range(first, end)])
        for s in range(1, sequences):
            L.llama_memory_seq_cp(L.llama_get_memory(self.context), 0, s, -1, -1)

    def decode(self, rows):
        fill_batch(self.batch, rows)
        if L.llama_decode(self.context, self.batch) != 0:
            sys.exit("peer_llama: llama_decode failed")

    def measure(self):
        drawn = [token(self.vocab) for _ in range(self.n)]
        times, place, begun = [], self.length, time.perf_counter()
        while len(times) < SKIPPED + 5 or (len(times) < STEPS and time.perf_counter() - begun < SECONDS):
            start = time.perf_counter()
            self.decode([(drawn[s], place, s, True) for s in range(self.n)])
            drawn = [L.llama_sampler_sample(self.chain, self.context, s) for s in range(self.n)]
            times.append(time.perf_counter() - start)
            place += 1
        for s in range(self.n):  # the next turn begins where this one did
            L.llama_memory_seq_rm(L.llama_get_memory(self.context), s, self.length, -1)
        return self.n / statistics.median(times[SKIPPED:])


def open_model(path, vocab):
    """The file has no tokenizer: what it would say of one is given here."""
    p = L.llama_model_default_params()
    rows = (L.llama_model_kv_override * 3)()
    rows[0].tag, rows[0].key, rows[0].value.val_str = L.LLAMA_KV_OVERRIDE_TYPE_STR, b"tokenizer.ggml.model", b"no_vocab"
    rows[1].tag, rows[1].key, rows[1].value.val_i64 = L.LLAMA_KV_OVERRIDE_TYPE_INT, b"qwen3moe.vocab_size", vocab
    p.kv_overrides = rows
    model = L.llama_model_load_from_file(path.encode(), p)
    return model or sys.exit(f"peer_llama: {path} cannot be loaded")


def main():
    path, vocab, threads, context = sys.argv[1], *(int(v) for v in sys.argv[2:5])
    batches = [int(b) for b in sys.argv[5:]]
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *a: None)
    L.llama_log_set(quiet, None)
    L.llama_backend_init()
    model = open_model(path, vocab)
    cases = [Case(model, vocab, threads, context, b) for b in batches]
    print("ready llama-cpp-python", L.__version__, flush=True)
    for _ in sys.stdin:
        print(*(f"{c.measure():.3f}" for c in cases), flush=True)


main()
