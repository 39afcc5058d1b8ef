"""Counts the machine instructions of the kernels' main loops, by the pipe that runs them, and what that means.

    make sass     or: python3 tests/cuda/sass.py [--write | --model]      NVCC= NVDISASM= BUILD= OBJECTS= CUOBJDUMP=

From the counts come the times of sass_model.py, beside what was measured; --model prints only these, of the counts
in sass.txt.

The main loop of a kernel is the smallest loop that has all its HMMA instructions (mma.sync). `loop` are
all its instructions, with what it does only now and then (an epilogue, the border of a work item);
`turn` are those from the first HMMA to the last, and of these the pipes are counted. A loop inside, as
over the dimensions of a head of 256, is counted once and not as often as it runs. A product's turn has its
multiplications for one, two, ... pairs of groups of tokens one after another, of which one runs: `run` and
the pipes in sass.txt are those of the longest; of other kernels they are the turn's.
Fails when a loop or a turn is more than 2 % longer than tests/cuda/sass.txt says, or keeps something in
local memory; --write writes that file anew. Counts belong to a compiler: another version of nvcc than the one in the
file is not compared. OBJECTS: the folder of a build with code for sm_90 (build/kernels/cuda), to take its kernels
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
MEASURED = "tests/cuda/measured.txt"
COLUMNS = ("turn", "loop", "run", "hmma", "integer", "half", "float", "registers")  # of sass.txt
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
    """Yields (name, [(opcode, target or None)], {label: index of the instruction after it})."""
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
        said = re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*);", line)
        if said:
            target = re.search(r"`\((\.L_\S+)\)", said.group(2))
            code.append((said.group(1), target.group(1) if target else None))
    if name:
        yield name, code, labels


def main_loop(code, labels):
    """First and last instruction of the smallest loop that has every HMMA, or None."""
    at = [i for i, (op, _) in enumerate(code) if op.startswith("HMMA")]
    if not at:
        return None
    loops = [(labels[to], i) for i, (op, to) in enumerate(code)
             if op.startswith("BRA") and to in labels and labels[to] <= at[0] and i >= at[-1]]
    return min(loops, key=lambda l: l[1] - l[0]) if loops else None


def longest_run(code, labels, first, last):
    """First instruction and the one after the last of the run without jumps that has the most HMMA."""
    ends = {first, last + 1} | {i for i in labels.values() if first < i <= last}
    ends |= {i + 1 for i in range(first, last + 1) if code[i][0].startswith(("BRA", "EXIT", "RET"))}
    ends = sorted(ends)
    return max(zip(ends, ends[1:]), key=lambda r: sum(op.startswith("HMMA") for op, _ in code[r[0]:r[1]]))


def pipes(code):
    counts = dict.fromkeys([p[0] for p in PIPES] + ["integer"], 0)
    for op, _ in code:
        counts[pipe_of(op)] += 1
    return counts


def count(kernel, code, labels, loop):
    """Of the turn; of_run: what runs of it."""
    at = [i for i, (op, _) in enumerate(code) if op.startswith("HMMA")]
    begin, end = at[0], at[-1] + 1
    counts = pipes(code[begin:end])
    counts["turn"] = end - begin
    counts["loop"] = loop[1] + 1 - loop[0]
    counts["local"] = sum(pipe_of(op) == "local" for op, _ in code)
    if sass_model.is_product(kernel):
        begin, end = longest_run(code, labels, *loop)
    counts["of_run"] = dict(pipes(code[begin:end]), run=end - begin)
    return counts


def plain_name(mangled):
    name = subprocess.run(["c++filt", mangled], stdout=subprocess.PIPE, universal_newlines=True,
                          check=True).stdout
    return re.sub(r"^void |\(.*$", "", name.strip()).replace("(bool)0", "false").replace("(bool)1", "true")


def read_known():
    if not os.path.exists(KNOWN):
        return "", {}
    with open(KNOWN) as f:
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
    sass_model.print_errors(found, MEASURED)


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
