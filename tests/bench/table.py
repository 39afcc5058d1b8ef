#!/usr/bin/env python3
"""table.py FOLDER [README.md] - the tables of `make bench`, in markdown, from kernels.json, loops.json and decode.jsonl in
FOLDER; into FOLDER/readme.md, and in place of those that the README has of the same kernels, between
"<!-- begin: make bench avx2 -->" and "<!-- end: make bench avx2 -->": what others measured stands beside it.

Shares are percent of the limit that binds: medians, and in brackets the least and the greatest of them over shapes
or turns, or, where there is one shape, the quarters of its rounds. Each share was taken round by round against the
limits right before and after it (kernels/cpu/meter.h), and nothing here holds it against another's."""
import json
import os
import statistics
import sys

QUIET = 0.98  # of the cores (LIMITS_QUIET)


def share(r):
    """(quarter, median, quarter) of a result. Only products of integers may pass the peak."""
    most = float("inf") if r["dtype"].endswith("x8") and r["limit"] == "peak" else 1
    return [min(r[name], most) for name in ("share_low", "share", "share_high")]


class Loops:
    """What the machine code of products allows (loops.py), from loops.json, which may not be there."""

    def __init__(self, path, backend):
        self.reach = {}
        for r in json.load(open(path)) if os.path.exists(path) else []:
            if r["backend"] == backend:
                self.reach.setdefault(r["form"], {})[r["rows"]] = r["reach"]

    def of_rows(self, dtype, rows):
        """Share of the peak, with the number of rows that is nearest."""
        known = self.reach[dtype]
        return known[min(known, key=lambda n: max(n, rows) / min(n, rows))]

    def attention(self, r):
        """Two products of all heads that share a KV head, and a softmax in between: of each score."""
        heads, products = {"MFA": (64, 512), "GQA": (8, 256), "MLA": (64, 1088)}[r["shape"][:3]]
        exponential = 1 / self.of_rows("softmax", 64)
        return products / (products / self.of_rows(r["dtype"], heads) + exponential)

    def most(self, r):
        """The share of its limit that a result could come to, or None: its loops alone, while memory does its best."""
        dtype = {"f8e4m3": "fp8"}.get(r["dtype"], r["dtype"])
        if dtype not in self.reach or "softmax" not in self.reach or r["group"] == "rows":
            return None
        r = dict(r, dtype=dtype)
        reach = self.attention(r) if r["group"] == "attention" else self.of_rows(dtype, r["rows"])
        if r["group"] == "moe":  # three of 16 experts a row, and one that all rows have
            reach = 1 / (0.75 / self.of_rows(dtype, max(1, r["rows"] * 3 / 16)) + 0.25 / reach)
        read = r["bytes"] / r["read_bytes_per_s"] / r["faster"]
        calculate = r["flops"] / r["peak_flops_per_s"]
        return max(read, calculate) / max(read, calculate / reach)


def cell(shares, most=(), times=100, form=".0f"):
    """shares: a list of triples; most: what each could be."""
    if not shares:
        return ""
    most = [m for m in most if m]
    if len(shares) == 1:
        low, middle, high = shares[0]
    else:
        middles = [s[1] for s in shares]
        low, middle, high = min(middles), statistics.median(middles), max(middles)
    return f"{times * middle:{form}} ({times * low:{form}}-{times * high:{form}})" + (f" ≤ {100 * statistics.median(most):.0f}" if most else "")


def table(head, rows, out):
    out.append("| | " + " | ".join(head) + " |")
    out.append("|---" * (len(head) + 1) + "|")
    out.extend("| " + " | ".join([name, *cells]) + " |" for name, cells in rows)
    out.append("")


def kernels(k, loops, out):
    low, read, high = (f"{v / 1e9:.0f}" for v in k["read_bytes_per_s"])
    dtypes = ["bf16", "fp8", "int8", "int4", "int8x8", "int4x8"]

    def find(group, rows, shape=""):
        def of(dtype):
            found = [
                r for r in k["results"] if r["group"] == group and r["rows"] in rows and r["dtype"] == dtype and r["shape"].startswith(shape)
            ]
            return cell([share(r) for r in found], [loops.most(r) for r in found])

        return of

    lines = []
    for name, rows in (("1 row", [1]), ("4 rows", [4]), ("8 rows", [8]), ("16 rows", [16]), ("64 rows", [64]), ("256 rows", [256])):
        lines.append((f"matrix x {name}", find("linear", rows)))
    lines += [(f"MoE layer (16 experts, top-3, shared), B = {b}", find("moe", [b])) for b in (1, 4, 16, 64, 256)]
    for context in (512, 4096, 16384):
        lines.append((f"MFA attention (64 x 256 on one KV head), 16 x {context}; format of the cache", find("attention", [16], f"MFA 64x256, {context}")))
    for mechanism in ("GQA 32/4x128", "GQA, window 512", "MLA 64x576/512"):
        lines.append((f"{mechanism}, 16 x 4096", find("attention", [16], mechanism + ", 4096")))
    lines += [(f"lm_head, {rows} row{'s' * (rows > 1)}", find("lm_head", [rows])) for rows in (1, 16, 64)]
    out.append(
        f"{k['backend']}, {k['threads']} threads: reads {read} GB/s (of ten pieces eight {low} to {high}), {k['peak_flops_per_s'] / 1e9:.0f} GFLOP/s "
        f"({k['peak_unit']}); the best kernel read {k['faster']:.2f} times as fast as the read loop beside it. Products of "
        "integers are held against the same peak, which they may pass."
        + (" Behind ≤ what the instructions of the loops allow." if loops.reach else "")
    )
    out.append("")
    names = {"fp8": "FP8", "int8x8": "int8, `products: int8`", "int4x8": "int4, `products: int8`"}
    table([names.get(d, d) for d in dtypes], [(name, [of(d) for d in dtypes]) for name, of in lines], out)


