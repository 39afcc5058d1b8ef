"""Counts the machine instructions of the kernels' main loops, by the pipe that runs them, and what that means.

    make sass     or: python3 tests/cuda/sass.py [--write | --model]      NVCC= NVDISASM= BUILD= OBJECTS= CUOBJDUMP=

From the counts come the times of sass_model.py, and of those of the kernels as they were measured
(measured_sass.txt) its errors; --model prints only these, of the counts in sass.txt.

The main loop of a kernel is the smallest loop that has all its HMMA instructions (mma.sync). `loop` are
all its instructions; `turn` those from the first HMMA to the last. What runs of them in a turn is a path
through the loop: `run` are the instructions, and the pipes in sass.txt those, of the path that has most HMMA
and copies to shared memory, in as few other instructions as can be: that of a full tile without a mask,
whose sums are not rescaled. Loops inside count as often as they run. `scaled`: the block that multiplies
the sums by a new scale, where there is one; `border`: what more runs when a work item ends, on the path with
most stores, and `shares` on that with most of 16 bytes; without the divisions by which one thread finds the next item.
Fails when a loop or a turn is more than 2 % longer than tests/cuda/sass.txt says, or keeps something in
local memory; --write writes that file anew. Counts belong to a compiler: another version of nvcc than the one in the
file is not compared. OBJECTS: the folder of a build with code for sm_90 (build/sm-80-90-100/kernels/cuda), to take its kernels
instead of compiling them; needs cuobjdump. nvdisasm comes with the CUDA Toolkit, or with the package
nvidia-cuda-nvdisasm; exit status 77 without it.
"""
import os
import re
import shutil
import subprocess
import sys

import sass_model

SM = "90"
FILES = ("linear", "ffn_up", "ffn_down", "attend", "attend_latent", "heads")
KNOWN = "tests/cuda/sass.txt"
MEASURED, MEASURED_SASS = "tests/cuda/measured.txt", "tests/cuda/measured_sass.txt"
COLUMNS = ("turn", "loop", "run", "scaled", "border", "hmma", "integer", "half", "float", "registers", "shares")  # of sass.txt
PIPES = (  # the first that begins the opcode
    ("hmma", ("HMMA",)),
    ("shared", ("LDS", "STS", "ATOMS")),  # LDSM (ldmatrix) too
    ("copy", ("LDGSTS", "LDGDEPBAR", "DEPBAR")),
    ("global", ("LDG", "STG", "LD.", "ST.", "LDC", "ULDC")),
    ("local", ("LDL", "STL")),
    ("half", ("HFMA2", "HMUL2", "HADD2")),
    ("float", ("FFMA", "FMUL", "FADD", "FMNMX", "FSETP", "FSEL", "F2F")),
    ("special", ("MUFU", "F2I", "I2F", "SHFL", "VOTE")),
    ("jump", ("BRA", "BSSY", "BSYNC", "BAR", "CALL", "RET", "EXIT", "WARPSYNC", "NOP")),
)


def pipe_of(opcode):
    for name, starts in PIPES:
        if opcode.startswith(starts):
            return name
    return "integer"


def find_tool(name):
    named = os.environ.get(name.upper()) or shutil.which(name)
    if named:
        return named
    for folder in sys.path:
        for cuda in ("cu13", "cuda_" + name):
            path = os.path.join(folder, "nvidia", cuda, "bin", name)
            if os.path.exists(path):
                return path
    return None


def disassemble(nvcc, nvdisasm, folder, name):
    cubin = os.path.join(folder, "%s.sm_%s.cubin" % (name, SM))
    objects = os.environ.get("OBJECTS")
    if objects:
        found = os.path.abspath(os.path.join(objects, name + ".cu.o"))
        subprocess.run([find_tool("cuobjdump"), "-xelf", "sm_" + SM, found], cwd=folder, check=True,
                       stdout=subprocess.DEVNULL)
    else:
        subprocess.run([nvcc, "-O3", "-fmad=false", "-std=c++17", "-DTANDEM_CUDA", "-Isrc", "-I.",
                        "-arch=sm_" + SM, "-cubin", "-o", cubin, "kernels/cuda/%s.cu" % name], check=True)
    return subprocess.run([nvdisasm, cubin], check=True, stdout=subprocess.PIPE).stdout.decode()


def registers_of(text):
    """{mangled name: registers of a thread}"""
    found = re.findall(r"EIATTR_REGCOUNT.*?index@\((\S+?)\).*?\.word\s+(0x[0-9a-f]+)", text, re.S)
    return {name: int(count, 16) for name, count in found}


def functions(text):
    """Yields (name, [(opcode, target or None, conditional)], {label: index of the instruction after it})."""
    name, code, labels = None, [], {}
    for line in text.splitlines():
        section = re.match(r'\s*\.section\s+\.text\.([^,]+(?:,[^"]*)?),"ax"', line)
        if section:
            if name:
                yield name, code, labels
            name, code, labels = section.group(1), [], {}
            continue
        label = re.match(r"(\.L_x?_?\d+|\.L_\S+):", line)
        if label:
            labels[label.group(1)] = len(code)
        said = re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*);", line)
        if said:
            target = re.search(r"^(.*)`\((\.L_\S+)\)", said.group(3))
            conditional = bool(said.group(1) or (target and target.group(1).strip()))
            code.append((said.group(2), target.group(2) if target else None, conditional))
    if name:
        yield name, code, labels


