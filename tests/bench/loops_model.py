"""Cycles that instructions take, by the units of a processor core.

A core begins so many instructions a cycle (`slots`), loads and stores so many vectors, and its vector units
(numbered) each take one instruction a cycle of the kinds that they know: (units, cycles of one of them). needs() says how
long each would take alone. run() lets instructions wait for each other: begun in order, done when their factors are there
and a unit is free, the oldest first; at most `window` of those for vector units wait, at most `kept` are under way.

From AMD's Software Optimization Guides for EPYC 7003 (56665) and 9004 (57647), Intel's Optimization Reference
Manual (248966) and the tables of uops.info. Zen 3's units were also measured, two and three kinds at a time, which is how
`sign` (VPSIGN, VPABS) came to share those of multiply-adds; Zen 4's with vectors of 64 bytes, which it does in two halves:
a broadcast from memory is a shuffle there, unless it is an operand of a product. Of Intel's cores only what AVX2 code runs with stands here,
and of those that have what the AVX-512 kernels need, Golden Cove and Zen 4: both begin one VDPBF16PS of 64 bytes a
cycle. None of Intel's was tried.
"""
import itertools

LATENCY = {"fma": 4, "dot": 6, "vnni": 4, "imul": 3, "fadd": 3, "half": 4, "cross": 3, "move": 0}  # others: 1
INTEL = {**LATENCY, "fadd": 4, "imul": 5, "vnni": 5}
LOADED = 8  # cycles until a vector is there, from the first cache
FORWARD = 5  # ... from a store before it: fitted to tiles that keep sums on the stack, which say 4 to 8
ENDED = 8  # instructions a cycle at most


class Core:
    def __init__(self, name, slots, units, latency, window, kept, bytes=32, load_cycles=1, store_cycles=1, balanced=False, **others):
        self.name, self.slots, self.latency, self.window, self.kept = name, slots, latency, window, kept
        self.bytes = bytes  # of the vectors that all this is about
        self.units = dict({kind: (on, 1) for kind, on in units.items()}, **others)
        self.balanced = balanced  # every cycle of an instruction goes to the unit that has had least so far
        self.load_units = ("load 1", "load 2")
        self.load_cycles, self.store_cycles = load_cycles, store_cycles  # of a vector of 64 bytes

    def after(self, kind):
        return self.latency.get(kind, 1)


ZEN = {"fma": (0, 1), "imul": (0, 3), "fadd": (2, 3), "shift": (1, 2), "shuffle": (1, 2), "unpack": (1, 2), "sign": (0, 1), "logic": (0, 1, 2, 3)}
WIDE = {"fma": (0, 1), "dot": (0, 1), "vnni": (0, 1), "imul": (0, 3), "sign": (0, 1), "fadd": (3, 2), "shift": (3, 2), "shuffle": (2, 1), "cross": (2, 1),
        "table": (2, 1), "broadcast": (2, 1), "unpack": (3, 2, 1), "logic": (3, 2, 1, 0)}  # of equal ones the first
HALVES = {kind: (on, 2) for kind, on in WIDE.items()}
HALVES.update(half=((2, 1), 3), scale=((3, 2), 4), narrow=((3, 2), 3), div=((1,), 6))
LAKE = {"fma": (0, 1), "imul": (0, 1), "fadd": (0, 1), "shift": (0, 1), "sign": (0, 1), "logic": (0, 1, 5), "cross": (5,)}
COVE = {"fma": (0, 5), "imul": (0, 5), "vnni": (0, 5), "dot": (0,), "fadd": (0, 5), "shift": (0,), "logic": (0, 5), "shuffle": (5,), "cross": (5,),
        "unpack": (5,), "table": (5,), "scale": (0, 5), "narrow": (0, 5)}
CORES = {
    "zen3": Core("Zen 3", 6, ZEN, LATENCY, 64, 256, half=((2, 3), 2), cross=((1, 2), 2), div=((1,), 5)),
    "skylake": Core("Skylake-SP", 4, {**LAKE, "shuffle": (5,), "unpack": (5,)}, INTEL, 97, 224, half=((0, 1, 5), 2), div=((0,), 5)),
    "icelake": Core("Ice Lake-SP", 5, {**LAKE, "shuffle": (1, 5), "unpack": (1, 5)}, INTEL, 160, 352, half=((0, 1, 5), 2), div=((0,), 5)),
    "goldencove": Core("Golden Cove", 6, COVE, INTEL, 97, 512, 64, half=((0, 5), 2), div=((0,), 10)),
    "zen4": Core("Zen 4", 6, {}, {**LATENCY, "cross": 4, "half": 6, "table": 5, "scale": 6, "narrow": 7}, 64, 320, 64, 2, 2, True, **HALVES),
}
PEAK = {32: 16, 64: 32}  # multiply-adds a cycle that limits.c counts: two VFMADD of 32 bytes, one VDPBF16PS of 64


