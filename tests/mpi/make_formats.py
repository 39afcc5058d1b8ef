#!/usr/bin/env python3
"""make_formats.py DIRECTORY - random models in several formats, for formats.sh.

DIRECTORY/model.gguf    GGUF: Q8_0, Q4_0, Q4_1, F16 and F32 mixed, experts stacked
DIRECTORY/gguf          its numbers, decoded here, as F32 safetensors
DIRECTORY/latent.gguf   DeepSeek-V3 in GGUF, with heads' matrices of their own; latent-old.gguf: with attn_kv_b
DIRECTORY/latent        its numbers
DIRECTORY/prompts.h5    prompts of tokens
"""

import json
import os
import struct
import sys

import h5py
import numpy as np

HIDDEN, HEADS, GROUPS, DIM, LAYERS, VOCAB, EXPERTS, INTER = 64, 4, 2, 32, 2, 90, 4, 128
random = np.random.default_rng(11)


def shapes():
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for l in range(LAYERS):
        p = f"model.layers.{l}."
        for name, shape in (("input_layernorm", (HIDDEN,)), ("self_attn.q_proj", (HEADS * DIM, HIDDEN)),
                            ("self_attn.k_proj", (GROUPS * DIM, HIDDEN)), ("self_attn.v_proj", (GROUPS * DIM, HIDDEN)),
                            ("self_attn.o_proj", (HIDDEN, HEADS * DIM)), ("self_attn.q_norm", (DIM,)),
                            ("self_attn.k_norm", (DIM,)), ("post_attention_layernorm", (HIDDEN,)),
                            ("mlp.gate", (EXPERTS, HIDDEN))):
            yield f"{p}{name}.weight", shape
        for e in range(EXPERTS):
            for name, shape in (("gate", (INTER, HIDDEN)), ("up", (INTER, HIDDEN)), ("down", (HIDDEN, INTER))):
                yield f"{p}mlp.experts.{e}.{name}_proj.weight", shape
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCAB, HIDDEN)


def values(shape):
    if len(shape) == 1:
        return (1 + 0.2 * random.standard_normal(shape)).astype(np.float32)
    return (random.standard_normal(shape) * 1.5 / np.sqrt(shape[-1])).astype(np.float32)


CONFIG = dict(model_type="qwen3_moe", hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
              num_key_value_heads=GROUPS, head_dim=DIM, vocab_size=VOCAB, num_experts=EXPERTS,
              num_experts_per_tok=2, moe_intermediate_size=INTER, intermediate_size=INTER, norm_topk_prob=True,
              decoder_sparse_step=1, mlp_only_layers=[], rms_norm_eps=1e-6, rope_theta=10000.0,
              max_position_embeddings=256, tie_word_embeddings=False, hidden_act="silu")


def write_safetensors(path, tensors, **config):
    os.makedirs(path)
    names = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16"}
    header, data = {}, b""
    for name, t in tensors.items():
        bytes_ = np.ascontiguousarray(t).tobytes()
        header[name] = dict(dtype=names[t.dtype], shape=t.shape, data_offsets=[len(data), len(data) + len(bytes_)])
        data += bytes_
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path + "/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    with open(path + "/config.json", "w") as f:
        json.dump({k: v for k, v in {**CONFIG, **config}.items() if v is not None}, f)


# ---- GGUF ------------------------------------------------------------------------------------------


def blocks(w, kind):
    """Bytes and the numbers they mean, of an array whose rows are multiples of 32."""
    if kind == 0:
        return w.tobytes(), w
    if kind == 1:
        return w.astype(np.float16).tobytes(), w.astype(np.float16).astype(np.float32)
    b = w.reshape(-1, 32)
    low, most = b.min(1, keepdims=True), np.abs(b).max(1, keepdims=True)
    d = (most / 127 if kind == 8 else most / 7 if kind == 2 else (b.max(1, keepdims=True) - low) / 15).astype(np.float16)
    step, m = d.astype(np.float32), low.astype(np.float16)
    if kind == 8:
        q = np.clip(np.rint(b / step), -128, 127).astype(np.int8)
        return np.concatenate([d.view(np.uint8), q.view(np.uint8)], 1).tobytes(), (step * q).reshape(w.shape)
    shift = 8 if kind == 2 else 0
    q = np.clip(np.rint((b if kind == 2 else b - m.astype(np.float32)) / step) + shift, 0, 15).astype(np.uint8)
    nibbles = q[:, :16] | q[:, 16:] << 4
    head = [d.view(np.uint8)] + ([m.view(np.uint8)] if kind == 3 else [])
    means = step * (q.astype(np.float32) - 8) if kind == 2 else step * q + m.astype(np.float32)
    return np.concatenate(head + [nibbles], 1).tobytes(), means.astype(np.float32).reshape(w.shape)


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def pair(key, value):
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, float):
        return text(key) + struct.pack("<If", 6, value)
    if isinstance(value, list):
        kind = 8 if not value or isinstance(value[0], str) else 5
        body = b"".join(text(v) if kind == 8 else struct.pack("<i", v) for v in value)
        return text(key) + struct.pack("<IIQ", 9, kind, len(value)) + body
    return text(key) + struct.pack("<II", 4, value)


