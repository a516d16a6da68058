#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh README EXAMPLE COMPILER ARGUMENT...
#
# The first C program in the README is EXAMPLE, compiles without a warning, runs, and
# says what the block after it shows.
set -euo pipefail

readme=$1
example=$2
cc=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# block INFO_STRING: the first fenced block of that kind.
block() {
	awk -v open="^\`\`\`$1\$" '!inside && $0 ~ open { inside = 1; next }
		inside && /^```$/ { exit } inside' "$readme"
}

block c >"$work/first.c"
block text >"$work/expected"
if [[ ! -s $work/first.c || ! -s $work/expected ]]; then
	echo "FAIL: $readme lacks a program (\`\`\`c) or what it says (\`\`\`text)"
	exit 1
fi
if ! diff -u <(sed '/^\/\*.*\*\/$/d' "$example") "$work/first.c"; then
	echo "FAIL: the program is not $example"
	exit 1
fi
"$cc" -std=c11 -Wall -Wextra -Werror "$work/first.c" -o "$work/first" "$@"
"$work/first" >"$work/out"
if ! diff -u "$work/expected" "$work/out"; then
	echo "FAIL: the program does not say what the README shows"
	exit 1
fi
echo "ok: $(wc -l <"$work/first.c") lines of C, $(wc -l <"$work/out") lines of output"
