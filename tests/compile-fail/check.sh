#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh INCLUDE_DIR COMPILER...
#
# mixing.c, case 0, compiles; every other case does not, and for the right
# reason: the compiler complains about types. (C requires a diagnostic where a
# pointer of the wrong type is passed; that it is an error must be asked for
# before gcc 14.)
set -euo pipefail

include=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
cases=$(grep -c '^#elif CASE ==' "$here/mixing.c")
failures=0

for cc in "$@"; do
	for ((n = 0; n <= cases; n++)); do
		status=0
		output=$("$cc" -std=c11 -Werror=incompatible-pointer-types \
			-fsyntax-only -I"$include" -DCASE=$n \
			"$here/mixing.c" 2>&1) || status=$?
		if ((n == 0 && status == 0)); then
			echo "ok   $cc: the good snippet compiles"
		elif ((n > 0 && status != 0)) && grep -Eq \
			'error: .*(incompatible (pointer )?type|invalid operands)' <<<"$output"; then
			echo "ok   $cc: case $n does not compile"
		else
			echo "FAIL $cc: case $n: compiler answered $status: $output"
			failures=$((failures + 1))
		fi
	done
done
((failures == 0))
