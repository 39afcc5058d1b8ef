#!/bin/bash
# What explains the program is complete and fits the terminal: help of every subcommand, the commented
# job file, the manual page, completion.
# timeout: 60
. tests/mpi/lib.sh
need "$tandem"
"$tandem" keys | diff jobs/example.yaml - || fail "jobs/example.yaml is not what 'tandem keys' prints; write it again"
names=$("$tandem" help | sed -n 's/^  tandem \([a-z]*\) .*/\1/p')
[ "$(wc -w <<<"$names")" -ge 9 ] || fail "the list of subcommands: $names"
for name in $names; do
    "$tandem" "$name" --help >"$work/help" 2>"$work/errors" || fail "$name --help ends with $?"
    [ -s "$work/errors" ] && fail "$name --help complains: $(cat "$work/errors")"
    grep -q "^Usage: tandem $name" "$work/help" || fail "$name --help does not say how it is used"
    awk 'length > 80 { print; bad = 1 } END { exit bad }' "$work/help" || fail "$name --help is wider than 80 columns"
done
for way in help --help -h; do "$tandem" $way | grep -q 'tandem run' || fail "$way"; done
for way in version --version -V; do "$tandem" $way | grep -q '^kernels: plain' || fail "$way"; done
"$tandem" nonsense 2>"$work/errors" && fail "an unknown subcommand is no error"
grep -q "unknown command 'nonsense'" "$work/errors" || fail "what is unknown is not said"

"$tandem" generate "$work/none" family=none 2>"$work/errors" && fail "a family none"
grep -q 'family must be .*llama' "$work/errors" || fail "what families there are is not said"
for family in $(sed 's/.*family must be \(.*\), not.*/\1/; s/,//g; s/ or / /' "$work/errors"); do
    "$tandem" generate --help | tr '\n ,' '   ' | grep -q "[= ]$family " || fail "generate --help knows no family $family"
done

"$tandem" help bash >"$work/completion" && . "$work/completion" || fail "completion"
compopt() { :; } # only meant for a line being completed
COMP_WORDS=(tandem ex) COMP_CWORD=1 && _tandem && [ "${COMPREPLY[*]}" = export ] || fail "completion of a command: ${COMPREPLY[*]}"
COMP_WORDS=(tandem import --fo) COMP_CWORD=2 && _tandem && [ "${COMPREPLY[*]}" = "--format --force" ] ||
    fail "completion of an option: ${COMPREPLY[*]}"
COMP_WORDS=(tandem run --set schedule.sl) COMP_CWORD=3 && _tandem && [[ ${COMPREPLY[*]} == schedule.slots* ]] ||
    fail "completion of a key: ${COMPREPLY[*]}"

"$tandem" help man >"$work/tandem.1" || fail "the manual page"
for section in NAME SYNOPSIS COMMANDS "KEYS OF A JOB FILE" "EXIT STATUS"; do
    grep -q "^.SH $section" "$work/tandem.1" || fail "the manual page has no $section"
done
if command -v groff >/dev/null; then
    groff -ww -man -Tutf8 "$work/tandem.1" 2>"$work/errors" >/dev/null
    [ -s "$work/errors" ] && fail "groff: $(head -3 "$work/errors")"
fi

# What is installed works where it is, and goes again.
make -s -o "$BUILD/tandem" install CUDA=0 BUILD="$BUILD" DESTDIR= PREFIX="$work/usr" >"$work/log" 2>&1 || fail "install: $(tail -3 "$work/log")"
"$work/usr/bin/tandem" check "$work/usr/share/tandem/jobs/demo.yaml" --set output.file="$work/o.h5" >"$work/log" 2>&1 ||
    fail "the installed demo job: $(tail -3 "$work/log")"
grep -q "$work/usr/bin/tandem" "$work/usr/share/tandem/slurm/one-node.sh" || fail "installed job scripts start another program"
make -s uninstall CUDA=0 BUILD="$BUILD" DESTDIR= PREFIX="$work/usr" >/dev/null 2>&1
[ -z "$(find "$work/usr" -type f)" ] || fail "uninstall leaves $(find "$work/usr" -type f | head -3)"
echo "everything explains itself"