def peers(k, out):
    """How many times as long other libraries take, for few, some and many rows."""
    ratios = {}
    for r in k["results"]:
        for p in r.get("peers", []):
            rows = "1 to 4" if r["rows"] <= 4 else "8 to 16" if r["rows"] <= 16 else "64 and 256"
            ratios.setdefault(p["name"], {}).setdefault(rows, []).append(p["ratio"])
    for name, of in ratios.items():
        said = ", ".join(f"{min(v):.2f} to {max(v):.2f} with {rows} rows" for rows, v in of.items())
        out += [f"{name} takes so many times as long for the bf16 products: {said}.", ""]


def spread(values, form):
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def decode(lines, out):
    steps, turns, prompts = {}, {}, []
    for l in lines:
        if "prompt" in l:
            prompts.append(l)
            continue
        key = (l["layout"], l["micro_batches"], l["batch"], l["context"])
        steps.setdefault(key, []).append(l)
    rows = []
    for (layout, m, batch, context), all_of in sorted(steps.items(), key=lambda i: (i[0][0] != "1 colocated", i[0])):
        paired = [l["over"] for l in all_of if l["over"][1] > 0]
        get = lambda name: [a[name] for a in all_of]
        one = all_of[0]
        rates = f"{one['tokens_per_second']:.1f} ({one['slowest']:.1f}-{one['fastest']:.1f})" if len(all_of) == 1 else spread(get("tokens_per_second"), ".1f")
        name = layout + (f", {m} micro-batches" if m > 1 else "")
        rows.append(
            (
                name,
                [str(batch), str(context), rates, spread([100 * v for v in get("roof")], ".0f"), spread([100 * v for v in get("sample")], ".1f"), cell(paired, times=1, form=".2f") if paired else ""],
            )
        )
    table(["batch", "context", "tokens/s", "% of its operations' limits", "sampling, % of the step", "over 1 colocated, in turns"], rows, out)
    for p in prompts:
        out.append(
            f"A prompt of {p['prompt']} tokens is read at {p['tokens_per_second']:.0f} tokens/s ({p['slowest']:.0f}-{p['fastest']:.0f}): "
            f"{100 * p['peak']:.0f} % of the peak."
        )
        out.append("")


def into(path, backend, text):
    begin, end = (f"<!-- {side}: make bench {backend} -->\n" for side in ("begin", "end"))
    with open(path) as f:
        whole = f.read()
    if whole.count(begin) != 1 or whole.count(end) != 1 or whole.index(end) < whole.index(begin):
        sys.exit(f"table.py: {path} has no place for the tables: {begin.strip()} and {end.strip()}")
    with open(path, "w") as f:
        f.write(whole[: whole.index(begin) + len(begin)] + text + whole[whole.index(end) :])


def main():
    folder, out, cores, slots, backend = sys.argv[1], [], [], 1, None
    path = os.path.join(folder, "kernels.json")
    if os.path.exists(path):
        k = json.load(open(path))
        cores.append(k["cores"])
        backend = k["backend"]
        slots = k.get("slots", 1)
        kernels(k, Loops(os.path.join(folder, "loops.json"), backend), out)
        peers(k, out)
    path = os.path.join(folder, "decode.jsonl")
    if os.path.exists(path):
        lines = [json.loads(l) for l in open(path)]
        cores += [l["cores"] for l in lines]
        decode(lines, out)
    if not cores:
        sys.exit(f"table.py: {folder} has neither kernels.json nor decode.jsonl")
    quiet = "quiet" if min(cores) >= QUIET else "NOT quiet, so that the figures say little"
    out.append(f"The machine was {quiet}: threads that never wait got {100 * min(cores):.1f} % of their cores in the worst of {len(cores)} pieces, {100 * statistics.median(cores):.1f} % in the median one.")
    if slots < QUIET:
        out.append(
            f"The threads got {100 * slots:.0f} % of the instruction slots of their cores; the rest went to sibling hardware threads or to a lower clock. "
            "The loop that finds the peak hardly notices; loops that fill a core do, so that their shares are too low."
        )
    text = "\n".join(out) + "\n"
    with open(os.path.join(folder, "readme.md"), "w") as f:
        f.write(text)
    print(text, end="")
    if len(sys.argv) > 2:
        if not backend:
            sys.exit(f"table.py: {folder} has no kernels.json, which says what kernels these are")
        into(sys.argv[2], backend, text)


main()