GGUF_NAMES = {"input_layernorm": ("attn_norm", 0), "self_attn.q_proj": ("attn_q", 2), "self_attn.k_proj": ("attn_k", 3),
              "self_attn.v_proj": ("attn_v", 8), "self_attn.o_proj": ("attn_output", 1), "self_attn.q_norm": ("attn_q_norm", 0),
              "self_attn.k_norm": ("attn_k_norm", 0), "post_attention_layernorm": ("ffn_norm", 0), "mlp.gate": ("ffn_gate_inp", 0)}


def write_file(path, arch, listed, meta):
    meta = {"general.architecture": arch, **{arch + "." + k: v for k, v in meta.items()},
            "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.merges": [],
            "tokenizer.ggml.tokens": [chr(33 + i) for i in range(VOCAB)], "tokenizer.ggml.token_type": [1] * VOCAB}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(meta)) + b"".join(pair(k, v) for k, v in meta.items())
    data = b""
    for name, shape, kind, raw in listed:
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack("<%dQ" % len(shape), *shape[::-1])
        head += struct.pack("<IQ", kind, len(data))
        data += raw + b"\0" * (-len(raw) % 32)
    with open(path, "wb") as f:
        f.write(head + b"\0" * (-len(head) % 32) + data)


def write_gguf(directory):
    tensors = {name: values(shape) for name, shape in shapes()}
    listed, means = [], {}

    def put(name, arrays, kind):
        made = [blocks(a, kind) for _, a in arrays]
        for (hf, _), (_, m) in zip(arrays, made):
            means[hf] = m
        shape = arrays[0][1].shape if len(arrays) == 1 else (len(arrays), *arrays[0][1].shape)
        listed.append((name, shape, kind, b"".join(b for b, _ in made)))

    one = lambda name: [(name, tensors[name])]
    put("token_embd.weight", one("model.embed_tokens.weight"), 8)
    put("output.weight", one("lm_head.weight"), 8)
    put("output_norm.weight", one("model.norm.weight"), 0)
    for l in range(LAYERS):
        p = f"model.layers.{l}."
        for hf, (name, kind) in GGUF_NAMES.items():
            put(f"blk.{l}.{name}.weight", one(f"{p}{hf}.weight"), kind)
        for name, kind in (("gate", 2), ("up", 3), ("down", 8 if l else 3)):
            stack = [f"{p}mlp.experts.{e}.{name}_proj.weight" for e in range(EXPERTS)]
            put(f"blk.{l}.ffn_{name}_exps.weight", [(s, tensors[s]) for s in stack], kind)
    arch = {"block_count": LAYERS, "context_length": 256, "embedding_length": HIDDEN, "feed_forward_length": INTER,
            "attention.head_count": HEADS, "attention.head_count_kv": GROUPS, "attention.key_length": DIM,
            "attention.value_length": DIM, "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 10000.0,
            "expert_count": EXPERTS, "expert_used_count": 2, "expert_feed_forward_length": INTER}
    write_file(directory + "/model.gguf", "qwen3moe", listed, arch)
    write_safetensors(directory + "/gguf", means)


