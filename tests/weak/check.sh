#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh WORK_DIR [EXECUTIONS]
#
# Explores each model of a protocol here (*.cpp) with Relacy: as it is, in which no error may
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

# explore MODEL: adds to `found`, `seeded` and `failures`.
found=0 seeded=0 failures=0
explore() {
	local model=$1 fault faults log status

	# Relacy's headers are older than today's warnings.
	g++ -std=gnu++14 -O2 -w "$here/$model.cpp" -o "$work/$model"
	mapfile -t faults < <("$work/$model" list 0 2>/dev/null || true)
	((${#faults[@]} > 1)) || { echo "$model names no faults"; exit 1; }
	seeded=$((seeded + ${#faults[@]} - 1))
	for fault in "${faults[@]}"; do
		status=0
		log=$work/$model-$fault.log
		"$work/$model" "$fault" "$executions" 2>"$log" | sed "s/^/$model: /" || status=$?
		if [[ $fault == none ]]; then
			((status == 0)) || { cat "$log"; failures=$((failures + 1)); }
		elif ((status == 1)); then
			found=$((found + 1))
		else
			echo "$model: $fault: exit $status, NOT FOUND"
			failures=$((failures + 1))
		fi
	done
}

for model in "$here"/*.cpp; do
	explore "$(basename "$model" .cpp)"
done
echo "$found of $seeded faults found"
((failures == 0))
