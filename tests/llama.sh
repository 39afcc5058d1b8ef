#!/bin/bash
# llama.sh build/tandem - llama.py with a Python that has llama.cpp.
set -u
cd "$(dirname "$0")/.." || exit 1
folder=${BUILD:-build}/bench-peers
. tests/bench/llama_python.sh
"$python" tests/llama.py "$1"
