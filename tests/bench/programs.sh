#!/bin/bash
# SPDX-License-Identifier: MIT
#
# programs.sh PROGRAM...: what the benchmark's programs answer, not how fast.
#
#  - Every workload runs through on few areas, exits with 0 and prints a line of JSON.
#  - With --inject-mismatch every workload that has answers exits with 1 and says so.
#  - Bad usage exits with 2.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
small=(--areas 100 --seconds 0.001)

# expect STATUS PATTERN PROGRAM ARGUMENT...: the pattern is looked for in all output.
expect() {
	local want=$1 pattern=$2 got=0

	shift 2
	"$@" >"$work/out" 2>"$work/err" || got=$?
	if ((got != want)) || ! cat "$work/out" "$work/err" | grep -q -e "$pattern"; then
		echo "FAIL: $*: exit $got, not $want, or no '$pattern' in:"
		cat "$work/out" "$work/err"
		failures=$((failures + 1))
	fi
}

for program; do
	mapfile -t workloads < <("$program" --help |
		sed -n '1,/^Workloads of this program/d; s/^  \([^ ]*\) .*/\1/p')
	((${#workloads[@]} >= 4)) || { echo "FAIL: $program names no workloads"; exit 1; }
	for workload in "${workloads[@]}"; do
		expect 0 '^{.*}$' "$program" "${small[@]}" "$workload"
		cat "$work/out" >>"$work/lines"
		case $workload in
		section | snapshot) continue ;; # they have no answer
		esac
		expect 1 'wrong answers' "$program" "${small[@]}" --inject-mismatch "$workload"
	done
	expect 2 '^usage' "$program" nonsense
	expect 2 '^usage' "$program" --areas 10 random
	expect 2 '^usage' "$program" --with nonsense random
done

python3 - "$work/lines" <<'EOF' || failures=$((failures + 1))
import json, sys

lines = [json.loads(line) for line in open(sys.argv[1])]
for line in lines:
    figures = {k: v for k, v in line.items() if k not in ("peer", "workload", "areas", "seed")}
    if line["areas"] != 100 or not figures:
        sys.exit(f"FAIL: {line}")
    # Lookups of a few nanoseconds may measure as none; updates may not have come to run.
    if not all(v >= 0 for v in figures.values()) or not figures.get("ns", 1) > 0:
        sys.exit(f"FAIL: {line}")
print(f"{len(lines)} results of {len({line['peer'] for line in lines})} programs")
EOF
((failures == 0)) || exit 1
echo ok
