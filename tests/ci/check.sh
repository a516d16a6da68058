#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh SOURCE_ROOT: the commands of ci/ explain themselves from any directory and through a
# link, and answer 2 to what they do not understand. Nothing is built.
set -euo pipefail

root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# expect STATUS COMMAND...
expect() {
	local want=$1 status=0

	shift
	"$@" >"$work/out" 2>&1 || status=$?
	if ((status != want)); then
		echo "FAIL: $*: $status, not $want"
		cat "$work/out"
		exit 1
	fi
}

count=0
for command in "$root"/ci/*; do
	[[ -x $command ]] || continue
	link=$work/$(basename "$command")-link
	ln -s "$command" "$link"
	for path in "$command" "$link"; do
		expect 0 "$path" --help
		grep -q '^usage: ci/' "$work/out" || { echo "FAIL: $path --help"; exit 1; }
		expect 2 "$path" no-such-thing
		count=$((count + 1))
	done
done
((count >= 8)) || { echo "FAIL: only $count commands"; exit 1; }
echo "ok: $count ways to call ci/*"
