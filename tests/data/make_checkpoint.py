"""Makes tests/data/checkpoint: a sharded checkpoint written by the safetensors library itself.

Needs torch and safetensors; run from the repository root. The values are what checkpoint.c expects:
element i of tensor t is (i * 7 + length of t's name) % 64 - 31, exact in every dtype here.
"""
import json

import torch
from safetensors.torch import save_file

SHAPES = {
    "layers.0.w": ((3, 5), torch.bfloat16),
    "layers.0.scale": ((7,), torch.float32),
    "layers.1.w": ((2, 3, 4), torch.float8_e4m3fn),
    "scalar": ((), torch.float32),
    "nothing": ((0, 4), torch.float32),
    "ids": ((3,), torch.int64),
}
FILES = {"a.safetensors": ["layers.0.w", "scalar", "ids"],
         "b.safetensors": ["layers.0.scale", "layers.1.w", "nothing"]}


def value(name):
    shape, dtype = SHAPES[name]
    n = int(torch.tensor(shape).prod()) if shape else 1
    wanted = (torch.arange(n) * 7 + len(name)) % 64 - 31
    if dtype == torch.float8_e4m3fn:  # 4 significant bits: multiples of 4 up to 32 are exact
        wanted = wanted // 4 * 4
    return wanted.reshape(shape).to(dtype)


for file, names in FILES.items():
    save_file({n: value(n) for n in names}, f"tests/data/checkpoint/{file}", {"format": "pt"})
weight_map = {n: f for f, names in FILES.items() for n in names}
with open("tests/data/checkpoint/model.safetensors.index.json", "w") as f:
    json.dump({"metadata": {"total_size": 1}, "weight_map": weight_map}, f, indent=1)
    f.write("\n")