def main_loop(code, labels):
    """First and last instruction of the smallest loop that runs every HMMA, or None."""
    at = [i for i, (op, _, _) in enumerate(code) if op.startswith("HMMA")]
    if not at:
        return None
    loops = [(labels[to], i) for i, (op, to, _) in enumerate(code)
             if op.startswith("BRA") and to in labels and labels[to] <= at[0] and i >= at[-1]]
    for loop in sorted(loops, key=lambda l: l[1] - l[0]):  # not one in which some are only behind its end
        if sum(b.counts["hmma"] for b in blocks_of(code, labels, loop)) == len(at):
            return loop
    return None


class Block:
    """Instructions that run one after another, in a loop from first to last; next: the blocks behind it."""

    def __init__(self, code, labels, loop, begin, end):
        op, to, conditional = code[end - 1]
        self.begin, self.end, self.times = begin, end, 1
        self.counts = pipes(code[begin:end])
        stores = [op for op, _, _ in code[begin:end] if op.startswith(("ST.", "STG"))]
        self.stores, self.wide = len(stores), sum(".128" in op for op in stores)
        self.divides = any(op.startswith(("I2F", "F2I")) for op, _, _ in code[begin:end])
        jumps = op.startswith("BRA")
        self.next = {labels[to]} if jumps else set()
        if not op.startswith(("EXIT", "RET")) and not (jumps and not conditional):
            self.next.add(end)
        self.next = {n for n in self.next if loop[0] <= n <= loop[1]}
        self.back = set()  # of them, where loops inside begin


def blocks_of(code, labels, loop):
    """In an order in which each comes before those behind it; the first one is where the loop begins."""
    ends = {loop[0], loop[1] + 1} | {i for i in labels.values() if loop[0] < i <= loop[1]}
    ends |= {i + 1 for i in range(loop[0], loop[1] + 1) if code[i][0].startswith(("BRA", "EXIT", "RET"))}
    ends = sorted(ends)
    blocks = {b: Block(code, labels, loop, b, e) for b, e in zip(ends, ends[1:])}
    done, open_ones, stack = [], {loop[0]}, [(loop[0], iter(sorted(blocks[loop[0]].next)))]
    met = {loop[0]}
    while stack:
        at, others = stack[-1]
        for n in others:
            if n in open_ones and n != loop[0]:
                blocks[at].back.add(n)
            if n not in met:
                met.add(n)
                open_ones.add(n)
                stack.append((n, iter(sorted(blocks[n].next))))
                break
        else:
            open_ones.discard(at)
            done.append(blocks[at])
            stack.pop()
    return done[::-1]


def inside_of(blocks, first, last):
    """The blocks of the loop that begins at `first` and goes back to it from `last`."""
    found, wanted = {first}, [last.begin]
    while wanted:
        at = wanted.pop()
        if at not in found:
            found.add(at)
            wanted += [b.begin for b in blocks if at in b.next]
    return [b for b in blocks if b.begin in found]


def path(blocks, worth):
    """The blocks of the path through the loop, back to where it begins or out of it, for which the sum of worth(block) is
    largest."""
    best, ends = {blocks[0].begin: (0, [])}, []
    for block in blocks:
        if block.begin not in best:
            continue
        value, way = best[block.begin]
        found = value + worth(block) * block.times, way + [block]
        for n in (block.next or {blocks[0].begin}) - block.back:
            if n == blocks[0].begin:
                ends.append(found)
            elif n not in best or best[n][0] < found[0]:
                best[n] = found
    return max(ends, key=lambda e: e[0])[1]


def pipes_of(way):
    counts = {}
    for block in way:
        for name, n in block.counts.items():
            counts[name] = counts.get(name, 0) + n * block.times
    return counts


def pipes(code):
    counts = dict.fromkeys([p[0] for p in PIPES] + ["integer"], 0)
    for op, _, _ in code:
        counts[pipe_of(op)] += 1
    return counts


