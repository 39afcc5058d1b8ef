#!/bin/bash
# The questions that the chat model is trained on and asked: answers against other ways to them, held-out
# questions in no training; and they are prompts as they are.
# timeout: 60
. tests/mpi/lib.sh
need "$tandem"
"$PYTHON" input/tasks.py --check || fail "the generators"
"$PYTHON" input/tasks.py --ask 3 >"$work/ask.jsonl" || fail "--ask"
"$tandem" import "$work/ask.jsonl" "$work/ask.h5" | grep -q ': 30 prompts$' || fail "they are no prompts"
