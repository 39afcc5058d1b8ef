#!/usr/bin/python3
"""Makes of a generated checkpoint (f32) one whose next token follows from the last one alone, for its MTP layers too.

    make_copying.py DIRECTORY

Attention and FFN add nothing, all norms are the same, an MTP layer takes the embedding alone, and its head is the
model's. So whatever an MTP layer is given must be the right token of the right row, or its guesses are wrong.
"""
import json
import struct
import sys
from pathlib import Path

import numpy as np

directory = Path(sys.argv[1])
config = json.loads((directory / "config.json").read_text())
whole = 0 if config["model_type"] == "step3p5" else 1  # how a gain of 1 is stored
tensors = {}
for path in directory.glob("*.safetensors"):
    with path.open("rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        for name, t in json.loads(f.read(size)).items():
            if name != "__metadata__":
                tensors[name] = np.memmap(path, "<f4", "r+", 8 + size + t["data_offsets"][0], tuple(t["shape"]))
for name, values in tensors.items():
    last = name.removesuffix(".weight").split(".")[-1]
    if last in ("o_proj", "down_proj"):
        values[:] = 0
    elif last in ("norm", "enorm", "hnorm"):
        values[:] = whole
    elif last == "eh_proj":
        values[:] = np.eye(*values.shape)
    elif name.endswith("shared_head.output.weight"):
        values[:] = tensors["lm_head.weight"]
    values.flush()
