#!/bin/bash
# demo.sh build/tandem - decodes jobs/demo.yaml with an attention rank and an FFN rank, and says how many of the
# questions were answered right.
set -eu
cd "$(dirname "$0")/.."
tandem=$1
rm -rf output/demo.h5 output/demo.tokens.h5 output/demo.steps.h5 output/demo.h5.partial
SHOW=1 tests/mpirun 2 "$tandem" run jobs/demo.yaml
echo
# The right answer travels beside its question (a column of the prompts file), and both are JSON strings here.
"$tandem" export output/demo.h5 | awk '
function field(name) {
    if (!match($0, "\"" name "\": \"([^\"\\\\]|\\\\.)*\"")) return ""
    value = substr($0, RSTART + length(name) + 5, RLENGTH - length(name) - 6)
    gsub(/\\"/, "\"", value)
    return value
}
field("task") == "definition" { defined = defined "  " field("question") "  " field("text") "\n"; next }
{ asked++ }
field("text") == field("answer") { right++; if (!shown[field("task")]++) print "  " field("question") "  " field("text"); next }
{ missed = missed "  " field("question") "  " field("text") "  (right: " field("answer") ")\n" }
END {
    print "\n" right + 0 " of " asked " right" (missed ? "; not these:\n" missed : "\n") "\nAnd words that it was never told about:\n" defined
}'
echo "All completions are in output/demo.h5 (h5py, pandas, or $tandem export output/demo.h5)."
