#!/usr/bin/env python3
"""Writes src/text/unicode_table.c: which characters the properties of split patterns have gained.

Hugging Face tokenizers matches split patterns with Oniguruma and the tables of Unicode 16.0; PCRE2
brings its own tables, those of Unicode 11 to 15 on the distributions of today. Properties of assigned
characters hardly change, so what differs is the characters assigned later, and a few that gained a
property: they are listed here and added to the property in every pattern (src/text/translate.c).

Needs: the tokenizers package (asked for the truth, character by character) and perl with Unicode
tables of Unicode 11 to 14 (asked which of them were known before).

    python3 tests/text/make_unicode.py        # from the root of the repository
"""
import subprocess

import tokenizers
from tokenizers import Regex, pre_tokenizers

BASE = "11.0"
CATEGORIES = ("L Lu Ll Lt Lm Lo M N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp "
              "Alphabetic").split()
SCRIPTS = "Han Hiragana Katakana Hangul Latin Greek Cyrillic Arabic Hebrew Thai".split()
CODES = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, CODES))


def matched(pattern):
    """The characters that Hugging Face tokenizers matches with a pattern."""
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return {ord(c) for piece, _ in split.pre_tokenize_str(TEXT) for c in piece}


def known(name, script):
    """The code points assigned in Unicode BASE that have the property in perl's newer tables."""
    script = ("for my $c (0..0x10ffff) { next if $c >= 0xd800 && $c < 0xe000; my $s = chr($c);"
              " print \"$c\\n\" if $s =~ /\\p{Present_In: %s}/ && $s =~ /\\p{%s%s}/ }" %
              (BASE, "Script=" if script else "", name))
    out = subprocess.run(["perl", "-e", script], check=True, capture_output=True, text=True)
    return set(map(int, out.stdout.split()))


def ranges(codes):
    """Sorted, inclusive ranges."""
    out = []
    for c in sorted(codes):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def c_ranges(rs):
    """Ranges as lines of a C initializer."""
    items = ["{0x%x, 0x%x}," % tuple(r) for r in rs]
    lines, line = [], "   "
    for item in items:
        if len(line) + 1 + len(item) > 100:
            lines.append(line)
            line = "   "
        line += " " + item
    return "\n".join(lines + [line])


def main():
    out = [
        "/* Written by tests/text/make_unicode.py with tokenizers %s; do not edit. */" %
        tokenizers.__version__, '#include "text/unicode.h"', "", "/* clang-format off */"
    ]
    rows = []
    for kind, names in (("0", CATEGORIES), ("1", SCRIPTS)):
        for name in names:
            extra = ranges(matched("\\p{%s}" % name) - known(name, kind == "1"))
            array = "NULL"
            if extra:
                array = "extra_" + name
                out += ["static const struct unicode_range %s[] = {" % array, c_ranges(extra), "};"]
            rows.append('    {"%s", %s, %s, %d},' %
                        (name, "true" if kind == "1" else "false", array, len(extra)))
    out += ["", "const struct unicode_property unicode_properties[] = {"] + rows
    out += [
        "};", "const size_t unicode_property_count = sizeof unicode_properties / "
        "sizeof unicode_properties[0];", ""
    ]
    with open("src/text/unicode_table.c", "w", encoding="ascii") as f:
        f.write("\n".join(out))


if __name__ == "__main__":
    main()
