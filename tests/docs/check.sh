#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh SOURCE_ROOT
#
#  - Every function that a public header exports has one row in docs/calls.md, and
#    every row is about such a function.
#  - The comment before each of them has the word Context: where it may be called. (One
#    comment may be about several that follow each other.)
#  - Relative links in the documents lead to files that exist.
#  - The tests and seeded faults that docs/claims.md names exist.
#  - Who wants to write a backend is led to one place from wherever it is spoken of.
set -euo pipefail

cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
	echo "FAIL: $*"
	failures=$((failures + 1))
}

# A declaration begins with ASPACE_API and may go over lines: one a line, then the
# name before its first parenthesis.
find include -name '*.h' -print0 | xargs -0 cat | tr '\n\t' '  ' |
	grep -oE 'ASPACE_API [^;#]*;' | grep -oE 'aspace_[a-z0-9_]+ *\(' | tr -d ' (' |
	sort >"$work/exported"
# The first cell of a row may name several calls. The table of callbacks has fewer columns.
# shellcheck disable=SC2016 # the backticks are Markdown's
awk -F'|' 'NF == 9 { print $2 }' docs/calls.md | grep -oE '`aspace_[a-z0-9_]+`' |
	tr -d '`' | sort >"$work/rows"

[[ -s $work/exported ]] || fail "no function found in include/"
while read -r name; do
	fail "$name is not in the tables of docs/calls.md"
done < <(comm -23 <(sort -u "$work/exported") <(sort -u "$work/rows"))
while read -r name; do
	fail "docs/calls.md has a row for $name, which no header exports"
done < <(comm -13 <(sort -u "$work/exported") <(sort -u "$work/rows"))
while read -r name; do
	fail "$name is in the tables of docs/calls.md more than once"
done < <(uniq -d "$work/rows")

# In each context of tests/conformance/test_conformance_contexts.c every call of aspace.h is made.
while read -r name; do
	grep -q "\b$name(" tests/conformance/test_conformance_contexts.c ||
		fail "$name is not asked for in tests/conformance/test_conformance_contexts.c"
done < <(tr '\n\t' '  ' <include/aspace/aspace.h | grep -oE 'ASPACE_API [^;#]*;' |
	grep -oE 'aspace_[a-z0-9_]+ *\(' | tr -d ' (')

# The comment that ended last before a declaration is the one about it.
while read -r where; do
	fail "$where: its comment says nothing about Context"
done < <(find include -name '*.h' -print0 | sort -z | xargs -0 awk '
	FNR == 1 { said = 0 }
	/^\/\*\*/ { said = 0; inside = 1 }
	inside && /[Cc]ontext/ { said = 1 }
	/\*\// { inside = 0 }
	/^ASPACE_API / && !said { print FILENAME ":" FNR }')

links=0
for file in README.md CHANGELOG.md docs/*.md; do
	while read -r link; do
		links=$((links + 1))
		[[ -e $(dirname "$file")/$link ]] || fail "$file links to $link, which is not there"
	done < <(grep -oE '\]\([^)#:]+[)#]' "$file" | sed -E 's/^\]\(//; s/[)#]$//')
done

# What docs/claims.md names in its columns of tests and seeded faults: DIR/FILE below tests/, without its
# ending, or DIR/FILE:FUNCTION.
# shellcheck disable=SC2016 # the backticks are Markdown's
awk -F'|' '/^\| / && NF == 5 { print $3 $4 }' docs/claims.md | grep -oE '`[^`]+`' | tr -d '`' |
	grep -E '^[a-z_0-9]+(/[A-Za-z_0-9.-]+(:[a-z_0-9]+)?)?$' >"$work/named"
named=0
while read -r name; do
	named=$((named + 1))
	file=${name%%:*}
	[[ $file == */* || -d tests/$file ]] || continue # a word of the sources
	mapfile -t found < <(compgen -G "tests/$file" || compgen -G "tests/$file.*")
	if ((!${#found[@]})); then
		fail "docs/claims.md names $file, which is not there"
	elif [[ $name == *:* ]] && ! grep -qw "${name#*:}" "${found[@]}"; then
		fail "docs/claims.md: ${name#*:} is not in $file"
	fi
done <"$work/named"
((named > 80)) || fail "docs/claims.md: only $named tests and faults found in its tables"

for file in README.md include/aspace/backend.h examples/custom_backend.c; do
	grep -q 'docs/backends\.md' "$file" || fail "$file does not say where to begin with a backend"
done
grep -q '^## Writing a backend$' docs/backends.md || fail "docs/backends.md is no place to begin"

((failures == 0)) || exit 1
echo "ok: $(wc -l <"$work/exported") exported functions, $links links"