def write_latent(directory):
    """DeepSeek-V3: every head's keys and values in tensors of their own, or (old) joined as Hugging Face has them."""
    rank, low, nope, turning, value, shared = 64, 32, 32, 16, 32, 128
    split, joined, means = [], [], {}

    def put(name, shape, kind, hf, experts=0):
        w = values(shape)
        raw, mean = blocks(w, kind)
        for to in (split, joined):
            to.append((name, shape, kind, raw))
        if experts:
            for e in range(experts):
                means[hf % e] = mean[e]
        else:
            means[hf] = mean

    put("token_embd.weight", (VOCAB, HIDDEN), 8, "model.embed_tokens.weight")
    put("output.weight", (VOCAB, HIDDEN), 8, "lm_head.weight")
    put("output_norm.weight", (HIDDEN,), 0, "model.norm.weight")
    for l in range(LAYERS):
        b, p = f"blk.{l}.", f"model.layers.{l}."
        put(b + "attn_norm.weight", (HIDDEN,), 0, p + "input_layernorm.weight")
        put(b + "ffn_norm.weight", (HIDDEN,), 0, p + "post_attention_layernorm.weight")
        put(b + "attn_q_a.weight", (low, HIDDEN), 3, p + "self_attn.q_a_proj.weight")
        put(b + "attn_q_a_norm.weight", (low,), 0, p + "self_attn.q_a_layernorm.weight")
        put(b + "attn_q_b.weight", (HEADS * (nope + turning), low), 2, p + "self_attn.q_b_proj.weight")
        put(b + "attn_kv_a_mqa.weight", (rank + turning, HIDDEN), 8, p + "self_attn.kv_a_proj_with_mqa.weight")
        put(b + "attn_kv_a_norm.weight", (rank,), 0, p + "self_attn.kv_a_layernorm.weight")
        put(b + "attn_output.weight", (HIDDEN, HEADS * value), 8, p + "self_attn.o_proj.weight")
        (raw_k, k), (raw_v, v) = (blocks(values((HEADS, rank, nope)), 2), blocks(values((HEADS, value, rank)), 8))
        split.append((b + "attn_k_b.weight", k.shape, 2, raw_k))
        split.append((b + "attn_v_b.weight", v.shape, 8, raw_v))
        both = np.concatenate([k.transpose(0, 2, 1), v], 1).reshape(-1, rank).astype(np.float32)
        joined.append((b + "attn_kv_b.weight", both.shape, 0, both.tobytes()))
        means[p + "self_attn.kv_b_proj.weight"] = both
        if l == 0:
            for name in ("gate", "up", "down"):
                put(f"{b}ffn_{name}.weight", (HIDDEN, INTER) if name == "down" else (INTER, HIDDEN), 8, f"{p}mlp.{name}_proj.weight")
            continue
        put(b + "ffn_gate_inp.weight", (2 * EXPERTS, HIDDEN), 0, p + "mlp.gate.weight")
        put(b + "exp_probs_b.bias", (2 * EXPERTS,), 0, p + "mlp.gate.e_score_correction_bias")
        for name in ("gate", "up", "down"):
            shape = (HIDDEN, INTER) if name == "down" else (INTER, HIDDEN)
            put(f"{b}ffn_{name}_exps.weight", (2 * EXPERTS, *shape), 2, f"{p}mlp.experts.%d.{name}_proj.weight", 2 * EXPERTS)
            put(f"{b}ffn_{name}_shexp.weight", shape, 3, f"{p}mlp.shared_experts.{name}_proj.weight")
    common = {"block_count": LAYERS, "context_length": 256, "embedding_length": HIDDEN, "feed_forward_length": INTER,
              "attention.head_count": HEADS, "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 10000.0,
              "attention.q_lora_rank": low, "attention.kv_lora_rank": rank, "rope.dimension_count": turning,
              "leading_dense_block_count": 1, "expert_count": 2 * EXPERTS, "expert_used_count": 2, "expert_shared_count": 1,
              "expert_feed_forward_length": INTER, "expert_group_count": 4, "expert_group_used_count": 2, "expert_gating_func": 2,
              "expert_weights_norm": 1, "expert_weights_scale": 2.5, "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
              "rope.scaling.original_context_length": 64, "rope.scaling.yarn_log_multiplier": 0.1}
    write_file(directory + "/latent.gguf", "deepseek2", split,
               {**common, "attention.head_count_kv": 1, "attention.key_length": rank + turning, "attention.value_length": rank,
                "attention.key_length_mla": nope + turning, "attention.value_length_mla": value})
    write_file(directory + "/latent-old.gguf", "deepseek2", joined,
               {**common, "attention.head_count_kv": HEADS, "attention.key_length": nope + turning, "attention.value_length": value})
    fields = dict(model_type="deepseek_v3", q_lora_rank=low, kv_lora_rank=rank, qk_nope_head_dim=nope, qk_rope_head_dim=turning,
                  v_head_dim=value, n_routed_experts=2 * EXPERTS, num_experts_per_tok=2, n_shared_experts=1, n_group=4, topk_group=2,
                  moe_intermediate_size=INTER, first_k_dense_replace=1, norm_topk_prob=True, routed_scaling_factor=2.5,
                  scoring_func="sigmoid", topk_method="noaux_tc", moe_layer_freq=1, num_key_value_heads=HEADS,
                  rope_scaling=dict(type="yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=32, beta_slow=1,
                                    mscale=1.0, mscale_all_dim=1.0))
    other = ("num_experts", "decoder_sparse_step", "mlp_only_layers")
    write_safetensors(directory + "/latent", means, **fields, **{name: None for name in other})


def main():
    directory = sys.argv[1]
    write_gguf(directory)
    write_latent(directory)
    with h5py.File(directory + "/prompts.h5", "w") as f:
        lengths = [1, 9, 30, 4, 17]
        f["tokens"] = random.integers(0, VOCAB, sum(lengths)).astype(np.int32)
        f["offsets"] = np.cumsum([0] + lengths)


main()
