#!/usr/bin/env python3
"""Checks reference.py against a second implementation, written with PyTorch operations and laid out
like the public modelling code: modules, cos and sin of concatenated frequencies, repeated key
heads, causal mask, topk and one_hot for the experts, safetensors' own reader.

    torch_reference.py CKPT ... [--tokens 5,7,9] [--dtype float64|float32|bfloat16]

Prints for every checkpoint the largest difference of logits, relative to the largest logit. With
float64 it must be below 1e-9, or the exit status is 1; the other formats show what rounding does.
Needs torch and safetensors: without them it says SKIPPED and exits with 77.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np

try:
    import torch
    import torch.nn.functional as F
    from safetensors import safe_open
    from torch import nn
except ImportError as missing:
    print(f"SKIPPED: torch_reference.py needs torch and safetensors ({missing})")
    sys.exit(77)

sys.path.insert(0, str(Path(__file__).parent))
import reference


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        wide = x if x.dtype == torch.float64 else x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


def rotate_half(x):
    left, right = x.chunk(2, dim=-1)
    return torch.cat((-right, left), dim=-1)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.dim = c["num_attention_heads"], c["head_dim"]
        linear = lambda a, b: nn.Linear(a, b, bias=False)
        self.q_proj, self.wq = linear(c["hidden_size"], c["share_q_dim"]), linear(c["share_q_dim"], self.heads * self.dim)
        self.k_proj, self.v_proj = linear(c["hidden_size"], self.dim), linear(c["hidden_size"], self.dim)
        self.inter_norm = RMSNorm(c["share_q_dim"], c["rms_norm_eps"])
        self.o_proj = linear(self.heads * self.dim, c["hidden_size"])

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        q = self.wq(self.inter_norm(self.q_proj(x))).view(batch, length, self.heads, self.dim).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, 1, self.dim).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, 1, self.dim).transpose(1, 2)
        q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
        y = F.scaled_dot_product_attention(q, k.expand_as(q), v.expand_as(q), is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))


class MLP(nn.Module):
    def __init__(self, hidden, inner):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(hidden, inner, bias=False), nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Stack(nn.Module):
    def __init__(self, experts, outputs, inputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, outputs, inputs))


class MoE(nn.Module):
    def __init__(self, c):
        super().__init__()
        hidden, inner, self.experts = c["hidden_size"], c["moe_intermediate_size"], c["moe_num_experts"]
        self.top_k, self.renormalize = c["moe_top_k"], c.get("norm_expert_weight", False)
        self.gate = nn.Linear(hidden, self.experts, bias=False)
        self.gate_proj, self.up_proj = Stack(self.experts, inner, hidden), Stack(self.experts, inner, hidden)
        self.down_proj = Stack(self.experts, hidden, inner)

    def forward(self, x):
        shape, x = x.shape, x.reshape(-1, x.shape[-1])
        p = F.softmax(self.gate(x), dim=-1, dtype=x.dtype if x.dtype == torch.float64 else torch.float32)
        weight, index = torch.topk(p, self.top_k, dim=-1)
        if self.renormalize:
            weight = weight / weight.sum(-1, keepdim=True)
        mask = F.one_hot(index, self.experts).permute(2, 1, 0)  # [expert][choice][row]
        out = torch.zeros_like(x)
        for e in range(self.experts):
            choice, row = torch.where(mask[e])
            h = x[row]
            y = F.silu(h @ self.gate_proj.weight[e].T) * (h @ self.up_proj.weight[e].T)
            out.index_add_(0, row, (y @ self.down_proj.weight[e].T) * weight[row, choice, None].to(x.dtype))
        return out.view(shape)


class Layer(nn.Module):
    def __init__(self, c, sparse):
        super().__init__()
        hidden = c["hidden_size"]
        self.input_layernorm, self.post_attention_layernorm = (RMSNorm(hidden, c["rms_norm_eps"]) for _ in range(2))
        self.self_attn, self.sparse = Attention(c), sparse
        if sparse:
            self.moe = MoE(c)
            self.share_expert = MLP(hidden, c["share_expert_dim"]) if c["share_expert_dim"] else None
        else:
            self.mlp = MLP(hidden, c["intermediate_size"])

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        h = self.post_attention_layernorm(x)
        if not self.sparse:
            return x + self.mlp(h)
        return x + (self.moe(h) + (self.share_expert(h) if self.share_expert else 0))


class Step3(nn.Module):
    def __init__(self, c):
        super().__init__()
        moe = {int(n) for n in c["moe_layers_enum"].split(",") if n}
        self.config, self.model = c, nn.Module()
        self.model.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.model.layers = nn.ModuleList(Layer(c, n in moe) for n in range(c["num_hidden_layers"]))
        self.model.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.lm_head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)
        if c["tie_word_embeddings"]:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, tokens):
        x, dim = self.model.embed_tokens(tokens), self.config["head_dim"]
        wide = x.dtype if x.dtype == torch.float64 else torch.float32
        inv_freq = 1.0 / self.config["rope_theta"] ** (torch.arange(0, dim, 2, dtype=wide) / dim)
        freqs = torch.outer(torch.arange(tokens.shape[1], dtype=wide), inv_freq)
        angle = torch.cat((freqs, freqs), dim=-1)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.model.norm(x))


def load(directory, dtype):
    config = json.loads((Path(directory) / "config.json").read_text())
    model, state = Step3(config).to(dtype), {}
    for path in Path(directory).glob("*.safetensors"):
        with safe_open(path, "pt") as f:
            state.update({name: f.get_tensor(name) for name in f.keys()})
    for name in [n for n in state if n.endswith("_scale_inv")]:
        scale, weight = state.pop(name).double(), state[name[: -len("_scale_inv")]]
        scale = scale.repeat_interleave(128, -2).repeat_interleave(128, -1)
        rows, columns = weight.shape[-2:]
        state[name[: -len("_scale_inv")]] = weight.double() * scale[..., :rows, :columns]
    if config["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()})
    return model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--tokens", help="default: 40 tokens by a fixed rule")
    parser.add_argument("--dtype", default="float64")
    args = parser.parse_args()
    worst = 0.0
    for directory in args.checkpoints:
        model = load(directory, getattr(torch, args.dtype))
        vocab = model.config["vocab_size"]
        tokens = [(7 * i * i + 3) % vocab for i in range(40)]
        if args.tokens:
            tokens = [int(t) for t in args.tokens.split(",")]
        with torch.no_grad():
            found = model(torch.tensor([tokens]))[0].double().numpy()
        wanted = reference.Model(directory).logits(tokens)
        difference = np.abs(found - wanted).max() / np.abs(wanted).max()
        print(f"{directory}: {args.dtype}, {len(tokens)} tokens: {difference:.3g}")
        worst = max(worst, difference) if not np.isnan(difference) else np.inf
    return 0 if args.dtype != "float64" or worst < 1e-9 else 1


if __name__ == "__main__":
    sys.exit(main())
