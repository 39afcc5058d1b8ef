#!/usr/bin/env python3
"""narrow.py MODEL NARROW WIDE - two copies of a checkpoint with the same numbers: what is F32 in MODEL (of an FP8 model the
block scales, else all) is rounded to what a half of its bytes can hold, BF16 for scales and F16 for numbers; NARROW has it so,
WIDE in F32."""

import json
import sys

import numpy as np

import unpack


def bf16(x):
    """Rounded to nearest, as its bits."""
    bits = x.view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def main():
    model, narrow, wide = sys.argv[1:]
    with open(model + "/config.json") as f:
        config = json.load(f)
    tensors, less, more, changed = unpack.read(model), {}, {}, 0
    scales = any(name.endswith("_scale_inv") for name in tensors)
    for name, (kind, data) in tensors.items():
        less[name] = more[name] = (kind, data)
        if kind == "F32" and (name.endswith("_scale_inv") or not scales):
            less[name] = ("BF16", bf16(data)) if scales else ("F16", data.astype(np.float16))
            more[name] = ("F32", unpack.wide(less[name]))
            changed += 1
    assert changed > 10, changed
    unpack.write(narrow, less, config)
    unpack.write(wide, more, config)


main()
