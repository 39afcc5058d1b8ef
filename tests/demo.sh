#!/bin/bash
# demo.sh build/tandem - decodes jobs/demo.yaml with an attention rank and an FFN rank, and shows
# some of the completions.
set -eu
tandem=$1
rm -rf output/demo.h5 output/demo.tokens.h5 output/demo.h5.partial
SHOW=1 tests/mpirun 2 "$tandem" run jobs/demo.yaml
echo
"$tandem" export output/demo.h5 | head -n 8 || true
echo
echo "All completions: output/demo.h5 ($tandem export output/demo.h5; h5py, pandas; see README.md)"
