#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh WORK_DIR [EXECUTIONS]
#
# Explores the model of the protocol (publish.cpp) with Relacy: as it is, in which no error may
# be found, and with each fault seeded, which must be found.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$1
executions=${2:-30000}
mkdir -p "$work"

if ! echo '#include <relacy/relacy.hpp>' | g++ -std=gnu++14 -w -fsyntax-only -x c++ - 2>/dev/null; then
	echo "skipped: needs g++ and relacy-dev"
	exit 77
fi
# Relacy's headers are older than today's warnings.
g++ -std=gnu++14 -O2 -w "$here/publish.cpp" -o "$work/publish"

mapfile -t faults < <("$work/publish" list 0 2>/dev/null || true)
((${#faults[@]} > 1)) || { echo "the program names no faults"; exit 1; }
failures=0
found=0
for fault in "${faults[@]}"; do
	status=0
	"$work/publish" "$fault" "$executions" 2>"$work/$fault.log" || status=$?
	if [[ $fault == none ]]; then
		((status == 0)) || { cat "$work/$fault.log"; failures=$((failures + 1)); }
	elif ((status == 1)); then
		found=$((found + 1))
	else
		echo "$fault: exit $status, NOT FOUND"
		failures=$((failures + 1))
	fi
done
echo "$found of $((${#faults[@]} - 1)) faults found"
((failures == 0))
