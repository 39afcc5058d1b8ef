#!/bin/bash
# The report of a job says what its files say, and its page is whole: well-formed charts, nothing that
# runs, nothing from elsewhere, whatever the prompts' errors and the job file contain.
# timeout: 120
. tests/mpi/lib.sh
need "$tandem"
"$PYTHON" -c 'import h5py' 2>/dev/null || skip "python3 with h5py is not installed"
printf '{"text": "harbor, noun:"}\n{"text": "to waltz, verb:"}\n{"text": "<script>&\\u0001"}\n{"text": ""}\n{"text": ""}\n' \
    >"$work/p.jsonl"
"$tandem" import "$work/p.jsonl" "$work/<b>p&.h5" >/dev/null || fail import
job=tests/mpi/job.yaml
decode out 2 prompts.file="$work/<b>p&.h5" prompts.count=all sampling.max_new_tokens=20 sampling.samples=3 || fail decode
"$tandem" report "$work/out.h5" >"$work/text" || fail report
"$tandem" report "$work/out.h5" --html "$work/page.html" || fail "report --html"
"$tandem" report "$work/out.h5" --card h100 >"$work/card" || fail "report --card"
"$tandem" report "$work/out.h5" --measure >"$work/measured" || fail "report --measure"
"$PYTHON" -c 'import sys; sys.exit(any(len(l) > 81 for l in open(sys.argv[1], encoding="utf-8")))' "$work/measured" || { cat "$work/measured"; fail "wider than 80 columns"; }
"$tandem" report "$work/out.h5" --card h101 2>"$work/errors" && fail "a card that nobody makes"
grep -q -e "--card wants" "$work/errors" || fail "its message: $(cat "$work/errors")"
"$tandem" report "$work/p.jsonl" 2>"$work/errors" && fail "a file that is no output is reported"
"$PYTHON" - "$work" <<'P' || fail "the report is not what the files say"
import h5py, html.parser, re, sys, xml.dom.minidom
work = sys.argv[1]
text, page = open(f"{work}/text").read(), open(f"{work}/page.html", encoding="utf-8").read()
with h5py.File(f"{work}/out.h5") as f:
    finish, count, prompt = f["finish"].asstr()[:], f["token_count"][:], f["prompt_tokens"][:]
    done = count > 0
    first = (f["first_token"][:] - f["admitted"][:])[done]
failed = sum(finish == "error")
assert failed == 6, failed
assert f"completions         15: {sum(finish == 'stop')} stopped, {sum(finish == 'length')} at their limit, 6 failed" in text, text
assert f"tokens              {sum(prompt)} of prompts, {sum(count)} of completions" in text, text
assert re.search(r"\n +6  .*empty", text), text
most = float(re.search(r"first token +(.*) ms", text)[1].split()[-1])
assert abs(most - first.max() * 1e3) <= 1e-3 * most, (most, first.max())
with h5py.File(f"{work}/out.steps.h5") as f:
    for rank in (0, 1):
        mine = f["rank"][:] == rank
        share = 100 * sum(f["wait"][:][mine]) / sum(f["total"][:][mine])
        line = re.search(rf"\n +{rank} +(\d+) (.*)", text)
        assert int(line[1]) == sum(f["steps"][:][mine])
        assert abs(float(line[2].split()[6]) - share) < 0.11, (line[0], share)
# Every row of every layer with experts chose as many as the router takes, no expert twice; one cell's
# attention rank counted, and the report's table is of these counts.
with h5py.File(f"{work}/out.steps.h5") as f:
    layer, expert, chosen, rows, rank = (f[k][:] for k in ("layer", "expert", "chosen", "rows", "rank"))
    about = layer >= 0
    assert about.any() and (rows[about] == 0).all() and (expert[~about] == -1).all() and (chosen[~about] == 0).all()
    computed = rows[(rank == 0) & ~about].sum()
    for l in set(layer[about]):
        each = {x: chosen[about & (layer == l) & (expert == x)].sum() for x in set(expert[about & (layer == l)])}
        total = sum(each.values())
        assert total % computed == 0 and total // computed in range(1, 9), (l, total, computed)
        assert max(each.values()) <= computed
        line = re.search(rf"\n +{l} +{total} +(\d+) +([0-9.]+) +(\d+)  .*", text)
        assert line and each[int(line[1])] == max(each.values()), (l, text)
