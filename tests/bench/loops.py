#!/usr/bin/env python3
"""Counts the instructions of the CPU kernels' loops, and the cycles that they take at least.

    make cycles     or: python3 tests/bench/loops.py [--timed] [--json FILE] [--gbs N --ghz N]      BUILD=

Of every tile (a form of weights, and behind the last _ its rows) the innermost loops that multiply, from
objdump: instructions and, of them, multiply-adds (or dot products), loads, stores, broadcasts from memory,
shuffles and shifts, prefetches, vectors of the stack frame. Cycles by loops_model.py on a core that has the
instructions, and what binds: slots (instructions begun), FMA (their units), units (of vectors), loads, stores,
or their order (chains of sums, and what a core cannot look ahead). From them the share of the peak that
limits.c measures which the loop can reach, and bytes of weights a cycle; with --gbs (of a core) and --ghz also
whether memory or the loop is slower.

Then what loops_time runs and measures on this machine, every panel function with some numbers of rows, by the same
model (--timed: only this), and the model's errors. --json: these results, for table.py.

--check, for `make test`: fails where a loop writes more vectors to its stack frame, or has more instructions a
multiply-add, than loops.txt says (by 3 %), which --write writes anew; and where a loop stands on one side only.
Counts belong to a compiler: where the objects are of another one or of another machine, or have no loops,
nothing is compared, it says so, and the exit status is 77.
"""
import json
import os
import re
import sys

import loops_code
import loops_model
import loops_timed

FILES = ("panel_avx2", "grouped_avx2", "integer_avx2", "panel_avx512", "grouped_avx512", "integer_avx512")
KNOWN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "loops.txt")
MORE = 1.03
BYTES = (("f32", 4), ("bf16", 2), ("f8", 1), ("g8", 1), ("bytes", 1), ("g4", 0.5), ("codes", 0.5), ("values", 0.5))
COLUMNS = ("instructions", "multiply-adds", "loads", "stores", "broadcasts", "shuffles", "prefetches")


class Loop:
    """One loop of a tile. name: of its function, with .2, .3, ... of its other loops."""

    def __init__(self, function, number, code):
        self.function, self.code = function, code
        self.name = function.name + (".%d" % (number + 1) if number else "")
        self.steps = loops_code.steps_of(code)
        self.counts = loops_code.count(self.steps)
        integers = any(i.op.startswith(("vpmaddubsw", "vpdpbusd")) for i in code)
        self.products = [i for i in code if i.macs() and (not integers or i.kind in ("imul", "vnni"))]
        self.macs = sum(i.macs() for i in self.products)
        frame = function.in_frame(code)
        self.spilled, self.reread = [i for i in frame if i.stores], [i for i in frame if not i.stores]

    def columns(self):
        c = self.counts
        of = {"instructions": len(self.code), "multiply-adds": len(self.products), "broadcasts": c.get("broadcast", 0),
              "shuffles": sum(c.get(k, 0) for k in ("shuffle", "shift", "cross")), "prefetches": c.get("prefetch", 0)}
        return [of.get(n, c.get(n, 0)) for n in COLUMNS]

    def weight_bytes(self):
        """Of one turn, or None: kept weights, or a name that says nothing."""
        rows = re.search(r"_(\d+)(\.|$)", self.function.name)
        each = [b for form, b in BYTES if form in self.function.name.split("_")]
        if not rows or not each or "bf16" in self.function.name and "pairs" in self.function.name:
            return None
        return self.macs / int(rows.group(1)) * each[0]

    def cycles(self, core):
        cycles = loops_model.run_loop(core, self.steps)
        return cycles, loops_model.binds(core, self.counts, cycles)


def loops_of(path):
    for function in loops_code.functions(path):
        loops = [function.code(span) for span in function.loops]
        for number, code in enumerate(loops):
            yield Loop(function, number, code)


def objects():
    folder = os.path.join(os.environ.get("BUILD", "build"), "kernels/cpu/fast")
    paths = {name: os.path.join(folder, name + ".o") for name in FILES}
    return {name: path for name, path in paths.items() if os.path.exists(path) and loops_code.is_x86_64(path)}


def option(name, otherwise=None):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else otherwise


