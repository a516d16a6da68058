#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check_race.sh PROGRAM MISUSE: ThreadSanitizer reports a race of the program's own, on a block.
set -euo pipefail

out=$(mktemp)
trap 'rm -f "$out"' EXIT

status=0
TSAN_OPTIONS=exitcode=66 "$@" >"$out" 2>&1 || status=$?
if ((status != 66)) || ! grep -q 'ThreadSanitizer: data race' "$out" || ! grep -q 'look_at' "$out"; then
	echo "exit $status, and no report:"
	cat "$out"
	exit 1
fi
echo "ok: $(grep -m1 SUMMARY "$out")"
