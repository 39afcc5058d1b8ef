"""peers_table.py FOLDER WAYS BATCHES - what peers.sh measured: markdown, and lines of JSON. A way is PEER-FORMAT."""
import json
import os
import statistics
import sys

CONTEXT, QUIET = 512, 0.98


def spread(values, form):
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def rate(bench, batch):
    return [s["tokens_per_second"] for s in bench["steps"] if (s["batch"], s["context"]) == (batch, CONTEXT) and s["seconds"]]


def main():
    folder, ways, batches = sys.argv[1], sys.argv[2].split(), [int(b) for b in sys.argv[3].split()]
    cores, lines = [], []
    out = [f"Tokens/s, context {CONTEXT}:", "", "| weights | batch | Tandem | peer | | ratio |", "|---|---|---|---|---|---|"]
    for name in ways:
        theirs = [[float(v) for v in line.split()] for line in open(f"{folder}/{name}.turns")]
        peer = open(f"{folder}/{name}.version").read().strip()
        for way in (name, name + " int8"):
            if not os.path.exists(f"{folder}/{way}.1.json"):
                continue
            ours = [json.load(open(f"{folder}/{way}.{i + 1}.json")) for i in range(len(theirs))]
            cores += [o["machine"]["cores"] for o in ours]
            weights = name.split("-")[1] + ("" if way == name else ", products: int8")
            for j, batch in enumerate(batches):
                mine = [v for o in ours for v in rate(o, batch)]
                if len(mine) < len(ours):
                    out.append(f"| {weights} | {batch} | not measured: more seconds | {peer} | | |")
                    continue
                other, ratio = [t[j] for t in theirs], [m / t[j] for m, t in zip(mine, theirs)]
                out.append(f"| {weights} | {batch} | {spread(mine, '.1f')} | {peer} | {spread(other, '.1f')} | {spread(ratio, '.2f')} |")
                lines.append(
                    {"weights": weights, "batch": batch, "context": CONTEXT, "tandem": mine, "peer": peer, "theirs": other, "ratio": statistics.median(ratio), "cores": min(cores)}
                )
    quiet = "quiet" if min(cores) >= QUIET else "NOT quiet, so that the figures say little"
    out += ["", f"The machine was {quiet}: threads that never wait got {100 * min(cores):.1f} % of their cores in the worst turn."]
    with open(folder + "/peers.jsonl", "w") as f:
        f.writelines(json.dumps(l) + "\n" for l in lines)
    with open(folder + "/readme.md", "w") as f:
        f.write("\n".join(out) + "\n")
    print("\n".join(out))


main()