def print_loops(found):
    for name, loops in found.items():
        core = loops_timed.this_core("avx512" in name)
        print("%-26s" % name, *("%5s" % c[:5] for c in COLUMNS + ("stack",)), " cycles  binds   of peak  bytes of weights a cycle, %s" % core.name)
        for l in loops:
            cycles, what = l.cycles(core)
            read, share = l.weight_bytes(), l.macs / cycles / loops_model.PEAK[core.bytes]
            print("%-26s" % l.name, *("%5d" % c for c in l.columns() + [len(l.spilled) + len(l.reread)]),
                  " %6.1f  %-6s %6.0f %%  %s" % (cycles, what, 100 * share, memory(core, read / cycles) if read else "-"))
        print()


def memory(core, each):
    """Bytes a cycle that a loop can take, beside what the memory gives."""
    gbs, ghz = option("--gbs"), option("--ghz")
    if not gbs or not ghz:
        return "%.2f" % each
    given = float(gbs) / float(ghz)
    return "%.2f of %.2f: %s" % (each, given, "memory is slower" if given < each else "the loop is slower")


def read_known():
    with open(KNOWN) as f:
        lines = [line.rstrip("\n") for line in f if not line.startswith("#")]
    return lines[0], {name: tuple(map(int, counts)) for name, *counts in (line.split("\t") for line in lines[1:])}


def known_name(name, loop):
    return "%s/%s" % (name, loop.name)


def write(found, made_by):
    with open(KNOWN, "w") as f:
        f.write("# Of the loops of tiles: instructions, multiply-adds, vectors written to the stack frame, and read there. Made by\n"
                "# tests/bench/loops.py --write, with:\n%s\n" % made_by)
        f.writelines("%s\t%d\t%d\t%d\t%d\n" % (known_name(name, l), len(l.code), len(l.products), len(l.spilled), len(l.reread))
                     for name, loops in found.items() for l in loops)


def compare(name, loop, known):
    """What is wrong, in words. Constants may be read in the stack frame: they cost what others in memory do."""
    if not known:
        return ["%s: a loop that loops.txt does not know" % name]
    code, products, spilled, _ = known
    bad = []
    if len(loop.spilled) > spilled:
        bad.append("%s: %d vectors written to the stack frame, wanted %d at most:" % (name, len(loop.spilled), spilled))
        bad += ["    %s %s" % (i.op, i.args) for i in loop.spilled]
    if len(loop.code) * products > MORE * code * len(loop.products):
        bad.append("%s: %d instructions for %d multiply-adds, wanted %d for %d" % (name, len(loop.code), len(loop.products), code, products))
    return bad


def check(found, made_by):
    wanted, known = read_known()
    if made_by != wanted:
        print("nothing was checked: loops.txt is about %s, these objects are of %s" % (wanted, made_by))
        return 77
    all_of = [(known_name(name, l), l) for name, loops in found.items() for l in loops]
    if not all_of:
        print("nothing was checked: no loops in the objects of kernels/cpu/fast")
        return 77
    bad = [said for name, l in all_of for said in compare(name, l, known.get(name))]
    bad += ["%s: is in loops.txt, but in no object" % name for name in sorted(set(known) - {name for name, _ in all_of})]
    if bad:
        print("\n".join(bad + ["What is meant to be so is written down by: BUILD=%s tests/bench/loops.py --write" % os.environ.get("BUILD", "build")]))
    else:
        print("%d loops, %d of them keep no sums on the stack; no more instructions than known" % (len(all_of), sum(not l.spilled for _, l in all_of)))
    return 1 if bad else 0


def main():
    paths = objects()
    if not paths:
        print("no objects of kernels/cpu/fast for x86-64 in %s" % os.environ.get("BUILD", "build"))
        return 77
    found = {name: list(loops_of(path)) for name, path in paths.items()}
    made_by = loops_code.compiler(next(iter(paths.values())))
    if "--check" in sys.argv:
        return check(found, made_by)
    if "--write" in sys.argv:
        write(found, made_by)
        return 0
    if "--timed" not in sys.argv:
        print_loops(found)
    said = loops_timed.results(os.path.join(os.environ.get("BUILD", "build"), "tests/bench/loops_time"))
    if option("--json"):
        with open(option("--json"), "w") as f:
            json.dump(said or [], f, indent=1)  # those of an earlier build say nothing of this one
    if said:
        loops_timed.print_results(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
