"""near.py A B TOLERANCE - whether two exports (JSON Lines with tokens and logprobs) say the same, as far
as rounding lets them: every logprob is within the tolerance, and tokens are equal until, for the first
time, two tokens are so close that either may be chosen; the logprobs of the two choices are then
within the tolerance as well. After that the texts have nothing to do with each other. Prints how many
completions are equal to the end."""
import json
import sys

a, b = ([json.loads(line) for line in open(path)] for path in sys.argv[1:3])
tolerance = float(sys.argv[3])
equal = 0
if len(a) != len(b) or not a:
    sys.exit(f"near: {len(a)} and {len(b)} completions")
for row, (x, y) in enumerate(zip(a, b)):
    if x.get("error") or y.get("error"):
        if x != y:
            sys.exit(f"near: row {row}: one is an error: {x} and {y}")
        continue
    same = x["tokens"] == y["tokens"]
    equal += same
    if len(x["tokens"]) == 0 or (same and len(x["logprobs"]) != len(y["logprobs"])):
        sys.exit(f"near: row {row} is empty, or has another length")
    for i, (s, t, p, q) in enumerate(zip(x["tokens"], y["tokens"], x["logprobs"], y["logprobs"])):
        if not abs(p - q) <= tolerance:
            sys.exit(f"near: row {row}, token {i}: {s} with {p}, {t} with {q}")
        if s != t:
            break
print(f"{equal} of {len(a)} completions equal to the end")
