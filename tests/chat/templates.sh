#!/bin/bash
# Chat templates against Jinja2: our own in tests/chat, each with random conversations.
# timeout: 60
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build} python=${PYTHON:-python3}
"$python" -c 'import jinja2' 2>/dev/null || { echo "python3-jinja2 is not installed"; exit 77; }
exec "$python" tests/chat/compare_jinja.py --count 150 "$build/tests/chat/render_chat" tests/chat/*.jinja
