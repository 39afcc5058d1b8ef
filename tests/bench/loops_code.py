"""Machine code of x86-64 as objdump prints it: functions, their innermost loops, and what an instruction does."""
import functools
import re
import subprocess

KINDS = (  # the first that begins the opcode; what loads and stores beside it is said by its operands
    ("dot", ("vdpbf16ps",)),
    ("vnni", ("vpdpbusd",)),
    ("fma", ("vfmadd", "vfnmadd", "vfmsub", "vmulp", "vmuls")),
    ("imul", ("vpmadd", "vpmull", "vpmulh")),
    ("half", ("vcvtph2ps",)),
    ("narrow", ("vcvtne",)),
    ("scale", ("vscalef", "vreduce")),
    ("fadd", ("vaddp", "vadds", "vsubp", "vsubs", "vcvt", "vmaxp", "vminp", "vround", "vrndscale", "vcmp")),
    ("shift", ("vpsll", "vpsrl", "vpsra")),
    ("cross", ("vpmovsx", "vpmovzx", "vpermq", "vpermd", "vpermp", "vinsert", "vextract")),
    ("table", ("vpermi2", "vpermt2", "vpermb")),
    ("unpack", ("vpunpck",)),
    ("shuffle", ("vpshuf", "vunpck", "vperm", "vpalign", "vpack", "vshuf", "vpslldq", "vpsrldq", "vmovh", "vmovl")),
    ("sign", ("vpsign", "vpabs", "vpaddus", "vpsubus", "vblend", "vpblend")),
    ("logic", ("vpand", "vand", "vpor", "vor", "vpxor", "vxor", "vpternlog", "vpadd", "vpsub", "vpcmp")),
    ("div", ("vdiv", "vsqrt")),
)
MACS = {"fma": 1, "dot": 2, "imul": 4, "vnni": 4}  # multiply-adds, for every 4 bytes of a vector
BYTES = {"x": 16, "y": 32, "z": 64}
FUSED = ("cmp", "test", "add", "sub", "inc", "dec", "and", "or", "xor")  # with the jump behind them


MULTIPLIES = re.compile(r"vf(n?m)(add|sub)|vdpbf16ps|vpdpbusd|vpmaddubsw")
PREFIX = re.compile(r"^(?:(?:data16|cs|rep|lock|notrack|bnd|\{evex\}|\{vex\}) )+")
MEMORY = re.compile(r"[-\w]*\(([^)]*)\)")
REGISTER = re.compile(r"%([xyz])mm(\d+)")


class Instruction:
    """kind: of KINDS, or load, store, broadcast (from memory), move, prefetch, jump, scalar."""

    def __init__(self, op, args):
        self.op, self.args = op, args
        memory, vectors = MEMORY.search(args), REGISTER.findall(args)
        self.base, self.place = (memory.group(1), memory.group(0)) if memory else (None, None)
        self.bytes = max((BYTES[v] for v, _ in vectors), default=0)
        self.stores = bool(memory) and args.rstrip("}kz%{01234567").endswith(")") and op.startswith(("mov", "vmov"))
        self.kind = self.find_kind(op, bool(memory))
        self.loads = bool(memory) and not self.stores and not op.startswith(("lea", "nop"))
        self.wide = self.loads and self.bytes == 64 and self.kind != "broadcast"
        self.slots = 2 if op.startswith(("vpmovsx", "vpmovzx", "vcvtph", "vpermq")) else 1
        self.read = [n for _, n in vectors]
        self.written = self.read.pop() if vectors and not self.stores and REGISTER.search(args.rpartition(" " if " " in args else ",")[2]) else None
        if self.written and (self.kind in ("dot", "vnni") or op.startswith(("vfm", "vfnm", "vpternlog", "vpermi2", "vpermt2"))):
            self.read.append(self.written)

    def find_kind(self, op, memory):
        if op.startswith("prefetch"):
            return "prefetch"
        if op.startswith("j"):
            return "jump"
        if not self.bytes:
            return "scalar"
        if self.stores:
            return "store"
        if "broadcast" in op:
            return "broadcast" if memory else "cross"
        if op in ("vmovd", "vmovq") and not memory:
            return "cross"
        return next((kind for kind, starts in KINDS if op.startswith(starts)), "load" if memory else "move")

    def macs(self):
        """Multiply-adds of one number, if it is one of those that make a product."""
        return MACS[self.kind] * self.bytes // 4 if MULTIPLIES.match(self.op) else 0