def count(kernel, code, labels, loop):
    """Of the turn; of_run: what runs of the loop."""
    at = [i for i, (op, _, _) in enumerate(code) if op.startswith("HMMA")]
    counts = pipes(code[at[0]:at[-1] + 1])
    counts["turn"] = at[-1] + 1 - at[0]
    counts["loop"] = loop[1] + 1 - loop[0]
    counts["local"] = sum(pipe_of(op) == "local" for op, _, _ in code)
    blocks = blocks_of(code, labels, loop)
    for last in blocks:
        for first in last.back:
            inside = inside_of(blocks, first, last)
            hmma, copies = (sum(b.counts[n] for b in inside) for n in ("hmma", "copy"))
            for b in inside:
                b.times = sass_model.times(kernel, hmma, copies)

    def longest(*worth):
        """The path that has most of the products, the copies, and what else worth() names."""
        return path(blocks, lambda b: 1000 * (b.counts["hmma"] + b.counts["copy"]) + sum(w(b) for w in worth) - (b.end - b.begin))

    way = longest()
    border, shares = longest(lambda b: 300 * b.stores + 50 * b.counts["special"] * (not b.divides)), longest(lambda b: 300 * b.wide)
    scaled = [b for b in blocks if b.counts["float"] >= 32 and not b.counts["hmma"] and not b.stores
              and b.counts["float"] > (b.end - b.begin) / 2]
    of_run = pipes_of(way)
    of_run["run"] = sum(of_run.values())
    of_run["border"], of_run["shares"] = (sum(pipes_of(w).values()) - of_run["run"] for w in (border, shares))
    of_run["scaled"] = min((b.begin, b.end - b.begin) for b in scaled)[1] if scaled else 0
    counts["of_run"] = of_run
    return counts


def plain_name(mangled):
    name = subprocess.run(["c++filt", mangled], stdout=subprocess.PIPE, universal_newlines=True,
                          check=True).stdout
    return re.sub(r"^void |\(.*$", "", name.strip()).replace("(bool)0", "false").replace("(bool)1", "true")


def read_known(path=KNOWN):
    if not os.path.exists(path):
        return "", {}
    with open(path) as f:
        lines = [line.rstrip("\n") for line in f if not line.startswith("#")]
    return lines[0], {f[0]: dict(zip(COLUMNS, map(int, f[1:]))) for f in (line.split("\t") for line in lines[1:])}


def measure(nvcc, nvdisasm):
    """{kernel: counts}, printed as they come."""
    folder = os.path.join(os.environ.get("BUILD", "build"), "sass")
    os.makedirs(folder, exist_ok=True)
    columns = ["turn"] + [p[0] for p in PIPES] + ["integer", "loop"]
    print("%-32s" % ("main loop, sm_" + SM), *("%7s" % c for c in columns), "  code KB  registers  shared KB  blocks")
    found = {}
    for name in FILES:
        text = disassemble(nvcc, nvdisasm, folder, name)
        registers = registers_of(text)
        for kernel, code, labels in functions(text):
            loop = main_loop(code, labels)
            if not loop:
                continue
            used, kernel = registers[kernel], plain_name(kernel)
            counts = count(kernel, code, labels, loop)
            found[kernel] = dict(counts["of_run"], registers=used, **{n: counts[n] for n in ("turn", "loop")})
            found[kernel]["local"] = counts["local"]
            print("%-32s" % kernel, *("%7d" % counts[c] for c in columns),
                  "%9.1f %10d %10.1f %7d" % (len(code) * 16 / 1024, used, sass_model.shared_bytes(kernel) / 1024,
                                             sass_model.blocks(kernel, used, sass_model.CARDS["H100"].shared)))
    return found


def print_model(found):
    sass_model.print_cards(found)
    sass_model.print_errors(read_known(MEASURED_SASS)[1], MEASURED)


def main():
    if "--model" in sys.argv:
        print_model(read_known()[1])
        return 0
    nvcc, nvdisasm = os.environ.get("NVCC") or shutil.which("nvcc"), find_tool("nvdisasm")
    extract = not os.environ.get("OBJECTS") or find_tool("cuobjdump")
    if not nvcc or not nvdisasm or not extract:
        print("SKIPPED: %s is not there" % ("nvcc" if not nvcc else "cuobjdump" if nvdisasm else "nvdisasm"))
        return 77
    version = subprocess.run([nvcc, "--version"], stdout=subprocess.PIPE, check=True).stdout.decode()
    version = re.search(r"release [\d.]+, V[\d.]+", version).group(0)
    found = measure(nvcc, nvdisasm)
    if "--write" in sys.argv:
        with open(KNOWN, "w") as f:
            f.write("# Instructions of main loops, made by tests/cuda/sass.py --write with this nvcc: kernel,\n"
                    "# %s.\n%s\n" % (", ".join(COLUMNS), version))
            f.writelines("%s\t%s\n" % (k, "\t".join(str(c[n]) for n in COLUMNS)) for k, c in sorted(found.items()))
    wanted, known = read_known()
    bad = [k for k, c in found.items() if c["local"]]
    if wanted == version:
        bad += [k for k, c in known.items()
                if k not in found or any(found[k][n] > 1.02 * c[n] for n in ("turn", "loop"))]
        bad += [k for k in found if k not in known]
    else:
        print("not compared: %s is about nvcc %s, this is %s" % (KNOWN, wanted, version))
    print_model(found)
    for kernel in bad:
        print("FAILED: %s has grown from %s (turn, loop), keeps something in local memory, or has no main loop any more"
              % (kernel, [known[kernel][n] for n in ("turn", "loop")] if kernel in known else "nothing"))
    return 1 if bad or not found else 0


if __name__ == "__main__":
    sys.exit(main())
