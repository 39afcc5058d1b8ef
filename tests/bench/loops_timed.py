"""What loops_time ran and measured, beside the cycles that loops_model.py gives the very same instructions."""
import json
import os
import statistics
import subprocess

import loops_code
import loops_model


def this_core(wide):
    """Of loops_model.CORES, by what the system says of the processor. Of others the latest that is known."""
    said = {}
    with open("/proc/cpuinfo") as f:
        for line in f:
            name, _, value = line.partition(":")
            said.setdefault(name.strip(), value.strip())
    intel, model = said.get("vendor_id") == "GenuineIntel", int(said.get("model", 0))
    if wide:
        return loops_model.CORES["goldencove" if intel else "zen4"]
    if intel:
        return loops_model.CORES["skylake" if model == 85 else "icelake"]
    return loops_model.CORES["zen3"]


class Program:
    """The machine code of loops_time: the instruction at an address."""

    def __init__(self, path):
        self.at, self.main = {}, 0
        for function in loops_code.functions(path):
            if function.name == "main":
                self.main = int(function.lines[0][0], 16)
            for address, op, args in function.lines:
                self.at[int(address, 16)] = (op, args)

    def code(self, ran):
        found = (self.at.get(self.main + distance) for distance in ran)
        return [loops_code.instruction(*said) for said in found if said]


def results(path):
    """What loops_time says of every form and number of rows (the softmax: a score as a multiply-add), and cycles (of the model), measured and median (of all turns),
    instructions a multiply-add, binds, reach (the model's share of the peak). None, and why is printed: no
    program, or it could not run."""
    if not os.path.exists(path):
        print("not measured: no %s" % path)
        return None
    ended = subprocess.run([path], stdout=subprocess.PIPE, universal_newlines=True)
    if ended.returncode:
        print("not measured: " + ("a processor without AVX2" if ended.returncode == 77 else "%s ended with status %d" % (path, ended.returncode)))
        return None
    program, said = Program(path), [json.loads(line) for line in ended.stdout.splitlines()]
    flops = statistics.median(r.pop("peak") for r in said)  # others may have had the core all the while that one took
    for r in said:
        core = this_core(r["backend"] == "avx512")
        peak = loops_model.PEAK[core.bytes]
        steps = loops_code.steps_of(program.code(r.pop("ran")))
        r["core"], r["cycles"] = core.name, loops_model.run(core, 2 * steps) - loops_model.run(core, steps)  # calls overlap
        hertz = flops / (2 * peak)
        r["measured"], r["median"], r["slots"] = r.pop("seconds") * hertz, r["median"] * hertz, r.pop("begun") / hertz
        r["each"] = len(steps) * core.bytes / 4 / r["macs"]
        r["binds"] = loops_model.binds(core, loops_code.count(steps), r["cycles"])
        r["reach"] = r["macs"] / r["cycles"] / peak
        r["reached"] = r["macs"] / r["measured"] / peak
    return said


def print_results(said):
    print("%s, one thread, all in the first cache: instructions a multiply-add, what binds, cycles of the model, of the fastest\n"
          "tenth of turns and of the median, share of the peak by the model and of the fastest, error of the model, and the\n"
          "instructions a cycle that the core could begin meanwhile: what is missing went to another hardware thread of it" % said[0]["core"])
    print("%-8s %4s %12s  %-6s %8s %9s %8s %7s %9s %7s %6s" % (
        "form", "rows", "instructions", "binds", "model", "measured", "median", "model", "measured", "error", "slots"))
    for r in said:
        r["error"] = r["cycles"] / r["measured"] - 1
        print("%-8s %4d %12.2f  %-6s %8.0f %9.0f %8.0f %5.0f %% %7.0f %% %+5.0f %% %6.1f" % (
            r["form"], r["rows"], r["each"], r["binds"], r["cycles"], r["measured"], r["median"], 100 * r["reach"], 100 * r["reached"],
            100 * r["error"], r["slots"]))
    most = max(c.slots for c in loops_model.CORES.values() if c.name == said[0]["core"])
    print_error("error of the model", said)
    print_error("where the thread had nine tenths of the slots", [r for r in said if r["slots"] > 0.9 * most])


def print_error(where, said):
    sizes = sorted(abs(r["error"]) for r in said)
    if sizes:
        print("%s: median %.0f %%, largest %.0f %%, of %d" % (where, 100 * statistics.median(sizes), 100 * sizes[-1], len(sizes)))
