#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh EXPECTED PROGRAM...: the program succeeds and says what EXPECTED holds.
set -euo pipefail

expected=$1
shift
out=$(mktemp)
trap 'rm -f "$out"' EXIT

"$@" >"$out"
diff -u "$expected" "$out"
echo "ok: $(wc -l <"$out") lines as expected"
