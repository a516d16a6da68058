#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh WORK_DIR
#
# Every model here, through all its states with Spin: no error as it is, and one with
# each fault that its head names as "FAULT:" after "Faults".
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$1
mkdir -p "$work"
cd "$work"

command -v spin >/dev/null || { echo "skipped: needs spin"; exit 77; }

# verify MODEL [FAULT]: what Spin says, in log; true if there is no error.
verify() {
	local model=$1 fault=${2-} name=$1${2:+-$2}

	rm -rf "$name"
	mkdir "$name"
	(
		cd "$name"
		spin ${fault:+-D"$fault"} -a "$here/$model.pml" >log
		gcc -O2 -w -o pan pan.c
		if grep -q '^ltl' "$here/$model.pml"; then
			./pan -a -m1000000 >>log
		else
			./pan -m1000000 >>log
		fi
	)
	grep -q 'errors: 0' "$name/log" && ! grep -q 'max search depth too small' "$name/log"
}

failures=0
found=0
faults_all=0
for file in "$here"/*.pml; do
	model=$(basename "$file" .pml)
	if verify "$model"; then
		printf '%-12s no error in %s states\n' "$model" \
			"$(sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p' "$model/log" | head -n1)"
	else
		echo "$model: AN ERROR, see $work/$model"
		tail -n 30 "$model/log"
		failures=$((failures + 1))
	fi
	mapfile -t faults < <(grep -oE '^#(ifdef|elif defined\(|ifndef) ?[A-Z_]+' "$file" |
		grep -oE '[A-Z_]+$' | sort -u)
	for fault in "${faults[@]}"; do
		faults_all=$((faults_all + 1))
		if verify "$model" "$fault"; then
			echo "$model: $fault: NOT FOUND"
			failures=$((failures + 1))
		else
			printf '%-12s %-14s found: %s\n' "$model" "$fault" \
				"$(sed -nE 's/^pan:[0-9]+: (.*) \(at depth.*/\1/p' "$model-$fault/log" | head -n1)"
			found=$((found + 1))
		fi
	done
done
echo "$found of $faults_all faults found"
((failures == 0))
