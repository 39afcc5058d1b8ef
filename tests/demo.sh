#!/bin/bash
# demo.sh build/tandem - decodes jobs/demo.yaml with an attention rank and an FFN rank, and shows
# some of the completions.
set -eu
cd "$(dirname "$0")/.."
tandem=$1
rm -rf output/demo.h5 output/demo.tokens.h5 output/demo.steps.h5 output/demo.h5.partial
SHOW=1 tests/mpirun 2 "$tandem" run jobs/demo.yaml
echo
for python in /usr/bin/python3 python3 ''; do
    [ -n "$python" ] && "$python" -c 'import h5py' 2>/dev/null && break
done
if [ -n "$python" ]; then
    "$python" - <<'END'
import h5py
prompts = h5py.File("input/prompts.h5")["text"].asstr()
done = h5py.File("output/demo.h5")
for prompt, text in list(zip(done["prompt"][:], done["text"].asstr()[:]))[:12]:
    print(f"  {prompts[prompt]} [{text.strip()}]")
END
    echo
    echo "Prompts, and in brackets what the model made of them; all are in output/demo.h5 (h5py, pandas,"
    echo "or $tandem export output/demo.h5)."
else
    "$tandem" export output/demo.h5 | head -n 12 || true
    echo
    echo "All completions are in output/demo.h5 (h5py, pandas, or $tandem export output/demo.h5)."
fi
