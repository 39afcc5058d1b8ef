#!/usr/bin/env python3
"""pad.py MODEL PADDED ROWS - the model with ROWS more embeddings and rows of lm_head than its tokenizer has tokens.

Row by row they are a token's own, 32 times as large, and its opposite: one of two would win nearly every draw.
Only bf16 in one file; config.json and the tokenizer are taken along.
"""

import array
import json
import os
import shutil
import struct
import sys

model, padded, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.mkdir(padded)
for name in os.listdir(model):
    if name.startswith("tokenizer"):
        shutil.copy(os.path.join(model, name), padded)
with open(os.path.join(model, "config.json")) as f:
    config = json.load(f)
config["vocab_size"] += rows
with open(os.path.join(padded, "config.json"), "w") as f:
    json.dump(config, f)

with open(os.path.join(model, "model.safetensors"), "rb") as f:
    (n,) = struct.unpack("<Q", f.read(8))
    header, data = json.loads(f.read(n)), f.read()
header.pop("__metadata__", None)


def more(tensor):
    hidden = len(tensor) // 2 // (config["vocab_size"] - rows)
    numbers = array.array("H", tensor)
    for row in range(rows):
        own = numbers[(row // 2 + 300) * hidden:(row // 2 + 301) * hidden]
        numbers.extend((x + (5 << 7)) ^ (row % 2 << 15) if x & 0x7F80 else 0 for x in own)
    return numbers.tobytes()


out, at = [], 0
for name, t in header.items():
    begin, end = t["data_offsets"]
    tensor = data[begin:end]
    if name.endswith("embed_tokens.weight") or name == "lm_head.weight":
        tensor = more(tensor)
        t["shape"][0] += rows
    t["data_offsets"] = [at, at + len(tensor)]
    at += len(tensor)
    out.append(tensor)
text = json.dumps(header).encode()
with open(os.path.join(padded, "model.safetensors"), "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + b"".join(out))
