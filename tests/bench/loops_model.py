"""Cycles that instructions take at least, by the units of a processor core.

A core begins so many instructions a cycle (`slots`), loads and stores so many vectors, and its vector units
(numbered) each take one instruction a cycle, of the kinds that they know: (units, cycles of one of them).
What is needed most is what a loop waits for, unless its shortest chain of sums takes longer.

From AMD's Software Optimization Guides for EPYC 7003 (56665) and 9004 (57647), Intel's Optimization Reference
Manual (248966) and the tables of uops.info. Zen 3's were also measured, two kinds at a time, which is how
`sign` (VPSIGN, VPABS) came to share the units of multiply-adds. Of Intel's cores only what AVX2 code runs
with stands here, and of those that have what the AVX-512 kernels need, Golden Cove and Zen 4: both begin one
VDPBF16PS of 64 bytes a cycle, and Zen 4 does every operation of 64 bytes in two halves.
"""


class Core:
    def __init__(self, name, slots, loads, stores, units, latency, bytes=32):
        self.name, self.slots, self.loads, self.stores = name, slots, loads, stores
        self.units, self.latency, self.bytes = units, latency, bytes  # bytes: of the vectors that all this is about


def core(name, slots, units, latency, bytes=32, loads=2, stores=1, **others):
    return Core(name, slots, loads, stores, dict({k: (v, 1) for k, v in units.items()}, **others), latency, bytes)


def twice(units):
    return {kind: (on, 2) for kind, on in units.items()}


LATENCY = {"fma": 4, "dot": 6, "vnni": 4, "imul": 3, "fadd": 3, "half": 4, "cross": 3}  # others: 1
INTEL = {**LATENCY, "fadd": 4, "imul": 5, "dot": 6, "vnni": 5}
ZEN = {"fma": (0, 1), "imul": (0, 3), "fadd": (2, 3), "shift": (1, 2), "shuffle": (1, 2), "sign": (0, 1), "logic": (0, 1, 2, 3)}
ZEN4 = {**ZEN, "dot": (0, 1), "vnni": (0, 1), "half": (2, 3), "cross": (1, 2)}
LAKE = {"fma": (0, 1), "imul": (0, 1), "fadd": (0, 1), "shift": (0, 1), "sign": (0, 1), "logic": (0, 1, 5)}
COVE = {"fma": (0, 5), "imul": (0, 5), "vnni": (0, 5), "dot": (0,), "fadd": (0, 5), "shift": (0,), "logic": (0, 5), "shuffle": (5,), "cross": (5,)}
CORES = {
    "zen3": core("Zen 3", 6, ZEN, LATENCY, half=((2, 3), 2), cross=((1, 2), 2), div=((1,), 5)),
    "skylake": core("Skylake-SP", 4, {**LAKE, "shuffle": (5,), "cross": (5,)}, INTEL, half=((0, 1, 5), 2), div=((0,), 5)),
    "icelake": core("Ice Lake-SP", 5, {**LAKE, "shuffle": (1, 5), "cross": (5,)}, INTEL, half=((0, 1, 5), 2), div=((0,), 5)),
    "goldencove": core("Golden Cove", 6, COVE, INTEL, 64, half=((0, 5), 2), div=((0,), 10)),
    "zen4": Core("Zen 4", 6, 1, 0.5, dict(twice(ZEN4), div=((1,), 10)), LATENCY, 64),
}
PEAK = {32: 16, 64: 32}  # multiply-adds a cycle that limits.c counts: two VFMADD of 32 bytes, one VDPBF16PS of 64
# Where several things are needed nearly as much, a core does not find the best order of them: their cycles together
# are this norm of each alone. From loops of two and three kinds of instructions on Zen 3, all within 8 %.
TOGETHER = 6


def subsets(units):
    found = [()]
    for u in units:
        found += [s + (u,) for s in found]
    return [frozenset(s) for s in found if s]


def needs(core, counts, slots=None):
    """{what: cycles}; counts: {kind: instructions}, with "slots", "loads" and "stores" among them."""
    work = {}
    for kind, count in counts.items():
        if kind in core.units:
            on, cycles = core.units[kind]
            work[frozenset(on)] = work.get(frozenset(on), 0) + count * cycles
    result = {"slots": counts["slots"] / (slots or core.slots), "loads": counts["loads"] / core.loads,
              "stores": counts["stores"] / core.stores, "FMA": 0, "some": 0, "units": 0}
    fma, all_of = frozenset(core.units["fma"][0]), frozenset().union(*work)
    for some in subsets(sorted(all_of)):
        what = "FMA" if some == fma else "units" if some == all_of else "some"
        result[what] = max(result[what], sum(c for on, c in work.items() if on <= some) / len(some))
    return result


def chain(core, code):
    """Cycles of the longest chain of additions from one turn of a loop to the next."""
    longest, turns = 0, 3
    after = [(i.read, i.written, core.latency.get(i.kind, 0 if i.kind == "move" else 1)) for i in code if i.written]
    for start in {written for _, written, _ in after}:
        reached = {start: 0}
        for turn in range(1, turns + 1):
            for read, written, latency in after:
                since = [reached[r] for r in read if r in reached]
                if since:
                    reached[written] = max(since) + latency
                else:
                    reached.pop(written, None)
            longest = max(longest, reached.get(start, 0) / turn)
    return longest


def cycles(core, counts, chained=0, slots=None):
    """(cycles at least, cycles as it will be, what they are waited for)"""
    wanted = dict(needs(core, counts, slots), chain=chained)
    what = max(wanted, key=lambda w: wanted[w])
    return wanted[what], sum(c ** TOGETHER for c in wanted.values()) ** (1 / TOGETHER), what
