"""check_output.py FILE UNITS SAMPLES: reads a completions file with h5py, as a user would.

Compares it with the completions tests/output/rows.c makes (the same formulas, written again).
"""
import json
import os
import sys
import zlib

import h5py
import numpy as np

path, units, samples = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
unit = np.arange(units)
count = np.where(unit % 5 == 3, 0, unit * 37 % 61)
count[unit % 211 == 20] = 20011

with h5py.File(path) as f:
    assert set(f) == {"scored", "score", "greedy", "score_start", "top_count", "top_start", "prompt_top_count", "prompt_top_start", "text", "reasoning", "id", "finish", "error", "prompt", "sample", "rank", "token_start",
                      "token_count", "prompt_tokens", "text_crc32", "admitted", "first_token", "last_token"}, set(f)
    for name, dataset in f.items():  # what pandas and Hugging Face datasets rely on
        assert isinstance(f.get(name, getlink=True), h5py.HardLink), name
        assert dataset.shape == (units,), (name, dataset.shape)
        assert dataset.attrs["description"], name
    columns = {name: dataset.asstr()[:] if h5py.check_string_dtype(dataset.dtype) else dataset[:]
               for name, dataset in f.items()}
    for name in ("admitted", "first_token", "last_token"):
        assert f[name].attrs["unit"] == "s" and f[name].dtype == np.float64
    assert f["prompt"].dtype == np.int64 and f["sample"].dtype == np.int32
    assert f.attrs["units"] == units and f.attrs["samples"] == samples
    assert json.loads(f.attrs["identity"])["model"] == "1234567890abcdef"
    for name, dataset in f.items():
        assert dataset.fletcher32 == (h5py.check_string_dtype(dataset.dtype) is None), name
    ragged = os.path.join(os.path.dirname(path), f.attrs["ragged"])

for u in range(units):
    text = f'unit {u}: \u00e9\n"\U0001f30d" '
    assert columns["text"][u] == text * (u % 4), u
    assert columns["text_crc32"][u] == zlib.crc32(columns["text"][u].encode())
    assert columns["error"][u] == (text if count[u] == 0 else ""), u
    assert columns["id"][u] == f"p{u // samples}"
    assert columns["finish"][u] == ("error" if count[u] == 0 else "stop" if u % 2 else "length")
assert (columns["prompt"] == unit // samples).all()
assert (columns["sample"] == unit % samples).all()
assert (columns["rank"] == unit % 7).all()
assert (columns["token_count"] == count).all()
assert (columns["token_start"] == np.cumsum(count) - count).all()
assert (columns["prompt_tokens"] == unit * 3 + 1).all()
assert (columns["admitted"] == 1.7e9 + unit / 3).all()

with h5py.File(ragged) as f:
    assert f["tokens"].dtype == np.int32 and f["logprobs"].dtype == np.float32
    assert f["tokens"].shape == f["logprobs"].shape == (count.sum(),)
    tokens, logprobs = f["tokens"][:], f["logprobs"][:]
    for u in range(units):
        start, n = columns["token_start"][u], count[u]
        i = np.arange(n)
        assert (tokens[start:start + n] == (u * 1009 + i * 31) % 129280).all(), u
        wanted = -(i + 1).astype(np.float32) / np.float32(u + 3)
        assert (logprobs[start:start + n] == wanted).all(), u
    tops = np.where(unit % 3 == 2, 2 * count, 0)
    scored = np.where(count > 0, unit % 4, 0)
    assert (columns["top_count"] == tops).all() and (columns["scored"] == scored).all()
    assert (columns["top_start"] == np.cumsum(tops) - tops).all()
    assert (columns["score_start"] == np.cumsum(scored) - scored).all()
    assert (columns["greedy"] == (unit % 8 == 3)).all() and (columns["score"] == scored / -3).all()
    each = lambda n: np.concatenate([u + np.arange(k) for u, k in zip(unit, n)])
    assert (f["top_tokens"][:] == each(tops)).all()
    assert (f["top_logprobs"][:] == -each(tops).astype(np.float32) / np.float32(7)).all()
    parts = np.concatenate([u + 2 * np.arange(k) for u, k in zip(unit, scored)]).astype(np.float32)
    assert (f["prompt_logprobs"][:] == -parts / np.float32(11)).all()
    table = np.where(unit % 8 == 5, 3 * scored, 0)
    assert (columns["prompt_top_count"] == table).all()
    assert (columns["prompt_top_start"] == np.cumsum(table) - table).all()
    assert (f["prompt_top_tokens"][:] == each(table) + np.repeat(unit, table)).all()
    parts = (each(table) + 2 * np.repeat(unit, table)).astype(np.float32)
    assert (f["prompt_top_logprobs"][:] == -parts / np.float32(13)).all()
with h5py.File(path[:-len("h5")] + "steps.h5") as f:
    assert set(f) == {"time", "rank", "steps", "rows", "attention", "ffn", "exchange", "wait", "total",
                      "bytes", "operations", "longest", "layer", "expert", "chosen"}
    assert {d.shape for d in f.values()} == {(1,)}
    assert f["total"].attrs["unit"] == "s" and f["total"][0] == np.float32(10.5)
