#!/bin/bash
# The page of a report in a real browser, headless: it renders, says nothing on the console, and asks no network.
# timeout: 120
. tests/mpi/lib.sh
need "$tandem"
browser=$(command -v chromium chromium-browser google-chrome | head -n 1)
[ -n "$browser" ] || skip "no Chromium is installed: the report is not looked at (apt-get install chromium)"
"$PYTHON" -c pass 2>/dev/null || skip "python3 is not installed"
job=tests/mpi/job.yaml
decode out 2 prompts.count=20 || fail decode
"$tandem" report "$work/out.h5" --html "$work/page.html" || fail "report --html"
# Where everything asked of a network would be heard of: a proxy that is not there.
look() { # ARGUMENT...
    timeout 60 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$work/profile" \
        --proxy-server=127.0.0.1:9 --enable-logging=stderr --v=0 --log-level=0 "$@" "file://$work/page.html" 2>"$work/console"
}
look --window-size=700,2600 --screenshot="$work/page.png" >/dev/null || fail "$browser: $(tail -5 "$work/console")"
grep -E 'CONSOLE' "$work/console" && fail "the page complains"
look --dump-dom >"$work/dom" || fail "the page is not read"
[ "$(grep -o '<svg' "$work/dom" | wc -l)" = 8 ] || fail "not eight charts"
grep -qE '(src|href)=' "$work/dom" && fail "the page asks for something"
# Every chart has left colour on the picture: rows of pixels that are not paper, over the whole height.
"$PYTHON" - "$work/page.png" <<'P' || fail "the picture"
import struct, sys, zlib
data = open(sys.argv[1], "rb").read()
at, pixels = 8, b""
while at < len(data):
    size, kind = struct.unpack(">I4s", data[at:at + 8])
    if kind == b"IHDR":
        width, height, depth, colour = struct.unpack(">IIBB", data[at + 8:at + 18])
    if kind == b"IDAT":
        pixels += data[at + 8:at + 8 + size]
    at += size + 12
assert depth == 8 and colour in (2, 6)
line = width * (3 if colour == 2 else 4) + 1
raw = zlib.decompress(pixels)
# What a row has more than the one above or the pixel before it: next to nothing where it is paper.
inked = [y for y in range(height) if len(set(raw[y * line + 1:(y + 1) * line])) > 4]
assert len(inked) > 300 and max(inked) > 1500, (len(inked), max(inked or [0]))
P
echo "looked at in $(basename "$browser")"
