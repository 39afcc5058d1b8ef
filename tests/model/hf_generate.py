#!/usr/bin/env python3
"""Tokens drawn with penalties, biases, bans and cut distributions, against the logits processors of Hugging Face's
transformers on the logits of its own class; presence and frequency penalties, for which it has none, against the
sampler of llama.cpp; without llama-cpp-python these are said to be left out, and the exit status is 77. By hand (make test-hf): needs torch and transformers.

    hf_generate.py TANDEM

Greedy: every token must be the one that the processed logits prefer, unless the two best are nearer than NEAR.
Sampled: no token that the warpers have cut off may be drawn, and how often the others are must fit their
probabilities (chi-square over thousands of draws).
"""
import ctypes
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import torch
import transformers as hf

sys.path.insert(0, str(Path(__file__).parent))
from huggingface import open_model  # noqa: E402

try:
    import llama_cpp as llama
except ImportError:
    llama = None

NEAR = 1e-3
VOCAB, PROMPT, NEW = 300, 12, 24
MODEL = ["family=llama", "hidden=64", "layers=2", f"vocab={VOCAB}", "context=512", "heads=4", "kv_heads=2", "head_dim=16",
         "dense=96", "dtype=f32", "seed=5"]


class Job:
    def __init__(self, tandem, work):
        self.tandem, self.work = tandem, Path(work)
        self.run_command("generate", f"{work}/model", *MODEL)
        rng = np.random.default_rng(3)
        self.prompts = rng.integers(3, VOCAB, (20, PROMPT))
        self.write(self.prompts)
        self.hf = open_model(f"{work}/model")

    def run_command(self, *command):
        done = subprocess.run([self.tandem, *command], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{command}: {done.stderr}{done.stdout}")
        return done.stdout

    def write(self, prompts):
        with h5py.File(self.work / "p.h5", "w") as f:
            f["tokens"] = prompts.astype("i4").ravel()
            f["offsets"] = np.arange(0, prompts.size + 1, prompts.shape[1])

    def decode(self, **sampling):
        """The tokens of every completion."""
        for old in self.work.glob("out*"):
            old.unlink()
        sampling = {"temperature": 0, "max_new_tokens": NEW, "ignore_eos": True} | sampling
        job = {"model": f"{self.work}/model", "prompts": {"file": f"{self.work}/p.h5"}, "output": {"file": f"{self.work}/out.h5"},
               "layout": {"attention": 1, "colocated": True}, "schedule": {"slots": 64},
               "precision": dict.fromkeys(("activations", "kv_cache", "dispatch", "combine"), "f32"), "sampling": sampling}
        (self.work / "job.yaml").write_text(json.dumps(job))
        self.run_command("run", self.work / "job.yaml")
        lines = self.run_command("export", self.work / "out.h5", "--tokens").splitlines()
        return [json.loads(line)["tokens"] for line in lines]

    def logits(self, row):
        """After every token of it."""
        with torch.no_grad():
            return self.hf(torch.tensor([row])).logits[0]


class LlamaPenalties:
    """Of the tokens behind the prompt, by the C library's own sampler; it takes several tokens of a row at a time."""

    def __init__(self, frequency, presence):
        self.penalties = (1.0, frequency, presence)

    def __call__(self, row, scores):
        seen = row[0, PROMPT:].tolist()
        first = (VOCAB, NEW) if len(llama.llama_sampler_init_penalties.argtypes) == 5 else (NEW,)
        sampler = llama.llama_sampler_init_penalties(*first, *self.penalties)
        for token in seen:
            llama.llama_sampler_accept(sampler, token)
        data = (llama.llama_token_data * VOCAB)(*[(t, x, 0) for t, x in enumerate(scores[0].tolist())])
        all_tokens = llama.llama_token_data_array(data, VOCAB, -1, False)
        llama.llama_sampler_apply(sampler, ctypes.byref(all_tokens))
        llama.llama_sampler_free(sampler)
        out = torch.empty_like(scores)
        for d in data:
            out[0, d.id] = d.logit
        return out


def check_min_tokens(job, stops, least):
    """Nothing stops before `least` tokens, and the first of `stops` does behind them."""
    ended = 0
    processors = hf.LogitsProcessorList([hf.MinNewTokensLengthLogitsProcessor(PROMPT, least, stops)])
    good = check_greedy(job, f"min_tokens {least}", processors, min_tokens=least, stop=stops)
    for tokens in job.decode(min_tokens=least, stop=stops):
        places = [n for n, t in enumerate(tokens) if t in stops]
        good = good and (places == [len(tokens) - 1] if places else len(tokens) == NEW) and len(tokens) > least
        ended += bool(places)
    print(f"{ended} of {len(job.prompts)} ended behind them")
    return good and ended > 0


def check_greedy(job, name, processors, **sampling):
    wrong = near = total = 0
    for prompt, tokens in zip(job.prompts, job.decode(**sampling)):
        row = [*map(int, prompt), *tokens]
        logits = job.logits(row)
        for n, token in enumerate(tokens, len(prompt)):
            scores = processors(torch.tensor([row[:n]]), logits[n - 1:n])[0]
            margin = float(scores.max() - scores[token])
            total += 1
            near += 0 < margin <= NEAR
            wrong += not margin <= NEAR
    print(f"{name:34} {total - wrong} of {total} tokens, {near} of them as good as the best")
    return wrong == 0


def check_drawn(job, name, warpers, **sampling):
    draws, prompt = 4000, job.prompts[:1]
    job.write(np.repeat(prompt, draws, 0))
    drawn = np.bincount([t[0] for t in job.decode(max_new_tokens=1, **sampling)], minlength=VOCAB)
    job.write(job.prompts)
    p = torch.softmax(warpers(torch.tensor(prompt), job.logits(prompt[0].tolist())[-1:]), -1)[0].numpy()
    cut = int(drawn[p == 0].sum())
    often = p * draws >= 5
    expected = np.append(p[often] * draws, max(p[~often].sum() * draws, 1e-9))
    seen = np.append(drawn[often], drawn[~often].sum())
    if expected[-1] < 5:
        expected, seen = expected[:-1], seen[:-1]
    chi, freedom = float(((seen - expected) ** 2 / expected).sum()), len(expected) - 1
    # Five standard deviations of chi-square: far from what chance does.
    good = cut == 0 and chi <= freedom + 5 * (2 * max(freedom, 1)) ** 0.5 + 5
    print(f"{name:34} {draws} draws of {int((p > 0).sum())} tokens, {cut} cut off, chi-square {chi:.1f} of {freedom}")
    return good


def main():
    allowed = list(range(40, 120))
    with tempfile.TemporaryDirectory() as work:
        job = Job(sys.argv[1], work)
        several = hf.LogitsProcessorList
        plain = job.decode()
        often = sorted({t for row in plain for t in row}, key=lambda t: -sum(row.count(t) for row in plain))[:6]
        bias = {often[0]: -2.5, often[1]: 1.25, often[2]: -0.5}
        good = [
            check_greedy(job, "none", several([])),
            check_greedy(job, "repetition_penalty 1.3", several([hf.RepetitionPenaltyLogitsProcessor(1.3)]), repetition_penalty=1.3),
            check_greedy(job, "repetition_penalty 0.8", several([hf.RepetitionPenaltyLogitsProcessor(0.8)]), repetition_penalty=0.8),
            check_greedy(job, "logit_bias", several([hf.SequenceBiasLogitsProcessor({(t,): b for t, b in bias.items()})]),
                         logit_bias={str(t): b for t, b in bias.items()}),
            check_greedy(job, "ban", several([hf.NoBadWordsLogitsProcessor([[t] for t in often[:4]])]), ban=often[:4]),
            check_greedy(job, "allow", several([hf.SuppressTokensLogitsProcessor([t for t in range(VOCAB) if t not in allowed])]),
                         allow=allowed),
            check_greedy(job, "bias, then repetition_penalty",
                         several([hf.SequenceBiasLogitsProcessor({(t,): b for t, b in bias.items()}), hf.RepetitionPenaltyLogitsProcessor(1.2)]),
                         logit_bias={str(t): b for t, b in bias.items()}, repetition_penalty=1.2),
            check_min_tokens(job, often[:3], 6),
            check_drawn(job, "temperature 0.7", several([hf.TemperatureLogitsWarper(0.7)]), temperature=0.7),
            check_drawn(job, "temperature 1.4, top_k 17", several([hf.TemperatureLogitsWarper(1.4), hf.TopKLogitsWarper(17)]), temperature=1.4, top_k=17),
            check_drawn(job, "temperature 0.9, top_p 0.6", several([hf.TemperatureLogitsWarper(0.9), hf.TopPLogitsWarper(0.6)]), temperature=0.9, top_p=0.6),
            check_drawn(job, "temperature 1.0, min_p 0.1", several([hf.TemperatureLogitsWarper(1.0), hf.MinPLogitsWarper(0.1)]), temperature=1.0, min_p=0.1),
        ]
        for frequency, presence in ((0.4, 0), (0, 0.7), (0.3, 0.5), (-0.2, -0.1)) if llama else ():
            good.append(check_greedy(job, f"frequency {frequency}, presence {presence}", several([LlamaPenalties(frequency, presence)]),
                                     frequency_penalty=frequency, presence_penalty=presence))
    if all(good) and not llama:
        print("SKIPPED: presence and frequency penalties, for want of llama_cpp; all else has passed")
    sys.exit(1 if not all(good) else 0 if llama else 77)


if __name__ == "__main__":
    main()