@functools.lru_cache(None)
def instruction(op, args):
    return Instruction(op, args)


class Function:
    """lines: [(address, opcode, operands)]; loops: [(first, last)] of lines, the innermost that multiply."""

    def __init__(self, name, lines):
        self.name, self.lines = name, lines
        self.loops = self.find_loops() if any(MULTIPLIES.match(op) for _, op, _ in lines) else []

    def find_loops(self):
        at, all_of, inner = {}, [], {}
        for n, (address, op, args) in enumerate(self.lines):
            at[address] = n
            if op[0] == "j" and args.split(" ")[0] in at:
                all_of.append((at[args.split(" ")[0]], n))
        integers = any(op == "vpmaddubsw" or op == "vpdpbusd" for _, op, _ in self.lines)
        for n, (_, op, _) in enumerate(self.lines):
            if MULTIPLIES.match(op) and (op in ("vpmaddubsw", "vpdpbusd") or not integers):
                around = [l for l in all_of if l[0] <= n <= l[1]]
                if around:
                    loop = min(around, key=lambda l: l[1] - l[0])
                    inner[loop] = inner.get(loop, 0) + 1
        most = max(inner.values(), default=0)
        return sorted(loop for loop, count in inner.items() if 2 * count >= most)

    def code(self, span):
        return [instruction(op, args) for _, op, args in self.lines[span[0]:span[1] + 1]]

    def in_frame(self, code):
        """Those of some instructions that read or write a vector of the stack frame."""
        frame = any(op == "mov" and args == "%rsp,%rbp" for _, op, args in self.lines[:40])
        bases = ("%rsp", "%rbp") if frame else ("%rsp",)
        return [i for i in code if i.bytes and i.base and i.base.startswith(bases)]


def steps_of(code):
    """[(instruction, the slots that it takes)] of instructions one after the other."""
    return [(i, 0 if i.kind == "jump" and before and before.op.rstrip("blqw") in FUSED else i.slots)
            for before, i in zip([None] + code, code)]


def count(steps):
    """{kind: instructions}, and slots, loads, stores, and wide: loads of 64 bytes."""
    counts = {"slots": 0, "loads": 0, "stores": 0, "wide": 0}
    for i, slots in steps:
        counts[i.kind] = counts.get(i.kind, 0) + 1
        counts["slots"] += slots
        counts["loads"] += i.loads
        counts["wide"] += i.wide
        counts["stores"] += i.stores
    return counts


def is_x86_64(path):
    """Of an ELF object, by its header: e_machine."""
    with open(path, "rb") as f:
        header = f.read(20)
    return header[:4] == b"\x7fELF" and header[18:20] == b"\x3e\0"


def functions(path):
    """Of an object or a program, in the order in which they stand."""
    text = subprocess.run(["objdump", "-dw", "--no-show-raw-insn", path], check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout
    name, lines = None, []
    for line in text.splitlines():
        if line.endswith(">:"):
            if name:
                yield Function(name, lines)
            name, lines = line.partition("<")[2][:-2], []
        elif line.startswith(" ") and ":\t" in line:
            address, _, said = line.partition(":\t")
            op, _, args = PREFIX.sub("", said).partition(" ")
            lines.append((address.strip(), op.strip(), args.split("#")[0].strip()))
    if name:
        yield Function(name, lines)


def compiler(path):
    """"gcc 12.2", "clang 14.0", ... or "another compiler"."""
    said = subprocess.run(["objdump", "-s", "-j", ".comment", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True).stdout
    text = "".join(line[-16:] for line in said.splitlines() if re.match(r" [0-9a-f]{4}", line))
    found = re.search(r"(GCC|clang).*?(\d+\.\d+)\.", text)
    return "%s %s" % (found.group(1).lower(), found.group(2)) if found else "another compiler"
