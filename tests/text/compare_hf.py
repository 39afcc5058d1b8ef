#!/usr/bin/env python3
"""Compares src/text with Hugging Face tokenizers on random and natural strings, and times both.

    python3 tests/text/compare_hf.py [--count N] [--seed S] [--speed FILE] tokenizer.json...

For every tokenizer.json given N strings and every character of Unicode between letters, spaces and
digits; for every variant in tests/text/make_fixtures.py a fiftieth of N, and every character for those
with properties. Ids must be equal, and what they decode to. Run from the root of the repository; needs
the tokenizers package and a C compiler.
"""
import argparse
import json
import os
import random
import sys
import tempfile
import time

from tokenizers import Tokenizer

import make_fixtures
import samples
from compare_text import Ours, library


def compare(name, ours, hf, strings, rng):
    """The number of strings that differ."""
    bad = 0
    for s in strings:
        want = hf.encode(s, add_special_tokens=False).ids
        got = ours.encode(s)
        ids = rng.choices(want, k=min(8, len(want))) if want else []
        same = got == want and (len(want) > 200 or all(
            ours.decode(x, skip) == hf.decode(x, skip_special_tokens=skip)
            for x, skip in ((want, False), (want, True), (ids, False))))
        if not same:
            bad += 1
            if bad <= 5:
                print("%s differs on %s:\n  ours %s\n  hf   %s" %
                      (ascii(name), ascii(s), got, want))
    print("%s: %d strings compared, %d differ" % (ascii(name), len(strings), bad), flush=True)
    return bad


def every_character():
    """Every character between letters, spaces and digits, 64 to a string."""
    codes = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    for i in range(0, len(codes), 64):
        yield "".join("a%sb %s 1%s2" % (c, c, c) for c in map(chr, codes[i:i + 64]))


def speed(path, ours, hf):
    """Megabytes per second of processor time of a whole file in lines, and in one string, one thread each."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    for name, parts in (("lines", text.splitlines(keepends=True)), ("one string", [text])):
        data = [p.encode() for p in parts]
        size = sum(map(len, data))
        best_ours = best_hf = 1e9
        for _ in range(3):
            start = time.process_time()
            for d in data:
                ours.lib.free(ours.raw_encode(d)[0])
            best_ours = min(best_ours, time.process_time() - start)
            start = time.process_time()
            for p in parts:
                hf.encode(p, add_special_tokens=False)
            best_hf = min(best_hf, time.process_time() - start)
        print("%s: %d bytes, ours %.2f MB/s, hf %.2f MB/s" %
              (name, size, size / best_ours / 1e6, size / best_hf / 1e6))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--count", type=int, default=20000)
    p.add_argument("--seed", type=int, default=2)
    p.add_argument("--speed", metavar="FILE")
    p.add_argument("files", nargs="*")
    a = p.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    rng = random.Random(a.seed)
    bad = total = 0
    with tempfile.TemporaryDirectory() as folder:
        lib = library(folder)
        for path in a.files:
            ours, hf = Ours(lib, path), Tokenizer.from_file(path)
            if a.speed:
                speed(a.speed, ours, hf)
                continue
            strings = [samples.sample(rng) for _ in range(a.count)] + list(every_character())
            bad += compare(path, ours, hf, strings, rng)
            total += len(strings)
        if not a.speed:
            with open("tests/text/fixtures/small.json", encoding="ascii") as f:
                base = json.load(f)
            for name, parts in make_fixtures.variants():
                path = os.path.join(folder, "variant.json")
                with open(path, "w", encoding="ascii") as f:
                    json.dump(make_fixtures.vary(base, parts), f)
                strings = [samples.sample(rng) for _ in range(a.count // 50)]
                if "\\p" in name or name in ("gpt2", "o200k", "digits", "pattern \\s+",
                                             "pattern \\w+", "pattern \\d+"):
                    strings += every_character()
                bad += compare(name, Ours(lib, path), Tokenizer.from_file(path), strings, rng)
                total += len(strings)
            print("%d strings compared, %d differ" % (total, bad))
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