def needs(core, counts):
    """{what: cycles}; counts: those of loops_code.count()."""
    work = {}
    for kind, count in counts.items():
        if kind in core.units:
            on, cycles = core.units[kind]
            work[frozenset(on)] = work.get(frozenset(on), 0) + count * cycles
    result = {"slots": counts["slots"] / core.slots, "loads": (counts["loads"] + (core.load_cycles - 1) * counts["wide"]) / len(core.load_units),
              "stores": counts["stores"] * core.store_cycles, "FMA": 0, "units": 0}
    all_of, products = sorted(frozenset().union(*work)), [frozenset(core.units[k][0]) for k in ("fma", "dot") if k in core.units]
    for some in itertools.chain(*(itertools.combinations(all_of, n + 1) for n in range(len(all_of)))):
        what = "FMA" if frozenset(some) in products else "units"
        result[what] = max(result[what], sum(c for on, c in work.items() if on <= frozenset(some)) / len(some))
    return result


class Run:
    def __init__(self, core, slots):
        self.core, self.slots, self.number, self.vectors = core, slots, 0, 0
        self.begun, self.ended = 0.0, 0.0
        self.ready, self.stored = {}, {}  # by register; by address, as it is written
        self.waiting, self.under_way = [0] * core.window, [0] * core.kept
        self.busy = {unit: set() for on, _ in core.units.values() for unit in on}
        self.busy.update((unit, set()) for unit in core.load_units + ("store",))

    def earliest(self, on, cycle, cycles=1):
        """Takes the first free cycle of one of some units."""
        found, unit = None, None
        for one in on:
            at, busy = cycle, self.busy[one]
            while at in busy:
                at += 1
            if found is None or at < found:
                found, unit = at, one
        self.busy[unit].update(range(found, found + cycles))
        return found

    def share_out(self, on, cycle, cycles):
        for _ in range(cycles):
            unit = min(on, key=lambda one: len(self.busy[one]))
            at = self.earliest((unit,), cycle)
        return at

    def step(self, i, slots):
        core, n, v = self.core, self.number % self.core.kept, self.vectors % self.core.window
        self.begun = max(self.begun + slots / self.slots, self.under_way[n])
        done = start = int(self.begun) + 1
        for register in i.read:
            done = max(done, self.ready.get(register, 0))
        if i.loads:
            loaded = max(self.earliest(core.load_units, start, core.load_cycles if i.wide else 1) + LOADED, self.stored.get(i.place, 0) + FORWARD)
            done = max(done, loaded) if i.bytes else done  # nothing waits for a prefetch
        if i.stores:
            done = self.stored[i.place] = self.earliest(("store",), done, core.store_cycles)
        if i.kind in core.units:
            on, cycles = core.units[i.kind]
            from_cycle = max(done, self.waiting[v])
            at = self.share_out(on, from_cycle, cycles) if core.balanced else self.earliest(on, from_cycle, cycles)
            self.waiting[v] = at + 1
            self.vectors += 1
            done = at + core.after(i.kind)
        if i.written:
            self.ready[i.written] = done
        self.ended = max(self.ended + 1 / ENDED, done)
        self.under_way[n] = self.ended
        self.number += 1


def run(core, steps, slots=None):
    """Cycles of [(instruction, its slots)], one after the other."""
    r = Run(core, slots or core.slots)
    for i, of_it in steps:
        r.step(i, of_it)
    return r.ended


def run_loop(core, steps):
    """Cycles of one turn of a loop that has run for a while."""
    turns = max(4, 400 // len(steps))
    return (run(core, steps * 2 * turns) - run(core, steps * turns)) / turns


def binds(core, counts, cycles):
    """What instructions that take `cycles` wait for most: what is needed for most of the time, or each other."""
    wanted = needs(core, counts)
    what = max(wanted, key=lambda w: wanted[w])
    return what if wanted[what] > 0.75 * cycles else "order"
