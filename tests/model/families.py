#!/usr/bin/python3
"""Model families in float64, written from their equations; numpy only (HDF5 output: h5py).

What the tests compare the program with, for every family but Step-3 (reference.py). It shares no
code with the program: reads config.json and the safetensors files itself, has no KV cache, and
expands MLA's keys and values instead of absorbing them. Nothing is rounded after the weights are
read.

    families.py CKPT --tokens 5,7,9 [--tokens 1,2 ...] --out FILE.h5
        logits float64 [T][V] of every position of every sequence.
    --drafts N: the last N tokens of a sequence are only looked ahead at, by MTP layers; behind the logits of the
        model those of their drafts 0 to N - 1 follow.
    --choices FILE: int32 [layers][T][K], the experts to go by instead of those with the best scores; then
        slack float64: how far the worst of them is below the scores (or marks of groups) it would have had to reach.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from reference import Checkpoint  # noqa: E402  (reading safetensors, nothing of a model)


def rms(x, gain, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * gain


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    p = np.exp(x - x.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def frequencies(dim, theta, scaling):
    """Radians a position for every pair, and the factor of cos and sin."""
    f = theta ** (-np.arange(0, dim, 2) / dim)
    kind = (scaling or {}).get("rope_type", (scaling or {}).get("type", "default"))
    if kind == "llama3":
        long, waves = scaling["original_max_position_embeddings"], 2 * np.pi / f
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        mid = (long / waves - low) / (high - low)
        g = np.where(waves > long / low, f / scaling["factor"],
                     np.where(waves < long / high, f, (1 - mid) * f / scaling["factor"] + mid * f))
        return g, 1.0
    if kind == "yarn":
        long, factor = scaling["original_max_position_embeddings"], scaling["factor"]

        def pair(turns):
            return dim * np.log(long / (turns * 2 * np.pi)) / (2 * np.log(theta))

        low, high = pair(scaling.get("beta_fast", 32)), pair(scaling.get("beta_slow", 1))
        if scaling.get("truncate", True):
            low, high = np.floor(low), np.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 1e-3), 0, 1)
        g = f / factor * ramp + f * (1 - ramp)

        def growth(m):
            return 0.1 * m * np.log(factor) + 1 if factor > 1 else 1.0

        a, b = scaling.get("mscale"), scaling.get("mscale_all_dim")
        return g, growth(a) / growth(b) if a and b else growth(1)
    assert kind == "default", kind
    return f, 1.0


def turn(x, freq, magnitude, neighbors=False):
    """x [T][heads][D]: the first 2 len(freq) numbers of every head by their position."""
    n = len(freq)
    angle = np.arange(len(x))[:, None] * freq
    c, s = np.cos(angle)[:, None] * magnitude, np.sin(angle)[:, None] * magnitude
    y = x.copy()
    a, b = (slice(0, 2 * n, 2), slice(1, 2 * n, 2)) if neighbors else (slice(0, n), slice(n, 2 * n))
    y[..., a] = x[..., a] * c - x[..., b] * s
    y[..., b] = x[..., b] * c + x[..., a] * s
    return y


def attend(q, k, v, scale, window=None, sinks=None):
    """q [T][h][D], k [T][g][D], v [T][g][Dv]; head h uses group h / (heads / groups); sinks [h]: scores of nothing."""
    t, heads = q.shape[:2]
    each = heads // k.shape[1]
    i, j = np.arange(t)[:, None], np.arange(t)[None, :]
    seen = (j <= i) & (i - j < (window or t + 1))
    out = np.empty((t, heads, v.shape[2]))
    for h in range(heads):
        s = np.where(seen, q[:, h] @ k[:, h // each].T * scale, -np.inf)
        if sinks is not None:
            s = np.concatenate([s, np.full((t, 1), sinks[h])], axis=1)
        out[:, h] = softmax(s)[:, :t] @ v[:, h // each]
    return out.reshape(t, -1)


E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def mxfp4(blocks, scales):
    """[..][groups][16 bytes], [..][groups] -> [..][32 groups]: the low half of a byte comes first."""
    codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:-1], 32)
    values = np.where(codes & 8, -1, 1) * E2M1[codes & 7]
    return (values * 2.0 ** (scales.astype(float)[..., None] - 127)).reshape(*blocks.shape[:-2], -1)


class Model:
    def __init__(self, directory):
        self.w = Checkpoint(directory)
        self.c = json.loads((Path(directory) / "config.json").read_text())
        self.kind = self.c["model_type"]
        self.eps = self.c["rms_norm_eps"]
        self.offset = 1 if self.kind == "step3p5" else 0
        self.choices, self.at, self.slack = None, 0, 0.0

    def get(self, name):
        return self.w(name)

    def norm(self, x, name):
        return rms(x, self.offset + self.get(name), self.eps)

    def head_norm(self, x, name):
        return rms(x, self.offset + self.get(name), self.eps)

    # ---- attention ---------------------------------------------------------------------------

    def shape(self, l):
        """heads, groups, D, window, what turns, theta, scaling of layer l."""
        c = self.c
        heads = c["num_attention_heads"]
        groups = c.get("num_attention_groups", c.get("num_key_value_heads", heads))
        dim = c.get("head_dim") or c["hidden_size"] // heads
        if self.kind == "step3p5":
            full = c["layer_types"][l] == "full_attention"
            if not full:
                o = c["attention_other_setting"]
                heads, groups = o["num_attention_heads"], o["num_attention_groups"]
            part = int(dim * c["partial_rotary_factors"][l])
            stretched = "yarn_only_types" not in c or full
            return (heads, groups, dim, None if full else c["sliding_window"], part, c["rope_theta"][l],
                    c.get("rope_scaling") if stretched else None)
        if self.kind == "gpt_oss" and c["layer_types"][l] == "sliding_attention":
            return heads, groups, dim, c["sliding_window"], dim, c["rope_theta"], c.get("rope_scaling")
        part = c.get("rotary_dim", int(dim * c.get("partial_rotary_factor", 1)))
        return heads, groups, dim, None, part, c["rope_theta"], c.get("rope_scaling")

    def qkv(self, h, l):
        p = f"model.layers.{l}.self_attn."
        heads, groups, dim, window, part, theta, scaling = self.shape(l)
        t = len(h)

        def project(which):
            y = h @ self.get(p + f"{which}_proj.weight").T
            return y + self.get(p + f"{which}_proj.bias") if self.c.get("attention_bias") else y

        q, k, v = project("q"), project("k"), project("v")
        if self.kind == "minimax_m2":
            q, k = self.norm(q, p + "q_norm.weight"), self.norm(k, p + "k_norm.weight")
        q, k, v = q.reshape(t, heads, dim), k.reshape(t, groups, dim), v.reshape(t, groups, dim)
        if self.kind != "minimax_m2" and p + "q_norm.weight" in self.w.tensors:
            q, k = self.norm(q, p + "q_norm.weight"), self.norm(k, p + "k_norm.weight")
        freq, magnitude = frequencies(part, theta, scaling)
        sinks = self.get(p + "sinks") if self.kind == "gpt_oss" else None
        o = attend(turn(q, freq, magnitude), turn(k, freq, magnitude), v, dim**-0.5, window, sinks)
        if self.kind == "step3p5":
            gate = sigmoid(h @ self.get(p + "g_proj.weight").T)
            o = (o.reshape(t, heads, dim) * gate[:, :, None]).reshape(t, -1)
        o = o @ self.get(p + "o_proj.weight").T
        return o + self.get(p + "o_proj.bias") if self.kind == "gpt_oss" else o

    def mla(self, h, l):
        c, p, t = self.c, f"model.layers.{l}.self_attn.", len(h)
        heads, rank = c["num_attention_heads"], c["kv_lora_rank"]
        nope, rope, dv = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        if c["q_lora_rank"]:
            low = self.norm(h @ self.get(p + "q_a_proj.weight").T, p + "q_a_layernorm.weight")
            q = low @ self.get(p + "q_b_proj.weight").T
        else:
            q = h @ self.get(p + "q_proj.weight").T
        q = q.reshape(t, heads, nope + rope)
        down = h @ self.get(p + "kv_a_proj_with_mqa.weight").T
        latent = self.norm(down[:, :rank], p + "kv_a_layernorm.weight")
        up = (latent @ self.get(p + "kv_b_proj.weight").T).reshape(t, heads, nope + dv)
        scaling = c.get("rope_scaling")
        freq, magnitude = frequencies(rope, c["rope_theta"], scaling)
        key = turn(down[:, None, rank:], freq, magnitude, neighbors=True)
        turned = turn(q[..., nope:], freq, magnitude, neighbors=True)
        k = np.concatenate([up[..., :nope], np.broadcast_to(key, (t, heads, rope))], axis=-1)
        scale = (nope + rope) ** -0.5
        if scaling and scaling.get("mscale_all_dim"):
            scale *= (0.1 * scaling["mscale_all_dim"] * np.log(scaling["factor"]) + 1) ** 2
        o = attend(np.concatenate([q[..., :nope], turned], axis=-1), k, up[..., nope:], scale)
        return o @ self.get(p + "o_proj.weight").T

    # ---- feed-forward ------------------------------------------------------------------------

    @staticmethod
    def swiglu(h, gate, up, down, limit=None):
        a, b = h @ gate.T, h @ up.T
        a = a * sigmoid(a)
        if limit:
            a, b = np.minimum(a, limit), np.clip(b, -limit, limit)
        return (a * b) @ down.T

    def mlp(self, h, prefix, limit=None):
        return self.swiglu(h, *(self.get(f"{prefix}{n}_proj.weight") for n in ("gate", "up", "down")), limit)

    def clamped(self, h, p, e):
        """An expert of gpt-oss: gate and up are rows in turn, of MXFP4 or of numbers with inputs as rows."""
        def get(name):
            w = self.w(p + name, e).T if p + name in self.w.tensors else mxfp4(np.array(self.w.raw(f"{p}{name}_blocks")[1][e]), np.array(self.w.raw(f"{p}{name}_scales")[1][e]))
            return w, self.get(f"{p}{name}_bias")[e]

        limit, alpha = self.c.get("swiglu_limit", 7.0), self.c.get("swiglu_alpha", 1.702)
        (both, bias), (down, down_bias) = get("gate_up_proj"), get("down_proj")
        y = h @ both.T + bias
        a, b = np.minimum(y[:, ::2], limit), np.clip(y[:, 1::2], -limit, limit)
        return (a * sigmoid(alpha * a) * (b + 1)) @ down.T + down_bias

    def expert(self, h, l, e, limit):
        p = f"model.layers.{l}."
        if self.kind == "gpt_oss":
            return self.clamped(h, p + "mlp.experts.", e)
        if self.kind == "step3p5":
            return self.swiglu(h, *(self.w(f"{p}moe.{n}_proj.weight", e) for n in ("gate", "up", "down")), limit)
        if self.kind == "minimax_m2":
            p += f"block_sparse_moe.experts.{e}."
            return self.swiglu(h, self.get(p + "w1.weight"), self.get(p + "w3.weight"), self.get(p + "w2.weight"))
        return self.mlp(h, f"{p}mlp.experts.{e}.")

    def route(self, h, l):
        """Chosen experts [T][K] and their weights."""
        c, p = self.c, f"model.layers.{l}."
        name = {"step3p5": "moe.gate.weight", "minimax_m2": "block_sparse_moe.gate.weight",
                "gpt_oss": "mlp.router.weight"}.get(self.kind, "mlp.gate.weight")
        k = c.get("moe_top_k", c.get("num_experts_per_tok"))
        z = h @ self.get(p + name).T
        if self.kind == "gpt_oss":
            s = choice = softmax(z + self.get(p + "mlp.router.bias"))
            factor, renormalize = 1.0, True
        elif self.kind == "qwen3_moe":
            s = choice = softmax(z)
            factor, renormalize = 1.0, c["norm_topk_prob"]
        else:
            bias = {"step3p5": "moe.router_bias",
                    "minimax_m2": "block_sparse_moe.e_score_correction_bias"}.get(
                        self.kind, "mlp.gate.e_score_correction_bias")
            s = sigmoid(z)
            choice = s + self.get(p + bias)
            factor = c.get("moe_router_scaling_factor", c.get("routed_scaling_factor", 1.0))
            renormalize = c.get("norm_topk_prob", True)
        ids = self.choose(choice, k, l)
        weights = np.take_along_axis(s, ids, axis=1)
        if renormalize:
            weights = weights / weights.sum(axis=1, keepdims=True)
        return ids, weights * factor

    def choose(self, choice, k, l):
        """The k best of the best groups, or those that were given; what these lack is remembered."""
        c, given = self.c, None
        if self.choices is not None:
            given = self.choices[l, self.at:self.at + len(choice), :k]
        groups = c.get("n_group", 1)
        if groups > 1:
            runs = choice.reshape(len(choice), groups, -1)
            mark = np.sort(runs, axis=-1)[..., -2:].sum(axis=-1)
            wish = mark.copy()
            if given is not None:  # groups of the given ones are open, and the best others beside them
                np.put_along_axis(wish, given // runs.shape[2], np.inf, axis=1)
            best = np.argsort(-wish, axis=-1, kind="stable")[:, : c["topk_group"]]
            worst = np.take_along_axis(mark, best, axis=1).min(axis=1)
            self.lacks(np.sort(mark, axis=1)[:, -c["topk_group"]] - worst)
            open_ = np.zeros((len(choice), groups), bool)
            np.put_along_axis(open_, best, True, axis=1)
            choice = np.where(np.repeat(open_, runs.shape[2], axis=1), choice, -np.inf)
        if given is not None:
            assert all(len(set(row)) == k for row in given), "an expert twice"
            worst = np.take_along_axis(choice, given, axis=1).min(axis=1)
            self.lacks(np.sort(choice, axis=1)[:, -k] - worst)
            return given
        return np.argsort(-choice, axis=-1, kind="stable")[:, :k]

    def lacks(self, amounts):
        self.slack = max(self.slack, amounts.max())

    def ffn(self, h, l):
        p, c = f"model.layers.{l}.", self.c

        def limit(name):
            values = c.get(name) or []
            return values[l] if l < len(values) else None

        if p + "mlp.gate_proj.weight" in self.w.tensors:
            return self.mlp(h, p + "mlp.", limit("swiglu_limits_shared"))
        ids, weights = self.route(h, l)
        out = np.zeros_like(h)
        for e in np.unique(ids):
            rows, at = np.nonzero(ids == e)
            out[rows] += weights[rows, at][:, None] * self.expert(h[rows], l, e, limit("swiglu_limits"))
        for shared in ("share_expert.", "mlp.shared_experts."):
            if p + shared + "gate_proj.weight" in self.w.tensors:
                out += self.mlp(h, p + shared, limit("swiglu_limits_shared"))
        return out

    def logits(self, tokens, drafts=0):
        """Of one sequence, a list, the model's first; choices are those of the sequences in turn."""
        count = len(tokens) - drafts
        embed = self.get("model.embed_tokens.weight")
        x = embed[tokens[:count]]
        for l in range(self.c["num_hidden_layers"]):
            x = self.layer(x, l)
        head = self.get("model.embed_tokens.weight" if self.c.get("tie_word_embeddings") else "lm_head.weight")
        self.at += count
        last = self.norm(x, "model.norm.weight")
        return [last @ head.T] + self.draft(x, last, [embed[tokens[i + 1:][:count]] for i in range(drafts)], head)

    def layer(self, x, l):
        p = f"model.layers.{l}."
        h = self.norm(x, p + "input_layernorm.weight")
        x = x + (self.mla(h, l) if self.kind == "deepseek_v3" else self.qkv(h, l))
        return x + self.ffn(self.norm(x, p + "post_attention_layernorm.weight"), l)

    def draft(self, x, normed, embeddings, head):
        """Logits of the chain of MTP layers; x, normed: the model's last hidden states, before and behind its norm."""
        logits = []
        for i, e in enumerate(embeddings):
            l = self.c["num_hidden_layers"] + min(i, self.c["num_nextn_predict_layers"] - 1)
            p = f"model.layers.{l}."
            own = self.kind == "step3p5"
            both = [self.norm(e, p + "enorm.weight"), self.norm(x if own else normed, p + "hnorm.weight")]
            x = self.layer(np.concatenate(both, axis=1) @ self.get(p + "eh_proj.weight").T, l)
            shared = p + ("transformer." if own else "") + "shared_head."
            normed = self.norm(x, shared + "norm.weight")
            logits.append(normed @ (self.get(shared + "output.weight") if own else head).T)
        return logits


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--tokens", action="append", required=True)
    parser.add_argument("--choices")
    parser.add_argument("--drafts", type=int, default=0)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    model = Model(args.checkpoint)
    sequences = [[int(t) for t in s.split(",")] for s in args.tokens]
    if args.choices:
        given = np.fromfile(args.choices, np.int32)
        model.choices = given.reshape(model.c["num_hidden_layers"], sum(map(len, sequences)), -1)
    logits = np.concatenate([np.concatenate(which) for which in zip(*(model.logits(s, args.drafts) for s in sequences))])
    import h5py
    with h5py.File(args.out, "w") as f:
        f["logits"] = logits
        f["slack"] = [model.slack]


if __name__ == "__main__":
    main()
