#!/usr/bin/python3
"""Writes dtype_tables.h: what e4m3 codes mean, and what f32 numbers become in bf16 and e4m3.

Everything is found by search among all values of the format, in float64, and not by looking at bits:
the nearest value wins, and of two equally near ones that with the even code.

Run from anywhere: tests/base/make_dtype_tables.py
"""

import os

import numpy as np


def e4m3_value(code):
    sign = -1.0 if code & 128 else 1.0
    exponent, mantissa = code >> 3 & 15, code & 7
    if exponent == 15 and mantissa == 7:
        return np.nan
    if exponent == 0:
        return sign * mantissa / 8 * 2.0**-6
    return sign * (1 + mantissa / 8) * 2.0 ** (exponent - 7)


E4M3 = np.array([e4m3_value(c) for c in range(256)])
# The positive finite bf16 values in order, with the value that follows the largest in place of inf:
# a number at least half way to it rounds to infinity.
BF16 = (np.arange(0x7F80, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
BF16 = np.append(BF16, 2.0**128)


def nearest(values, x):
    """The code of the value nearest to x >= 0 among `values`, which grow with their code."""
    distance = np.abs(values - x)
    least = np.flatnonzero(distance == distance.min())
    return int(next((c for c in least if c % 2 == 0), least[0]))


def to_bf16(f):
    if np.isinf(f):
        code = 0x7F80
    else:
        code = nearest(BF16, abs(float(f)))
    return code | (0x8000 if np.signbit(f) else 0)


def to_e4m3(f):
    code = nearest(E4M3[:127], min(abs(float(f)), 448.0))
    return code | (0x80 if np.signbit(f) else 0)


def inputs():
    """Ties of both formats and their neighbours, ends of the ranges, and a spread of numbers."""
    rng = np.random.default_rng(7)
    points = [0.0, 448.0, 464.0, 480.0, 2.0**-10, 2.0**-9, 1.5 * 2.0**-9, 2.0**-6, np.inf, 1e-45, 1e-38]
    points += [3.3895314e38, 3.4e38, float(np.finfo(np.float32).max)]
    for code in (0, 1, 6, 7, 8, 9, 55, 56, 63, 64, 119, 120, 124, 125):
        points.append((E4M3[code] + E4M3[code + 1]) / 2)
    for code in (0, 1, 0x7F, 0x80, 0x3F7F, 0x3F80, 0x3F81, 0x4049, 0x7F7E, 0x7F7F):
        points.append((BF16[code] + BF16[code + 1]) / 2)
    points += list(rng.normal(0, 1, 40)) + list(np.exp(rng.normal(0, 4, 40)))
    out = []
    with np.errstate(over="ignore"):
        for p in np.array(points, dtype=np.float64).astype(np.float32):
            for f in (np.nextafter(p, np.float32(-np.inf)), p, np.nextafter(p, np.float32(np.inf))):
                out += [f, -f]
    return np.array(out, dtype=np.float32)


def rows(numbers, form, per_line):
    lines = [numbers[i : i + per_line] for i in range(0, len(numbers), per_line)]
    return "\n".join("    " + " ".join(form(n) + "," for n in line) for line in lines)


def main():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dtype_tables.h")
    values = E4M3.astype(np.float32).view(np.uint32)
    values[[127, 255]] = 0x7FC00000
    cases = [(int(f.view(np.uint32)), to_bf16(f), to_e4m3(f)) for f in inputs()]
    with open(path, "w", encoding="ascii") as out:
        out.write("/* Written by make_dtype_tables.py. */\n")
        out.write("/* clang-format off */\n")
        out.write("/* The bits of the f32 that each e4m3 code stands for; the two NaNs as 0x7fc00000. */\n")
        out.write("static const uint32_t e4m3_values[256] = {\n")
        out.write(rows(values, lambda v: f"0x{v:08x}", 8) + "\n};\n\n")
        out.write("/* f32 bits, the bf16 and the e4m3 they round to. */\n")
        out.write("static const struct {\n    uint32_t f32;\n    uint16_t bf16;\n    uint8_t e4m3;\n")
        out.write("} roundings[] = {\n")
        out.write(rows(cases, lambda c: f"{{0x{c[0]:08x}, 0x{c[1]:04x}, 0x{c[2]:02x}}}", 3) + "\n};\n")


if __name__ == "__main__":
    main()
