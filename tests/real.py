#!/usr/bin/env python3
"""real.py prompts FILE | check MODEL.gguf PROMPTS COMPLETIONS - what tests/real.sh asks a model, and
whether the answers are right.

Everything is computed again from the same GGUF file, in float64 and with nothing of Tandem's: the file
is read here, its blocks are dequantised, prompts are rendered and cut into tokens, and the model is run
over prompt and completion together. Every token that was chosen must be the one with the largest
logit; where the second is nearer than what f32 can tell apart, either counts.
"""

import json
import re
import struct
import sys

import numpy as np

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
QUESTIONS = [
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "What is 7 + 5?",
    "Name three fruits.",
    "Why is the sky blue? Answer in one sentence.",
]
CLEAR = 1e-3  # a margin between the two largest logits, which are about 10 to 20


# ---- the file --------------------------------------------------------------------------------------


class Gguf:
    SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def __init__(self, path):
        self.bytes = np.memmap(path, np.uint8, "r")
        self.at = 4
        version, tensors, values = self.take("IQQ")
        assert bytes(self.bytes[:4]) == b"GGUF" and version in (2, 3)
        self.meta = {}
        for _ in range(values):
            key = self.text()
            self.meta[key] = self.value(self.take("I")[0])
        infos = []
        for _ in range(tensors):
            name = self.text()
            sizes = self.take("Q" * self.take("I")[0])
            infos.append((name, sizes, *self.take("IQ")))
        align = self.meta.get("general.alignment", 32)
        start = (self.at + align - 1) // align * align
        self.tensors = {n: (sizes, kind, start + offset) for n, sizes, kind, offset in infos}

    def take(self, form):
        form = "<" + form
        values = struct.unpack_from(form, self.bytes, self.at)
        self.at += struct.calcsize(form)
        return values

    def text(self):
        n = self.take("Q")[0]
        self.at += n
        return bytes(self.bytes[self.at - n : self.at]).decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            kind, n = self.take("IQ")
            return [self.value(kind) for _ in range(n)]
        return self.take(self.SCALARS[kind])[0]

    def tensor(self, name):
        """In float64, slowest dimension first."""
        sizes, kind, at = self.tensors[name]
        count = int(np.prod(sizes))
        columns, size = {0: (1, 4), 3: (32, 20), 8: (32, 34)}[kind]
        raw = self.bytes[at : at + count // columns * size].reshape(-1, size)
        if kind == 0:
            values = np.ascontiguousarray(raw).view(np.float32)
        else:
            half = lambda first: np.ascontiguousarray(raw[:, first : first + 2]).view(np.float16).astype(np.float32)
            if kind == 8:
                values = half(0) * raw[:, 2:].view(np.int8).astype(np.float32)
            else:
                q = raw[:, 4:]
                values = half(0) * np.concatenate([q & 15, q >> 4], 1).astype(np.float32) + half(2)
        return values.astype(np.float64).reshape(sizes[::-1])


# ---- the tokenizer: for prompts of ASCII letters, digits and marks -----------------------------------


class Tokenizer:
    PIECES = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")

    def __init__(self, meta):
        tokens = meta["tokenizer.ggml.tokens"]
        self.ids = {t: i for i, t in enumerate(tokens)}
        self.rank = {tuple(m.split(" ")): i for i, m in enumerate(meta["tokenizer.ggml.merges"])}
        control = [t for t, k in zip(tokens, meta["tokenizer.ggml.token_type"]) if k == 3]
        self.control = re.compile("(" + "|".join(map(re.escape, control)) + ")")

    def piece(self, text):
        parts = [{" ": "\u0120", "\n": "\u010a"}.get(c, c) for c in text]
        while len(parts) > 1:
            ranks = [self.rank.get(pair, 1 << 30) for pair in zip(parts, parts[1:])]
            i = int(np.argmin(ranks))
            if ranks[i] == 1 << 30:
                break
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        return [self.ids[p] for p in parts]

    def encode(self, text):
        out = []
        for part in self.control.split(text):
            if self.control.fullmatch(part):
                out.append(self.ids[part])
                continue
            for digits in re.split(r"([0-9])", part):
                for piece in self.PIECES.findall(digits):
                    out += self.piece(piece)
        return out


def rendered(question):
    return (f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n"
            "<|im_start|>assistant\n")


# ---- the model ---------------------------------------------------------------------------------------


def forward(g, sequences, wanted):
    """Of a Llama model, for every sequence the logits [wanted][vocabulary] of its last tokens. Layer by
    layer, so that every tensor is made once."""
    m = lambda key: g.meta["llama." + key]
    heads, groups, width = m("attention.head_count"), m("attention.head_count_kv"), m("embedding_length")
    dim, eps = width // heads, m("attention.layer_norm_rms_epsilon")
    norm = lambda x, w: x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w

    def turn(x):  # pairs of neighbours: the rows of q and k were put in this order
        angle = np.arange(len(x))[:, None] * m("rope.freq_base") ** (-2 * np.arange(dim // 2) / dim)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        a, b = x[..., 0::2], x[..., 1::2]
        return np.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)

    def attend(h, w):
        n = len(h)
        q = turn((h @ w["attn_q"].T).reshape(n, heads, dim))
        k = np.repeat(turn((h @ w["attn_k"].T).reshape(n, groups, dim)), heads // groups, 1)
        v = np.repeat((h @ w["attn_v"].T).reshape(n, groups, dim), heads // groups, 1)
        score = np.where(np.tril(np.ones((n, n), bool)), np.einsum("ihd,jhd->hij", q, k) * dim**-0.5, -np.inf)
        p = np.exp(score - score.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        return np.einsum("hij,jhd->ihd", p, v).reshape(n, width) @ w["attn_output"].T

    def mlp(h, w):
        gate = h @ w["ffn_gate"].T
        return (gate / (1 + np.exp(-gate)) * (h @ w["ffn_up"].T)) @ w["ffn_down"].T

    embed = g.tensor("token_embd.weight")
    xs = [embed[ids] for ids in sequences]
    names = "attn_norm attn_q attn_k attn_v attn_output ffn_norm ffn_gate ffn_up ffn_down".split()
    for layer in range(m("block_count")):
        w = {name: g.tensor(f"blk.{layer}.{name}.weight") for name in names}
        xs = [x + attend(norm(x, w["attn_norm"]), w) for x in xs]
        xs = [x + mlp(norm(x, w["ffn_norm"]), w) for x in xs]
    head = g.tensor("output.weight") if "output.weight" in g.tensors else embed
    last = g.tensor("output_norm.weight")
    return [norm(x[-n:], last) @ head.T for x, n in zip(xs, wanted)]


def check_one(question, tokens, logits):
    """How many tokens have no clear margin."""
    unclear = 0
    for i, token in enumerate(tokens):
        best = logits[i].max()
        behind = best - logits[i][token]
        unclear += best - np.partition(logits[i], -2)[-2] <= CLEAR
        assert behind <= CLEAR, f"{question}: token {i} is {token}, {behind:.4f} behind {logits[i].argmax()}"
    return unclear


def main():
    if sys.argv[1] == "prompts":
        with open(sys.argv[2], "w") as f:
            for i, q in enumerate(QUESTIONS):
                f.write(json.dumps({"id": str(i), "messages": [{"role": "user", "content": q}]}) + "\n")
        return
    g = Gguf(sys.argv[2])
    t = Tokenizer(g.meta)
    done = [json.loads(line) for line in open(sys.argv[3])]
    assert len(done) == len(QUESTIONS), f"{len(done)} completions of {len(QUESTIONS)} prompts"
    prompts = [t.encode(rendered(q)) for q in QUESTIONS]
    for question, prompt, one in zip(QUESTIONS, prompts, done):
        found = one["prompt_tokens"]
        assert found == len(prompt), f"{question}: {found} tokens, {len(prompt)} wanted"
    sequences = [prompt + one["tokens"][:-1] for prompt, one in zip(prompts, done)]
    logits = forward(g, sequences, [len(one["tokens"]) for one in done])
    total = sum(len(one["tokens"]) for one in done)
    close = sum(check_one(q, one["tokens"], l) for q, one, l in zip(QUESTIONS, done, logits))
    for question, one in zip(QUESTIONS, done):
        print(f"  {question}\n    {one['text'].strip()}")
    assert total > 50 and close * 10 < total, f"{close} of {total} tokens have no clear margin"
    print(f"{total} greedy tokens equal to the float64 reference ({close} of them with a margin below {CLEAR})")


main()
