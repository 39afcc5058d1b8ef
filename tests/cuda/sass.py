"""Counts the machine instructions of the kernels' main loops, by the pipe that runs them.

    make sass     or: python3 tests/cuda/sass.py [--write]      NVCC= NVDISASM= BUILD=

The main loop of a kernel is the smallest loop that has all its HMMA instructions (mma.sync). `loop` are
all its instructions, with what it does only now and then (an epilogue, the border of a work item);
`turn` are those from the first HMMA to the last, and of these the pipes are counted. A loop inside, as
over the dimensions of a head of 256, is counted once and not as often as it runs.
Fails when a loop or a turn is more than 2 % longer than tests/cuda/sass.txt says, or keeps something in
local memory; --write writes that file anew. Counts belong to a compiler: another version of nvcc than the one in the
file is not compared. nvdisasm comes with the CUDA Toolkit, or with the package
nvidia-cuda-nvdisasm; exit status 77 without it.
"""
import os
import re
import shutil
import subprocess
import sys

SM = "90"
FILES = ("linear", "ffn_up", "ffn_down", "attend", "attend_latent", "heads")
KNOWN = "tests/cuda/sass.txt"
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


def find_nvdisasm():
    named = os.environ.get("NVDISASM") or shutil.which("nvdisasm")
    if named:
        return named
    for folder in sys.path:
        for cuda in ("cu13", "cuda_nvdisasm"):
            path = os.path.join(folder, "nvidia", cuda, "bin", "nvdisasm")
            if os.path.exists(path):
                return path
    return None


def disassemble(nvcc, nvdisasm, folder, name):
    cubin = os.path.join(folder, name + ".cubin")
    subprocess.run([nvcc, "-O3", "-fmad=false", "-std=c++17", "-DTANDEM_CUDA", "-Isrc", "-I.",
                    "-arch=sm_" + SM, "-cubin", "-o", cubin, "kernels/cuda/%s.cu" % name], check=True)
    return subprocess.run([nvdisasm, "-c", cubin], check=True, stdout=subprocess.PIPE).stdout.decode()


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


def count(code, loop):
    counts = dict.fromkeys([p[0] for p in PIPES] + ["integer"], 0)
    at = [i for i, (op, _) in enumerate(code) if op.startswith("HMMA")]
    for op, _ in code[at[0]:at[-1] + 1]:
        counts[pipe_of(op)] += 1
    counts["turn"] = at[-1] + 1 - at[0]
    counts["loop"] = loop[1] + 1 - loop[0]
    counts["local"] = sum(pipe_of(op) == "local" for op, _ in code)
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
    return lines[0], {f[0]: (int(f[1]), int(f[2])) for f in (line.split("\t") for line in lines[1:])}


def measure(nvcc, nvdisasm):
    """{kernel: counts}, printed as they come."""
    folder = os.path.join(os.environ.get("BUILD", "build"), "sass")
    os.makedirs(folder, exist_ok=True)
    columns = ["turn"] + [p[0] for p in PIPES] + ["integer", "loop"]
    print("%-32s" % ("main loop, sm_" + SM), *("%7s" % c for c in columns), "  code KB")
    found = {}
    for name in FILES:
        for kernel, code, labels in functions(disassemble(nvcc, nvdisasm, folder, name)):
            loop = main_loop(code, labels)
            if not loop:
                continue
            kernel = plain_name(kernel)
            found[kernel] = counts = count(code, loop)
            print("%-32s" % kernel, *("%7d" % counts[c] for c in columns),
                  "%9.1f" % (len(code) * 16 / 1024))
    return found


def main():
    nvcc, nvdisasm = os.environ.get("NVCC") or shutil.which("nvcc"), find_nvdisasm()
    if not nvcc or not nvdisasm:
        print("SKIPPED: %s is not there" % ("nvdisasm" if nvcc else "nvcc"))
        return 77
    version = subprocess.run([nvcc, "--version"], stdout=subprocess.PIPE, check=True).stdout.decode()
    version = re.search(r"release [\d.]+, V[\d.]+", version).group(0)
    found = measure(nvcc, nvdisasm)
    if "--write" in sys.argv:
        with open(KNOWN, "w") as f:
            f.write("# Instructions of main loops, made by tests/cuda/sass.py --write with this nvcc: kernel,\n# turn, loop.\n%s\n" % version)
            f.writelines("%s\t%d\t%d\n" % (k, c["turn"], c["loop"]) for k, c in sorted(found.items()))
    wanted, known = read_known()
    bad = [k for k, c in found.items() if c["local"]]
    if wanted == version:
        bad += [k for k, (turn, loop) in known.items()
                if k not in found or found[k]["turn"] > 1.02 * turn or found[k]["loop"] > 1.02 * loop]
    else:
        print("not compared: %s is about nvcc %s, this is %s" % (KNOWN, wanted, version))
    for kernel in bad:
        print("FAILED: %s has grown from %s (turn, loop), keeps something in local memory, or has no main loop any more"
              % (kernel, known.get(kernel, "nothing")))
    return 1 if bad or not found else 0


if __name__ == "__main__":
    sys.exit(main())
