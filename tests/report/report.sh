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