# What every rank had to read and to make at least, counted anew from the shapes in config.json; and what the
# report makes of it: floors over roofs, shares of the time.
import json
config = json.load(open("input/demo/config.json"))
H, I, E = config["hidden_size"], config["moe_intermediate_size"], config["moe_num_experts"]
moe = [int(l) for l in config["moe_layers_enum"].split(",")]
dense = config["num_hidden_layers"] - len(moe)
every = 3 * H * (dense * config["intermediate_size"] + len(moe) * config["share_expert_dim"])
each = 3 * H * I * len(moe)
with h5py.File(f"{work}/out.steps.h5") as f:
    column = {k: f[k][:][f["layer"][:] < 0] for k in ("rank", "rows", "steps", "bytes", "operations", "attention", "ffn")}
    of = lambda k, rank: column[k][column["rank"] == rank].sum()
    rows, steps = of("rows", 1), of("steps", 1)
    assert of("operations", 1) == 2 * rows * (every + config["moe_top_k"] * each), (of("operations", 1), rows)
    size = of("bytes", 1) / steps / (every + E * each)     # bytes a parameter, if all experts were met in every step
    assert 0.3 * 2 < size <= 2, size
    assert of("bytes", 0) > 0 and of("operations", 0) > 0
    for name, rank in (("attention", 0), ("ffn", 1)):
        floor = 1e3 * max(of("bytes", rank) / 3350e9, of("operations", rank) / 989e12) / of("steps", rank)
        works = 1e3 * (of("attention", rank) + of("ffn", rank)) / of("steps", rank)
        line = re.search(rf"\n  1 {name} +([0-9.]+) +[0-9.]+ +([0-9.]+) .* ([0-9.]+) +(\d+) %  memory", open(f"{work}/card").read())
        assert abs(float(line[1]) - of("rows", rank) / of("steps", rank)) < 0.06, line[0]
        assert abs(float(line[2]) - works) < 0.006 and abs(float(line[3]) - floor) < 0.006, (line[0], works, floor)
assert "roofs               not known: --measure" in text and "1A1F over " in text
assert re.search(r"roofs +[0-9.]+ GB/s, \d+ GFLOP/s", open(f"{work}/measured").read())
assert "a step against the roofline" in page
charts = re.findall(r"<svg.*?</svg>", page, re.S)
assert len(charts) == 8, len(charts)
for chart in charts:
    for node in xml.dom.minidom.parseString(chart).getElementsByTagName("*"):
        for name, value in node.attributes.items():
            assert "nan" not in value and "inf" not in value, (node.toxml())
class Page(html.parser.HTMLParser):
    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "link", "img", "iframe", "object", "b"), tag
        for name, value in attributes:
            assert name not in ("src", "href", "srcset") and not name.startswith("on"), (tag, name)
Page().feed(page)
assert "http" not in page and "url(" not in page and "&lt;b&gt;p&amp;.h5" in page
P

# Exports appear whole and never in place of what they are made from.
cp "$work/out.h5" "$work/before.h5"
"$tandem" export "$work/out.h5" --to "$work/out.h5" 2>"$work/errors" && fail "an export replaced its own source"
grep -q "is an HDF5 file" "$work/errors" && cmp "$work/out.h5" "$work/before.h5" || fail "the source of an export"
echo keep >"$work/lines"
"$tandem" export "$work/missing.h5" --to "$work/lines" 2>/dev/null && fail "an export of nothing"
[ "$(cat "$work/lines")" = keep ] || fail "a failed export emptied its target"
"$tandem" export "$work/out.h5" --to "$work/lines" 2>"$work/errors" && fail "a file was replaced that was there"
grep -q -e '--force' "$work/errors" && [ "$(cat "$work/lines")" = keep ] || fail "the file that was there"
"$tandem" export "$work/out.h5" --to "$work/lines" --force && "$tandem" export "$work/out.h5" | cmp - "$work/lines" || fail "export --to"
"$tandem" export "$work/out.h5" --to /dev/null && [ -c /dev/null ] || fail "export to a device"
echo "text and page"
