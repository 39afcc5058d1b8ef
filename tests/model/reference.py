#!/usr/bin/python3
"""The Step-3 text model in float64, written from its equations; numpy only (HDF5 output: h5py).

What the tests compare the program with. It shares no code with the program, reads config.json and
the safetensors files itself, and is slow. Nothing is rounded after the weights are read.

    reference.py logits CKPT --tokens 5,7,9 [--tokens 1,2 ...] --out FILE
        logits of every position of every sequence.
        FILE: logits float64 [T][V], tokens int32 [T], offsets int64 [sequences + 1]
        --choices FILE: int32 [layers][T][K], the experts to go by instead of the most probable ones; then
        slack float64: how far the worst of them is below the probability it would have had to reach.

    reference.py greedy CKPT --prompts PROMPTS.h5 --max-new N --out FILE [--no-stop]
    reference.py greedy CKPT --tokens 5,7,9 [--tokens ...] --max-new N --out FILE
        continues every prompt with the most probable token (equal logits: the lower token) until a
        stop token of config.json (kept, as the last one), N tokens, or the model's context.
        PROMPTS.h5: tokens int [T], offsets int [n + 1]
        FILE, per new token: tokens int32, margin float64 (largest logit minus the next), logprob
        float64; offsets int64 [n + 1]

FILE ends in .h5 or .npz (then no h5py is needed). Equations: x is a row, W a weight [out][in].

    rms(x, g)  = x / sqrt(mean(x^2) + eps) * g
    attention  q = Wq rms(Wqd h), split in heads; k = Wk h and v = Wv h, one head for all queries;
               q and k are rotated; softmax(q k^T / sqrt(D)) v over all earlier positions and this
               one; Wo of the heads' concatenation
    rotate     element j and j + D/2 of a head turn by position * theta^(-2j/D)
    mlp        Wdown (silu(Wgate h) * Wup h)
    moe        p = softmax(Wrouter h); sum over the K largest p_e * mlp_e(h), p_e divided by their
               sum when norm_expert_weight; plus the shared expert's mlp(h)
    layer      x += attention(rms(x)); x += mlp or moe (rms(x))
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np

BLOCK = 128  # rows and columns that share a scale of FP8 weights


def e4m3_values():
    """The 256 numbers of the 8-bit format: 4 bits of exponent (bias 7), 3 of mantissa, no infinity."""
    code = np.arange(256)
    exponent, mantissa = code >> 3 & 15, code & 7
    value = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10.0))
    value[(exponent == 15) & (mantissa == 7)] = np.nan
    return np.where(code & 128, -value, value)


class Checkpoint:
    """Tensors of a directory as float64, converted when they are asked for."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.tensors, self.kept = {}, {}
        for path in sorted(self.directory.glob("*.safetensors")):
            with open(path, "rb") as f:
                length = int.from_bytes(f.read(8), "little")
                header = json.loads(f.read(length))
            for name, t in header.items():
                if name != "__metadata__":
                    self.tensors[name] = (path, t["dtype"], t["shape"], 8 + length + t["data_offsets"][0])
        size = sum(path.stat().st_size for path in {t[0] for t in self.tensors.values()})
        self.keep = size < 5e8  # float64 copies of a larger model might not fit into memory
        self.fp8 = e4m3_values()

    def raw(self, name):
        path, dtype, shape, offset = self.tensors[name]
        stored = {"F32": np.float32, "BF16": np.uint16, "F8_E4M3": np.uint8, "U8": np.uint8}[dtype]
        if 0 in shape:
            return dtype, np.zeros(shape, stored)
        return dtype, np.memmap(path, stored, "r", offset, tuple(shape))

    def __call__(self, name, expert=None):
        """The whole tensor, or one matrix of a stacked one."""
        if (name, expert) in self.kept:
            return self.kept[name, expert]
        at = slice(None) if expert is None else expert
        dtype, raw = self.raw(name)
        raw = np.array(raw[at])
        if dtype == "BF16":
            value = (raw.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        elif dtype == "F8_E4M3":
            scale = np.array(self.raw(name + "_scale_inv")[1][at], np.float64)
            rows, columns = np.arange(raw.shape[0]) // BLOCK, np.arange(raw.shape[1]) // BLOCK
            value = self.fp8[raw] * scale[rows][:, columns]
        else:
            value = raw.astype(np.float64)
        if self.keep:
            self.kept[name, expert] = value
        return value

    def __contains__(self, name):
        return name in self.tensors


def silu(x):
    return x / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class Model:
    def __init__(self, directory):
        top = json.loads((Path(directory) / "config.json").read_text())
        c = top.get("text_config", top)
        self.weight = Checkpoint(directory)
        self.layers, self.heads, self.head_dim = c["num_hidden_layers"], c["num_attention_heads"], c["head_dim"]
        self.top_k, self.shared = c["moe_top_k"], c["share_expert_dim"] > 0
        self.renormalize = c.get("norm_expert_weight", False)
        self.eps = c.get("rms_norm_eps", 1e-5)
        self.context = min(c[f] for f in ("max_seq_len", "max_position_embedding") if f in c)
        self.theta = c.get("rope_theta", 500000)
        if c.get("rope_parameters"):
            self.theta = c["rope_parameters"].get("rope_theta", self.theta)
        moe = c.get("moe_layers_enum", list(range(4, 60)))
        if moe is None:
            moe = list(range(1, self.layers))
        self.moe = {int(n) for n in moe.split(",") if n} if isinstance(moe, str) else set(moe)
        tied = top.get("tie_word_embeddings", c.get("tie_word_embeddings", False))
        self.choices, self.done, self.slack = None, 0, 0.0  # given experts, rows they were used for
        self.head = "model.embed_tokens.weight" if tied else "lm_head.weight"
        eos = top.get("eos_token_id", c.get("eos_token_id"))
        self.eos = set() if eos is None else set(eos if isinstance(eos, list) else [eos])

    def rms(self, x, gain):
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.eps) * self.weight(gain)

    def rotate(self, x, positions):
        """x [T][...][D]"""
        half = self.head_dim // 2
        angle = positions[:, None] * self.theta ** (-2.0 * np.arange(half) / self.head_dim)
        angle = angle.reshape(len(x), *[1] * (x.ndim - 2), half)
        a, b, cos, sin = x[..., :half], x[..., half:], np.cos(angle), np.sin(angle)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def attention(self, at, h, cache):
        """h [T][H]: rows that follow those in the cache (a list of k and v of every earlier call)."""
        w, rows = self.weight, len(h)
        seen = sum(len(k) for k, _ in cache)
        positions = np.arange(seen, seen + rows, dtype=np.float64)
        q = self.rms(h @ w(at + "q_proj.weight").T, at + "inter_norm.weight") @ w(at + "wq.weight").T
        q = self.rotate(q.reshape(rows, self.heads, self.head_dim), positions)
        k = self.rotate(h @ w(at + "k_proj.weight").T, positions)
        cache.append((k, h @ w(at + "v_proj.weight").T))
        keys, values = (np.concatenate(part) for part in zip(*cache))
        score = np.einsum("thd,sd->ths", q, keys) / np.sqrt(self.head_dim)
        future = np.arange(seen + rows)[None, :] > positions[:, None]
        score[np.broadcast_to(future[:, None, :], score.shape)] = -np.inf
        out = np.einsum("ths,sd->thd", softmax(score), values)
        return out.reshape(rows, -1) @ w(at + "o_proj.weight").T

    def mlp(self, at, h, expert=None):
        gate, up, down = (self.weight(f"{at}{part}_proj.weight", expert) for part in ("gate", "up", "down"))
        return (silu(h @ gate.T) * (h @ up.T)) @ down.T

    def experts(self, n, h):
        at = f"model.layers.{n}.moe."
        p = softmax(h @ self.weight(at + "gate.weight").T)
        chosen = best = np.argsort(-p, axis=-1, kind="stable")[:, : self.top_k]
        if self.choices is not None:
            chosen = self.choices[n, self.done:self.done + len(h)]
            assert all(len(set(row)) == self.top_k for row in chosen), "an expert twice"
            lacks = [np.take_along_axis(p, c, axis=-1).min(axis=-1) for c in (best, chosen)]
            self.slack = max(self.slack, (lacks[0] - lacks[1]).max())
        weight = np.take_along_axis(p, chosen, axis=-1)
        if self.renormalize:
            weight = weight / weight.sum(axis=-1, keepdims=True)
        out = np.zeros_like(h)
        for e in np.unique(chosen):
            row, place = np.nonzero(chosen == e)
            out[row] += weight[row, place][:, None] * self.mlp(at, h[row], e)
        return out

    def forward(self, tokens, caches):
        """Logits [T][V] of tokens that follow what is in caches (one list per layer, grown here)."""
        x = self.weight("model.embed_tokens.weight")[np.asarray(tokens)]
        for n in range(self.layers):
            layer = f"model.layers.{n}."
            x = x + self.attention(layer + "self_attn.", self.rms(x, layer + "input_layernorm.weight"), caches[n])
            h = self.rms(x, layer + "post_attention_layernorm.weight")
            if n not in self.moe:
                x = x + self.mlp(layer + "mlp.", h)
            else:
                x = x + self.experts(n, h)
                if self.shared:
                    x = x + self.mlp(layer + "share_expert.", h)
        return self.rms(x, "model.norm.weight") @ self.weight(self.head).T

    def logits(self, tokens):
        logits = self.forward(tokens, [[] for _ in range(self.layers)])
        self.done += len(tokens)
        return logits

    def greedy(self, prompt, max_new, stop):
        """New tokens, their margins and logprobs."""
        caches = [[] for _ in range(self.layers)]
        rows, made = list(prompt), []
        while len(made) < max_new and len(prompt) + len(made) < self.context:
            last = self.forward(rows, caches)[-1]
            token = int(np.argmax(last))  # the first of equals
            others = np.delete(last, token)
            logprob = last[token] - last.max() - np.log(np.exp(last - last.max()).sum())
            made.append((token, last[token] - others.max() if len(others) else np.inf, logprob))
            rows = [token]
            if token in stop:
                break
        return made


