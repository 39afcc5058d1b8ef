#!/usr/bin/env python3
"""unpack.py MODEL NUMBERS [STACKED] - decodes the packed matrices of a checkpoint (AWQ, compressed-tensors).

NUMBERS   the same model with their numbers, F32
STACKED   the same model with the packed experts of a layer in one tensor, gate and up together
"""

import json
import os
import re
import struct
import sys

import numpy as np

TYPES = {"F32": np.float32, "BF16": np.uint16, "F16": np.float16, "I32": np.uint32, "I64": np.int64, "U8": np.uint8,
         "F8_E4M3": np.uint8}


def read(directory):
    with open(directory + "/model.safetensors", "rb") as f:
        raw = f.read()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        data = np.frombuffer(raw[8 + n + begin:8 + n + end], TYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = (entry["dtype"], data)
    return tensors


def write(directory, tensors, config):
    os.makedirs(directory)
    header, data = {}, b""
    for name, (kind, t) in sorted(tensors.items(), key=lambda item: -item[1][1].itemsize):
        raw = np.ascontiguousarray(t).tobytes()
        header[name] = dict(dtype=kind, shape=t.shape, data_offsets=[len(data), len(data) + len(raw)])
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(directory + "/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    with open(directory + "/config.json", "w") as f:
        json.dump(config, f)


def wide(t):
    kind, data = t
    return (data.astype(np.uint32) << 16).view(np.float32) if kind == "BF16" else data.astype(np.float32)


def codes(words, bits, order=None):
    """Along the last dimension."""
    order = order or range(32 // bits)
    return np.stack([words >> np.uint32(bits * i) & np.uint32(2**bits - 1) for i in order], -1).reshape(*words.shape[:-1], -1)


def awq(tensors, base):
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    q, z = (codes(tensors[base + s][1], 4, order).astype(np.float32) for s in (".qweight", ".qzeros"))
    scale = wide(tensors[base + ".scales"])
    group = q.shape[-2] // z.shape[-2]
    repeat = lambda a: np.repeat(a, group, -2)
    return np.swapaxes((q - repeat(z)) * repeat(scale), -1, -2)


def integers(tensors, base):
    words, scale = tensors[base + ".weight_packed"][1], wide(tensors[base + ".weight_scale"])
    columns = int(tensors[base + ".weight_shape"][1][-1])
    bits = 32 * words.shape[-1] // columns
    q = codes(words, bits).astype(np.float32) - 2 ** (bits - 1)
    return q * np.repeat(scale, columns // scale.shape[-1], -1)


E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def mxfp4(tensors, base):
    """gpt-oss's experts, [E][outputs][inputs], as Hugging Face's classes keep numbers: [E][inputs][outputs]."""
    blocks, exponents = tensors[base + "_blocks"][1], tensors[base + "_scales"][1]
    values = E2M1[np.stack([blocks & 15, blocks >> 4], -1)].reshape(*blocks.shape[:-1], 32)
    values = np.ldexp(values, exponents[..., None].astype(np.int32) - 127)
    return np.swapaxes(values.reshape(*blocks.shape[:2], -1), -1, -2)


def numbers(tensors):
    out = {}
    for name, t in tensors.items():
        base = name.rsplit(".", 1)[0]
        if name.endswith(".qweight"):
            out[base + ".weight"] = ("F32", awq(tensors, base).astype(np.float32))
        elif name.endswith(".weight_packed"):
            out[base + ".weight"] = ("F32", integers(tensors, base).astype(np.float32))
        elif name.endswith("_blocks"):
            out[name.removesuffix("_blocks")] = ("F32", mxfp4(tensors, name.removesuffix("_blocks")))
        elif not name.endswith(("_scales", ".qzeros", ".scales", ".weight_scale", ".weight_shape")):
            out[name] = t
    return out


def stacked(tensors):
    out, found = {}, {}
    for name, t in tensors.items():
        m = re.fullmatch(r"(.*mlp\.experts)\.(\d+)\.(gate|up|down)_proj\.weight_(packed|scale|shape)", name)
        if not m:
            out[name] = t
        elif m[4] != "shape":
            found.setdefault((m[1], m[4]), {})[int(m[2]), m[3]] = t
    for (base, what), parts in found.items():
        experts = range(len(parts) // 3)
        kind = parts[0, "down"][0]
        both = np.stack([np.concatenate([parts[e, "gate"][1], parts[e, "up"][1]]) for e in experts])
        out[f"{base}.gate_up_proj_{what}"] = (kind, both)
        out[f"{base}.down_proj_{what}"] = (kind, np.stack([parts[e, "down"][1] for e in experts]))
    return out


def main():
    with open(sys.argv[1] + "/config.json") as f:
        config = json.load(f)
    tensors = read(sys.argv[1])
    if len(sys.argv) > 3:
        write(sys.argv[3], stacked(tensors), config)
    config.pop("quantization_config")
    write(sys.argv[2], numbers(tensors), config)


if __name__ == "__main__":
    main()
