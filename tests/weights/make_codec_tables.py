#!/usr/bin/env python3
"""Checkpoint formats against code that is not ours: gguf-py's dequantize, and the definitions of
AutoAWQ and compressed-tensors in numpy.

    make_codec_tables.py                 writes codec_tables.h: a hash of what random blocks decode to
    make_codec_tables.py PROGRAM BLOCKS  compares the program (build/tests/weights/codec) with gguf-py on
                                         so many random blocks of every format, value for value

Needs numpy and gguf (PyPI).
"""

import os
import subprocess
import sys

import gguf
import numpy as np

# Format, ggml type, columns and bytes of a block, where its f16 numbers stand.
BLOCKS = [
    ("Q8_0", 8, 32, 34, [0]),
    ("Q4_0", 2, 32, 18, [0]),
    ("Q4_1", 3, 32, 20, [0, 2]),
    ("Q5_0", 6, 32, 22, [0]),
    ("Q5_1", 7, 32, 24, [0, 2]),
    ("Q2_K", 10, 256, 84, [80, 82]),
    ("Q3_K", 11, 256, 110, [108]),
    ("Q4_K", 12, 256, 144, [0, 2]),
    ("Q5_K", 13, 256, 176, [0, 2]),
    ("Q6_K", 14, 256, 210, [208]),
    ("IQ4_NL", 20, 32, 18, [0]),
    ("IQ4_XS", 23, 256, 136, [0]),
    ("MXFP4", 39, 32, 17, []),
    ("F16", 1, 1, 2, [0]),
    ("BF16", 30, 1, 2, [0]),
]
COUNT = 64  # blocks of each in the table


def random_bytes(seed, n):
    """splitmix64, eight bytes a draw, lowest first: codec.c makes the same."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, (n + 7) // 8 + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (z ^ (z >> np.uint64(31))).view(np.uint8)[:n].copy()


def blocks(seed, count, size, halves):
    """Random, but with finite f16 numbers below 2."""
    b = random_bytes(seed, count * size).reshape(count, size)
    for at in halves:
        b[:, at + 1] &= 0xBF
    return b


def fnv(values):
    h = 0xCBF29CE484222325
    for byte in np.ascontiguousarray(values, np.float32).tobytes():
        h = (h ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return h


def dequantize(b, ggml):
    if ggml == 30:
        return (b.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if ggml == 1:
        return b.view(np.float16).astype(np.float32)
    return gguf.quants.dequantize(b, gguf.GGMLQuantizationType(ggml))


def halves_of(seed, *shape):
    """Scales: f16 numbers that are not negative."""
    b = blocks(seed, int(np.prod(shape)), 2, [0])
    b[:, 1] &= 0x3F
    return b.view(np.float16).reshape(shape).astype(np.float32)


def words(seed, *shape):
    return random_bytes(seed, int(np.prod(shape)) * 4).view(np.uint32).reshape(shape)


OUT, IN = 24, 96  # of the matrices below


def awq(group):
    q, z, s = words(1, IN, OUT // 8), words(2, IN // group, OUT // 8), halves_of(3, IN // group, OUT)
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    unpack = lambda p: np.stack([p >> 4 * order[o % 8] & 15 for o in range(8)], -1).reshape(p.shape[0], -1)
    q, z = unpack(q).astype(np.float32), unpack(z).astype(np.float32)
    return ((q - np.repeat(z, group, 0)) * np.repeat(s, group, 0)).T


def packed(bits, group, symmetric, columns=IN):
    per = 32 // bits
    groups = columns // group
    q = words(4, OUT, (columns + per - 1) // per)
    q = np.stack([q >> bits * i & (1 << bits) - 1 for i in range(per)], -1).reshape(OUT, -1)[:, :columns]
    z = words(5, (OUT + per - 1) // per, groups)
    z = np.stack([z >> bits * i & (1 << bits) - 1 for i in range(per)], 1).reshape(-1, groups)[:OUT]
    if symmetric:
        z = np.full_like(z, 1 << bits - 1)
    s = halves_of(6, OUT, groups)
    return (q.astype(np.float32) - np.repeat(z, group, 1).astype(np.float32)) * np.repeat(s, group, 1)


def int8_rows():
    return random_bytes(7, OUT * IN).view(np.int8).reshape(OUT, IN) * halves_of(6, OUT, 1)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "codec_tables.h"), "w") as f:
        f.write("/* Made by make_codec_tables.py: what random blocks decode to, as hashes of the f32 bits. */\n")
        f.write("static const struct blocks {\n    const char *name;\n    size_t columns, bytes;\n")
        f.write("    int halves[2]; /* where f16 numbers stand; -1: none */\n    uint64_t hash;\n} blocks[] = {\n")
        for i, (name, ggml, columns, size, halves) in enumerate(BLOCKS):
            h = fnv(dequantize(blocks(100 + i, COUNT, size, halves), ggml))
            at = (halves + [-1, -1])[:2]
            f.write(f'    {{"{name}", {columns}, {size}, {{{at[0]}, {at[1]}}}, 0x{h:016x}u}},\n')
        f.write("};\n\nstatic const uint64_t apart[] = {\n")
        for values in (awq(32), awq(96), packed(4, 32, True), packed(4, 32, False), packed(4, 90, True, 90),
                       packed(8, 32, True), packed(8, 32, False), packed(8, 90, False, 90), int8_rows()):
            f.write(f"    0x{fnv(values):016x}u,\n")
        f.write("};\n")


def compare(program, count):
    for name, ggml, columns, size, halves in BLOCKS:
        done = 0
        while done < count:
            n = min(count - done, 1 << 16)
            b = blocks(done * 1000 + ggml, n, size, halves)
            out = subprocess.run([program, name], input=b.tobytes(), capture_output=True, check=True).stdout
            want = np.ascontiguousarray(dequantize(b, ggml)).reshape(-1)
            got = np.frombuffer(out, np.float32)
            assert got.size == want.size, (name, got.size, want.size)
            wrong = np.flatnonzero((got.view(np.uint32) != want.view(np.uint32)) & ~(np.isnan(got) & np.isnan(want)))
            if wrong.size:
                sys.exit(f"{name}: value {wrong[0]} of block {done}: {got[wrong[0]]!r}, wanted {want[wrong[0]]!r}")
            done += n
        print(f"{name}: {done} blocks equal")


if __name__ == "__main__":
    compare(sys.argv[1], int(sys.argv[2])) if len(sys.argv) > 2 else main()
