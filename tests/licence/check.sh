#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh SOURCE_ROOT: every tracked file names its licence in a line of its own, or
# REUSE.toml does so for it. (Without git: every file outside of build/.)
set -euo pipefail

cd "$1"
failures=0
files=0

mapfile -t elsewhere < <(sed -n 's/^    "\(.*\)",$/\1/p' REUSE.toml)
((${#elsewhere[@]})) || { echo "FAIL: REUSE.toml names no path"; exit 1; }

# in_reuse FILE: does a path of REUSE.toml cover it?
in_reuse() {
	local pattern
	for pattern in "${elsewhere[@]}"; do
		# shellcheck disable=SC2053 # a pattern it is
		[[ $1 != $pattern ]] || return 0
	done
	return 1
}

while read -r file; do
	[[ -f $file ]] || continue # deleted, not committed
	files=$((files + 1))
	if ! grep -qE 'SPDX-License-Identifier: MIT( |$)' "$file" && ! in_reuse "$file"; then
		echo "FAIL: $file has no line SPDX-License-Identifier: MIT"
		failures=$((failures + 1))
	fi
# optional: git, which knows what is tracked
done < <(git ls-files 2>/dev/null | grep . || find . \( -path ./build -o -path ./.git \) -prune \
	-o -type f -printf '%P\n')

((failures == 0 && files)) || exit 1
echo "ok: $files files"