def read_prompts(args):
    if args.tokens:
        return [[int(t) for t in text.split(",")] for text in args.tokens]
    import h5py

    with h5py.File(args.prompts, "r") as f:
        if "tokens" not in f or "offsets" not in f:
            sys.exit(f"{args.prompts}: has no tokens and offsets; this reference has no tokenizer")
        tokens, offsets = f["tokens"][:], f["offsets"][:]
    return [list(map(int, tokens[a:b])) for a, b in zip(offsets[:-1], offsets[1:])]


def write(path, **arrays):
    if path.endswith(".npz"):
        np.savez(path, **arrays)
        return
    import h5py

    with h5py.File(path, "w") as f:
        for name, array in arrays.items():
            f[name] = array


def main():
    parser = argparse.ArgumentParser(description="Step-3 in float64, for tests")
    parser.add_argument("what", choices=["logits", "greedy"])
    parser.add_argument("checkpoint")
    parser.add_argument("--tokens", action="append", help="one sequence: 5,7,9; may be repeated")
    parser.add_argument("--prompts", help="HDF5 file with tokens and offsets")
    parser.add_argument("--max-new", type=int, default=16)
    parser.add_argument("--no-stop", action="store_true", help="greedy: stop tokens do not end anything")
    parser.add_argument("--choices", help="logits: experts to go by")
    parser.add_argument("--out", required=True, help=".h5 or .npz")
    args = parser.parse_args()
    if bool(args.tokens) == bool(args.prompts):
        parser.error("give either --tokens or --prompts")
    model, prompts = Model(args.checkpoint), read_prompts(args)

    if args.what == "logits":
        if args.choices:
            given = np.fromfile(args.choices, np.int32)
            model.choices = given.reshape(model.layers, sum(map(len, prompts)), model.top_k)
        logits = [model.logits(p) for p in prompts]
        write(args.out, slack=np.array([model.slack]), logits=np.concatenate(logits), tokens=np.concatenate(prompts).astype(np.int32),
              offsets=np.cumsum([0] + [len(p) for p in prompts]).astype(np.int64))
        return
    made = [model.greedy(p, args.max_new, set() if args.no_stop else model.eos) for p in prompts]
    columns = list(zip(*(token for tokens in made for token in tokens))) or [[], [], []]
    write(args.out, tokens=np.array(columns[0], np.int32), margin=np.array(columns[1], np.float64),
          logprob=np.array(columns[2], np.float64),
          offsets=np.cumsum([0] + [len(t) for t in made]).astype(np.int64))


if __name__ == "__main__":
    main()
